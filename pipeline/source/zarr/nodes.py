"""Arrays and groups of a store: which of them are rasters, and what they say of axes, bands and nodata."""

from __future__ import annotations

import base64
import functools
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.source.zarr.names import STORE_METADATA

ROWS = frozenset({"y", "lat", "latitude", "northing", "row", "rows", "projection_y_coordinate"})
COLUMNS = frozenset({"x", "lon", "longitude", "easting", "col", "cols", "projection_x_coordinate"})
_DEPTH = 4
DAMAGED = (
    *(OSError, ValueError, RuntimeError, KeyError, TypeError, IndexError, EOFError, zlib.error),
    *(ArithmeticError, SystemError),
)
"""What zarr and its codecs raise for a store that is damaged, or that the system cannot read now."""


def open_node(store: str, name: str) -> Any:
    """An array or group; zarr's own objects hold no open files."""
    files = [Path(store, name, file) for file in STORE_METADATA]
    stamp = tuple((s.st_mtime_ns, s.st_size) for s in (f.stat() for f in files if f.is_file()))
    return _opened(store, name, stamp)


@functools.lru_cache(maxsize=64)
def _opened(store: str, name: str, stamp: tuple[tuple[int, int], ...]) -> Any:  # noqa: ARG001  (tells states)
    import zarr

    from pipeline.source.zarr.bounded import bounded

    return bounded(zarr.open(store, path=name or None, mode="r"))


def raster_paths(group: Any, depth: int = 0) -> Iterator[str]:
    """Paths of the arrays below a group that are rasters; of a pyramid only the full resolution."""
    arrays = {n: a for n, a in group.arrays() if a.ndim >= 2}
    placed = {
        n: a for n, a in arrays.items() if axis_of(a, ROWS) is not None and axis_of(a, COLUMNS) is not None
    }
    yield from sorted(placed or {n: a for n, a in arrays.items() if min(a.shape[-2:]) > 1})
    # in a pyramid that begins here, groups hold the same again, smaller
    if depth < _DEPTH and not (placed and "multiscales" in group.attrs):
        for name, inner in sorted(group.groups()):
            if "multiscales" in group.attrs and name != _finest(group):
                continue
            yield from (f"{name}/{path}" for path in raster_paths(inner, depth + 1))


def _finest(group: Any) -> str:
    """The group of full resolution in a pyramid: the one with the most pixels."""

    def pixels(item: tuple[str, Any]) -> int:
        return max((math.prod(a.shape) for _, a in item[1].arrays()), default=0)

    return str(max(sorted(group.groups()), key=pixels, default=("", None))[0])


def dimension_names(array: Any) -> tuple[str, ...] | None:
    """Names of an array's axes, by format 3 or as xarray writes them; None if it has none."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    return tuple(map(str, names)) if names and len(names) == array.ndim else None


def axis_of(array: Any, names: frozenset[str]) -> int | None:
    """The first axis of an array that has one of some names; None if no axis has."""
    dims = dimension_names(array) or ()
    return next((i for i, d in enumerate(dims) if d.casefold() in names), None)


def band_names(group: Any, dimension: str, count: int) -> list[str]:
    """What the coordinate of the bands says, where there is one."""
    from pipeline.source.zarr.bounded import coordinate

    try:
        values = [str(v) for v in coordinate(group, dimension, count)]
    except DAMAGED:
        values = []
    if len(set(values)) != count:
        return [f"band {i}" for i in range(1, count + 1)]
    return [v if not re.fullmatch(r"[\d.]+", v) else f"{dimension} {v}" for v in values]


def nodata_of(array: Any, dtype: np.dtype[Any]) -> float | None:
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
