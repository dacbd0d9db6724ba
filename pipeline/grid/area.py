"""The area of interest: polygons, on the ground and in pixels."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import numpy.typing as npt

from engine.grid import Window
from pipeline.grid.georeference import in_pixels, on_ground

Ring = tuple[tuple[float, float], ...]
Polygon = tuple[Ring, ...]
"""Its outer ring, then its holes."""

_EDGE_PX = 0.01  # what reaches no further into a raster has the centre of none of its pixels
_RING_POINTS = 4096  # edges are cut so that a ring has about as many when it is reprojected


@dataclass(frozen=True)
class Area:
    """Polygons in absolute pixel coordinates (column, row), of which a pixel is inside by its centre.

    Parameters
    ----------
    polygons
        Of each polygon its outer ring, then its holes.
    """

    polygons: tuple[Polygon, ...]

    @property
    def digest(self) -> str:
        """Tells one area from another."""
        return hashlib.sha256(repr(self.polygons).encode()).hexdigest()

    def mask(self, window: Window) -> npt.NDArray[np.bool_]:
        """True where a pixel of the window is inside; shape (height, width)."""
        from rasterio.features import geometry_mask
        from rasterio.transform import Affine

        shapes = [{"type": "Polygon", "coordinates": p} for p in self.polygons]
        inside: npt.NDArray[np.bool_] = geometry_mask(
            shapes,
            out_shape=(window.height, window.width),
            transform=Affine.translation(window.col, window.row),
            invert=True,
        )
        return inside


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
    choice
        What was taken of several that there were, in a sentence; "" where nothing was to be chosen.
    """

    polygons: tuple[Polygon, ...]
    crs_wkt: str | None
    what: str
    choice: str = ""

    @property
    def digest(self) -> str:
        """Tells one interest from another."""
        return hashlib.sha256(repr((self.polygons, self.crs_wkt)).encode()).hexdigest()


def cells_around(area: Area, bounds: Window, cell_px: int) -> Window | None:
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


@functools.lru_cache(maxsize=256)
def full_turn(crs_wkt: str | None) -> float | None:
    """All degrees of longitude, in the units of a geographic CRS; None for another, or none."""
    from rasterio.crs import CRS

    crs = None if crs_wkt is None else CRS.from_wkt(crs_wkt)
    if crs is None or not crs.is_geographic:
        return None
    _, radians = crs.units_factor
    return round(2 * math.pi / float(radians), 6)


def all_around(
    polygons: Sequence[Polygon], turn: float, transform: Sequence[float], size: tuple[int, int]
) -> tuple[Polygon, ...]:
    """Polygons in longitudes, at each of their places around the globe that a raster reaches.

    What a raster does not reach stays where it is.

    Parameters
    ----------
    polygons
        In the CRS of the raster.
    turn
        As of `full_turn`.
    transform, size
        Of the raster; (height, width).
    """
    height, width = size
    corners = [on_ground(transform, col, row)[0] for col in (0, width) for row in (0, height)]
    # an area that ends at the edge of a grid from -180 to 180 does not go on at its other edge
    margin = _EDGE_PX * (max(corners) - min(corners)) / max(width, height)
    west, east = min(corners) + margin, max(corners) - margin
    return tuple(
        placed
        for polygon in polygons
        for placed in [_turned(polygon, k * turn) for k in _turns(polygon, turn, west, east)] or [polygon]
    )


def _turns(polygon: Polygon, turn: float, west: float, east: float) -> range:
    """How often a polygon may be turned around the globe to lie between two longitudes."""
    xs = [x for x, _ in polygon[0]]
    if not all(map(math.isfinite, (*xs, west, east))):
        return range(0)
    return range(math.floor((west - max(xs)) / turn) + 1, math.ceil((east - min(xs)) / turn))


def _turned(polygon: Polygon, by: float) -> Polygon:
    return tuple(tuple((x + by, y) for x, y in ring) for ring in polygon) if by else polygon


def _unbroken(ring: Ring, turn: float) -> Ring:
    """A ring whose longitudes jump from one end of their range to the other, without the jumps."""
    steps: list[int] = [
        round((x0 - x1) / turn) for (x0, _), (x1, _) in pairwise(ring) if math.isfinite(x0 - x1)
    ]
    # around a pole a ring does not close
    if len(steps) != len(ring) - 1 or not any(steps) or sum(steps) != 0:
        return ring
    return tuple((x + k * turn, y) for (x, y), k in zip(ring, accumulate(steps, initial=0), strict=True))


def ring_in_pixels(ring: Ring, transform: Sequence[float]) -> Ring:
    """A ring of (x, y) as (column, row)."""
    return tuple(in_pixels(transform, x, y) for x, y in ring)


def reprojected(polygon: Polygon, source: str, target: str) -> Polygon:
    """Return the rings of a polygon in another CRS; both CRS are WKT."""
    from rasterio.crs import CRS
    from rasterio.warp import transform

    rings: list[Ring] = []
    turn = full_turn(target)
    for ring in polygon:
        points = _densified(ring)
        xs, ys = transform(CRS.from_wkt(source), CRS.from_wkt(target), *zip(*points, strict=True))
        placed: Ring = tuple(zip(xs, ys, strict=True))
        rings.append(placed if turn is None else _unbroken(placed, turn))
    return tuple(rings)


def _densified(ring: Ring) -> list[tuple[float, float]]:
    """A ring with points along its edges: an edge that is straight in one CRS is bent in another."""
    pieces = max(1, -(-_RING_POINTS // len(ring)))
    return [
        (x0 + (x1 - x0) * i / pieces, y0 + (y1 - y0) * i / pieces)
        for (x0, y0), (x1, y1) in pairwise(ring)
        for i in range(pieces)
    ] + [ring[-1]]
