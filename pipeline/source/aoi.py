"""Areas of interest: the polygons of `--extent` and `--aoi`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import UsageError
from pipeline.grid.area import Interest, Polygon, reprojected
from pipeline.source import vectors

_NO_AREAS = re.compile(r"(2\.5D )?(Multi)?(Point|LineString|Curve)\b")


def interest(extent: Sequence[float] | None, aoi: str | None) -> Interest | None:
    """The area of interest that the options describe, or None for everywhere.

    Raises
    ------
    UsageError
        If both are given, the extent is empty, or the vector file cannot be used.
    """
    if extent is not None and aoi is not None:
        raise UsageError("--extent and --aoi: give one of them")
    if extent is not None:
        x0, y0, x1, y1 = extent
        if not all(map(math.isfinite, extent)) or x0 == x1 or y0 == y1:
            raise UsageError(f"--extent {','.join(map(str, extent))}: give X0,Y0,X1,Y1 with some area")
        ring = ((x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0))
        return Interest(((ring,),), None, "--extent")
    return _vector(aoi) if aoi is not None else None


def vector_file(aoi: str) -> str:
    """The file that `--aoi FILE` or `--aoi FILE:LAYER` names."""
    return _file_and_layer(aoi)[0]


def _file_and_layer(aoi: str) -> tuple[str, str | None]:
    if not Path(aoi).exists():
        for end in (i for i in range(len(aoi) - 1, 0, -1) if aoi[i] == ":"):
            if Path(aoi[:end]).exists():
                return aoi[:end], aoi[end + 1 :]
    return aoi, None


def _vector(aoi: str) -> Interest:
    """All polygons of a vector file, or of a layer of it, in any format that OGR reads."""
    path, layer = _file_and_layer(aoi)
    with vectors.readable(path, "--aoi") as options:
        layers = _layers(path, layer, options)
    layers = [one for one in layers if one.polygons]
    if not layers:
        raise UsageError(f"{aoi}: holds no polygons; --aoi needs areas, not lines or points")
    crs = layers[0].crs_wkt
    if len({one.crs_wkt is None for one in layers}) > 1:
        without = next(one.name for one in layers if one.crs_wkt is None)
        raise UsageError(f"{path}: layer {without} has no CRS, and others have; say --aoi {path}:LAYER")
    polygons = tuple(p for one in layers for p in one.polygons_in(crs))
    choice = ""
    if len(layers) > 1:
        names = ", ".join(one.name for one in layers)
        choice = f"{path}: the polygons of all its layers are used ({names}); --aoi {path}:LAYER takes one"
    return Interest(polygons, crs, f"--aoi {aoi}", choice)


class _Layer(NamedTuple):
    """The polygons of a layer, and their CRS."""

    name: str
    polygons: tuple[Polygon, ...]
    crs_wkt: str | None

    def polygons_in(self, crs_wkt: str | None) -> tuple[Polygon, ...]:
        """Them in another CRS."""
        if crs_wkt is None or self.crs_wkt in (None, crs_wkt):
            return self.polygons
        return tuple(reprojected(polygon, self.crs_wkt, crs_wkt) for polygon in self.polygons)


def _layers(file: str, layer: str | None, options: dict[str, str]) -> list[_Layer]:
    """The layer that is asked for, or all that may hold polygons.

    Raises
    ------
    UsageError
        If the file has no such layer.
    """
    import pyogrio

    if options:  # to list layers would write a summary beside the file
        return [_layer(file, layer, options)]
    kinds = {str(name): kind for name, kind in pyogrio.list_layers(file)}
    if layer is not None:
        if layer not in kinds:
            raise UsageError(f"{file}: has no layer {layer!r}; it has {', '.join(kinds)}")
        return [_layer(file, layer, options)]
    areal = [name for name, kind in kinds.items() if kind is not None and not _NO_AREAS.match(kind)]
    return [_layer(file, name, options) for name in areal]


def _layer(file: str, name: str | None, options: dict[str, str]) -> _Layer:
    import pyogrio.raw
    import shapely

    meta, _, wkb, _ = pyogrio.raw.read(file, layer=name, columns=[], force_2d=True, **options)
    geometries = [] if wkb is None else shapely.from_wkb(wkb)
    crs = meta.get("crs")
    polygons = tuple(p for s in geometries if s is not None for p in _polygons(s))
    return _Layer(name or "", polygons, vectors.wkt_of(file, crs, "--aoi") if crs else None)


def _polygons(shape: Any) -> Iterable[Polygon]:
    """The rings of each polygon in a geometry; points and lines are skipped."""
    if shape.geom_type == "Polygon" and not shape.is_empty:
        rings = (shape.exterior, *shape.interiors)
        yield tuple(tuple((float(x), float(y)) for x, y in r.coords) for r in rings)
    elif hasattr(shape, "geoms"):
        for inner in shape.geoms:
            yield from _polygons(inner)
