"""Resampling from one pixel grid to another: positions and weights along an axis.

All is a function of absolute pixel numbers, so that a pixel has the same bytes whatever window it is computed
in. An axis is exact where the sides of pixels have a small whole ratio (10, 20 and 60 m), also with grids
that are offset by a part of a pixel. The means themselves are computed in `engine.resampling_loops`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt

from engine.arrays import F64

Method = Literal["nearest", "bilinear", "average"]

_SMALLEST = 1e-6
"""Relative weights below are rounding: what is only touched must not count where nothing else is valid."""
_EXACT = 1 << 20  # denominators up to here leave whole numbers of pixels exact in float64


@dataclass(frozen=True, slots=True)
class Axis:
    """Where the pixels of a target grid lie on a source grid, along rows or columns.

    The centre of target pixel i is at ``(slope * i + shift) / divisor`` in pixels of the source.

    Parameters
    ----------
    slope, shift, divisor
        Whole numbers where the ratio of the grids is one of small whole numbers.
    size
        Number of source pixels.
    """

    slope: float
    shift: float
    divisor: float
    size: int

    @classmethod
    def of(cls, start: Fraction, side: Fraction, size: int) -> Axis:
        """The axis of a source that begins at a position, with pixels of a side, both in target pixels."""
        slope, shift = 1 / side, (Fraction(1, 2) - start) / side
        divisor = math.lcm(slope.denominator, shift.denominator)
        if divisor > _EXACT:
            divisor = 1
        return cls(float(slope * divisor), float(shift * divisor), float(divisor), size)

    @property
    def scale(self) -> float:
        """Source pixels for each target pixel."""
        return self.slope / self.divisor

    @property
    def is_same(self) -> bool:
        """Whether pixels of both grids are the same ones, perhaps with other numbers."""
        return self.slope == self.divisor and (self.shift / self.divisor - 0.5).is_integer()

    def position(self, numbers: npt.NDArray[np.int64] | int) -> F64:
        """Position on the source of the centres of target pixels, shape of `numbers`."""
        position: F64 = (self.slope * np.asarray(numbers, np.float64) + self.shift) / self.divisor
        return position

    def number(self, position: float) -> float:
        """The inverse of `position`, not rounded."""
        return (position * self.divisor - self.shift) / self.slope

    def covered(self, start: int, stop: int) -> tuple[int, int]:
        """The target pixels of a range whose centres lie on the source; an empty range where none do."""
        first, last = math.ceil(self.number(0.0)), math.ceil(self.number(self.size))
        # by the position itself, as rounding may decide
        first += int(self.position(first) < 0) - int(self.position(first - 1) >= 0)
        last += int(self.position(last) < self.size) - int(self.position(last - 1) >= self.size)
        return max(start, first), min(stop, last)

    def spread(self, start: int, stop: int) -> tuple[int, int]:
        """The target pixels that a range of source pixels lies in, in whole or in part."""
        return math.floor(self.number(start) + 0.5), math.ceil(self.number(stop) + 0.5)

    def nearest(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """The source pixel that each of a range of target pixels has its centre in.

        A centre between two pixels belongs to the later one.
        """
        return np.floor(self.position(np.arange(start, stop))).astype(np.int64)

    def weights(self, start: int, stop: int, method: Method) -> tuple[npt.NDArray[np.int64], F64]:
        """The source pixels that each of a range of target pixels is made of.

        Parameters
        ----------
        start, stop
            The range.
        method
            ``bilinear``: a triangle of one source pixel on each side, or of one target pixel where that is
            larger; ``average``: the share of a source pixel that lies within the target pixel.

        Returns
        -------
        tuple of ndarray
            First source pixel, shape (n,), and weights of it and those that follow, shape (n, k). Pixels
            outside the source have no weight. Weights are relative ones, and whole numbers where `slope`,
            `shift` and `divisor` are, so that sums with them are exact.
        """
        numbers = np.arange(start, stop)
        pixel, width = 2 * self.divisor, 2 * self.slope
        if method == "average":
            low = self.slope * (2.0 * numbers - 1) + 2 * self.shift
            first = np.floor(low / pixel).astype(np.int64)
            taps = first[:, None] + np.arange(math.ceil(self.scale) + 1)
            least, low = min(pixel, width), low[:, None]
            weights = np.minimum(low + width, (taps + 1) * pixel) - np.maximum(low, taps * pixel)
        else:
            least = radius = max(pixel, width)
            centre = 2 * (self.slope * numbers + self.shift)
            first = np.floor((centre - radius) / pixel + 0.5).astype(np.int64)
            taps = first[:, None] + np.arange(math.ceil(2 * radius / pixel) + 1)
            weights = radius - np.abs((taps + 0.5) * pixel - centre[:, None])
        weights[(weights < _SMALLEST * least) | (taps < 0) | (taps >= self.size)] = 0
        return first, weights
