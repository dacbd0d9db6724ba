"""Rasters, axes, band names and nodata of a Zarr store, by the conventions of CF, xarray and GDAL."""

from __future__ import annotations

import base64
import math
import re
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import NoRasterError, RasterError

_ROWS = frozenset({"y", "lat", "latitude", "northing", "row", "rows", "projection_y_coordinate"})
_COLUMNS = frozenset({"x", "lon", "longitude", "easting", "col", "cols", "projection_x_coordinate"})
_DEPTH = 4

DAMAGE_ERRORS = (
    *(OSError, ValueError, RuntimeError, KeyError, TypeError, IndexError, EOFError, zlib.error),
    *(ArithmeticError, SystemError),
)
"""What zarr-python and its codecs raise on a damaged store."""


def raster_paths(group: Any, depth: int = 0) -> Iterator[str]:
    """Paths of the arrays below a group that are rasters; of a pyramid only the full resolution."""
    arrays = {n: a for n, a in group.arrays() if a.ndim >= 2}
    named = {
        n: a for n, a in arrays.items() if _axis(a, _ROWS) is not None and _axis(a, _COLUMNS) is not None
    }
    yield from sorted(named or {n: a for n, a in arrays.items() if min(a.shape[-2:]) > 1})
    # if a pyramid begins here, the groups below hold its smaller levels
    if depth < _DEPTH and not (named and "multiscales" in group.attrs):
        for name, inner in sorted(group.groups()):
            if "multiscales" in group.attrs and name != _finest(group):
                continue
            yield from (f"{name}/{path}" for path in raster_paths(inner, depth + 1))


def _finest(group: Any) -> str:
    """Name of the group of full resolution in a pyramid: the one with the most pixels."""

    def pixels(item: tuple[str, Any]) -> int:
        return max((math.prod(a.shape) for _, a in item[1].arrays()), default=0)

    return str(max(sorted(group.groups()), key=pixels, default=("", None))[0])


def dimension_names(array: Any) -> tuple[str, ...] | None:
    """Names of the dimensions, or None if the array does not name all of them."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    return tuple(map(str, names)) if names and len(names) == array.ndim else None


def _axis(array: Any, names: frozenset[str]) -> int | None:
    dims = dimension_names(array) or ()
    return next((i for i, d in enumerate(dims) if d.casefold() in names), None)


def axes_of(path: str, array: Any) -> tuple[int | None, int, int]:
    """Indices of an array's axes of bands (or None), rows and columns.

    Raises
    ------
    RasterError
        If the array has fewer or more dimensions than a raster, or no pixels.
    """
    dims = dimension_names(array) or ("?",) * array.ndim
    shown = ", ".join(f"{d} {n}" for d, n in zip(dims, array.shape, strict=True))
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
    return (others[0] if others else None), row, col


def band_names(group: Any, dimension: str, count: int) -> list[str]:
    """Names of the bands from the coordinate of their dimension, or "band 1", "band 2", ..."""
    from pipeline.source.zarr.bounded import coordinate

    try:
        values = [str(v) for v in coordinate(group, dimension, count)]
    except DAMAGE_ERRORS:
        values = []
    if len(set(values)) != count:
        return [f"band {i}" for i in range(1, count + 1)]
    return [v if not re.fullmatch(r"[\d.]+", v) else f"{dimension} {v}" for v in values]


def nodata_of(array: Any, dtype: np.dtype[Any]) -> float | None:
    """The nodata value, from CF's attributes or else the fill value of format 2.

    None if there is none, or the dtype cannot hold it.
    """
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


def scales_and_offsets(array: Any, count: int) -> tuple[list[float], list[float]]:
    """The scale and offset of each band: CF's attributes, or rioxarray's for bands that differ.

    NaN for an attribute that is no number, or has another length than there are bands.
    """
    return (
        _for_each_band(array, ("scale_factor", "scales"), 1.0, count),
        _for_each_band(array, ("add_offset", "offsets"), 0.0, count),
    )


def _for_each_band(array: Any, keys: tuple[str, ...], default: float, count: int) -> list[float]:
    value = next((array.attrs[k] for k in keys if k in array.attrs), default)
    try:
        values = [float(v) for v in (value if isinstance(value, (list, tuple)) else [value])]
    except (TypeError, ValueError, OverflowError):
        values = [math.nan]
    if len(values) == 1:
        return values * count
    return values if len(values) == count else [math.nan] * count


def _decoded(value: Any) -> float | None:
    """A fill value as a number, or None; xarray writes those of floats as base64 of their bytes."""
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
