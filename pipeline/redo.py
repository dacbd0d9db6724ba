"""Doing a part of a finished raster again: which chunks that takes, and the labels of all the others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.windows import Window as FileWindow

from engine.grid import Window
from pipeline import handles
from pipeline.damage import BadBlock
from pipeline.errors import RasterError
from pipeline.header import described


def affected(bad: Iterable[BadBlock], region: Window, chunk_px: int, halo_px: int) -> list[Window]:
    """The chunks whose labels depend on bad blocks.

    Parameters
    ----------
    bad
        In absolute pixels.
    region
        The part of the raster that has labels, absolute; chunks are counted from its corner.
    chunk_px
        Side of a chunk.
    halo_px
        Pixels beyond a chunk that its labels depend on. A block that could not be decoded reaches that
        far; a chunk that could not be labelled reaches no other.

    Returns
    -------
    list of Window
        In pixels of the region, row by row.
    """
    found: set[tuple[int, int]] = set()
    for block in bad:
        px = halo_px if block.kind == "source block" else 0
        rows = _reached(
            block.window.row - px, block.window.row_end + px, region.row, region.row_end, chunk_px
        )
        cols = _reached(
            block.window.col - px, block.window.col_end + px, region.col, region.col_end, chunk_px
        )
        found.update((row, col) for row in rows for col in cols)
    return [
        Window(row, col, min(chunk_px, region.height - row), min(chunk_px, region.width - col))
        for row, col in sorted(found)
    ]


def _reached(start: int, end: int, first: int, last: int, side: int) -> range:
    """Where the chunks begin, counted from `first`, that an interval touches between `first` and `last`."""
    start, end = max(start, first) - first, min(end, last) - first
    return range(start // side * side, end, side)


def labels_of(output: Path, window: Window) -> npt.NDArray[np.uint8]:
    """Labels of a window of a finished output.

    Parameters
    ----------
    output
        What GDAL opens the labels by: `Sink.raster` in OUT.
    window
        In pixels of the output, which are those of the region.

    Raises
    ------
    RasterError
        If it cannot be read, or is not the labels of a raster that large.
    """

    place = FileWindow(window.col, window.row, window.width, window.height)

    def read(dataset: Any) -> npt.NDArray[np.uint8]:
        if window.row_end > dataset.height or window.col_end > dataset.width or dataset.dtypes != ("uint8",):
            raise RasterError(
                str(output), f"has no labels for {described(window)}; run again with --overwrite"
            )
        return np.asarray(dataset.read(1, window=place))

    return handles.read(str(output), read, described(window))
