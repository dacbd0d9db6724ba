"""The windows that a plan measures: spread over all rasters, and no row of windows twice."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from engine.grid import Window
from engine.spacing import ACROSS, ALONG, DOWN
from pipeline.tasks.job import Job


@dataclass(frozen=True, slots=True)
class Grid:
    """The windows of a raster: sides of one window, and numbers of rows and columns."""

    height: int
    width: int
    rows: int
    cols: int

    @classmethod
    def of(cls, job: Job) -> Grid:
        """The grid of a job's windows, from the first one's size: there may be a million windows."""
        first, region = next(job.windows()), job.view.region
        rows, cols = -(-region.height // first.height), -(-region.width // first.width)
        return cls(first.height, first.width, rows, cols)

    @property
    def count(self) -> int:
        """Number of windows."""
        return self.rows * self.cols

    @property
    def pixels(self) -> int:
        """Pixels of a whole window."""
        return self.height * self.width


class Samples:
    """Yields parts of rasters as jobs of their own.

    Neighbouring windows of a row are measured together, as in a run: if a raster is stored in strips, a
    window uses what the one before decoded.

    Parameters
    ----------
    jobs
        The jobs of the whole rasters.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs
        self._grids = [Grid.of(job) for job in jobs]
        self._ends = list(accumulate(job.view.region.pixels for job in jobs))
        self._free = [set(range(grid.rows)) for grid in self._grids]
        self._left = sum(grid.rows for grid in self._grids)
        self._taken = 0

    @property
    def left(self) -> bool:
        """True while there are rows that `next` has not returned."""
        return self._left > 0

    def next(self, pixels: int) -> Job:
        """A job of about `pixels` pixels: rows of windows, windows of a row, or cells of a window."""
        self._taken += 1
        index = bisect_right(self._ends, self._taken * ALONG % 1 * self._ends[-1])
        probe = pixels < min(self._grids[index].pixels, self._jobs[index].view.region.pixels)
        if not probe:
            while not self._free[index]:
                index = (index + 1) % len(self._jobs)
        job, grid = self._jobs[index], self._grids[index]
        chosen = self._cells(job, grid, pixels) if probe else self._windows(index, grid, pixels)
        region = job.view.region
        measured = Window(
            region.row + chosen.row,
            region.col + chosen.col,
            min(chosen.height, region.height - chosen.row),
            min(chosen.width, region.width - chosen.col),
        )
        view = replace(job.view, region=measured)
        return replace(job, name=f"sample{self._taken}", view=view, measured=True)

    def _index(self, step: float, count: int) -> int:
        """An index below `count` that is spread evenly over calls of `next`."""
        return int(self._taken * step % 1 * count)

    def _cells(self, job: Job, grid: Grid, pixels: int) -> Window:
        """Some cells at the beginning of a window, as wide as possible; no row is used up."""
        cell = job.kernel.cell_px
        cols = max(1, min(pixels // cell**2, grid.width // cell))
        rows = max(1, pixels // (cols * cell**2))
        row, col = self._index(DOWN, grid.rows), self._index(ACROSS, grid.cols)
        return Window(row * grid.height, col * grid.width, rows * cell, cols * cell)

    def _windows(self, index: int, grid: Grid, pixels: int) -> Window:
        """Windows of a row, or whole rows, that were not returned before."""
        windows = max(1, pixels // grid.pixels)
        cols, free = min(grid.cols, windows), self._free[index]
        start = self._index(DOWN, grid.rows)
        first = min(free, key=lambda row: (row - start) % grid.rows)
        rows = 1
        while cols == grid.cols and (rows + 1) * cols <= windows and first + rows in free:
            rows += 1
        free.difference_update(range(first, first + rows))
        self._left -= rows
        col = self._index(ACROSS, grid.cols - cols + 1)
        return Window(first * grid.height, col * grid.width, rows * grid.height, cols * grid.width)
