"""The seam score: how much more labels change across cell and chunk borders than elsewhere.

Each border line is compared with lines inside the cell below (or right of) it. These lines have the same
phase as the border in the grid of the kernel's blocks (labels of R x R blocks change only at multiples
of R) and in that of JPEG's 16-pixel blocks (borders at multiples of 512 are multiples of 16). So where R
does not divide the cell, a border inside a block is compared with lines inside blocks, across which
labels do not change either. Counts are kept cell by cell, so that clouds, holes and ragged edges have
the same weight on both sides of the comparison.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.grid import Window
from engine.jit import compiled
from engine.kernel import NODATA, Labels

_JPEG_PX = 16
# far enough from the border that labels spoilt by a missing halo are not among the compared lines, and near
# enough that the image is similar
_STEP_PX = 64
_MOST_STEP_PX = 128
# a cell's expected changes and variance are rounded to 1 / _ROUNDING, so that sums are exact in any order
_ROUNDING = float(1 << 16)

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Seams:
    """Label changes across borders, and the number expected from the lines near them.

    Counts of several windows can be added in any order; the sums are bit-identical.

    Parameters
    ----------
    pairs
        Pairs of neighbouring labelled pixels, one on each side of a border.
    changes
        Pairs whose labels differ.
    expected
        Number of changes expected at the rate of the other lines.
    variance
        Variance of `changes - expected` without seams, from the differences among the other lines.
    """

    pairs: int = 0
    changes: int = 0
    expected: float = 0.0
    variance: float = 0.0

    def __add__(self, other: Seams) -> Seams:
        """Sums of both."""
        return Seams(
            self.pairs + other.pairs,
            self.changes + other.changes,
            self.expected + other.expected,
            self.variance + other.variance,
        )

    @property
    def score(self) -> float | None:
        """Changes relative to the expected ones: 1.0 means no seams; None if no border has labels.

        One change is added to both, so that the score is 1.0 where labels change nowhere.
        """
        return (self.changes + 1) / (self.expected + 1) if self.pairs else None

    @property
    def error(self) -> float | None:
        """Standard error of the score: without seams, the score is within three standard errors of 1.0."""
        return math.sqrt(self.variance) / (self.expected + 1) if self.pairs else None


@dataclass(frozen=True, slots=True)
class Borders:
    """Positions of borders in labels, and of the lines that they are compared with.

    Parameters
    ----------
    side_px
        Borders are at multiples of this, in pixels of the labels.
    step_px
        The lines inside a cell are at multiples of this from its border.
    """

    side_px: int
    step_px: int

    @classmethod
    def of(cls, cell_px: int, stride_px: int) -> Borders:
        """The borders of a kernel's cells; borders of chunks are among them."""
        step = math.lcm(stride_px, _JPEG_PX)
        if step > _MOST_STEP_PX:
            step = stride_px
        return cls(cell_px, -(-_STEP_PX // step) * step)


def count_seams(labels: Labels, window: Window, borders: Borders) -> Seams:
    """Label changes at the borders in a window, and expected ones.

    Parameters
    ----------
    labels
        uint8 labels of the window, with one row above and one column left of it (none at the raster's edge).
    window
        Window of the labels in the raster; it begins at multiples of the cell's side.
    borders
        Positions of the borders.

    Raises
    ------
    ValueError
        If the labels do not have the window's shape, or the window does not begin at a cell.
    """
    above, left = labels.shape[0] - window.height, labels.shape[1] - window.width
    side, step = borders.side_px, borders.step_px
    if not {above, left} <= {0, 1} or window.row % side or window.col % side:
        raise ValueError(f"labels of {labels.shape} at {window} for cells of {side} px")
    cells = -(-window.height // side), -(-window.width // side)
    # pairs and changes of each line in each cell; the horizontal lines, then the vertical ones
    counts = np.zeros((2, 2, *cells, -(-side // step)), np.int64)
    _count(labels, above, left, side, step, counts)
    pairs, changes = counts.astype(np.float64).reshape(2, -1, counts.shape[-1])
    return _compared(pairs, changes)


@compiled
def _count(labels: Any, above: int, left: int, side: int, step: int, counts: Any) -> None:
    height, width = labels.shape[0] - above, labels.shape[1] - left
    for y in range(height):
        row = labels[y + above]
        if y % side % step == 0 and y + above > 0:
            over, line = labels[y + above - 1], y % side // step
            for cell in range(counts.shape[3]):
                pairs = changes = 0
                for x in range(cell * side + left, min(cell * side + side, width) + left):
                    valid = (row[x] != NODATA) & (over[x] != NODATA)
                    pairs += valid
                    changes += valid & (row[x] != over[x])
                counts[0, 0, y // side, cell, line] += pairs
                counts[1, 0, y // side, cell, line] += changes
        for cell in range(counts.shape[3]):
            for line in range(counts.shape[4]):
                x = cell * side + line * step + left
                if 0 < x < min(cell * side + side, width) + left:
                    valid = (row[x] != NODATA) & (row[x - 1] != NODATA)
                    counts[0, 1, y // side, cell, line] += valid
                    counts[1, 1, y // side, cell, line] += valid & (row[x] != row[x - 1])


def _compared(pairs: Numbers, changes: Numbers) -> Seams:
    """The seams of some cells from their counts of shape (cell, line), in which line 0 is the border."""
    lines = (pairs[:, 1:] > 0).sum(axis=1)
    # a cell that the raster's edge cuts has too few lines for a rate
    use = (pairs[:, 0] > 0) & (lines >= 2)
    if not use.any():
        return Seams()
    pairs, changes, lines = pairs[use], changes[use], lines[use]
    others, border = pairs[:, 1:], pairs[:, 0]
    rate = changes[:, 1:].sum(axis=1) / others.sum(axis=1)
    rates = np.divide(changes[:, 1:], others, out=np.zeros_like(others), where=others > 0)
    squares = np.where(others > 0, (rates - rate[:, None]) ** 2, 0).sum(axis=1)
    variance = border**2 * squares / (lines - 1) * (1 + 1 / lines)
    expected, variance = (np.rint(counts * _ROUNDING) / _ROUNDING for counts in (border * rate, variance))
    return Seams(int(border.sum()), int(changes[:, 0].sum()), float(expected.sum()), float(variance.sum()))
