"""Where the pixels that could not be used lie on the ground: `OUT/<name>.bad.geojson`.

Coordinates are those of the raster, so that they are exact for rotated and odd grids too; a `crs` member
of the older GeoJSON of 2008 names their CRS, which GDAL and QGIS understand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from engine.grid import Window
from pipeline.durable.bounded_json import read_object
from pipeline.errors import RasterError, one_line
from pipeline.grid.georeference import Georeference, on_ground
from pipeline.source.bad_blocks import to_json
from pipeline.source.reading import BadBlock

# a CRS of its own, which is not reprojected, like a raster without one; none at all would be WGS 84
_NO_CRS = 'LOCAL_CS["none of the raster",UNIT["unit",1]]'
_PIECES = 8  # of an edge, which is bent on the ground where control points place a raster

Point = tuple[float, float]
_OnGround = Callable[[Sequence[Point]], list[Point]]


def geojson(blocks: Iterable[BadBlock], georeference: Georeference, name: str) -> dict[str, Any]:
    """Polygons over bad blocks, as a GeoJSON FeatureCollection.

    Parameters
    ----------
    blocks
        In absolute pixels.
    georeference
        Of the raster's first pixel, not of a region's. Without CRS, transform and control points,
        coordinates are (column, -row), which is where QGIS shows such a raster.
    name
        Of the raster's outputs.
    """
    place = _placing(georeference)
    features = [_feature(values, place, name) for values in to_json(blocks)]
    return {
        "type": "FeatureCollection",
        "name": f"{name}.bad",
        "crs": _crs(georeference),
        "features": features,
    }


def _feature(values: dict[str, Any], place: _OnGround, name: str) -> dict[str, Any]:
    window = Window(values["row"], values["col"], values["height"], values["width"])
    ring = place(_outline(window))
    if sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairwise(ring)) < 0:
        ring.reverse()
    return {
        "type": "Feature",
        "properties": {"raster": name, **values},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }


def _outline(window: Window) -> list[Point]:
    """A closed ring of (column, row) along a window's edges."""
    rows, cols = (window.row, window.row_end), (window.col, window.col_end)
    corners = [(float(cols[j]), float(rows[i])) for i, j in ((0, 0), (0, 1), (1, 1), (1, 0), (0, 0))]
    return [
        (x0 + (x1 - x0) * i / _PIECES, y0 + (y1 - y0) * i / _PIECES)
        for (x0, y0), (x1, y1) in pairwise(corners)
        for i in range(_PIECES)
    ] + corners[:1]


def _placing(georeference: Georeference) -> _OnGround:
    """What turns (column, row) into (x, y)."""
    if (transform := georeference.transform) is not None:
        return lambda points: [on_ground(transform, col, row) for col, row in points]
    if georeference.gcps:
        return lambda points: _by_control_points(georeference, points)
    return lambda points: [(x, -y) for x, y in points]


def _by_control_points(georeference: Georeference, points: Sequence[Point]) -> list[Point]:
    """Through GDAL's polynomial of the control points, as QGIS warps such a raster."""
    from rasterio.control import GroundControlPoint
    from rasterio.transform import GCPTransformer

    known = [GroundControlPoint(p.row, p.col, p.x, p.y, p.z) for p in georeference.gcps]
    with GCPTransformer(known) as transformer:
        xs, ys = transformer.xy([y for _, y in points], [x for x, _ in points], offset="ul")
    return [(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]


def _crs(georeference: Georeference) -> dict[str, Any]:
    """The CRS by its code, or in full where it has none."""
    from rasterio.crs import CRS

    name = georeference.crs_wkt or _NO_CRS
    crs = CRS.from_wkt(name)
    authority = crs.to_authority(confidence_threshold=100)
    if authority is not None and CRS.from_authority(*authority) == crs:
        name = "urn:ogc:def:crs:{}::{}".format(*authority)
    return {"type": "name", "properties": {"name": name}}


def bad_of(path: Path) -> list[BadBlock]:
    """What a raster's map of bad blocks holds.

    Raises
    ------
    RasterError
        If it is no such map.
    """
    try:
        found = [f["properties"] for f in read_object(path)["features"]]
        return [
            BadBlock(
                Window(*(int(p[key]) for key in ("row", "col", "height", "width"))),
                str(p["path"]),
                str(p["reason"]),
                "chunk" if p["kind"] == "chunk" else "source block",
            )
            for p in found
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RasterError(str(path), f"is no map of bad blocks ({one_line(error)})") from None
