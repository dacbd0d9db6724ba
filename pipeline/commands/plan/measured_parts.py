"""Which parts of which rasters a plan measures: spread over all of them, and no row of windows twice."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from engine.grid import Window
from pipeline.tasks.job import Job

# multiples of these fill the unit interval evenly, however many there are: of the golden ratio, and its
# like in two dimensions
_ALONG = 0.6180339887498949
_DOWN, _ACROSS = 0.7548776662466927, 0.5698402909980532


@dataclass(frozen=True, slots=True)
class Grid:
    """How a raster is cut into windows: the sides of one, and how many there are."""

    height: int
    width: int
    rows: int
    cols: int

    @classmethod
    def of(cls, job: Job) -> Grid:
        """The grid of a job's windows, told from the first: there may be a million."""
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
    """Parts of rasters as jobs of their own.

    Neighbouring windows of a row go together, as in a run: where a raster is stored in strips, what one
    of them decodes serves the next.

    Parameters
    ----------
    jobs
        The rasters.
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
        """True while a row is left that was not given."""
        return self._left > 0

    def next(self, pixels: int) -> Job:
        """A part of about so many pixels: rows of windows, some windows of a row, or some cells of one."""
        self._taken += 1
        index = bisect_right(self._ends, self._taken * _ALONG % 1 * self._ends[-1])
        probe = pixels < min(self._grids[index].pixels, self._jobs[index].view.region.pixels)
        if not probe:
            while not self._free[index]:
                index = (index + 1) % len(self._jobs)
        job, grid = self._jobs[index], self._grids[index]
        part = self._cells(job, grid, pixels) if probe else self._windows(index, grid, pixels)
        region = job.view.region
        part = Window(
            region.row + part.row,
            region.col + part.col,
            min(part.height, region.height - part.row),
            min(part.width, region.width - part.col),
        )
        return replace(job, name=f"sample{self._taken}", view=replace(job.view, region=part))

    def _place(self, step: float, count: int) -> int:
        return int(self._taken * step % 1 * count)

    def _cells(self, job: Job, grid: Grid, pixels: int) -> Window:
        """Some cells at the beginning of a window, as wide as may be; they use no row up."""
        cell = job.kernel.cell_px
        cols = max(1, min(pixels // cell**2, grid.width // cell))
        rows = max(1, pixels // (cols * cell**2))
        row, col = self._place(_DOWN, grid.rows), self._place(_ACROSS, grid.cols)
        return Window(row * grid.height, col * grid.width, rows * cell, cols * cell)

    def _windows(self, index: int, grid: Grid, pixels: int) -> Window:
        """Windows of a row, or whole rows, and none of these has been given."""
        windows = max(1, pixels // grid.pixels)
        cols, free = min(grid.cols, windows), self._free[index]
        start = self._place(_DOWN, grid.rows)
        first = min(free, key=lambda row: (row - start) % grid.rows)
        rows = 1
        while cols == grid.cols and (rows + 1) * cols <= windows and first + rows in free:
            rows += 1
        free.difference_update(range(first, first + rows))
        self._left -= rows
        col = self._place(_ACROSS, grid.cols - cols + 1)
        return Window(first * grid.height, col * grid.width, rows * grid.height, cols * grid.width)
