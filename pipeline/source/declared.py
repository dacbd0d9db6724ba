"""What a file's header declares of its values, and what whoever opens it declares in its place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import RasterError

Nodata = tuple[float | None, ...]
"""Nodata values: one for all bands or one for each, None for a band without; never NaN."""

Scales = tuple[tuple[float, float], ...]
"""Scale and offset of each band, as in ``value * scale + offset``; () where no band declares any."""

PLAIN = (1.0, 0.0)
"""Scale and offset that change nothing."""

_CLOSE = 2 * float(np.finfo(np.float32).eps)
_EXACT = 2**53  # whole numbers up to here are exact as the float64 in which nodata values come


@dataclass(frozen=True, slots=True)
class Declared:
    """What is declared of a file by whoever opens it.

    Parameters
    ----------
    nodata
        In place of the header's nodata values; None for those. Masks and alpha bands count in any case.
    physical
        Whether scales and offsets matter for what is made of the pixels: its fingerprint covers them then.
    """

    nodata: Nodata | None = None
    physical: bool = False


AS_IN_FILE = Declared()
"""Nothing is declared: all is as the header says."""


def nodata_of(value: float | None, dtype: npt.DTypeLike) -> float | None:
    """A nodata value, unless no pixel of a dtype can have it (-9999 in bytes, -1.8e308 in float32)."""
    dtype = np.dtype(dtype)
    if value is None:
        return None
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            overflows = math.isfinite(value) and not np.isfinite(np.float64(value).astype(dtype))
        return None if overflows else float(value)
    if dtype.kind in "iu" and not (
        float(value).is_integer()
        and abs(value) < _EXACT
        and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max
    ):
        return None
    return float(value)


def is_nodata(values: npt.NDArray[Any], nodata: float) -> npt.NDArray[np.bool_]:
    """Where values are a nodata value that their dtype can have.

    Floats are compared as GDAL's masks do (``ARE_REAL_EQUAL``, for float64 too by the precision of float32):
    values in headers are rounded, often otherwise than the pixels. Where a sum overflows, as beside
    -3.4e38, any value is close enough.

    Parameters
    ----------
    values
        In the dtype of the file.
    nodata
        As `nodata_of` returns it.
    """
    value = np.asarray(nodata).astype(values.dtype)
    same: npt.NDArray[np.bool_] = values == value
    if values.dtype.kind == "f":
        with np.errstate(over="ignore", invalid="ignore"):
            close = np.abs(values + value)
            close *= _CLOSE
            same |= np.abs(values - value) < close
    return same


def beside_nodata(nodata: float, dtype: np.dtype[Any]) -> np.floating[Any]:
    """The float nearest to a nodata value, towards 0, that is none by `is_nodata`."""
    value = dtype.type(nodata)
    beside: np.floating[Any] = (
        value * dtype.type(1 - 4 * _CLOSE) if value else np.nextafter(value, dtype.type(1))
    )
    return beside


def is_exact(nodata: float | None) -> bool:
    """Whether a nodata value came unrounded."""
    return nodata is not None and abs(nodata) < _EXACT


def declared_nodata(
    path: str, nodata: Nodata, dtype: npt.DTypeLike, positions: Sequence[int | None], count: int
) -> Nodata:
    """The nodata value of each band used, by what is declared.

    Parameters
    ----------
    path
        Names the raster in messages.
    nodata
        What is declared.
    dtype
        Of the bands used.
    positions
        Which of the raster's bands those are, from 0; None for an alpha band.
    count
        Number of the raster's bands, without alpha.

    Raises
    ------
    RasterError
        If the number of values is neither 1 nor that of the bands, or no pixel can have any of them.
    """
    if len(nodata) not in (1, count):
        wanted = f"give 1 or {count}" if count > 1 else "give 1"
        bands = f"{count} band{'s' if count > 1 else ''} (without alpha)"
        raise RasterError(path, f"--nodata has {len(nodata)} values for {bands}; {wanted}")
    each = nodata * count if len(nodata) == 1 else nodata
    values = [None if p is None else each[p] for p in positions]
    possible = tuple(nodata_of(value, dtype) for value in values)
    wrong = [value for value in values if value is not None]
    if wrong and all(p is None for p in possible):
        raise RasterError(path, f"--nodata {wrong[0]:g}: no pixel of {np.dtype(dtype)} can have this value")
    return possible


def scales_of(factors: Sequence[float], offsets: Sequence[float]) -> Scales:
    """Scales and offsets of bands as a header has them, which may make no sense."""
    scales = tuple((float(s), float(o)) for s, o in zip(factors, offsets, strict=True))
    return () if all(u == PLAIN for u in scales) else scales


def scales_text(scales: Scales) -> str:
    """Scales and offsets in words."""
    if not scales:
        return "no scales"
    return "scales and offsets " + ", ".join(f"{scale:g} {offset:+g}" for scale, offset in scales[:16])


def refuse_senseless(path: str, name: str, scale: float, offset: float) -> None:
    """Refuse a scale and offset that turn all values into one, or into none.

    Raises
    ------
    RasterError
        Then.
    """
    if not (math.isfinite(scale) and math.isfinite(offset) and scale):
        raise RasterError(
            path,
            f"band {name} has scale {scale:g} and offset {offset:g}, which make no sense; "
            "mend them (gdal_edit -scale -offset), or leave them out of account with --raw-values",
        )
