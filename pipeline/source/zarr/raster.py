"""Zarr stores in a local folder as rasters: format 2 and 3, sharded or not, placed by CF conventions.

GDAL 3.10 reads neither shards nor most stores of format 3, so zarr-python reads them all. A store with
several rasters in it is a container; each is named as GDAL names it: ``ZARR:"/folder.zarr":/group/array``.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import functools
import hashlib
import math
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from engine.grid import Window
from pipeline.errors import ContainerError, DamageError, NoRasterError, RasterError, one_line
from pipeline.source import bad_blocks
from pipeline.source.limits import refuse_block, refuse_claim
from pipeline.source.raster import SingleRaster, Stack, described
from pipeline.source.zarr.georeference import georeference
from pipeline.source.zarr.names import STORE_METADATA, store_of

_ROWS = frozenset({"y", "lat", "latitude", "northing", "row", "rows", "projection_y_coordinate"})
_COLUMNS = frozenset({"x", "lon", "longitude", "easting", "col", "cols", "projection_x_coordinate"})
_DEPTH = 4
_INDEX_BYTES = 16  # of a chunk, in the index of a shard
_DAMAGED = (
    *(OSError, ValueError, RuntimeError, KeyError, TypeError, IndexError, EOFError, zlib.error),
    *(ArithmeticError, SystemError),
)


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

    def read_masked(self, window: Window) -> Stack:
        """Pixels, valid as far as masks say: a store has none."""
        count = len(self.numbers) + 1
        planes = bad_blocks.Planes(
            self.path, self.bounds, count, self.dtype, self._attempt, self._block_shape, exact=True
        )
        return bad_blocks.read(planes, window)

    def _attempt(self, window: Window, *, again: bool) -> Stack:  # noqa: ARG002  (a store is read once)
        stack = np.ones((len(self.numbers) + 1, window.height, window.width), self.dtype)
        with self._damage(f"cannot read {described(window)}"):
            self._read(window, stack)
        return stack

    def _block_shape(self) -> tuple[int, int]:
        with self._damage("cannot be opened"):
            chunks = _array(self.store, self.array).chunks
            return chunks[self.axes[1]], chunks[self.axes[2]]

    @contextlib.contextmanager
    def _damage(self, what: str) -> Iterator[None]:
        """Errors of a store that is damaged, or of a system that cannot give it now."""
        try:
            yield
        except _DAMAGED as error:
            number = error.errno if isinstance(error, OSError) else None
            kind = DamageError if number in (None, errno.EIO, errno.ENOENT) else RasterError
            reason = f"{what} ({one_line(error)}); the store is damaged: repair it or fetch it again"
            raise kind(self.path, reason) from error

    def _read(self, window: Window, stack: Stack) -> None:
        array = _array(self.store, self.array)
        band_axis, row_axis, column_axis = self.axes
        place: list[Any] = [0] * array.ndim
        place[row_axis], place[column_axis] = window.slices()
        for plane, number in zip(stack, self.numbers, strict=False):
            if band_axis is not None:
                place[band_axis] = number - 1
            part = np.asarray(array[tuple(place)])
            plane[...] = part.T if row_axis > column_axis else part


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
        node = _array(store, name)
        if hasattr(node, "shape"):
            return _header(path, store, name, numbers)
        inner = ["/".join(filter(None, (name, a))) for a in _rasters(node)]
        if len(inner) == 1:
            return _header(path, store, inner[0], numbers)
    except _DAMAGED as error:
        raise RasterError(path, f"not a Zarr store that can be read ({one_line(error)})") from error
    raise ContainerError(path, tuple(f'ZARR:"{store}":/{a}' for a in inner))


def _array(store: str, name: str) -> Any:
    """An array or group; zarr's own objects hold no open files."""
    files = [Path(store, name, file) for file in STORE_METADATA]
    stamp = tuple((s.st_mtime_ns, s.st_size) for s in (f.stat() for f in files if f.is_file()))
    return _opened(store, name, stamp)


@functools.lru_cache(maxsize=64)
def _opened(store: str, name: str, stamp: tuple[tuple[int, int], ...]) -> Any:  # noqa: ARG001  (tells states)
    import zarr

    from pipeline.source.zarr.bounded import bounded

    return bounded(zarr.open(store, path=name or None, mode="r"))


def _rasters(group: Any, depth: int = 0) -> Iterator[str]:
    """Paths of the arrays below a group that are rasters; of a pyramid only the full resolution."""
    arrays = {n: a for n, a in group.arrays() if a.ndim >= 2}
    placed = {
        n: a for n, a in arrays.items() if _axis(a, _ROWS) is not None and _axis(a, _COLUMNS) is not None
    }
    yield from sorted(placed or {n: a for n, a in arrays.items() if min(a.shape[-2:]) > 1})
    # in a pyramid that begins here, groups hold the same again, smaller
    if depth < _DEPTH and not (placed and "multiscales" in group.attrs):
        for name, inner in sorted(group.groups()):
            if "multiscales" in group.attrs and name != _finest(group):
                continue
            yield from (f"{name}/{path}" for path in _rasters(inner, depth + 1))


def _finest(group: Any) -> str:
    """The group of full resolution in a pyramid: the one with the most pixels."""

    def pixels(item: tuple[str, Any]) -> int:
        return max((math.prod(a.shape) for _, a in item[1].arrays()), default=0)

    return str(max(sorted(group.groups()), key=pixels, default=("", None))[0])


def _dims(array: Any) -> tuple[str, ...] | None:
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    return tuple(map(str, names)) if names and len(names) == array.ndim else None


def _axis(array: Any, names: frozenset[str]) -> int | None:
    dims = _dims(array) or ()
    return next((i for i, d in enumerate(dims) if d.casefold() in names), None)


def _header(path: str, store: str, name: str, wanted: Sequence[int] | None) -> ZarrRaster:
    array = _array(store, name)
    dims = _dims(array)
    shown = ", ".join(f"{d} {n}" for d, n in zip(dims or ("?",) * array.ndim, array.shape, strict=True))
    if array.ndim < 2:
        raise NoRasterError(path, f"an array of one dimension ({shown}) is no raster")
    row, col = _axis(array, _ROWS), _axis(array, _COLUMNS)
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
    group = _array(store, name.rpartition("/")[0]) if name else None
    names = _band_names(group, dims[axis] if dims and axis is not None else "", count)
    chunks = array.chunks
    _refuse_sizes(path, store, array, (array.shape[col], array.shape[row]))
    nodata = _nodata(array, dtype)
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


def _band_names(group: Any, dimension: str, count: int) -> list[str]:
    """What the coordinate of the bands says, where there is one."""
    from pipeline.source.zarr.bounded import coordinate

    try:
        values = [str(v) for v in coordinate(group, dimension, count)]
    except _DAMAGED:
        values = []
    if len(set(values)) != count:
        return [f"band {i}" for i in range(1, count + 1)]
    return [v if not re.fullmatch(r"[\d.]+", v) else f"{dimension} {v}" for v in values]


def _nodata(array: Any, dtype: np.dtype[Any]) -> float | None:
    """The fill value that marks what was not measured: CF's attributes, else that of format 2."""
    value = next(
        (array.attrs[k] for k in ("_FillValue", "missing_value", "nodata") if k in array.attrs), None
    )
    if value is None and array.metadata.zarr_format == 2:
        value = array.fill_value
    if isinstance(value, (list, tuple)):
        value = value[0] if len(value) == 1 else None
    number = _decoded(value)
    if number is None or math.isnan(number) or dtype.kind == "f":
        return number
    limits = np.iinfo(dtype)
    return number if number.is_integer() and limits.min <= number <= limits.max else None


def _decoded(value: Any) -> float | None:
    """A fill value as a number; xarray writes those of floats as base64 of their bytes."""
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        pass
    try:
        raw: npt.NDArray[Any] = np.frombuffer(base64.standard_b64decode(value), np.float64)
        return float(raw[0])
    except (TypeError, ValueError, IndexError):
        return None
