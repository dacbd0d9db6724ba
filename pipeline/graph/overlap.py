"""The only use of `map_overlap`: chunks with their halos, on one pixel grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt

from engine.grid import Window, split

Chunks = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Layout:
    """Division of a core, and of the halo around it, into Dask blocks.

    Parameters
    ----------
    core
        Window of the result, absolute.
    outer
        Window of the input: `core` and up to `halo_px` more on each side, within the raster.
    halo_px
        Width of the margin around a block that its result depends on.
    chunks
        Sides of the blocks of the core; `outer_chunks` adds the margin of `outer` to the outermost blocks.
    """

    core: Window
    outer: Window
    halo_px: int
    chunks: Chunks

    @classmethod
    def of(cls, core: Window, bounds: Window, halo_px: int, chunk_px: int) -> Layout:
        """The layout of a core, cut at the absolute multiples of `chunk_px`.

        If a chunk is smaller than the halo, a block is several chunks wide, as many as the halo
        needs: Dask takes a halo from the adjacent block only.
        """
        chunk_px *= max(1, -(-halo_px // chunk_px))
        chunks = (
            split(core.row, core.height, chunk_px, halo_px),
            split(core.col, core.width, chunk_px, halo_px),
        )
        return cls(core, core.grow(halo_px, bounds), halo_px, chunks)

    @property
    def outer_chunks(self) -> Chunks:
        """Sides of the blocks of `outer`."""
        rows, cols = (list(c) for c in self.chunks)
        rows[0] += self.core.row - self.outer.row
        rows[-1] += self.outer.row_end - self.core.row_end
        cols[0] += self.core.col - self.outer.col
        cols[-1] += self.outer.col_end - self.core.col_end
        return tuple(rows), tuple(cols)

    def block(self, index: tuple[int, ...]) -> Window:
        """The core of one block, absolute."""
        row, col = (sum(c[:i]) for c, i in zip(self.chunks, index, strict=True))
        height, width = (c[i] for c, i in zip(self.chunks, index, strict=True))
        return Window(self.core.row + row, self.core.col + col, height, width)


BlockFunction = Callable[..., npt.NDArray[Any]]


def overlap(
    function: BlockFunction, pixels: da.Array, valid: da.Array, layout: Layout, dtype: Any
) -> da.Array:
    """Map a function over overlapping blocks; the only wrapper of `dask.array.map_overlap`.

    Parameters
    ----------
    function
        Called as ``function(pixels, valid, outer, core)`` with the arrays of a block and its halo,
        and the absolute windows of the arrays and of the block's core; returns an array of the
        core's shape.
    pixels, valid
        Shapes (band, y, x) and (y, x), chunked as `layout.outer_chunks`.
    layout
        Position of the blocks.
    dtype
        Dtype of the result.

    Returns
    -------
    dask.array.Array
        Shape (core.height, core.width), chunked as `layout.chunks`, nothing computed.
    """
    # along an axis with one block there is no neighbour: the block contains its halo already
    down, across = (layout.halo_px if len(sides) > 1 else 0 for sides in layout.chunks)
    # the first axis is kept (length 1): to drop an axis, Dask would copy the pixels of each block
    result: da.Array = da.map_overlap(
        partial(_on_block, function, layout),
        pixels,
        valid[None],
        depth={0: 0, 1: down, 2: across},
        boundary="none",
        trim=False,
        allow_rechunk=False,
        align_arrays=False,
        chunks=((1,), *layout.chunks),
        dtype=dtype,
        meta=np.empty((0, 0, 0), dtype),
    )
    first: da.Array = result[0]
    return first


def _on_block(
    function: BlockFunction,
    layout: Layout,
    pixels: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    block_id: tuple[int, ...],
) -> npt.NDArray[Any]:
    core = layout.block(block_id[-2:])
    return function(pixels, valid[0], core.grow(layout.halo_px, layout.outer), core)[None]
