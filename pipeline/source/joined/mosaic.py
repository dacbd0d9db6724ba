"""Mosaics: many files on one pixel grid as one raster, without seams at their borders.

A GDAL VRT would do much of it, but keeps an object for each of ten thousand sources in every handle,
resamples what does not fit instead of refusing it, lets the last file win, takes one nodata value for
all, and after an error reads zeros. Here a window opens the few files that it touches, through the
same bounded handles as any raster, and each keeps its own nodata, alpha and mask.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.grid import Window
from pipeline.errors import RasterError
from pipeline.source.bad_blocks import note_lost
from pipeline.source.raster import Raster, SingleRaster, Stack
from pipeline.source.reading import ReadContext

OVERLAPS = ("first", "nearest-centre")
"""Which tile a pixel is taken from where several have it valid."""

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Tiles:
    """Where the tiles of a mosaic lie, in ascending order of their first row.

    Parameters
    ----------
    rows, cols, heights, widths
        Windows of the tiles, in pixels of the mosaic.
    ranks
        Places in the order that the tiles were given in.
    kinds
        Which kind of raster each is.
    paths
        Files.
    """

    rows: Numbers
    cols: Numbers
    heights: Numbers
    widths: Numbers
    ranks: Numbers
    kinds: Numbers
    paths: tuple[str, ...]

    @functools.cached_property
    def tallest(self) -> int:
        """Height of the tallest tile: none that begins further up reaches down to a row."""
        return int(self.heights.max())

    def touching(self, window: Window) -> Numbers:
        """Indices of the tiles that share pixels with a window, in the order that they were given in."""
        first = np.searchsorted(self.rows, window.row - self.tallest, side="right")
        near = slice(int(first), int(np.searchsorted(self.rows, window.row_end)))
        rows, cols = self.rows[near], self.cols[near]
        hit = (rows + self.heights[near] > window.row) & (cols < window.col_end)
        hit &= cols + self.widths[near] > window.col
        indices = np.flatnonzero(hit) + near.start
        ordered: Numbers = indices[np.argsort(self.ranks[indices])]
        return ordered

    def window(self, index: int) -> Window:
        """Where a tile lies."""
        row, col, height, width = (int(a[index]) for a in (self.rows, self.cols, self.heights, self.widths))
        return Window(row, col, height, width)


@dataclass(frozen=True, kw_only=True, eq=False)
class Mosaic(Raster):
    """Many rasters as one; what no tile covers is invalid.

    Parameters
    ----------
    tiles
        Where each lies.
    kinds
        What the tiles are: rasters of one kind differ in path and size only.
    overlap
        One of `OVERLAPS`.
    """

    tiles: Tiles
    kinds: tuple[SingleRaster, ...]
    overlap: str

    @property
    def origin(self) -> dict[str, Any]:
        """How many tiles there are, and what they say of themselves."""
        return {"mosaic": {"tiles": len(self.tiles.paths), "overlap": self.overlap}, **self.kinds[0].origin}

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel in memory: its own, those of the tile, and its distance from the centre."""
        return super().pixel_bytes + self.kinds[0].pixel_bytes + 16

    @property
    def members(self) -> Iterator[SingleRaster]:
        """The tiles."""
        for index in np.argsort(self.tiles.ranks):
            yield self._tile(index)

    def covers(self, window: Window) -> bool:
        """Whether any tile reaches into a window."""
        return len(self.tiles.touching(window)) > 0

    def read_masked(self, window: Window, context: ReadContext) -> Stack:
        """Pixels of the tiles, valid where one of them is."""
        stack = np.zeros((len(self.bands) + 1, window.height, window.width), self.dtype)
        touching = self.tiles.touching(window)
        if self.overlap == "nearest-centre" and len(touching) > 1:
            self._nearest(stack, window, touching, context)
        else:
            self._first(stack, window, touching, context)
        return stack

    def _first(self, stack: Stack, window: Window, touching: Iterable[int], context: ReadContext) -> None:
        for index in touching:
            covered = self.tiles.window(index).shared(window)
            into = stack[:, *covered.slices(window)]
            if not into[-1].any():
                into[...] = self._read(index, covered, context)
            elif not into[-1].all():
                pixels = self._read(index, covered, context)
                np.copyto(into, pixels, where=(into[-1] == 0) & (pixels[-1] != 0))

    def _nearest(self, stack: Stack, window: Window, touching: Iterable[int], context: ReadContext) -> None:
        best = np.full(stack.shape[1:], np.iinfo(np.int64).max)
        for index in touching:
            tile = self.tiles.window(index)
            covered = tile.shared(window)
            rows_and_columns = covered.slices(window)
            pixels = self._read(index, covered, context)
            # twice the distance from the middle, so that it is a whole number
            down = 2 * np.arange(covered.row, covered.row_end) + 1 - (tile.row + tile.row_end)
            across = 2 * np.arange(covered.col, covered.col_end) + 1 - (tile.col + tile.col_end)
            distance = (down**2)[:, None] + across**2
            nearer = (distance < best[rows_and_columns]) & (pixels[-1] != 0)
            np.copyto(stack[:, *rows_and_columns], pixels, where=nearer)
            np.copyto(best[rows_and_columns], distance, where=nearer)

    def _read(self, index: int, covered: Window, context: ReadContext) -> Stack:
        """Pixels of a tile, by their window in the mosaic."""
        tile = self.tiles.window(index)
        window = replace(covered, row=covered.row - tile.row, col=covered.col - tile.col)
        try:
            with context.of_part(lambda w: replace(w, row=w.row + tile.row, col=w.col + tile.col)) as inner:
                return self._tile(index).read_stack(window, inner)
        except RasterError as error:
            if note_lost(error, tile, context):
                return np.zeros((len(self.bands) + 1, covered.height, covered.width), self.dtype)
            raise RasterError(self.path, f"tile {error}") from error

    def _tile(self, index: int) -> SingleRaster:
        """A tile as a raster of its own."""
        tile = self.tiles.window(index)
        return self.kinds[int(self.tiles.kinds[index])].moved(
            self.tiles.paths[index], tile.height, tile.width
        )

    @functools.cached_property
    def _token(self) -> str:
        return hashlib.sha256(self._packed).hexdigest()

    @functools.cached_property
    def _packed(self) -> bytes:
        """All of it in few bytes, for it goes into every task of another process."""
        return zlib.compress(pickle.dumps({f.name: getattr(self, f.name) for f in fields(self)}), 1)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpacked, (self._token, self._packed)

    def __dask_tokenize__(self) -> str:
        return self._token


_known: OrderedDict[str, Mosaic] = OrderedDict()


def _unpacked(token: str, packed: bytes) -> Mosaic:
    """The mosaic of some bytes, made once in a process and not for each task."""
    mosaic = _known.get(token)
    if mosaic is None:
        # bytes that came in a pickle, and from ourselves
        mosaic = _known[token] = Mosaic(**pickle.loads(zlib.decompress(packed)))  # noqa: S301
        while len(_known) > 4:
            _known.popitem(last=False)
    return mosaic
