"""Colours that fill a part of an 8-bit raster and touch its edge: collars that nobody declared as nodata.

They are counted in the cells that a fit samples, in squares of one colour, so that a grey value which is
merely frequent is none.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engine.grid import Window

SHARE = 0.01
"""Share of a raster from which on one colour at its edge is worth a hint."""

_SIDE_PX = 8
_COLOURS = 8
_EIGHT_TIMES = np.uint64(0x0101010101010101)

Colour = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FlatColours:
    """The squares of one cell that have one colour each.

    Parameters
    ----------
    squares
        Number of all squares of the cell.
    counts
        Number of squares of each colour: of the most frequent ones.
    at_edge
        Those colours that touch the edge of the raster.
    """

    squares: int
    counts: dict[Colour, int]
    at_edge: frozenset[Colour]


def flat_colours(
    pixels: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_], cell: Window, bounds: Window
) -> FlatColours:
    """The squares of one colour in a cell.

    Parameters
    ----------
    pixels, valid
        Of the cell, shapes (band, y, x) and (y, x); a square with an invalid pixel has no colour.
    cell, bounds
        Windows of the cell and of the whole raster.
    """
    rows, cols = (side // _SIDE_PX for side in valid.shape)
    if not rows * cols:
        return FlatColours(0, {}, frozenset())
    height, width = rows * _SIDE_PX, cols * _SIDE_PX
    # rows of eight pixels are compared as one number; first those at the top of squares, which rule out most
    tops = np.ascontiguousarray(pixels[:, :height:_SIDE_PX, :width]).view(np.uint64)
    colours = (tops & np.uint64(255)).astype(np.uint8)
    flat = (tops == colours * _EIGHT_TIMES).all(axis=0)
    if flat.any():
        eights = np.ascontiguousarray(pixels[:, :height, :width]).view(np.uint64)
        flat &= (eights.reshape(-1, rows, _SIDE_PX, cols) == tops[:, :, None]).all(axis=(0, 2))
        flat &= valid[:height, :width].reshape(rows, _SIDE_PX, cols, _SIDE_PX).all(axis=(1, 3))
    edge = np.zeros((rows, cols), bool)
    edge[0] |= cell.row == bounds.row
    edge[-1] |= cell.row_end == bounds.row_end
    edge[:, 0] |= cell.col == bounds.col
    edge[:, -1] |= cell.col_end == bounds.col_end
    counts, outer = (Counter(zip(*colours[:, mask].tolist(), strict=True)) for mask in (flat, flat & edge))
    frequent = sorted(counts, key=lambda colour: (-counts[colour], colour))[:_COLOURS]
    return FlatColours(rows * cols, {c: counts[c] for c in frequent}, frozenset(outer).intersection(frequent))


class Collars:
    """Collects the flat colours of cells, for each raster of a fit."""

    def __init__(self) -> None:
        self._squares: Counter[int] = Counter()
        self._counts: defaultdict[int, Counter[Colour]] = defaultdict(Counter)
        self._at_edge: defaultdict[int, set[Colour]] = defaultdict(set)

    def add(self, raster: int, flat: FlatColours) -> None:
        """Add those of a cell of a raster, by its index."""
        self._squares[raster] += flat.squares
        self._counts[raster].update(flat.counts)
        self._at_edge[raster] |= flat.at_edge

    def of(self, raster: int) -> tuple[Colour, float] | None:
        """The most frequent colour at the edge of a raster, and its share; None where it is no collar."""
        at_edge = {c: n for c, n in self._counts[raster].items() if c in self._at_edge[raster]}
        colour = min(at_edge, key=lambda c: (-at_edge[c], c), default=None)
        if colour is None or at_edge[colour] <= SHARE * self._squares[raster]:
            return None
        return colour, at_edge[colour] / self._squares[raster]
