"""Areas of interest: the polygons of `--extent` and `--aoi`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.errors import UsageError
from pipeline.grid.area import Interest, Ring
from pipeline.source.vectors import read_layer


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


def _vector(path: str) -> Interest:
    """All polygons of a vector file, in any format that OGR reads."""
    layer = read_layer(path, "--aoi")
    polygons = tuple(p for s in layer.shapes if s is not None for p in _polygons(s))
    if not polygons:
        raise UsageError(f"{path}: holds no polygons; --aoi needs areas, not lines or points")
    return Interest(polygons, layer.crs_wkt, f"--aoi {path}")


def _polygons(shape: Any) -> Iterable[tuple[Ring, ...]]:
    """The rings of each polygon in a geometry; points and lines are skipped."""
    if shape.geom_type == "Polygon" and not shape.is_empty:
        rings = (shape.exterior, *shape.interiors)
        yield tuple(tuple((float(x), float(y)) for x, y in r.coords) for r in rings)
    elif hasattr(shape, "geoms"):
        for inner in shape.geoms:
            yield from _polygons(inner)
