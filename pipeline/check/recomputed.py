"""A sample of a finished raster's labels, computed again from the input in windows of other sizes."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dask.local import get_sync

from engine.codebook import Codebook
from engine.grid import Window
from engine.kernel import Kernel
from engine.labels.smoothing import Smoothing
from pipeline.check.read_back import read_labels
from pipeline.errors import RasterError
from pipeline.graph import label_graph as graph_labels
from pipeline.source.raster import described
from pipeline.source.view import View
from pipeline.workers.pool import Pool

_BUDGET_S = 20.0


@dataclass(frozen=True)
class Recipe:
    """Everything that a raster's labels were made from.

    Parameters
    ----------
    labels
        The label file that GDAL opens.
    view
        The raster, with the region that was labelled.
    kernel, codebook
        Kernel and codebook of the run.
    chunk_px
        Side of the run's chunks.
    smoothing
        What was made of the kernel's labels, or None.
    unlabelled
        Windows that could not be labelled, in absolute pixels.
    """

    labels: Path
    view: View
    kernel: Kernel
    codebook: Codebook
    chunk_px: int
    smoothing: Smoothing | None = None
    unlabelled: tuple[Window, ...] = ()

    @property
    def side_px(self) -> int:
        """Side of the windows that are computed again: a few cells, and another size than a chunk's."""
        return (3 if self.chunk_px == 2 * self.kernel.cell_px else 2) * self.kernel.cell_px

    def windows(self, count: int, seed: str) -> Iterator[Window]:
        """Windows at random cells, in absolute pixels; most of them cross borders of chunks.

        In a small raster there are fewer than `count`, because equal windows are yielded once.
        """
        rng, region = random.Random(seed), self.view.region
        seen = set()
        for _ in range(count):
            row, row_end = self._span(rng, region.row, region.row_end)
            col, col_end = self._span(rng, region.col, region.col_end)
            window = Window(row, col, row_end - row, col_end - col)
            if window not in seen and not any(window.overlaps(other) for other in self.unlabelled):
                seen.add(window)
                yield window

    def _span(self, rng: random.Random, start: int, end: int) -> tuple[int, int]:
        cell, side = self.kernel.cell_px, self.side_px
        first, last = start // cell, max(start // cell, -(-(end - side) // cell))
        begin = rng.randint(first, last) * cell
        return max(start, begin), min(end, begin + side)


def differences(recipe: Recipe, count: int, seed: str, pool: Pool) -> tuple[int, list[str]]:
    """Compute some windows again; returns their number, and a message for each that differs from the file.

    Parameters
    ----------
    recipe
        Everything that the labels were made from.
    count
        Number of windows; fewer if they take long.
    seed
        Seed of the choice of windows.
    pool
        Workers that compute them.

    Raises
    ------
    RasterError
        If the input cannot be read.
    """
    messages, done = [], 0
    for difference in pool.each(_difference, _in_time(recipe, count, seed)):
        done += 1
        if difference:
            messages.append(difference)
    return done, messages


def _in_time(recipe: Recipe, count: int, seed: str) -> Iterator[tuple[Recipe, Window]]:
    start = time.monotonic()
    for window in recipe.windows(count, seed):
        yield recipe, window
        if time.monotonic() - start > _BUDGET_S:
            return


def _difference(recipe: Recipe, window: Window) -> str:
    """Message for a window whose labels differ from the file's; "" if they are equal."""
    region = recipe.view.region
    inside = Window(window.row - region.row, window.col - region.col, window.height, window.width)
    made = recipe.view, recipe.kernel, recipe.codebook
    if recipe.smoothing is None:
        lazy = graph_labels.label_window(*made, window, recipe.side_px)
    else:
        lazy = graph_labels.smoothed_window(*made, recipe.smoothing, window, recipe.side_px)
    # the scheduler as a function: for a name, Dask would import all of distributed
    recomputed = lazy.compute(scheduler=get_sync)
    try:
        same = np.array_equal(recomputed, read_labels(recipe.labels, 0, inside))
    except RasterError as error:
        return str(error)
    position = f"level 0, {described(inside)}"
    return "" if same else f"{recipe.labels}: {position}: not the labels that {recipe.view.path} gives"
