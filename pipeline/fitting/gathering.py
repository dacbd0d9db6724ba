"""The vectors that a fit clusters: a hash sample, or every colour with its count."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.grid import Window, tiles
from engine.kernel import BandStatistics, ClusteringKernel, Vectors
from pipeline.errors import UsageError
from pipeline.events.observer import Advance
from pipeline.fitting import sampling
from pipeline.fitting.checkpoint import FitMemory
from pipeline.fitting.collars import Collars
from pipeline.workers.pool import Pool

_EXACT_WINDOW_PX = 2048
_SAVE_EVERY_S = 10.0


@dataclass(frozen=True)
class SampledCells:
    """The cells that a sample is taken from: rasters, seed, side of a cell, number of vectors."""

    rasters: Sequence[sampling.Pixels]
    seed: int
    cell_px: int
    vectors: int

    @functools.cached_property
    def cells_total(self) -> int:
        """Number of cells of all rasters."""
        return sampling.cells_total(self.rasters, self.cell_px)


@dataclass(frozen=True)
class Resources:
    """What a fit uses: workers, a callback for progress, intermediate results on disk; `collars` collects."""

    pool: Pool
    advance: Advance
    memory: FitMemory | None
    collars: Collars | None = None


@dataclass(frozen=True)
class Sample:
    """A hash sample.

    Parameters
    ----------
    sampled_cells
        Where it was taken.
    cells
        The cells that were read, in ascending order of hash, with the sample of each.
    stride_px
        Pixels from one feature to the next.
    """

    sampled_cells: SampledCells
    cells: list[tuple[sampling.Cell, sampling.CellSample]]
    stride_px: int

    @functools.cached_property
    def vectors(self) -> Vectors:
        """Feature vectors in hash order."""
        hashes = np.concatenate([s.hashes for _, s in self.cells])
        vectors = np.concatenate([s.vectors for _, s in self.cells])
        return vectors[np.argsort(hashes, kind="stable")]

    @property
    def places(self) -> list[sampling.Cell]:
        """The cells that were read."""
        return [cell for cell, _ in self.cells]

    @property
    def report(self) -> dict[str, Any]:
        """Counts of what was read, for the codebook."""
        return {
            "cells_read": len(self.cells),
            "cells_total": self.sampled_cells.cells_total,
            "pixels_seen": sum(s.valid_pixels for _, s in self.cells),
            "pixels_total": sum(r.region.pixels for r in self.sampled_cells.rasters),
            "vectors": sum(len(s.hashes) for _, s in self.cells),
        }

    def first(self, vectors: int) -> Sample:
        """The first cells that together have at least `vectors` vectors.

        They are a random subset, because cells are in order of hash.
        """
        totals = np.cumsum([len(s.hashes) for _, s in self.cells])
        cells = self.cells[: int(np.searchsorted(totals, vectors)) + 1]
        return Sample(self.sampled_cells, cells, self.stride_px)

    def again(
        self, kernel: ClusteringKernel, statistics: BandStatistics | None, resources: Resources
    ) -> Sample:
        """The same cells with another kernel."""
        samples = list(_samples(self.sampled_cells, self.places, kernel, statistics, resources))
        return Sample(self.sampled_cells, samples, kernel.stride_px)


def sample(
    sampled_cells: SampledCells,
    kernel: ClusteringKernel,
    statistics: BandStatistics | None,
    resources: Resources,
) -> Sample:
    """The hash sample of some cells."""
    total = sampled_cells.cells_total
    samples: list[tuple[sampling.Cell, sampling.CellSample]] = []
    batch: list[sampling.Cell] = []
    listed = 0
    for cell in sampling.cells(sampled_cells.rasters, sampled_cells.seed, sampled_cells.cell_px):
        batch.append(cell)
        listed += 1
        # batches of a fixed size, so that the sample does not depend on the number of workers
        if len(batch) < sampling.CELLS and listed < total:
            continue
        for pair in _samples(sampled_cells, batch, kernel, statistics, resources):
            samples.append(pair)
            resources.advance(len(samples), min(total, max(sampling.CELLS, len(samples))))
        batch.clear()
        if sampling.enough([s for _, s in samples], sampled_cells.vectors):
            break
    return Sample(sampled_cells, samples, kernel.stride_px)


def _samples(
    sampled_cells: SampledCells,
    cells: Sequence[sampling.Cell],
    kernel: ClusteringKernel,
    statistics: BandStatistics | None,
    resources: Resources,
) -> Iterator[tuple[sampling.Cell, sampling.CellSample]]:
    """The cells in order, with the sample of each."""
    quota = sampling.quota(sampled_cells.cells_total, sampled_cells.vectors)
    calls = [(sampled_cells.rasters[c.raster], kernel, statistics, c, quota) for c in cells]
    for cell, sample in zip(cells, _cell_samples(calls, resources), strict=True):
        if resources.collars is not None and sample.flat is not None:
            resources.collars.add(cell.raster, sample.flat)
        yield cell, sample


_Call = tuple[sampling.Pixels, ClusteringKernel, BandStatistics | None, sampling.Cell, int]


def _cell_samples(calls: Sequence[_Call], resources: Resources) -> Iterator[sampling.CellSample]:
    """Samples of cells in order; those of a network are stored on disk, or read from there."""
    if resources.memory is None or not (calls and calls[0][1].costly):
        yield from resources.pool.each(sampling.sample_cell, calls)
        return
    keys = [_key(*call) for call in calls]
    results = [resources.memory.get(*key) for key in keys]
    computed = resources.pool.each(
        sampling.sample_cell, (call for call, stored in zip(calls, results, strict=True) if stored is None)
    )
    for key, stored in zip(keys, results, strict=True):
        if stored is None:
            sample = next(computed)
            resources.memory.put(*key, **sample.arrays())
            yield sample
        else:
            yield sampling.CellSample.from_arrays(stored)


def _key(
    _: sampling.Pixels,
    kernel: ClusteringKernel,
    statistics: BandStatistics | None,
    cell: sampling.Cell,
    quota: int,
) -> tuple[Any, ...]:
    """Key of a cell's sample in the checkpoint: all that it depends on (the raster by its index)."""
    scaling = None if statistics is None else statistics.scaling
    limits = None if scaling is None else [scaling.low.tolist(), scaling.high.tolist()]
    mean = None if statistics is None else statistics.mean.tolist()
    return kernel.identity, mean, limits, cell.raster, cell.key, astuple(cell.window), quota


def every_pixel(
    rasters: Sequence[sampling.Pixels], resources: Resources
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], dict[str, Any]]:
    """All distinct colours, their counts, and counts of what was read.

    Sums are integers, so the result does not depend on the order of the windows.

    Raises
    ------
    UsageError
        If the rasters do not have 1 to 3 bands of uint8.
    """
    from engine import hashing

    bands = len(rasters[0].bands)
    if rasters[0].dtype != "uint8" or bands > 3:
        raise UsageError(
            f"--fit exact counts colours of 1 to 3 bands of uint8, not {bands} bands of {rasters[0].dtype}; "
            "use --fit sample or choose --bands"
        )
    counts = np.zeros(256**bands, np.int64)
    calls = [(r, w) for r in rasters for w in tiles(r.region, _EXACT_WINDOW_PX)]
    windows_done, saved_s = _counted_before(counts, resources.memory), time.monotonic()
    for done, (colours, number) in enumerate(
        resources.pool.each(count_colours, calls[windows_done:]), windows_done + 1
    ):
        counts[colours] += number
        resources.advance(done, len(calls))
        if resources.memory is not None and (now := time.monotonic()) - saved_s > _SAVE_EVERY_S:
            counted = np.flatnonzero(counts)
            resources.memory.put("counts", done=done, colours=counted, number=counts[counted])
            saved_s = now
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
    """Restore the counts of an interrupted fit into `counts`; returns the number of windows counted."""
    stored = memory.get("counts") if memory is not None else None
    if stored is None:
        return 0
    counts[stored["colours"]] = stored["number"]
    return int(stored["done"])


def count_colours(
    pixels: sampling.Pixels, window: Window
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """Colours of the valid pixels of a window, each packed into one integer, and their counts."""
    data, valid = pixels.read(window)
    inside = pixels.inside(window)
    if inside is not None:
        valid = valid & inside
    packed = np.zeros(valid.shape, np.int32)
    for band in data:
        packed = (packed << 8) | band
    colours, number = np.unique(packed[valid], return_counts=True)
    return colours.astype(np.intp), number
