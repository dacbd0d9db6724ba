"""The seam score: do labels change more across cell and chunk borders than elsewhere?

Each border line is compared with lines inside the cell below (or right of) it. These are taken at the
same phase of the kernel's blocks, for labels of R x R blocks change at multiples of R alone, and of
JPEG's 16-pixel blocks, which borders at multiples of 512 share. So where R does not divide the cell, a
border that falls inside a block is compared with lines inside blocks, across which nothing changes
either. Counts are kept cell by cell, so that clouds, holes and ragged edges weigh the same on both sides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.grid import Window
from engine.kernel import NODATA, Kernel, Labels

_JPEG_PX = 16
# far enough from the border that what a missing halo would spoil is not taken for the normal, and
# near enough that the picture is the same
_STEP_PX = 64
_MOST_STEP_PX = 128

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Seams:
    """Label changes across borders, and how many the lines near them make one expect.

    Counts of several windows add up to those of all.

    Parameters
    ----------
    pairs
        Pairs of neighbouring pixels with labels, one on each side of a border.
    changes
        Those of them whose labels differ.
    expected
        How many would differ if they were as those elsewhere.
    variance
        Of `changes - expected` where there is no seam, from how much the other lines differ among themselves.
    """

    pairs: int = 0
    changes: int = 0
    expected: float = 0.0
    variance: float = 0.0

    def __add__(self, other: Seams) -> Seams:
        """The counts of both."""
        return Seams(
            self.pairs + other.pairs,
            self.changes + other.changes,
            self.expected + other.expected,
            self.variance + other.variance,
        )

    @property
    def score(self) -> float | None:
        """Changes relative to the expected ones: 1.0 = no seams; None where no border has labels.

        One change is added to both, so that where nothing changes anywhere there is no seam.
        """
        return (self.changes + 1) / (self.expected + 1) if self.pairs else None

    @property
    def error(self) -> float | None:
        """Standard error of the score: without seams it lies within three of them of 1.0."""
        return math.sqrt(self.variance) / (self.expected + 1) if self.pairs else None


@dataclass(frozen=True, slots=True)
class Borders:
    """Where borders lie in labels, and the lines that they are compared with.

    Parameters
    ----------
    side_px
        Borders are the multiples of this, in pixels of the labels.
    step_px
        The lines inside a cell are the multiples of this from its border on.
    """

    side_px: int
    step_px: int

    @classmethod
    def of(cls, kernel: Kernel, region: Window) -> Borders:
        """The borders of a region's labels: of cells, and of chunks, which are whole cells."""
        # an output tile may begin at half a cell; its chunks are counted from there
        side = math.gcd(kernel.cell_px, region.row, region.col)
        stride = kernel.stride_px
        step = math.lcm(stride, _JPEG_PX)
        if step > _MOST_STEP_PX:
            step = stride
        return cls(side, -(-_STEP_PX // step) * step)


def count_seams(labels: Labels, window: Window, borders: Borders) -> Seams:
    """Count label changes at the borders in a window, and expected ones.

    Parameters
    ----------
    labels
        uint8 labels of the window, with one row above and one column left of it where there are some.
    window
        Where they lie in the raster's labels; it begins at multiples of the cell's side.
    borders
        Where borders lie.

    Raises
    ------
    ValueError
        If the labels do not have the window's shape, or the window does not begin at a cell.
    """
    above, left = labels.shape[0] - window.height, labels.shape[1] - window.width
    if not {above, left} <= {0, 1} or window.row % borders.side_px or window.col % borders.side_px:
        raise ValueError(f"labels of {labels.shape} at {window} for cells of {borders.side_px} px")
    return _count(labels[:, left:], above, borders) + _count(labels[above:].T, left, borders)


def _count(labels: Labels, above: int, borders: Borders) -> Seams:
    """Counts of the horizontal borders; the first row is that above the window, if there is one."""
    side, height = borders.side_px, labels.shape[0] - above
    starts = np.arange(0, labels.shape[1], side)
    total = Seams()
    for row in range(0 if above else side, height, side):
        lines = np.arange(row, min(row + side, height), borders.step_px) + above
        if len(lines) < 3:
            continue  # a rest of a cell at the raster's edge tells too little of what is normal
        below, over = labels[lines], labels[lines - 1]
        valid = (below != NODATA) & (over != NODATA)
        pairs = np.add.reduceat(valid.astype(np.float64), starts, axis=1)
        changes = np.add.reduceat(((below != over) & valid).astype(np.float64), starts, axis=1)
        total += _compared(pairs, changes)
    return total


def _compared(pairs: Numbers, changes: Numbers) -> Seams:
    """Counts of the borders of some cells: shape (line, cell), of which line 0 is the border."""
    seen = pairs[1:] > 0
    lines = seen.sum(axis=0)
    use = (pairs[0] > 0) & (lines >= 2)
    if not use.any():
        return Seams()
    pairs, changes, seen, lines = pairs[:, use], changes[:, use], seen[:, use], lines[use]
    rate = changes[1:].sum(axis=0) / pairs[1:].sum(axis=0)
    rates = np.divide(changes[1:], pairs[1:], out=np.zeros_like(changes[1:]), where=seen)
    spread = np.where(seen, (rates - rate) ** 2, 0).sum(axis=0) / (lines - 1) * (1 + 1 / lines)
    return Seams(
        int(pairs[0].sum()),
        int(changes[0].sum()),
        float((pairs[0] * rate).sum()),
        float((pairs[0] ** 2 * spread).sum()),
    )
