"""What a fit sees: the vectors of a hash sample, or every colour with its count."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.grid import Window, tiles
from engine.kernel import BandStatistics, Kernel, Vectors
from pipeline.errors import UsageError
from pipeline.events.observer import Advance
from pipeline.fitting import sampling
from pipeline.fitting.checkpoint import FitMemory
from pipeline.workers.pool import Pool

_EXACT_WINDOW_PX = 2048
_REMEMBER_EVERY_S = 10.0


@dataclass(frozen=True)
class SampledCells:
    """Where a sample is taken: cells of some side of some rasters, and how many vectors of them."""

    rasters: Sequence[sampling.Pixels]
    seed: int
    cell_px: int
    vectors: int

    @functools.cached_property
    def cells_total(self) -> int:
        """Number of cells of all rasters."""
        return sampling.cells_total(self.rasters, self.cell_px)


@dataclass(frozen=True)
class Hands:
    """What a fit works with: workers, somebody who hears of progress, a memory of what was found before."""

    pool: Pool
    advance: Advance
    memory: FitMemory | None


@dataclass(frozen=True)
class Sample:
    """A hash sample.

    Parameters
    ----------
    places
        Where it was taken.
    cells
        The cells that were looked at, in ascending order of hash, and what each gave.
    """

    places: SampledCells
    cells: list[tuple[sampling.Cell, sampling.CellSample]]

    @functools.cached_property
    def vectors(self) -> Vectors:
        """Feature vectors in hash order."""
        hashes = np.concatenate([s.hashes for _, s in self.cells])
        vectors = np.concatenate([s.vectors for _, s in self.cells])
        return vectors[np.argsort(hashes, kind="stable")]

    @property
    def report(self) -> dict[str, Any]:
        """What was seen."""
        return {
            "cells_read": len(self.cells),
            "cells_total": self.places.cells_total,
            "pixels_seen": sum(s.valid_pixels for _, s in self.cells),
            "pixels_total": sum(r.region.pixels for r in self.places.rasters),
            "vectors": sum(len(s.hashes) for _, s in self.cells),
        }

    def first(self, vectors: int) -> Sample:
        """The first cells that together have so many vectors: a random part of all, for they are hashed."""
        found = np.cumsum([len(s.hashes) for _, s in self.cells])
        return Sample(self.places, self.cells[: int(np.searchsorted(found, vectors)) + 1])

    def again(self, kernel: Kernel, statistics: BandStatistics | None, hands: Hands) -> Sample:
        """The same cells by another kernel."""
        cells = [cell for cell, _ in self.cells]
        return Sample(self.places, list(_samples(self.places, cells, kernel, statistics, hands)))


def sample(places: SampledCells, kernel: Kernel, statistics: BandStatistics | None, hands: Hands) -> Sample:
    """Take the hash sample."""
    total = places.cells_total
    found: list[tuple[sampling.Cell, sampling.CellSample]] = []
    waiting: list[sampling.Cell] = []
    looked_at = 0
    for cell in sampling.cells(places.rasters, places.seed, places.cell_px):
        waiting.append(cell)
        looked_at += 1
        # batches of a fixed size: how far the sample reaches must not depend on the workers
        if len(waiting) < sampling.CELLS and looked_at < total:
            continue
        for one in _samples(places, waiting, kernel, statistics, hands):
            found.append(one)
            hands.advance(len(found), min(total, max(sampling.CELLS, len(found))))
        waiting.clear()
        if sampling.enough([s for _, s in found], places.vectors):
            break
    return Sample(places, found)


def _samples(
    places: SampledCells,
    cells: Sequence[sampling.Cell],
    kernel: Kernel,
    statistics: BandStatistics | None,
    hands: Hands,
) -> Iterator[tuple[sampling.Cell, sampling.CellSample]]:
    """Cells in order, with what each gives."""
    quota = sampling.quota(places.cells_total, places.vectors)
    calls = [(places.rasters[c.raster], kernel, statistics, c, quota) for c in cells]
    return zip(cells, _cell_samples(calls, hands), strict=True)


_Call = tuple[sampling.Pixels, Kernel, BandStatistics | None, sampling.Cell, int]


def _cell_samples(calls: Sequence[_Call], hands: Hands) -> Iterator[sampling.CellSample]:
    """Samples of cells in order; those that take a network are remembered."""
    if hands.memory is None or not (calls and calls[0][1].costly):
        yield from hands.pool.each(sampling.sample_cell, calls)
        return
    names = [_name(*call) for call in calls]
    known = [hands.memory.get(*name) for name in names]
    fresh = hands.pool.each(
        sampling.sample_cell, (call for call, old in zip(calls, known, strict=True) if old is None)
    )
    for name, old in zip(names, known, strict=True):
        if old is None:
            sample = next(fresh)
            hands.memory.put(*name, **sample.arrays())
            yield sample
        else:
            yield sampling.CellSample.from_arrays(old)


def _name(
    _: sampling.Pixels, kernel: Kernel, statistics: BandStatistics | None, cell: sampling.Cell, quota: int
) -> tuple[Any, ...]:
    """What a sample depends on beside its raster, which the cell gives the place of."""
    scaling = None if statistics is None else statistics.scaling
    limits = None if scaling is None else [scaling.low.tolist(), scaling.high.tolist()]
    mean = None if statistics is None else statistics.mean.tolist()
    return kernel.identity, mean, limits, cell.raster, cell.key, astuple(cell.window), quota


def every_pixel(
    rasters: Sequence[sampling.Pixels], hands: Hands
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], dict[str, Any]]:
    """All distinct colours, their counts, and what was seen; integer sums, so in any order the same."""
    from engine import hashing

    bands = len(rasters[0].bands)
    if rasters[0].dtype != "uint8" or bands > 3:
        raise UsageError(
            f"--fit exact counts colours of 1 to 3 bands of uint8, not {bands} bands of {rasters[0].dtype}; "
            "use --fit sample or choose --bands"
        )
    counts = np.zeros(256**bands, np.int64)
    calls = [(r, w) for r in rasters for w in tiles(r.region, _EXACT_WINDOW_PX)]
    first, saved = _counted_before(counts, hands.memory), time.monotonic()
    for done, (colours, number) in enumerate(hands.pool.each(count_colours, calls[first:]), first + 1):
        counts[colours] += number
        hands.advance(done, len(calls))
        if hands.memory is not None and (now := time.monotonic()) - saved > _REMEMBER_EVERY_S:
            there = np.flatnonzero(counts)
            hands.memory.put("counts", done=done, colours=there, number=counts[there])
            saved = now
    present = np.flatnonzero(counts)
    present = present[hashing.bottom(hashing.mix(present.astype(np.uint64)), len(present))]
    shifts = 8 * np.arange(bands - 1, -1, -1)
    vectors = ((present[:, None] >> shifts) & 255).astype(np.float64)
    seen = int(counts.sum())
    report = {
        "pixels_seen": seen,
        "pixels_total": sum(r.region.pixels for r in rasters),
        "vectors": len(vectors),
    }
    return vectors, counts[present].astype(np.float64), report


def _counted_before(counts: npt.NDArray[np.int64], memory: FitMemory | None) -> int:
    """Windows whose colours were counted before; their counts go into `counts`."""
    found = memory.get("counts") if memory is not None else None
    if found is None:
        return 0
    counts[found["colours"]] = found["number"]
    return int(found["done"])


def count_colours(
    pixels: sampling.Pixels, window: Window
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """Colours of the valid pixels of a window, packed into one integer each, and how often they occur."""
    data, valid = pixels.read(window)
    inside = pixels.inside(window)
    if inside is not None:
        valid = valid & inside
    packed = np.zeros(valid.shape, np.int32)
    for band in data:
        packed = (packed << 8) | band
    colours, number = np.unique(packed[valid], return_counts=True)
    return colours.astype(np.intp), number
