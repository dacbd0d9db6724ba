"""Blocks of files that windows share through their halos, decoded once for all threads of a process.

GDAL keeps decoded blocks for each handle, and each thread has handles of its own; what two windows share
is decoded by both threads, and again when the window below comes. Here a block that a window uses in
part is decoded whole and kept for the windows beside it, and of the blocks that a window uses up, the
pixels are kept that are in its neighbours' halos. What is kept is bounded in bytes, the longest unused
goes first, and what is gone is decoded again.

Only reads that say so (`within_halo`) have to do with it.
"""

from __future__ import annotations

import contextvars
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
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


_halo: contextvars.ContextVar[int] = contextvars.ContextVar("tilewright_halo", default=0)


@contextmanager
def within_halo(halo_px: int) -> Iterator[None]:
    """Windows that are read in the block overlap with their neighbours, by this much on each side of both."""
    token = _halo.set(halo_px)
    try:
        yield
    finally:
        _halo.reset(token)


def halo() -> int:
    """How far windows that are read now reach beyond what they are read for; 0 for no overlap."""
    return _halo.get()


@dataclass(frozen=True)
class Source:
    """Planes of one state of a file, cut into blocks.

    Parameters
    ----------
    key
        What tells them apart from other planes and from those of the file before it was changed.
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

    def place(self, blocks: Sequence[Block]) -> Window:
        """Where a rectangle of blocks lies, by its first block and its last."""
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
        parts = {block: source.place([block]).shared(window) for block in source.touched(window)}
        whole = [block for block, part in parts.items() if part == source.place([block])]
        mine = self._claimed(source, whole)
        try:
            for rectangle in _rectangles(mine):
                place = source.place(rectangle)
                source.decode(place, out[:, *place.slices(window)])
            self._keep_edges(source, mine, window, halo_px, out)
        finally:
            self._release(source, mine)
        others, done = parts.keys() - set(mine), set[Block]()
        # what other threads are at comes last: they may be done with it by then
        for wait in (False, True):
            for block in sorted(others - done):
                part = parts[block]
                if (pixels := self._pixels(source, block, part, wait=wait)) is not None:
                    out[:, *part.slices(window)] = pixels
                    done.add(block)
        self._keep_edges(source, others.intersection(whole), window, halo_px, out)

    def _claimed(self, source: Source, blocks: Iterable[Block]) -> list[Block]:
        """Those of some blocks that are not at hand nor being decoded; this thread has to decode them."""
        with self._changed:
            mine = [
                block
                for block in blocks
                if (source.key, block) not in self._busy
                and self._found(source, block, source.place([block])) is None
            ]
            self._busy.update((source.key, block) for block in mine)
        return mine

    def _release(self, source: Source, blocks: Iterable[Block]) -> None:
        """Tell who waits for blocks that this thread is done with them."""
        with self._changed:
            self._busy.difference_update((source.key, block) for block in blocks)
            self._changed.notify_all()

    def _pixels(self, source: Source, block: Block, part: Window, *, wait: bool) -> Stack | None:
        """A part of a block, which is decoded whole if it is not kept; None for what others are at."""
        with self._changed:
            while (found := self._found(source, block, part)) is None and (source.key, block) in self._busy:
                if not wait:
                    return None
                self._changed.wait()
            if found is not None:
                return found
            self._busy.add((source.key, block))
        try:
            place = source.place([block])
            pixels = np.empty((source.count, place.height, place.width), source.dtype)
            source.decode(place, pixels)
            self._keep(source, block, [(place, pixels)])
        finally:
            self._release(source, [block])
        return pixels[:, *part.slices(place)]

    def _found(self, source: Source, block: Block, part: Window) -> Stack | None:
        """A part of a block from what is kept."""
        for place, pixels in self._kept.get((source.key, block), ()):
            if place.holds(part):
                self._kept.move_to_end((source.key, block))
                return pixels[:, *part.slices(place)]
        return None

    def _keep_edges(
        self, source: Source, blocks: Iterable[Block], window: Window, halo_px: int, out: Stack
    ) -> None:
        """Keep nothing of blocks that a window used up, but for what its neighbours read too."""
        edges = [*_edges(window, halo_px)]
        for block in blocks:
            place = source.place([block])
            parts = {place.shared(edge) for edge in edges if place.overlaps(edge)}
            if place in parts:
                parts = {place}
            self._keep(source, block, [(part, out[:, *part.slices(window)].copy()) for part in parts])

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
    found: list[list[Block]] = []
    for first, last in runs:
        above = [(first[0] - 1, first[1]), (last[0] - 1, last[1])]
        for one in found:
            if [(one[1][0], one[0][1]), one[1]] == above:
                one[1] = last
                break
        else:
            found.append([first, last])
    return found
