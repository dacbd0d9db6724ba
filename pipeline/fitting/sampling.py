"""Which cells of which rasters a fit reads, and which of their features it takes.

The choice is a bottom-k by hash (`engine.hashing`) over absolute cell and feature coordinates, so it is
the same for every chunking, worker count and order. The number of cells read does not grow with the rasters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from engine import hashing
from engine.block_loops import block_means
from engine.codebook import Band
from engine.grid import Window
from engine.kernel import BandStatistics, ClusteringKernel, Mask, Patch, Places, Vectors
from pipeline.fitting.collars import FlatColours, flat_colours
from pipeline.legend.true_colour import Rgb

CELLS = 64
"""Cells with valid pixels that a fit reads, if there are as many."""

_LIST_LENGTH = 4096  # cells listed at a time
_FEATURES = 0x5851F42D4C957F2D  # makes the hash of features in a cell another than the hash of cells
_STRIP = 1 << 20  # cells hashed at a time


class Pixels(Protocol):
    """A source of pixels that a fit can sample: a raster on disk or an array."""

    @property
    def path(self) -> str:
        """Name for messages."""

    @property
    def bounds(self) -> Window:
        """Window of its pixels on its grid."""

    @property
    def region(self) -> Window:
        """The window within `bounds` that is sampled."""

    @property
    def bands(self) -> tuple[Band, ...]:
        """Band numbers, names or expressions."""

    @property
    def given_names(self) -> tuple[str, ...]:
        """What its file calls these bands; "" where it does not say."""
        ...

    @property
    def all_names(self) -> tuple[tuple[str, ...], ...]:
        """Everything that its file calls each of these bands."""
        ...

    @property
    def rgb(self) -> Rgb | None:
        """Indices of its red, green and blue band; None where there are none."""
        ...

    @property
    def dtype(self) -> str:
        """Dtype of the pixels."""

    @property
    def physical(self) -> bool | None:
        """Whether values are scaled as files declare; None where that makes no difference."""
        ...

    @property
    def identity(self) -> tuple[Any, ...]:
        """Values that seed the choice: size, transform, bands, dtype; never a path."""

    def read(self, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Pixels and validity of a window."""

    def inside(self, window: Window) -> npt.NDArray[np.bool_] | None:
        """Mask of a window, True where features may be taken; None for everywhere."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One candidate cell: index of its raster, the raster's hash key, and the cell's window."""

    raster: int
    key: int
    window: Window


@dataclass(frozen=True)
class CellSample:
    """The sample of one cell.

    Parameters
    ----------
    vectors
        Shape (n, D), in ascending order of `hashes`.
    hashes
        Shape (n,), uint64.
    features_total
        Number of features in the cell, from which `vectors` were chosen.
    valid_pixels
        Valid pixels of the cell.
    flat
        The colours of the cell's squares of one colour; None where they were not looked for.
    """

    vectors: Vectors
    hashes: npt.NDArray[np.uint64]
    features_total: int
    valid_pixels: int
    flat: FlatColours | None = None

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The sample as named arrays."""
        counts = np.array([self.features_total, self.valid_pixels])
        return {"vectors": self.vectors, "hashes": self.hashes, "counts": counts}

    @classmethod
    def from_arrays(cls, arrays: dict[str, npt.NDArray[Any]]) -> CellSample:
        """The sample that `arrays` returned."""
        features_total, valid = arrays["counts"].tolist()
        return cls(arrays["vectors"], arrays["hashes"], features_total, valid)


def keys(rasters: Sequence[Pixels], seed: int) -> list[int]:
    """A hash key for each raster; rasters with equal identities (no transform, same size) differ by order."""
    counts: Counter[tuple[Any, ...]] = Counter()
    result = []
    for raster in rasters:
        earlier = counts[raster.identity]
        counts[raster.identity] += 1
        result.append(hashing.key(seed, raster.identity, *([earlier] if earlier else [])))
    return result


def cells_total(rasters: Sequence[Pixels], cell_px: int) -> int:
    """Number of cells of all rasters."""
    return sum(rows * cols for rows, cols in (_cell_grid(r.region, cell_px)[2:] for r in rasters))


def cells(rasters: Sequence[Pixels], seed: int, cell_px: int) -> Iterator[Cell]:
    """All cells of all rasters in ascending order of hash, listed in batches of bounded length."""
    raster_keys = keys(rasters, seed)
    above = -1
    while True:
        batch = _next_cells(rasters, raster_keys, cell_px, above)
        for value, cell in batch:
            above = value
            yield cell
        if len(batch) < _LIST_LENGTH:
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
    pixels: Pixels, kernel: ClusteringKernel, statistics: BandStatistics | None, cell: Cell, quota: int
) -> CellSample:
    """Read one cell with its halo and take the `quota` features with the smallest hashes."""
    outer = cell.window.grow(kernel.halo_px, pixels.bounds)
    data, valid = pixels.read(outer)
    inside = pixels.inside(outer)
    pick = _Pick(cell, quota, inside, outer, kernel.stride_px)
    features = kernel.features(Patch(data, valid, outer, cell.window, pixels.bounds), statistics, pick)
    core = cell.window.slices(outer)
    here = (valid if inside is None else valid & inside)[core]
    flat = None
    if data.dtype == np.uint8 and not kernel.costly:  # the samples of costly ones are stored without it
        flat = flat_colours(data[:, *core], valid[core], cell.window, pixels.bounds)
    return CellSample(features.vectors, pick.hashes, pick.features_total, int(np.count_nonzero(here)), flat)


class _Pick:
    """A `Select`: the features with the smallest hashes, of those that touch the inside; keeps the hashes."""

    def __init__(
        self, cell: Cell, quota: int, inside: npt.NDArray[np.bool_] | None, outer: Window, stride_px: int
    ) -> None:
        self._cell = cell
        self._quota = quota
        self._touched = None if inside is None else _touched(inside, outer, stride_px)
        self._first = outer.row // stride_px, outer.col // stride_px
        self.hashes = np.empty(0, np.uint64)
        self.features_total = 0

    def __call__(self, mask: Mask, row: int, col: int) -> Places:
        """Positions of the picked features, in ascending order of hash."""
        height, width = mask.shape
        if self._touched is not None:
            first_row, first_col = row - self._first[0], col - self._first[1]
            mask = mask & self._touched[first_row : first_row + height, first_col : first_col + width]
        key = self._cell.key ^ _FEATURES
        self.hashes, indices, self.features_total = hashing.mask_bottom(key, mask, row, col, self._quota)
        rows, cols = np.divmod(indices, width)
        return rows + row, cols + col


def _touched(inside: npt.NDArray[np.bool_], outer: Window, stride_px: int) -> npt.NDArray[np.bool_]:
    """Mask of the blocks that `outer` touches: True for a block with a pixel inside."""
    row, col = outer.row % stride_px, outer.col % stride_px
    return block_means(inside[None].view(np.uint8), inside, row, col, stride_px)[1]


def quota(total_cells: int, vectors: int) -> int:
    """Features to take from a cell, so that all cells together have about `vectors`."""
    return -(-vectors // max(1, min(CELLS, total_cells)))


def enough(samples: Sequence[CellSample], vectors: int) -> bool:
    """Returns True if no more cells are needed: `CELLS` have features, with a quarter of `vectors`."""
    with_features = sum(s.features_total > 0 for s in samples)
    return with_features >= CELLS and sum(len(s.hashes) for s in samples) >= vectors // 4
