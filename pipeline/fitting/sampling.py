"""Which cells of which rasters a fit looks at, and which of their features it takes.

The choice is a bottom-k by hash (`engine.hashing`) over absolute cell and feature coordinates, so it
is the same for every chunking, worker count and order, and its cost does not grow with the rasters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from engine import hashing
from engine.blocks import block_means
from engine.codebook import Band
from engine.grid import Window
from engine.kernel import BandStatistics, Kernel, Mask, Patch, Places, Vectors

CELLS = 64
"""Cells with valid pixels that a fit looks at, where there are so many."""

_LIST_LENGTH = 4096
_PLACES = 0x5851F42D4C957F2D  # tells the hash of places in a cell from that of cells
_STRIP = 1 << 20


class Pixels(Protocol):
    """What a fit can sample: a raster on disk or an array."""

    @property
    def path(self) -> str:
        """Name for messages."""
        ...

    @property
    def bounds(self) -> Window:
        """Where its pixels lie on its grid."""
        ...

    @property
    def region(self) -> Window:
        """The part of them that is sampled."""
        ...

    @property
    def bands(self) -> tuple[Band, ...]:
        """Band numbers, names or expressions."""
        ...

    @property
    def dtype(self) -> str:
        """Dtype of the pixels."""
        ...

    @property
    def identity(self) -> tuple[Any, ...]:
        """What seeds the choice: size, transform, bands, dtype; never a path."""
        ...

    def read(self, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Pixels and validity of a window."""
        ...

    def inside(self, window: Window) -> npt.NDArray[np.bool_] | None:
        """Where in a window of the region features may be taken; None for everywhere."""
        ...


@dataclass(frozen=True, slots=True)
class Cell:
    """One candidate cell: which raster, its key, and the cell's window."""

    raster: int
    key: int
    window: Window


@dataclass(frozen=True)
class CellSample:
    """What one cell gave.

    Parameters
    ----------
    vectors
        Shape (n, D), in ascending order of `hashes`.
    hashes
        Shape (n,), uint64.
    found
        Features in the cell, of which `vectors` are a part.
    valid_pixels
        Valid pixels of the cell.
    """

    vectors: Vectors
    hashes: npt.NDArray[np.uint64]
    found: int
    valid_pixels: int

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All of it as arrays."""
        counts = np.array([self.found, self.valid_pixels])
        return {"vectors": self.vectors, "hashes": self.hashes, "counts": counts}

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[Any]]) -> CellSample:
        """What `arrays` gave."""
        found, valid = arrays["counts"].tolist()
        return cls(arrays["vectors"], arrays["hashes"], found, valid)


def keys(rasters: Sequence[Pixels], seed: int) -> list[int]:
    """A hash key for each raster; equal ones (no transform, same size) are told apart by their order."""
    seen: Counter[tuple[Any, ...]] = Counter()
    result = []
    for raster in rasters:
        again = seen[raster.identity]
        seen[raster.identity] += 1
        result.append(hashing.key(seed, raster.identity, *([again] if again else [])))
    return result


def cells_total(rasters: Sequence[Pixels], cell_px: int) -> int:
    """Number of cells of all rasters."""
    return sum(rows * cols for rows, cols in (_cell_grid(r.region, cell_px)[2:] for r in rasters))


def cells(rasters: Sequence[Pixels], seed: int, cell_px: int) -> Iterator[Cell]:
    """All cells of all rasters in ascending order of hash, found a bounded list at a time."""
    raster_keys = keys(rasters, seed)
    above = -1
    while True:
        found = _next_cells(rasters, raster_keys, cell_px, above)
        for value, cell in found:
            above = value
            yield cell
        if len(found) < _LIST_LENGTH:
            return


def _cell_grid(bounds: Window, cell_px: int) -> tuple[int, int, int, int]:
    """First cell row and column, and the number of cell rows and columns."""
    row, col = bounds.row // cell_px, bounds.col // cell_px
    return row, col, -(-bounds.row_end // cell_px) - row, -(-bounds.col_end // cell_px) - col


def _next_cells(
    rasters: Sequence[Pixels], raster_keys: Sequence[int], cell_px: int, above: int
) -> list[tuple[int, Cell]]:
    """The next cells by hash beyond `above`, at most `_LIST_LENGTH`."""
    best: list[tuple[int, Cell]] = []
    for index, (raster, key) in enumerate(zip(rasters, raster_keys, strict=True)):
        row, col, rows, cols = _cell_grid(raster.region, cell_px)
        strip = max(1, _STRIP // cols)
        for start in range(row, row + rows, strip):
            r = np.arange(start, min(start + strip, row + rows))
            hashes = hashing.grid_hash(key, r[:, None], np.arange(col, col + cols)[None]).ravel()
            beyond = np.flatnonzero(hashes > np.uint64(above)) if above >= 0 else np.arange(hashes.size)
            for i in beyond[hashing.bottom(hashes[beyond], _LIST_LENGTH)]:
                window = _cell_window(start + int(i) // cols, col + int(i) % cols, cell_px, raster.region)
                best.append((int(hashes[i]), Cell(index, key, window)))
        if len(best) > 8 * _LIST_LENGTH:
            best = sorted(best, key=_order)[:_LIST_LENGTH]
    return sorted(best, key=_order)[:_LIST_LENGTH]


def _order(item: tuple[int, Cell]) -> tuple[int, int]:
    return item[0], item[1].raster


def _cell_window(row: int, col: int, cell_px: int, bounds: Window) -> Window:
    top, left = max(row * cell_px, bounds.row), max(col * cell_px, bounds.col)
    bottom, right = min((row + 1) * cell_px, bounds.row_end), min((col + 1) * cell_px, bounds.col_end)
    return Window(top, left, bottom - top, right - left)


def sample_cell(
    pixels: Pixels, kernel: Kernel, statistics: BandStatistics | None, cell: Cell, quota: int
) -> CellSample:
    """Read one cell with its halo and take the `quota` features of the smallest hashes."""
    outer = cell.window.grow(kernel.halo_px, pixels.bounds)
    data, valid = pixels.read(outer)
    inside = pixels.inside(outer)
    pick = _Pick(cell, quota, inside, outer, kernel.stride_px)
    features = kernel.features(Patch(data, valid, outer, cell.window, pixels.bounds), statistics, pick)
    here = (valid if inside is None else valid & inside)[cell.window.slices(outer)]
    return CellSample(features.vectors, pick.hashes, pick.found, int(np.count_nonzero(here)))


class _Pick:
    """Picks the places of the smallest hashes, of those that touch the inside; remembers their hashes."""

    def __init__(
        self, cell: Cell, quota: int, inside: npt.NDArray[np.bool_] | None, outer: Window, stride_px: int
    ) -> None:
        self._cell = cell
        self._quota = quota
        self._touched = None if inside is None else _touched(inside, outer, stride_px)
        self._first = outer.row // stride_px, outer.col // stride_px
        self.hashes = np.empty(0, np.uint64)
        self.found = 0

    def __call__(self, mask: Mask, row: int, col: int) -> Places:
        """The picked places, in ascending order of hash."""
        height, width = mask.shape
        if self._touched is not None:
            at_row, at_col = row - self._first[0], col - self._first[1]
            mask = mask & self._touched[at_row : at_row + height, at_col : at_col + width]
        key = self._cell.key ^ _PLACES
        self.hashes, places, self.found = hashing.mask_bottom(key, mask, row, col, self._quota)
        rows, cols = np.divmod(places, width)
        return rows + row, cols + col


def _touched(inside: npt.NDArray[np.bool_], outer: Window, stride_px: int) -> npt.NDArray[np.bool_]:
    """True for each feature's block that has a pixel inside; on the blocks that `outer` touches."""
    row, col = outer.row % stride_px, outer.col % stride_px
    return block_means(inside[None].view(np.uint8), inside, row, col, stride_px)[1]


def quota(total_cells: int, vectors: int) -> int:
    """Features to take from a cell: all cells together give about `vectors`."""
    return -(-vectors // max(1, min(CELLS, total_cells)))


def enough(samples: Sequence[CellSample], vectors: int) -> bool:
    """True when no more cells need to be looked at: many with valid pixels, a quarter of the vectors."""
    with_data = sum(s.found > 0 for s in samples)
    return with_data >= CELLS and sum(len(s.hashes) for s in samples) >= vectors // 4
