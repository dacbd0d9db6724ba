"""Where a raster lies on the ground, and from pixels to there and back.

The formulas of an affine transform stand here and nowhere else. They are not those of the `affine` package:
its inverse rounds otherwise, and its products make 0.0 of -0.0 and floats of whole numbers. Areas of
interest, records and Zarr attributes hold these numbers to the bit, and they identify work in progress.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Transform = tuple[float, float, float, float, float, float]
"""Affine coefficients (a, b, c, d, e, f): x = a * col + b * row + c, y = d * col + e * row + f."""

RPC_IN_PIXELS = ("LINE_OFF", "SAMP_OFF", "LINE_SCALE", "SAMP_SCALE")
"""Names of the RPCs that are lengths in pixels."""

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
    rpcs
        Rational polynomial coefficients: names and texts of GDAL's metadata domain RPC, sorted; () for none.
    """

    crs_wkt: str | None = None
    transform: Transform | None = None
    gcps: tuple[GroundControlPoint, ...] = ()
    area_or_point: str = "Area"
    # the digests of rasters without any are made of this text, and stay
    rpcs: tuple[tuple[str, str], ...] = field(default=(), repr=False)

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
        moved = {"LINE_OFF": row, "SAMP_OFF": col}
        rpcs = self._changed_rpcs(lambda name, value: value - moved.get(name, 0))
        return replace(self, transform=transform, gcps=gcps, rpcs=rpcs)

    def coarsened(self, step: int) -> Georeference:
        """The georeference of pixels that are `step` times as large and begin at the same corner."""
        gcps = tuple(GroundControlPoint(p.row / step, p.col / step, p.x, p.y, p.z) for p in self.gcps)
        transform = self.transform
        if transform is not None:
            a, b, c, d, e, f = transform
            transform = (a * step, b * step, c, d * step, e * step, f)

        def coarse(name: str, value: float) -> float:
            # offsets count from the centre of the first pixel
            return value / step if name.endswith("_SCALE") else (value + 0.5) / step - 0.5

        return replace(self, transform=transform, gcps=gcps, rpcs=self._changed_rpcs(coarse))

    def _changed_rpcs(self, change: Callable[[str, float], float]) -> tuple[tuple[str, str], ...]:
        """The RPCs with other offsets and scales of lines and samples; the text of what stays is the same."""
        return tuple(
            (name, text if (value := change(name, float(text))) == float(text) else repr(value))
            if name in RPC_IN_PIXELS
            else (name, text)
            for name, text in self.rpcs
        )

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
