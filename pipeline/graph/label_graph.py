"""The lazy chunk graph: pixels with their validity in, labels out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import numpy.typing as npt
from dask.base import tokenize

from engine.codebook import Codebook
from engine.grid import Window
from engine.kernel import NODATA, Kernel, Labels, Patch
from engine.labels.smoothing import Smoothing
from pipeline.cost import timing
from pipeline.graph.overlap import Layout, overlap
from pipeline.source.reading import ReadContext

if TYPE_CHECKING:
    from pipeline.grid.area import Area
    from pipeline.source.raster import Raster
    from pipeline.source.reading import BadBlock
    from pipeline.source.view import View


def label_array(
    pixels: da.Array,
    valid: da.Array,
    layout: Layout,
    kernel: Kernel,
    codebook: Codebook,
    bounds: Window,
    area: Area | None = None,
) -> da.Array:
    """Labels of a layout's core, lazily: shape (core.height, core.width), uint8, 255 = nodata."""
    return overlap(partial(_label_block, kernel, codebook, bounds, area), pixels, valid, layout, np.uint8)


def _label_block(
    kernel: Kernel,
    codebook: Codebook,
    bounds: Window,
    area: Area | None,
    pixels: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    outer: Window,
    core: Window,
) -> Labels:
    with timing.measure(timing.LABEL):
        labels = kernel.labels(Patch(pixels, valid, outer, core, bounds), codebook)
    if area is not None:
        labels[~area.mask(core)] = NODATA
    return labels


def read_arrays(
    raster: Raster, layout: Layout, bad: list[BadBlock] | None = None, *, by_rows: bool = False
) -> tuple[da.Array, da.Array]:
    """Pixels (band, y, x) and validity (y, x) of a layout's outer window, read block by block.

    Each block is one read of pixels and validity together, shared by both arrays. With a list, what
    cannot be decoded is invalid, and is added to the list when it is read, in any thread of this process.
    With `by_rows`, one read is of a whole row of blocks.
    """
    rows, cols = layout.outer_chunks
    blocks = rows, cols
    if by_rows:
        cols = (sum(cols),)
    bands = len(raster.bands)
    stack = da.map_blocks(
        partial(_read_block, raster, bad, layout, rows, cols),
        chunks=((bands + 1,), rows, cols),
        dtype=raster.dtype,
        meta=np.empty((0, 0, 0), raster.dtype),
        name=f"read-{tokenize(raster, layout, by_rows)}",
    ).rechunk(((bands + 1,), *blocks))
    return stack[:bands], stack[bands].astype(bool)


def _read_block(
    raster: Raster,
    bad: list[BadBlock] | None,
    layout: Layout,
    rows: tuple[int, ...],
    cols: tuple[int, ...],
    block_id: tuple[int, ...],
) -> npt.NDArray[Any]:
    i, j = block_id[-2:]
    starts_y, starts_x = [0, *accumulate(rows)], [0, *accumulate(cols)]
    outer = layout.outer
    window = Window(outer.row + starts_y[i], outer.col + starts_x[j], rows[i], cols[j])
    # a list of its own: what a read notes that fails in the end does not count
    noted: list[BadBlock] | None = None if bad is None else []
    with timing.measure(timing.READ):
        stack = raster.read_stack(window, ReadContext(layout.halo_px, noted))
    if bad is not None and noted:
        bad += noted
    return stack


def smooth_array(
    labels: da.Array, layout: Layout, smoothing: Smoothing, area: Area | None = None
) -> da.Array:
    """Smoothed labels of a layout's core, lazily, from those of its outer window."""
    labels = labels.rechunk(layout.outer_chunks)
    function = partial(_smooth_block, smoothing, area)
    return overlap(function, labels[None], labels != NODATA, layout, np.uint8)


def _smooth_block(
    smoothing: Smoothing,
    area: Area | None,
    labels: npt.NDArray[Any],
    _valid: npt.NDArray[np.bool_],
    outer: Window,
    core: Window,
) -> Labels:
    smoothed = smoothing.of_core(labels[0], outer, core)
    if area is not None:
        smoothed[~area.mask(core)] = NODATA
    return smoothed


def smoothed_window(
    view: View,
    kernel: Kernel,
    codebook: Codebook,
    smoothing: Smoothing,
    window: Window,
    chunk_px: int,
) -> da.Array:
    """Smoothed labels of a window of a raster, in absolute pixels, lazily; see `label_window`."""
    layout = Layout.of(window, view.bounds, smoothing.halo_px, chunk_px)
    side = kernel.cell_px if kernel.costly else kernel.stride_px
    around = layout.outer.snap(side, view.bounds)
    raw = label_window(replace(view, area=None), kernel, codebook, around, chunk_px)
    return smooth_array(raw[layout.outer.slices(around)], layout, smoothing, view.area)


def label_window(
    view: View,
    kernel: Kernel,
    codebook: Codebook,
    window: Window,
    chunk_px: int,
    bad: list[BadBlock] | None = None,
    *,
    by_rows: bool = False,
) -> da.Array:
    """Labels of a window of a raster, in absolute pixels, lazily; its halo is read with it.

    Parameters
    ----------
    view
        The raster.
    kernel, codebook
        What labels it.
    window
        The window.
    chunk_px
        Side of the pieces.
    bad
        A list for the bad blocks that a tolerant view meets when the labels are computed.
    by_rows
        Whether the pieces side by side are read at once, as strips are decoded.
    """
    layout = Layout.of(window, view.bounds, kernel.halo_px, chunk_px)
    noted = ([] if bad is None else bad) if view.tolerant else None
    pixels, valid = read_arrays(view.raster, layout, noted, by_rows=by_rows)
    return label_array(pixels, valid, layout, kernel, codebook, view.bounds, view.area)
