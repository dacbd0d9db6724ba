"""Whether two rasters of one CRS lie on one pixel grid: pixels of whole ratios, no part of one between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.grid.georeference import in_pixels

TOLERANCE_PX = 0.05
"""What grids may be off: far more than rounding does, far less than shows."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """Where a raster lies on the pixel grid of another one.

    Parameters
    ----------
    row, col
        Its upper-left corner, in pixels of the other.
    height, width
        Side of its pixels, in pixels of the other.
    skew
        How far its axes stray from the other's, in pixels over its whole size.
    """

    row: float
    col: float
    height: float
    width: float
    skew: float

    @classmethod
    def of(cls, transform: Sequence[float], size: tuple[int, int], other: Sequence[float]) -> Alignment:
        """The alignment of a raster of (height, width) pixels on the grid of another transform."""
        a, b, c, d, e, f = transform
        oa, ob, _, od, oe, _ = other
        scale = oa * oe - ob * od
        height, width = size
        skew = max(abs(oe * b - ob * e) * height, abs(oa * d - od * a) * width) / abs(scale)
        col, row = in_pixels(other, c, f)
        return cls(
            row=row,
            col=col,
            height=(oa * e - od * b) / scale,
            width=(oe * a - ob * d) / scale,
            skew=skew,
        )

    def ratio(self, size: tuple[int, int]) -> tuple[int, int] | None:
        """Whole-numbered (height, width) of its pixels, or None where they are none over its size."""
        whole = round(self.height), round(self.width)
        drift = max(
            abs(self.height - whole[0]) * size[0],
            abs(self.width - whole[1]) * size[1],
            self.skew,
        )
        return whole if min(whole) >= 1 and drift <= TOLERANCE_PX else None

    @property
    def corner(self) -> tuple[int, int] | None:
        """Whole-numbered (row, col), or None where it lies within a pixel."""
        whole = round(self.row), round(self.col)
        off = max(abs(self.row - whole[0]), abs(self.col - whole[1]))
        return whole if off <= TOLERANCE_PX else None
