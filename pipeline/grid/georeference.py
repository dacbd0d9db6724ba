"""Where a raster lies on the ground, and from pixels to there and back.

The formulas of an affine transform stand here and nowhere else. They are not those of the `affine` package:
its inverse rounds otherwise, and its products make 0.0 of -0.0 and floats of whole numbers. Areas of
interest, records and Zarr attributes hold these numbers to the bit, and they identify work in progress.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Transform = tuple[float, float, float, float, float, float]
"""Affine coefficients (a, b, c, d, e, f): x = a * col + b * row + c, y = d * col + e * row + f."""

Places = TypeVar("Places", float, npt.NDArray[np.float64])


def on_ground(transform: Sequence[float], col: Places, row: Places) -> tuple[Places, Places]:
    """Return (x, y) of a pixel position, or of arrays of them."""
    a, b, c, d, e, f = transform
    return a * col + b * row + c, d * col + e * row + f


def in_pixels(transform: Sequence[float], x: Places, y: Places) -> tuple[Places, Places]:
    """Return (column, row) of a point on the ground, or of arrays of them."""
    a, b, c, d, e, f = transform
    scale = a * e - b * d
    return (e * (x - c) - b * (y - f)) / scale, (a * (y - f) - d * (x - c)) / scale


@dataclass(frozen=True, slots=True)
class GroundControlPoint:
    """One ground control point: pixel (row, col) and where it lies (x, y, z)."""

    row: float
    col: float
    x: float
    y: float
    z: float


@dataclass(frozen=True)
class Georeference:
    """Where a raster lies on the ground, carried through to outputs unchanged.

    Parameters
    ----------
    crs_wkt
        WKT of the CRS (of the ground control points, where there are some), or None.
    transform
        Affine coefficients (a, b, c, d, e, f), rotated and south-up included, or None.
    gcps
        Ground control points of a raster without a transform.
    area_or_point
        GDAL's AREA_OR_POINT.
    """

    crs_wkt: str | None = None
    transform: Transform | None = None
    gcps: tuple[GroundControlPoint, ...] = ()
    area_or_point: str = "Area"

    def shifted(self, row: int, col: int) -> Georeference:
        """The georeference of the part that begins at a pixel offset."""
        if (row, col) == (0, 0):
            return self
        gcps = tuple(GroundControlPoint(p.row - row, p.col - col, p.x, p.y, p.z) for p in self.gcps)
        transform = self.transform
        if transform is not None:
            a, b, _, d, e, _ = transform
            x, y = on_ground(transform, col, row)
            transform = (a, b, x, d, e, y)
        return Georeference(self.crs_wkt, transform, gcps, self.area_or_point)

    def coarsened(self, step: int) -> Georeference:
        """The georeference of pixels that are `step` times as large and begin at the same corner."""
        gcps = tuple(GroundControlPoint(p.row / step, p.col / step, p.x, p.y, p.z) for p in self.gcps)
        transform = self.transform
        if transform is not None:
            a, b, c, d, e, f = transform
            transform = (a * step, b * step, c, d * step, e * step, f)
        return Georeference(self.crs_wkt, transform, gcps, self.area_or_point)

    @property
    def axes(self) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """(start, step) of y by row and of x by column; None where rows and columns are no axes."""
        if self.transform is None or self.transform[1] or self.transform[3]:
            return None
        a, _, c, _, e, f = self.transform
        return (f, e), (c, a)

    @property
    def geotransform(self) -> Transform | None:
        """The transform in GDAL's order: (c, a, b, f, d, e)."""
        if self.transform is None:
            return None
        a, b, c, d, e, f = (float(v) for v in self.transform)
        return c, a, b, f, d, e
