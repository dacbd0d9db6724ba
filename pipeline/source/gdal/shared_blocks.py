"""Blocks of files that windows share through their halos, decoded once for all threads of a process.

GDAL keeps decoded blocks for each handle, and each thread has handles of its own; what two windows share
is decoded by both threads, and again when the window below comes. Here a block that a window uses in
part is decoded whole and kept for the windows beside it, and of the blocks that a window uses up, the
pixels are kept that are in its neighbours' halos. The cache is bounded in bytes; blocks that were not used
for longest are evicted first, and evicted blocks are decoded again.

Only reads of windows that overlap (`ReadContext.halo_px`) use the cache.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from engine.grid import Window
from pipeline.source.raster import Stack

LIMIT = 64 << 20
"""Bytes that are kept."""

_LARGEST = LIMIT // 8  # larger blocks would drive each other out
_MOST = 1024  # blocks in a window; of more, so small that a halo touches few pixels beyond it

Block = tuple[int, int]
_Key = tuple[Hashable, Block]
_Piece = tuple[Window, Stack]


class UndecodableError(Exception):
    """A block that cannot be decoded; the window has to be read without what is kept."""


@dataclass(frozen=True)
class Source:
    """Planes of one state of a file, cut into blocks.

    Parameters
    ----------
    key
        Distinguishes them from other planes, and from those of the file before it was changed.
    bounds
        All pixels.
    shape
        (height, width) of a block.
    count, dtype
        Number of planes and their dtype.
    decode
        Reads a window of them into an array; raises `UndecodableError` where that fails.
    """

    key: Hashable
    bounds: Window
    shape: tuple[int, int]
    count: int
    dtype: str
    decode: Callable[[Window, Stack], None]

    def shares(self, window: Window) -> bool:
        """Whether blocks of a window are worth keeping, and can be."""
        height, width = self.shape
        size = self.count * height * width * np.dtype(self.dtype).itemsize
        return width < self.bounds.width and size <= _LARGEST and len(self.touched(window)) <= _MOST

    def touched(self, window: Window) -> list[Block]:
        """The blocks that a window shares pixels with, in order."""
        height, width = self.shape
        rows = range(window.row // height, -(-window.row_end // height))
        cols = range(window.col // width, -(-window.col_end // width))
        return [*product(rows, cols)]

    def window(self, blocks: Sequence[Block]) -> Window:
        """The pixels of a rectangle of blocks, by its first block and its last."""
        (top, left), (bottom, right) = blocks[0], blocks[-1]
        height, width = self.shape
        row_end = min((bottom + 1) * height, self.bounds.row_end)
        col_end = min((right + 1) * width, self.bounds.col_end)
        return Window(top * height, left * width, row_end - top * height, col_end - left * width)


class SharedBlocks:
    """Decoded pixels of blocks, for all threads.

    Parameters
    ----------
    limit
        Bytes that are kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[_Key, list[_Piece]] = OrderedDict()
        self._bytes = 0
        self._busy: set[_Key] = set()
        self._changed = threading.Condition()

    @property
    def kept_bytes(self) -> int:
        """Bytes that are kept now."""
        return self._bytes

    def read(self, source: Source, window: Window, halo_px: int, out: Stack) -> None:
        """Read a window into an array, each block from what is kept or from the file.

        A thread that waits for a block holds none that another one waits for.

        Raises
        ------
        UndecodableError
            If a block cannot be decoded.
        """
        wanted = {block: source.window([block]).shared(window) for block in source.touched(window)}
        whole = [block for block, pixels in wanted.items() if pixels == source.window([block])]
        mine = self._claimed(source, whole)
        try:
            for rectangle in _rectangles(mine):
                decoded = source.window(rectangle)
                source.decode(decoded, out[:, *decoded.slices(window)])
            self._keep_edges(source, mine, window, halo_px, out)
        finally:
            self._release(source, mine)
        others, done = wanted.keys() - set(mine), set[Block]()
        # what other threads are at comes last: they may be done with it by then
        for wait in (False, True):
            for block in sorted(others - done):
                piece = wanted[block]
                if (pixels := self._pixels(source, block, piece, wait=wait)) is not None:
                    out[:, *piece.slices(window)] = pixels
                    done.add(block)
        self._keep_edges(source, others.intersection(whole), window, halo_px, out)

    def _claimed(self, source: Source, blocks: Iterable[Block]) -> list[Block]:
        """Those of some blocks that are neither cached nor being decoded; this thread has to decode them."""
        with self._changed:
            mine = [
                block
                for block in blocks
                if (source.key, block) not in self._busy
                and self._cached(source, block, source.window([block])) is None
            ]
            self._busy.update((source.key, block) for block in mine)
        return mine

    def _release(self, source: Source, blocks: Iterable[Block]) -> None:
        """Wake the threads that wait for blocks which this thread has decoded, or failed to."""
        with self._changed:
            self._busy.difference_update((source.key, block) for block in blocks)
            self._changed.notify_all()

    def _pixels(self, source: Source, block: Block, piece: Window, *, wait: bool) -> Stack | None:
        """A piece of a block, which is decoded whole if it is not cached; None for what others decode."""
        with self._changed:
            while (cached := self._cached(source, block, piece)) is None and (
                source.key,
                block,
            ) in self._busy:
                if not wait:
                    return None
                self._changed.wait()
            if cached is not None:
                return cached
            self._busy.add((source.key, block))
        try:
            whole = source.window([block])
            pixels = np.empty((source.count, whole.height, whole.width), source.dtype)
            source.decode(whole, pixels)
            self._keep(source, block, [(whole, pixels)])
        finally:
            self._release(source, [block])
        return pixels[:, *piece.slices(whole)]

    def _cached(self, source: Source, block: Block, piece: Window) -> Stack | None:
        """A piece of a block from the cache."""
        for kept, pixels in self._kept.get((source.key, block), ()):
            if kept.holds(piece):
                self._kept.move_to_end((source.key, block))
                return pixels[:, *piece.slices(kept)]
        return None

    def _keep_edges(
        self, source: Source, blocks: Iterable[Block], window: Window, halo_px: int, out: Stack
    ) -> None:
        """Keep nothing of blocks that a window used up, but for what its neighbours read too."""
        edges = [*_edges(window, halo_px)]
        for block in blocks:
            whole = source.window([block])
            pieces = {whole.shared(edge) for edge in edges if whole.overlaps(edge)}
            if whole in pieces:
                pieces = {whole}
            self._keep(source, block, [(piece, out[:, *piece.slices(window)].copy()) for piece in pieces])

    def _keep(self, source: Source, block: Block, pieces: list[_Piece]) -> None:
        """Keep pieces of a block instead of those there are."""
        key = source.key, block
        with self._changed:
            self._bytes -= _size(self._kept.pop(key, ()))
            if pieces:
                self._kept[key] = pieces
                self._bytes += _size(pieces)
            while self._bytes > self._limit:
                self._bytes -= _size(self._kept.popitem(last=False)[1])


of_process = SharedBlocks(LIMIT)
"""What this process keeps."""


def _size(pieces: Iterable[_Piece]) -> int:
    return sum(pixels.nbytes for _, pixels in pieces)


def _edges(window: Window, halo_px: int) -> Iterator[Window]:
    """What of a window the windows on its four sides read too."""
    down, across = min(2 * halo_px, window.height), min(2 * halo_px, window.width)
    row, col, height, width = window.row, window.col, window.height, window.width
    yield Window(row, col, down, width)
    yield Window(window.row_end - down, col, down, width)
    yield Window(row, col, height, across)
    yield Window(row, window.col_end - across, height, across)


def _rectangles(blocks: Iterable[Block]) -> list[list[Block]]:
    """Blocks, in order, as few rectangles of them: the first and the last block of each."""
    runs: list[list[Block]] = []
    for row, col in blocks:
        if runs and runs[-1][1] == (row, col - 1):
            runs[-1][1] = row, col
        else:
            runs.append([(row, col), (row, col)])
    rectangles: list[list[Block]] = []
    for first, last in runs:
        above = [(first[0] - 1, first[1]), (last[0] - 1, last[1])]
        for rectangle in rectangles:
            if [(rectangle[1][0], rectangle[0][1]), rectangle[1]] == above:
                rectangle[1] = last
                break
        else:
            rectangles.append([first, last])
    return rectangles
