"""The pixel grid: windows, cells and chunks in absolute pixel coordinates.

Everything in Tilewright is addressed by its pixel offset from the upper-left pixel of the
whole raster, so a crop of a raster lies on the same grid as the whole raster. Results are
therefore independent of how the work is divided.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

CELL_PX = 512
"""Side of a cell: the unit of compute and sampling, and the side of a file tile."""

DEFAULT_CHUNK_PX = 2048
"""Side of a chunk where none is asked for."""


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A rectangle of pixels, in absolute pixel coordinates.

    Parameters
    ----------
    row, col
        Offset of the upper-left pixel.
    height, width
        Size in pixels; both at least 1.
    """

    row: int
    col: int
    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"window of {self.width} x {self.height} px; both sides must be at least 1")

    @property
    def row_end(self) -> int:
        """First row below the window."""
        return self.row + self.height

    @property
    def col_end(self) -> int:
        """First column right of the window."""
        return self.col + self.width

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    def grow(self, px: int, bounds: Window) -> Window:
        """The window widened by `px` on each side, clipped to `bounds`."""
        row, col = max(bounds.row, self.row - px), max(bounds.col, self.col - px)
        row_end, col_end = min(bounds.row_end, self.row_end + px), min(bounds.col_end, self.col_end + px)
        return Window(row, col, row_end - row, col_end - col)

    def snap(self, side: int, bounds: Window) -> Window:
        """The window widened to multiples of `side` on the absolute grid, clipped to `bounds`."""
        row, col = self.row // side * side, self.col // side * side
        row_end, col_end = -(-self.row_end // side) * side, -(-self.col_end // side) * side
        return Window(row, col, row_end - row, col_end - col).shared(bounds)

    def overlaps(self, other: Window) -> bool:
        """Whether two windows share pixels."""
        return (
            self.row < other.row_end
            and other.row < self.row_end
            and self.col < other.col_end
            and other.col < self.col_end
        )

    def shared(self, other: Window) -> Window:
        """The intersection of two windows, which have to overlap."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        row_end, col_end = min(self.row_end, other.row_end), min(self.col_end, other.col_end)
        return Window(row, col, row_end - row, col_end - col)

    def holds(self, other: Window) -> bool:
        """Whether this window contains all pixels of another one."""
        return self.overlaps(other) and self.shared(other) == other

    def aligned(self, step: int) -> Window:
        """The smallest window that contains this one and whose edges are multiples of `step`."""
        row, col = self.row // step * step, self.col // step * step
        return Window(row, col, -(-self.row_end // step) * step - row, -(-self.col_end // step) * step - col)

    def slices(self, origin: Window | None = None) -> tuple[slice, slice]:
        """Row and column slices of the window in an array whose first pixel is `origin`'s (default 0, 0)."""
        row, col = (origin.row, origin.col) if origin else (0, 0)
        return slice(self.row - row, self.row_end - row), slice(self.col - col, self.col_end - col)


def split(start: int, length: int, side: int, smallest: int = 1) -> tuple[int, ...]:
    """Lengths of the segments of an interval that is cut at the absolute multiples of `side`.

    Parameters
    ----------
    start, length
        The interval, in absolute pixels.
    side
        Distance between the cuts.
    smallest
        Segments at the ends that are shorter are merged with their neighbour (a halo may not
        be larger than the segment that it is taken from).
    """
    cuts = [start, *range((start // side + 1) * side, start + length, side), start + length]
    if len(cuts) > 2 and cuts[1] - cuts[0] < smallest:
        del cuts[1]
    if len(cuts) > 2 and cuts[-1] - cuts[-2] < smallest:
        del cuts[-2]
    return tuple(b - a for a, b in pairwise(cuts))


def tiles(bounds: Window, side: int, width: int = 0) -> Iterator[Window]:
    """The windows, row by row, into which the absolute multiples of `side` cut `bounds`.

    Columns are cut at multiples of `width` instead, if it is given.
    """
    row = bounds.row
    for rows in split(bounds.row, bounds.height, side):
        col = bounds.col
        for cols in split(bounds.col, bounds.width, width or side):
            yield Window(row, col, rows, cols)
            col += cols
        row += rows


def chunk_side(requested_px: int, cell_px: int = CELL_PX) -> int:
    """The requested chunk side, rounded up to whole cells.

    Raises
    ------
    ValueError
        If `requested_px` is not positive.
    """
    if requested_px < 1:
        raise ValueError(f"chunk size of {requested_px} px; it must be at least 1")
    return -(-requested_px // cell_px) * cell_px
