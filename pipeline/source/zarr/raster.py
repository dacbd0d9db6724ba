"""Zarr stores in a local folder as rasters: format 2 and 3, sharded or not, placed by CF conventions.

GDAL 3.10 reads neither shards nor most stores of format 3, so zarr-python reads them all. A store with
several rasters in it is a container; each is named as GDAL names it: ``ZARR:"/folder.zarr":/group/array``.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from engine.grid import Window
from pipeline.errors import ContainerError, DamageError, NoRasterError, RasterError, one_line
from pipeline.source import bad_blocks
from pipeline.source.limits import refuse_block, refuse_claim
from pipeline.source.raster import SingleRaster, Stack, described
from pipeline.source.reading import ReadContext
from pipeline.source.zarr.georeference import georeference
from pipeline.source.zarr.names import store_of
from pipeline.source.zarr.nodes import (
    COLUMNS,
    DAMAGED,
    ROWS,
    axis_of,
    band_names,
    dimension_names,
    nodata_of,
    open_node,
    raster_paths,
)

_INDEX_BYTES = 16  # of a chunk, in the index of a shard


@dataclass(frozen=True, kw_only=True)
class ZarrRaster(SingleRaster):
    """An array of a Zarr store.

    Parameters
    ----------
    store, array
        The folder, and the array's path in it.
    axes
        Where the array's axes are: of bands (or None), rows and columns.
    numbers
        1-based numbers of the bands used.
    """

    store: str
    array: str
    axes: tuple[int | None, int, int]
    numbers: tuple[int, ...]

    @property
    def origin(self) -> dict[str, Any]:
        """Says which array it is."""
        return {"zarr_array": f"/{self.array}"}

    def moved(self, path: str, height: int, width: int) -> Self:
        """The array of the same name in another store."""
        store, _ = store_of(path) or ("", "")
        return replace(super().moved(path, height, width), store=store)

    def reopened(self) -> ZarrRaster:
        """It as it is now."""
        return open_store(self.path, self.numbers)

    def read_masked(self, window: Window, context: ReadContext) -> Stack:
        """Pixels, valid as far as masks say: a store has none."""
        return bad_blocks.read(_StoreReader(self), window, context)

    def decoded(self, window: Window) -> Stack:
        """All bands of a window, valid everywhere.

        Raises
        ------
        RasterError
            If a chunk cannot be decoded.
        """
        stack = np.ones((len(self.numbers) + 1, window.height, window.width), self.dtype)
        with self._damage(f"cannot read {described(window)}"):
            self._read(window, stack)
        return stack

    def chunk_shape(self) -> tuple[int, int]:
        """(height, width) of the store's chunks as it says now.

        Raises
        ------
        RasterError
            If it cannot be opened.
        """
        with self._damage("cannot be opened"):
            chunks = open_node(self.store, self.array).chunks
            return chunks[self.axes[1]], chunks[self.axes[2]]

    @contextlib.contextmanager
    def _damage(self, what: str) -> Iterator[None]:
        """Errors of a store that is damaged, or of a system that cannot give it now."""
        try:
            yield
        except DAMAGED as error:
            number = error.errno if isinstance(error, OSError) else None
            kind = DamageError if number in (None, errno.EIO, errno.ENOENT) else RasterError
            reason = f"{what} ({one_line(error)}); the store is damaged: repair it or fetch it again"
            raise kind(self.path, reason) from error

    def _read(self, window: Window, stack: Stack) -> None:
        array = open_node(self.store, self.array)
        band_axis, row_axis, column_axis = self.axes
        place: list[Any] = [0] * array.ndim
        place[row_axis], place[column_axis] = window.slices()
        for plane, number in zip(stack, self.numbers, strict=False):
            if band_axis is not None:
                place[band_axis] = number - 1
            part = np.asarray(array[tuple(place)])
            plane[...] = part.T if row_axis > column_axis else part


@dataclass(frozen=True)
class _StoreReader:
    """Reads windows of a store, each once; trying again is left to who asks for the window."""

    raster: ZarrRaster
    exact: bool = True
    stream: bool = False

    @property
    def path(self) -> str:
        """The store's array."""
        return self.raster.path

    @property
    def bounds(self) -> Window:
        """All pixels."""
        return self.raster.bounds

    @property
    def count(self) -> int:
        """The bands and their validity."""
        return len(self.raster.numbers) + 1

    @property
    def dtype(self) -> str:
        """Dtype of the bands."""
        return self.raster.dtype

    def read(self, window: Window, retry_s: Sequence[float]) -> Stack:  # noqa: ARG002  (read once)
        """Bands and validity of a window."""
        return self.raster.decoded(window)

    def block_shape(self, retry_s: Sequence[float]) -> tuple[int, int]:  # noqa: ARG002  (read once)
        """(height, width) of the store's chunks."""
        return self.raster.chunk_shape()


def open_store(path: str, numbers: Sequence[int] | None = None) -> ZarrRaster:
    """The raster in a Zarr store.

    Parameters
    ----------
    path
        A folder, or ``ZARR:"folder":/array``.
    numbers
        1-based band numbers to use (default: all).

    Raises
    ------
    ContainerError
        If there are several.
    RasterError
        If it cannot be read, or an array is no raster of real numbers.
    """
    where = store_of(path)
    assert where is not None
    store, name = where
    try:
        node = open_node(store, name)
        if hasattr(node, "shape"):
            return _header(path, store, name, numbers)
        inner = ["/".join(filter(None, (name, a))) for a in raster_paths(node)]
        if len(inner) == 1:
            return _header(path, store, inner[0], numbers)
    except DAMAGED as error:
        raise RasterError(path, f"not a Zarr store that can be read ({one_line(error)})") from error
    raise ContainerError(path, tuple(f'ZARR:"{store}":/{a}' for a in inner))


def _header(path: str, store: str, name: str, wanted: Sequence[int] | None) -> ZarrRaster:
    array = open_node(store, name)
    dims = dimension_names(array)
    shown = ", ".join(f"{d} {n}" for d, n in zip(dims or ("?",) * array.ndim, array.shape, strict=True))
    if array.ndim < 2:
        raise NoRasterError(path, f"an array of one dimension ({shown}) is no raster")
    row, col = axis_of(array, ROWS), axis_of(array, COLUMNS)
    if row is None or col is None:
        row, col = array.ndim - 2, array.ndim - 1
    others = [i for i in range(array.ndim) if i not in (row, col) and array.shape[i] > 1]
    if len(others) > 1:
        raise RasterError(path, f"dimensions {shown}, where (band, y, x) is needed; select the others first")
    if min(array.shape) < 1:
        raise RasterError(path, f"dimensions {shown}; there is nothing to segment")
    stored = np.dtype(array.dtype)
    if stored.kind not in "iufb":
        kind = RasterError if stored.kind == "c" else NoRasterError
        raise kind(path, f"values of type {stored} are no real numbers")
    dtype = {"b": np.dtype(np.uint8), "f": np.promote_types(stored, np.float32)}.get(stored.kind, stored)
    axis = others[0] if others else None
    count = array.shape[axis] if axis is not None else 1
    bands = tuple(wanted) if wanted else tuple(range(1, count + 1))
    if missing := [b for b in bands if not 1 <= b <= count]:
        raise RasterError(path, f"has bands 1 to {count}, not {missing[0]}; change --bands")
    group = open_node(store, name.rpartition("/")[0]) if name else None
    names = band_names(group, dims[axis] if dims and axis is not None else "", count)
    chunks = array.chunks
    _refuse_sizes(path, store, array, (array.shape[col], array.shape[row]))
    nodata = nodata_of(array, dtype)
    place = georeference(group, array, (dims[row], dims[col]) if dims else None, (row, col))
    # the files of a large store are not all looked into, so what was read of them counts too
    said = repr((array.shape, str(array.dtype), nodata, place, name, axis, row, col))
    return ZarrRaster(
        path=path,
        width=array.shape[col],
        height=array.shape[row],
        bands=bands,
        band_names=tuple(names[b - 1] for b in bands),
        dtype=dtype.newbyteorder("=").name,
        nodata=(nodata,) * len(bands),
        block_shape=(chunks[row], chunks[col]),
        georeference=place,
        store=store,
        array=name,
        axes=(axis, row, col),
        numbers=bands,
        files=(store,),
        state=hashlib.sha256(said.encode()).hexdigest(),
    )


def _refuse_sizes(path: str, store: str, array: Any, size: tuple[int, int]) -> None:
    """Refuse chunks that memory does not hold, and more pixels than what is stored can tell of."""
    refuse_block(path, array.chunks, np.dtype(array.dtype).itemsize)
    if getattr(array, "shards", None):
        inner = (-(-a // max(1, b)) for a, b in zip(array.shards, array.chunks, strict=True))
        refuse_block(path, inner, _INDEX_BYTES)
    walk = (Path(folder, name) for folder, _, names in os.walk(store) for name in names)
    refuse_claim(path, *size, (file.stat().st_size for file in walk))
