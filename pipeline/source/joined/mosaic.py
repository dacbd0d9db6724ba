"""Mosaics: many files on one pixel grid as one raster, without seams at their borders.

A GDAL VRT is not used: it keeps an object for each of ten thousand sources in every handle, resamples
files that do not fit instead of refusing them, lets the last file win, has one nodata value for all, and
reads zeros after an error. Here, reading a window opens only the files that it overlaps, with the same
bounded number of handles as any raster, and each file keeps its own nodata, alpha and mask.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
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
"""Rules for the tile that a pixel is taken from, where it is valid in several."""

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Tiles:
    """Windows and files of a mosaic's tiles, in ascending order of first row.

    Parameters
    ----------
    rows, cols, heights, widths
        Windows of the tiles, in pixels of the mosaic.
    ranks
        Positions in the order in which the tiles were passed.
    kinds
        Index of each tile's kind in `Mosaic.kinds`.
    paths
        Files of the tiles.
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
        """Height of the tallest tile: tiles that begin further above a row than this do not reach it."""
        return int(self.heights.max())

    def touching(self, window: Window) -> Numbers:
        """Indices of the tiles that overlap a window, in the order in which they were passed."""
        first = np.searchsorted(self.rows, window.row - self.tallest, side="right")
        near = slice(int(first), int(np.searchsorted(self.rows, window.row_end)))
        rows, cols = self.rows[near], self.cols[near]
        overlaps = (rows + self.heights[near] > window.row) & (cols < window.col_end)
        overlaps &= cols + self.widths[near] > window.col
        indices = np.flatnonzero(overlaps) + near.start
        in_order: Numbers = indices[np.argsort(self.ranks[indices])]
        return in_order

    def window(self, index: int) -> Window:
        """Window of a tile in the mosaic."""
        row, col, height, width = (int(a[index]) for a in (self.rows, self.cols, self.heights, self.widths))
        return Window(row, col, height, width)


@dataclass(frozen=True, kw_only=True, eq=False)
class Mosaic(Raster):
    """Many rasters as one; pixels that no tile covers are invalid.

    Parameters
    ----------
    tiles
        Windows and files of the tiles.
    kinds
        Headers of the tiles without path and size; most tiles share one kind.
    overlap
        One of `OVERLAPS`.
    """

    tiles: Tiles
    kinds: tuple[SingleRaster, ...]
    overlap: str

    @property
    def origin(self) -> dict[str, Any]:
        """Number of tiles, overlap rule, and the origin of the tiles."""
        return {"mosaic": {"tiles": len(self.tiles.paths), "overlap": self.overlap}, **self.kinds[0].origin}

    @property
    def colours(self) -> tuple[str, ...]:
        """Colours of the bands, as the first tile says; () where it does not."""
        return getattr(self.kinds[0], "colours", ())

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel in memory: in the mosaic, in the tile, and its distance to the tile's centre."""
        return super().pixel_bytes + self.kinds[0].pixel_bytes + 16

    @property
    def members(self) -> Iterator[SingleRaster]:
        """The tiles."""
        for index in np.argsort(self.tiles.ranks):
            yield self._tile(index)

    @property
    def declares_nodata(self) -> bool:
        """Whether any tile does."""
        return any(kind.declares_nodata for kind in self.kinds)

    def dtype_of(self, indices: Sequence[int]) -> str:
        """Common dtype of some of the bands in the tiles."""
        return str(np.result_type(*(kind.dtype_of(indices) for kind in self.kinds)))

    def judging(self, indices: tuple[int, ...]) -> Mosaic:
        """The same of tiles of which only the nodata values of some bands count."""
        return replace(self, kinds=tuple(kind.judging(indices) for kind in self.kinds))

    def covers(self, window: Window) -> bool:
        """Whether any tile overlaps a window."""
        return len(self.tiles.touching(window)) > 0

    def read_masked(self, window: Window, context: ReadContext) -> Stack:
        """Pixels of the tiles, valid where any tile is."""
        stack = np.zeros((len(self.bands) + 1, window.height, window.width), self.dtype)
        touching = self.tiles.touching(window)
        if self.overlap == "nearest-centre" and len(touching) > 1:
            self._nearest(stack, window, touching, context)
        else:
            self._first(stack, window, touching, context)
        return stack

    def _first(self, stack: Stack, window: Window, touching: Iterable[int], context: ReadContext) -> None:
        for index in touching:
            shared = self.tiles.window(index).shared(window)
            target = stack[:, *shared.slices(window)]
            if not target[-1].any():
                target[...] = self._read(index, shared, context)
            elif not target[-1].all():
                pixels = self._read(index, shared, context)
                np.copyto(target, pixels, where=(target[-1] == 0) & (pixels[-1] != 0))

    def _nearest(self, stack: Stack, window: Window, touching: Iterable[int], context: ReadContext) -> None:
        best = np.full(stack.shape[1:], np.iinfo(np.int64).max)
        for index in touching:
            tile = self.tiles.window(index)
            shared = tile.shared(window)
            target = shared.slices(window)
            pixels = self._read(index, shared, context)
            # twice the distance to the centre, so that it is an integer
            down = 2 * np.arange(shared.row, shared.row_end) + 1 - (tile.row + tile.row_end)
            across = 2 * np.arange(shared.col, shared.col_end) + 1 - (tile.col + tile.col_end)
            distance = (down**2)[:, None] + across**2
            nearer = (distance < best[target]) & (pixels[-1] != 0)
            np.copyto(stack[:, *target], pixels, where=nearer)
            np.copyto(best[target], distance, where=nearer)

    def _read(self, index: int, shared: Window, context: ReadContext) -> Stack:
        """Pixels of a tile in a window of the mosaic."""
        tile = self.tiles.window(index)
        window = Window(shared.row - tile.row, shared.col - tile.col, shared.height, shared.width)
        try:
            with context.of_part(lambda w: replace(w, row=w.row + tile.row, col=w.col + tile.col)) as inner:
                return self._tile(index).read_stack(window, inner)
        except RasterError as error:
            if note_lost(error, tile, context):
                return np.zeros((len(self.bands) + 1, shared.height, shared.width), self.dtype)
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
        """The mosaic in few bytes: it is pickled into every task of another process."""
        return zlib.compress(pickle.dumps({f.name: getattr(self, f.name) for f in fields(self)}), 1)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpacked, (self._token, self._packed)

    def __dask_tokenize__(self) -> str:
        return self._token


_known: OrderedDict[str, Mosaic] = OrderedDict()


def _unpacked(token: str, packed: bytes) -> Mosaic:
    """The mosaic in some bytes, unpacked once per process instead of once per task."""
    mosaic = _known.get(token)
    if mosaic is None:
        # the bytes came inside a pickle already, and were made by `_packed`
        mosaic = _known[token] = Mosaic(**pickle.loads(zlib.decompress(packed)))  # noqa: S301
        while len(_known) > 4:
            _known.popitem(last=False)
    return mosaic
