"""A sample of a finished raster's labels, made anew from the input in pieces of other sizes."""

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
from pipeline.check.labels import read_labels
from pipeline.errors import RasterError
from pipeline.graph import labels as graph_labels
from pipeline.source.raster import described
from pipeline.source.view import View
from pipeline.workers.pool import Pool

_BUDGET_S = 20.0


@dataclass(frozen=True)
class Recipe:
    """What a raster's labels were made of.

    Parameters
    ----------
    labels
        What GDAL opens of them.
    view
        The raster and which part of it.
    kernel, codebook
        What labelled it.
    chunk_px
        Side of the run's chunks.
    unlabelled
        Where nothing could be labelled, in absolute pixels.
    """

    labels: Path
    view: View
    kernel: Kernel
    codebook: Codebook
    chunk_px: int
    unlabelled: tuple[Window, ...] = ()

    @property
    def side_px(self) -> int:
        """Side of the windows that are made anew: a few cells, and not those of a chunk."""
        return (3 if self.chunk_px == 2 * self.kernel.cell_px else 2) * self.kernel.cell_px

    def windows(self, count: int, seed: str) -> Iterator[Window]:
        """Windows at random cells, in absolute pixels; most of them lie across borders of chunks.

        There are fewer where a raster is so small that they come out equal.
        """
        chance, region = random.Random(seed), self.view.region
        seen = set()
        for _ in range(count):
            row, row_end = self._span(chance, region.row, region.row_end)
            col, col_end = self._span(chance, region.col, region.col_end)
            window = Window(row, col, row_end - row, col_end - col)
            if window not in seen and not any(window.overlaps(other) for other in self.unlabelled):
                seen.add(window)
                yield window

    def _span(self, chance: random.Random, start: int, end: int) -> tuple[int, int]:
        cell, side = self.kernel.cell_px, self.side_px
        first, last = start // cell, max(start // cell, -(-(end - side) // cell))
        at = chance.randint(first, last) * cell
        return max(start, at), min(end, at + side)


def differences(recipe: Recipe, count: int, seed: str, pool: Pool) -> tuple[int, list[str]]:
    """Make some windows anew; gives how many, and which of them are not what the file holds.

    Parameters
    ----------
    recipe
        What the labels were made of.
    count
        How many windows; fewer where they take long.
    seed
        Decides which.
    pool
        Makes them.

    Raises
    ------
    RasterError
        If the input cannot be read.
    """
    wrong, done = [], 0
    for difference in pool.each(_difference, _in_time(recipe, count, seed)):
        done += 1
        if difference:
            wrong.append(difference)
    return done, wrong


def _in_time(recipe: Recipe, count: int, seed: str) -> Iterator[tuple[Recipe, Window]]:
    start = time.monotonic()
    for window in recipe.windows(count, seed):
        yield recipe, window
        if time.monotonic() - start > _BUDGET_S:
            return


def _difference(recipe: Recipe, window: Window) -> str:
    """A window whose labels come out otherwise, in words; "" where they are the same bytes."""
    region = recipe.view.region
    inside = Window(window.row - region.row, window.col - region.col, window.height, window.width)
    lazy = graph_labels.label_window(recipe.view, recipe.kernel, recipe.codebook, window, recipe.side_px)
    # a function and not its name: a name has Dask import all of distributed first
    again = lazy.compute(scheduler=get_sync)
    try:
        same = np.array_equal(again, read_labels(recipe.labels, 0, inside))
    except RasterError as error:
        return str(error)
    what = f"level 0, {described(inside)}"
    return "" if same else f"{recipe.labels}: {what}: not the labels that {recipe.view.path} gives"
