"""Areas of interest: `--extent` and `--aoi` become polygons on a raster's pixel grid."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from engine.grid import Window
from pipeline.errors import RasterError, UsageError, one_line
from pipeline.source.gdal import remote
from pipeline.source.view import Area, Ring, View

_LIMIT_BYTES = 256 << 20
_GML, _HEAD_BYTES = b"opengis.net/gml", 16 << 10
_RING_POINTS = 4096  # edges are cut so that a ring has about as many when it is reprojected


@dataclass(frozen=True)
class Interest:
    """Where labels are wanted, on the ground.

    Parameters
    ----------
    polygons
        GeoJSON-like polygons: of each its rings, of (x, y).
    crs_wkt
        Their CRS, or None for that of each raster.
    what
        The option that gave them, for messages.
    """

    polygons: tuple[tuple[Ring, ...], ...]
    crs_wkt: str | None
    what: str

    @property
    def digest(self) -> str:
        """Tells one interest from another."""
        return hashlib.sha256(repr((self.polygons, self.crs_wkt)).encode()).hexdigest()


def interest(extent: Sequence[float] | None, aoi: str | None) -> Interest | None:
    """What the options ask for, or None for everywhere.

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


def crop(view: View, wanted: Interest | None, cell_px: int) -> View:
    """A view's part that an interest covers: whole cells of the raster's grid, and the area in them.

    Raises
    ------
    RasterError
        If the raster has no transform, or the interest misses it.
    """
    if wanted is None:
        return view
    place = view.raster.georeference
    if place.transform is None:
        raise RasterError(view.path, f"has no transform to place {wanted.what} on it; warp it first")
    polygons = wanted.polygons
    if wanted.crs_wkt and not place.crs_wkt:
        raise RasterError(
            view.path, f"has no CRS to place {wanted.what} on it; assign one (gdal_edit -a_srs)"
        )
    if wanted.crs_wkt and place.crs_wkt:
        try:
            polygons = tuple(_reprojected(p, wanted.crs_wkt, place.crs_wkt) for p in polygons)
        except (CPLE_BaseError, RasterioError) as error:
            said = f"{wanted.what} cannot be brought into its CRS ({one_line(error)}); check its coordinates"
            raise RasterError(view.path, said) from error
    area = Area(tuple(tuple(_in_pixels(r, place.transform) for r in p) for p in polygons))
    region = _cells_of(area, view.bounds, cell_px)
    if region is None:
        raise RasterError(view.path, f"{wanted.what} misses this raster; check its coordinates and CRS")
    return replace(view, region=region, area=area)


def _cells_of(area: Area, bounds: Window, cell_px: int) -> Window | None:
    """The whole cells that hold every pixel of an area, as far as the raster has them."""
    points = [p for polygon in area.polygons for p in polygon[0]]
    first_col, last_col = min(p[0] for p in points), max(p[0] for p in points)
    first_row, last_row = min(p[1] for p in points), max(p[1] for p in points)
    if not all(map(math.isfinite, (first_col, last_col, first_row, last_row))):
        return None
    row, col = max(bounds.row, math.floor(first_row)), max(bounds.col, math.floor(first_col))
    row_end, col_end = min(bounds.row_end, math.ceil(last_row)), min(bounds.col_end, math.ceil(last_col))
    if row >= row_end or col >= col_end:
        return None
    row, col = row // cell_px * cell_px, col // cell_px * cell_px
    row_end = min(bounds.row_end, -(-row_end // cell_px) * cell_px)
    col_end = min(bounds.col_end, -(-col_end // cell_px) * cell_px)
    return Window(row, col, row_end - row, col_end - col)


def _in_pixels(ring: Ring, transform: Sequence[float]) -> Ring:
    """A ring of (x, y) as (column, row)."""
    a, b, c, d, e, f = transform
    scale = a * e - b * d
    return tuple(((e * (x - c) - b * (y - f)) / scale, (a * (y - f) - d * (x - c)) / scale) for x, y in ring)


def _reprojected(polygon: tuple[Ring, ...], source: str, target: str) -> tuple[Ring, ...]:
    from rasterio.crs import CRS
    from rasterio.warp import transform

    rings = []
    for ring in polygon:
        points = _densified(ring)
        xs, ys = transform(CRS.from_wkt(source), CRS.from_wkt(target), *zip(*points, strict=True))
        rings.append(tuple(zip(xs, ys, strict=True)))
    return tuple(rings)


def _densified(ring: Ring) -> list[tuple[float, float]]:
    """A ring with points along its edges: an edge that is straight in one CRS is bent in another."""
    pieces = max(1, -(-_RING_POINTS // len(ring)))
    return [
        (x0 + (x1 - x0) * i / pieces, y0 + (y1 - y0) * i / pieces)
        for (x0, y0), (x1, y1) in pairwise(ring)
        for i in range(pieces)
    ] + [ring[-1]]


def _vector(path: str) -> Interest:
    """All polygons of a vector file, of any format that OGR reads."""
    import pyogrio.raw
    import shapely
    from pyogrio.errors import DataLayerError, DataSourceError
    from shapely.errors import ShapelyError

    remote.forbid_in_vectors()
    file = Path(path)
    if not file.exists():
        raise UsageError(f"{path}: no such vector file; check --aoi")
    if file.is_file() and file.stat().st_size > _LIMIT_BYTES:
        raise UsageError(f"{path}: a vector file of more than {_LIMIT_BYTES >> 20} MiB; simplify it")
    try:
        meta, _, shapes, _ = pyogrio.raw.read(path, columns=[], force_2d=True, **_options(file))
        found = [] if shapes is None else shapely.from_wkb(shapes)
    except (DataSourceError, DataLayerError, ShapelyError, ValueError, IndexError, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UsageError(f"{path}: not a vector file that OGR can read ({reason})") from None
    polygons = tuple(p for s in found if s is not None for p in _polygons(s))
    if not polygons:
        raise UsageError(f"{path}: holds no polygons; --aoi needs areas, not lines or points")
    crs = meta.get("crs")
    return Interest(polygons, _wkt(crs) if crs else None, f"--aoi {path}")


def _options(file: Path) -> dict[str, str]:
    """How OGR is to open a vector file: of GML it would write a summary beside it."""
    if not file.is_file():
        return {}
    with file.open("rb") as opened:
        return {"WRITE_GFS": "NO"} if _GML in opened.read(_HEAD_BYTES) else {}


def _polygons(shape: Any) -> Iterable[tuple[Ring, ...]]:
    """The polygons of a geometry; others have no area."""
    if shape.geom_type == "Polygon" and not shape.is_empty:
        rings = (shape.exterior, *shape.interiors)
        yield tuple(tuple((float(x), float(y)) for x, y in r.coords) for r in rings)
    elif hasattr(shape, "geoms"):
        for part in shape.geoms:
            yield from _polygons(part)


def _wkt(crs: str) -> str:
    from rasterio.crs import CRS

    return str(CRS.from_user_input(crs).to_wkt())
