"""Areas of interest: the polygons of `--extent` and `--aoi`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError, one_line
from pipeline.grid.area import Interest, Ring
from pipeline.process import foreign
from pipeline.source.gdal import remote

_LIMIT_BYTES = 256 << 20
_REFERS = re.compile(rb"<ogr(vrt|wfs|csw)datasource\b|gdal_streamed_alg", re.IGNORECASE)
_GML, _HEAD_BYTES = b"opengis.net/gml", 16 << 10


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
    import pyogrio.raw
    import shapely
    from pyogrio.errors import DataLayerError, DataSourceError
    from shapely.errors import ShapelyError

    file = Path(path)
    if not file.exists():
        raise UsageError(f"{path}: no such vector file; check --aoi")
    if file.is_file() and file.stat().st_size > _LIMIT_BYTES:
        raise UsageError(f"{path}: a vector file of more than {_LIMIT_BYTES >> 20} MiB; simplify it")
    try:
        with remote.forbidden_in_vectors():
            meta, _, wkb, _ = pyogrio.raw.read(path, columns=[], force_2d=True, **_options(file))
        geometries = [] if wkb is None else shapely.from_wkb(wkb)
    except (DataSourceError, DataLayerError, ShapelyError, ValueError, IndexError, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UsageError(f"{path}: not a vector file that OGR can read ({reason})") from None
    polygons = tuple(p for s in geometries if s is not None for p in _polygons(s))
    if not polygons:
        raise UsageError(f"{path}: holds no polygons; --aoi needs areas, not lines or points")
    crs = meta.get("crs")
    return Interest(polygons, _wkt(path, crs) if crs else None, f"--aoi {path}")


def _options(file: Path) -> dict[str, str]:
    """Open options of OGR: without them it would write a summary beside a GML file.

    Raises
    ------
    ValueError
        If the file is a request to a service, or names what else OGR is to open.
    """
    if not file.is_file():
        return {}
    with file.open("rb") as opened:
        head = opened.read(_HEAD_BYTES)
    if _REFERS.search(head.partition(b"\0")[0]):
        raise ValueError("it refers to other files or to a service")
    return {"WRITE_GFS": "NO"} if _GML in head else {}


def _polygons(shape: Any) -> Iterable[tuple[Ring, ...]]:
    """The rings of each polygon in a geometry; points and lines are skipped."""
    if shape.geom_type == "Polygon" and not shape.is_empty:
        rings = (shape.exterior, *shape.interiors)
        yield tuple(tuple((float(x), float(y)) for x, y in r.coords) for r in rings)
    elif hasattr(shape, "geoms"):
        for inner in shape.geoms:
            yield from _polygons(inner)


def _wkt(path: str, crs: str) -> str:
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    foreign.use_own_proj_data()
    try:
        return str(CRS.from_user_input(crs).to_wkt())
    except CRSError as error:
        raise UsageError(f"{path}: its CRS cannot be resolved ({one_line(error)}); check --aoi") from None
