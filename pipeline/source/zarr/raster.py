"""Zarr stores in a local folder as rasters: format 2 and 3, with or without Zarr shards, located by CF.

GDAL 3.10 reads neither Zarr shards nor most stores of format 3, so zarr-python reads all stores. A store
with several rasters is a container; each raster has GDAL's name for it:
``ZARR:"/folder.zarr":/group/array``.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from engine.grid import Window
from pipeline.errors import ContainerError, DamageError, NoRasterError, RasterError, one_line
from pipeline.process.retry import retry
from pipeline.source import bad_blocks
from pipeline.source.declared import AS_IN_FILE, Declared, declared_nodata, scales_of
from pipeline.source.limits import refuse_block, refuse_claim
from pipeline.source.raster import SingleRaster, Stack, described
from pipeline.source.reading import ReadContext
from pipeline.source.zarr.conventions import (
    DAMAGE_ERRORS,
    axes_of,
    band_names,
    dimension_names,
    nodata_of,
    raster_paths,
    scales_and_offsets,
)
from pipeline.source.zarr.georeference import georeference
from pipeline.source.zarr.names import STORE_METADATA, store_of

_INDEX_BYTES = 16  # bytes per chunk in the index of a Zarr shard


@dataclass(frozen=True, kw_only=True)
class ZarrRaster(SingleRaster):
    """An array of a Zarr store.

    Parameters
    ----------
    store, array
        The folder, and the array's path in it.
    axes
        Indices of the array's axes of bands (or None), rows and columns.
    numbers
        1-based numbers of the bands used.
    """

    store: str
    array: str
    axes: tuple[int | None, int, int]
    numbers: tuple[int, ...]

    @property
    def origin(self) -> dict[str, Any]:
        """The array's path in its store."""
        return {"zarr_array": f"/{self.array}"}

    def moved(self, path: str, height: int, width: int) -> Self:
        """The array of the same name in another store."""
        store, _ = store_of(path) or ("", "")
        return replace(super().moved(path, height, width), store=store)

    def reopened(self) -> ZarrRaster:
        """The raster, opened again."""
        return open_store(self.path, self.numbers, self.declared)

    def read_masked(self, window: Window, context: ReadContext) -> Stack:
        """Pixels with validity; all are valid, because a store has no masks."""
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
        """(height, width) of the store's chunks, read again from its metadata.

        Raises
        ------
        RasterError
            If it cannot be opened.
        """
        with self._damage("cannot be opened"):
            chunks = _array(self.store, self.array).chunks
            return chunks[self.axes[1]], chunks[self.axes[2]]

    @contextlib.contextmanager
    def _damage(self, failure: str) -> Iterator[None]:
        """Raise zarr's errors as `DamageError`, or as `RasterError` if the system is at fault."""
        try:
            yield
        except DAMAGE_ERRORS as error:
            number = error.errno if isinstance(error, OSError) else None
            kind = DamageError if number in (None, errno.EIO, errno.ENOENT) else RasterError
            reason = f"{failure} ({one_line(error)}); the store is damaged: repair it or fetch it again"
            raise kind(self.path, reason) from error

    def _read(self, window: Window, stack: Stack) -> None:
        array = _array(self.store, self.array)
        band_axis, row_axis, column_axis = self.axes
        index: list[Any] = [0] * array.ndim
        index[row_axis], index[column_axis] = window.slices()
        for plane, number in zip(stack, self.numbers, strict=False):
            if band_axis is not None:
                index[band_axis] = number - 1
            pixels = np.asarray(array[tuple(index)])
            plane[...] = pixels.T if row_axis > column_axis else pixels


@dataclass(frozen=True)
class _StoreReader:
    """Reads windows of a store: a `bad_blocks.WindowReader`."""

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

    def read(self, window: Window, retry_s: Sequence[float]) -> Stack:
        """Bands and validity of a window."""
        return retry(lambda: self.raster.decoded(window), retry_s, _is_damage)

    def block_shape(self, retry_s: Sequence[float]) -> tuple[int, int]:
        """(height, width) of the store's chunks."""
        return retry(self.raster.chunk_shape, retry_s, _is_damage)


def _is_damage(error: Exception) -> bool:
    return isinstance(error, DamageError)


def open_store(
    path: str, numbers: Sequence[int] | None = None, declared: Declared = AS_IN_FILE
) -> ZarrRaster:
    """The raster in a Zarr store.

    Parameters
    ----------
    path
        A folder, or ``ZARR:"folder":/array``.
    numbers
        1-based band numbers to use (default: all).
    declared
        What is declared in place of its attributes.

    Raises
    ------
    ContainerError
        If the store has several rasters.
    RasterError
        If the store cannot be read, or the array is not a raster of real numbers.
    """
    store_and_array = store_of(path)
    assert store_and_array is not None
    store, name = store_and_array
    try:
        node = _array(store, name)
        if hasattr(node, "shape"):
            return _header(path, store, name, numbers, declared)
        inner = ["/".join(filter(None, (name, a))) for a in raster_paths(node)]
        if len(inner) == 1:
            return _header(path, store, inner[0], numbers, declared)
    except DAMAGE_ERRORS as error:
        raise RasterError(path, f"not a Zarr store that can be read ({one_line(error)})") from error
    raise ContainerError(path, tuple(f'ZARR:"{store}":/{a}' for a in inner))


def _array(store: str, name: str) -> Any:
    """An array or group, cached while its metadata files are unchanged; it holds no open files."""
    files = [Path(store, name, file) for file in STORE_METADATA]
    stamp = tuple((s.st_mtime_ns, s.st_size) for s in (f.stat() for f in files if f.is_file()))
    return _opened(store, name, stamp)


@functools.lru_cache(maxsize=64)
def _opened(store: str, name: str, stamp: tuple[tuple[int, int], ...]) -> Any:  # noqa: ARG001  (part of the cache's key)
    import zarr

    from pipeline.source.zarr.bounded import bounded

    return bounded(zarr.open(store, path=name or None, mode="r"))


def _header(path: str, store: str, name: str, wanted: Sequence[int] | None, declared: Declared) -> ZarrRaster:
    array = _array(store, name)
    axis, row, col = axes_of(path, array)
    dtype = _dtype(path, array)
    dims = dimension_names(array)
    count = array.shape[axis] if axis is not None else 1
    bands = tuple(wanted) if wanted else tuple(range(1, count + 1))
    if missing := [b for b in bands if not 1 <= b <= count]:
        raise RasterError(path, f"has bands 1 to {count}, not {missing[0]}; change --bands")
    group = _array(store, name.rpartition("/")[0]) if name else None
    names = band_names(group, dims[axis] if dims and axis is not None else "", count)
    chunks = array.chunks
    _refuse_sizes(path, store, array, (array.shape[col], array.shape[row]))
    in_store = nodata_of(array, dtype)
    positions = [b - 1 for b in bands]
    nodata = (in_store,) * len(bands)
    if declared.nodata is not None:
        nodata = declared_nodata(path, declared.nodata, dtype, positions, count)
    scales = scales_of(*([values[p] for p in positions] for values in scales_and_offsets(array, count)))
    georef = georeference(path, group, array, (dims[row], dims[col]) if dims else None, (row, col))
    # the fingerprint of a large store does not cover all its files, so the state covers the metadata too
    state = repr((array.shape, str(array.dtype), in_store, georef, name, axis, row, col))
    if declared.physical and scales:
        state += repr(scales)
    return ZarrRaster(
        path=path,
        width=array.shape[col],
        height=array.shape[row],
        bands=bands,
        band_names=tuple(names[b - 1] for b in bands),
        dtype=dtype.newbyteorder("=").name,
        nodata=nodata,
        block_shape=(chunks[row], chunks[col]),
        georeference=georef,
        scales=scales,
        store=store,
        array=name,
        axes=(axis, row, col),
        numbers=bands,
        files=(store,),
        state=hashlib.sha256(state.encode()).hexdigest(),
        declared=declared,
    )


def _dtype(path: str, array: Any) -> np.dtype[Any]:
    """Dtype of the pixels as they are read: uint8 for booleans, at least float32 for floats.

    Raises
    ------
    RasterError
        If the values are not real numbers.
    """
    stored = np.dtype(array.dtype)
    if stored.kind not in "iufb":
        kind = RasterError if stored.kind == "c" else NoRasterError
        raise kind(path, f"values of type {stored} are no real numbers")
    if stored.kind == "b":
        return np.dtype(np.uint8)
    return np.promote_types(stored, np.float32) if stored.kind == "f" else stored


def _refuse_sizes(path: str, store: str, array: Any, size: tuple[int, int]) -> None:
    """Refuse chunks that are too large for memory, and more pixels than the stored bytes can hold."""
    refuse_block(path, array.chunks, np.dtype(array.dtype).itemsize)
    if getattr(array, "shards", None):
        inner = (-(-a // max(1, b)) for a, b in zip(array.shards, array.chunks, strict=True))
        refuse_block(path, inner, _INDEX_BYTES)
    walk = (Path(folder, name) for folder, _, names in os.walk(store) for name in names)
    refuse_claim(path, *size, (file.stat().st_size for file in walk))
