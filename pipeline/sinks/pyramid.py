"""The geometry of a pyramid that is written unit by unit, and the 2x2 mode between its levels.

The units of the first stage are the chunks. A unit's own task writes the tiles of every level that lie
wholly inside the unit, and stores the *remnant*: the unit at the first level whose tiles straddle units.
The remnants of `FAN` x `FAN` neighbours make one unit of the next stage, which is treated in the same way.
So any raster needs only a few stages, each task handles a bounded number of pixels, and no level is read
back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.grid import Window
from engine.jit import compiled

TILE_PX = 512
"""Side of a tile."""

FAN = 8
"""Units of a stage along one side of a unit of the next stage."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the pyramid: equal square units that are written independently.

    Parameters
    ----------
    index
        0 for the stage whose units are the chunks.
    level
        Level of the units' input labels; 0 is full resolution.
    levels
        Number of levels, beginning with `level`, whose tiles this stage writes.
    unit_px
        Side of a unit in pixels of `level`.
    height, width
        Size of the whole raster at `level`.
    last
        True if this is the last stage.
    """

    index: int
    level: int
    levels: int
    unit_px: int
    height: int
    width: int
    last: bool

    @property
    def rows(self) -> int:
        """Number of rows of units."""
        return -(-self.height // self.unit_px)

    @property
    def cols(self) -> int:
        """Number of columns of units."""
        return -(-self.width // self.unit_px)

    def units(self) -> Iterator[tuple[int, int]]:
        """(row, col) of each unit, row by row."""
        return ((i, j) for i in range(self.rows) for j in range(self.cols))

    def window(self, unit: tuple[int, int]) -> Window:
        """The pixels of a unit at the stage's level."""
        row, col = unit[0] * self.unit_px, unit[1] * self.unit_px
        return Window(row, col, min(self.unit_px, self.height - row), min(self.unit_px, self.width - col))


def level_shapes(height: int, width: int) -> list[tuple[int, int]]:
    """(height, width) of each level, halved (rounding up) until the last one fits into one tile."""
    shapes = [(height, width)]
    while max(shapes[-1]) > TILE_PX:
        h, w = shapes[-1]
        shapes.append((-(-h // 2), -(-w // 2)))
    return shapes


def stages(height: int, width: int, chunk_px: int) -> tuple[Stage, ...]:
    """The stages of a raster's pyramid; `chunk_px` has to be a multiple of the tile side."""
    shapes = level_shapes(height, width)
    result: list[Stage] = []
    level, unit_px = 0, chunk_px
    while level < len(shapes):
        h, w = shapes[level]
        single_unit = h <= unit_px and w <= unit_px
        levels = 1
        while level + levels < len(shapes) and (single_unit or (unit_px >> levels) % TILE_PX == 0):
            levels += 1
        last = level + levels == len(shapes)
        result.append(Stage(len(result), level, levels, unit_px, h, w, last))
        unit_px = (unit_px >> levels) * FAN
        level += levels
    return tuple(result)


@compiled
def _halve(a: Any, out: Any) -> None:
    height, width = a.shape
    for y in range(out.shape[0]):
        top = a[2 * y]
        below = a[min(2 * y + 1, height - 1)]
        single_row = 2 * y + 1 >= height
        for x in range(out.shape[1]):
            left, right = 2 * x, min(2 * x + 1, width - 1)
            single_col = 2 * x + 1 >= width
            p = top[left]
            q = np.uint8(255) if single_col else top[right]
            r = np.uint8(255) if single_row else below[left]
            s = np.uint8(255) if single_row or single_col else below[right]
            # sorted with nodata (255) last, the first equal pair is the mode; ties go to the lowest label
            p, q = min(p, q), max(p, q)
            r, s = min(r, s), max(r, s)
            p, r = min(p, r), max(p, r)
            q, s = min(q, s), max(q, s)
            q, r = min(q, r), max(q, r)
            mode = p
            if p != q:
                if q == r:
                    if q != 255:
                        mode = q
                elif r == s and r != 255:
                    mode = r
            out[y, x] = mode


def halve(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Half-size labels: the mode of each 2x2; ties to the lowest label, 255 only if all four are 255."""
    out = np.empty((-(-labels.shape[0] // 2), -(-labels.shape[1] // 2)), np.uint8)
    _halve(labels, out)
    return out


@compiled
def _count(labels: Any, counters: Any) -> None:
    height, width = labels.shape
    for y in range(height):
        row = labels[y]
        for x in range(0, width - 3, 4):
            counters[0, row[x]] += 1
            counters[1, row[x + 1]] += 1
            counters[2, row[x + 2]] += 1
            counters[3, row[x + 3]] += 1
        for x in range(width - width % 4, width):
            counters[0, row[x]] += 1


def count_labels(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Pixels of each value, shape (256,)."""
    # neighbours are often equal: with one counter per value, each increment would wait for the one before
    counters = np.zeros((4, 256), np.int64)
    _count(labels, counters)
    total: npt.NDArray[np.int64] = counters.sum(axis=0)
    return total


@dataclass(frozen=True)
class UnitPyramid:
    """A unit's labels at every level of its stage.

    Parameters
    ----------
    levels
        uint8 labels of the stage's levels, each half the size of the one before.
    remnant
        Labels at the first level of the next stage, or None in the last stage.
    """

    levels: tuple[npt.NDArray[np.uint8], ...]
    remnant: npt.NDArray[np.uint8] | None


def unit_pyramid(stage: Stage, unit: tuple[int, int], labels: npt.NDArray[np.uint8]) -> UnitPyramid:
    """The levels of a unit from its labels at the stage's first level.

    Raises
    ------
    ValueError
        If the labels do not have the unit's shape.
    """
    window = stage.window(unit)
    if labels.shape != (window.height, window.width):
        raise ValueError(f"unit {unit} of stage {stage.index} has labels of {labels.shape}, not {window}")
    levels = [labels]
    for _ in range(stage.levels - 1 if stage.last else stage.levels):
        levels.append(halve(levels[-1]))
    return UnitPyramid(tuple(levels[: stage.levels]), None if stage.last else levels[-1])


def cut_tiles(labels: npt.NDArray[np.uint8]) -> list[list[npt.NDArray[np.uint8]]]:
    """Full-size tiles of a level, by rows; edge tiles are padded with nodata."""
    height, width = labels.shape
    down, across = -(-height // TILE_PX), -(-width // TILE_PX)
    if (height, width) != (down * TILE_PX, across * TILE_PX):
        padded = np.full((down * TILE_PX, across * TILE_PX), 255, np.uint8)
        padded[:height, :width] = labels
        labels = padded
    lines = labels.reshape(down, TILE_PX, across, TILE_PX).swapaxes(1, 2)
    return [[lines[i, j] for j in range(across)] for i in range(down)]
