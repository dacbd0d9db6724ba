"""Pixels of an array with their validity, block by block: what is nodata or not finite is invalid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr

from pipeline.errors import UsageError
from pipeline.source import declared
from pipeline.source.raster import Stack, has_data

DECLARING = ("nodatavals", "_FillValue", "missing_value", "fill_value", "nodata")
"""Attributes that declare nodata, in the order that counts."""

_UNSCALED = {"scale_factor": 1.0, "add_offset": 0.0}


@dataclass(frozen=True)
class Decoding:
    """How the values of an array become pixels with their validity.

    Parameters
    ----------
    name
        The array's, for messages.
    dtype
        Dtype of the pixels that come out. Floats become whole numbers if they all are some.
    nodata
        Nodata value of each band, or None; for 8-bit arrays a pixel is nodata where all its bands are.
    gap
        What NaN in some but not all bands of a pixel stands for: the nodata value of an 8-bit file that was
        opened with ``masked=True``, where it is an ordinary value. None if NaN in any band is invalid.
    only_whole
        True where single bands' nodata is known to be looked at: only pixels of nothing else (as `rio.clip`
        makes them) are invalid then, whatever the dtype became.
    """

    name: str
    dtype: str
    nodata: tuple[float | None, ...]
    gap: float | None = None
    only_whole: bool = False

    def stack(self, pixels: npt.NDArray[Any], valid: npt.NDArray[Any] | None = None) -> Stack:
        """Pixels with validity (1 or 0) as one more band, such as `source.raster.Raster.read_stack` returns.

        Parameters
        ----------
        pixels
            Shape (band, y, x), as they are in the array.
        valid
            Shape (1, y, x), nonzero where a pixel is valid as far as is known; None for everywhere.

        Raises
        ------
        UsageError
            If whole numbers are wanted, and valid pixels hold others.
        """
        stack = np.empty((len(pixels) + 1, *pixels.shape[1:]), computed_dtype(pixels.dtype))
        stack[:-1] = pixels
        stack[-1] = 1 if valid is None else valid[0] != 0
        if self.gap is not None:
            gaps = np.isnan(stack[:-1])
            stack[-1] *= ~gaps.all(axis=0)
            stack[:-1][gaps] = self.gap
        bands = range(len(pixels))
        own: np.dtype[Any] = stack.dtype
        dtypes = dict.fromkeys(bands, own)
        together = stack.dtype.itemsize == 1
        if self.only_whole:
            has_data(stack, (None,) * len(pixels), dtypes, bands, together=together)
            stack[-1] *= np.logical_or.reduce([b != n for b, n in zip(stack, self.nodata, strict=False)])
        else:
            has_data(stack, self.nodata, dtypes, bands, together=together)
        return stack if stack.dtype == self.dtype else self._whole(stack)

    def _whole(self, stack: Stack) -> Stack:
        """The same as whole numbers, which are the pixels that floats were made of to hold NaN."""
        stack[:-1, stack[-1] == 0] = 0
        with np.errstate(invalid="ignore"):
            whole = stack.astype(self.dtype)
        if not (differ := whole != stack).any():
            return whole
        value = stack[differ][0]
        raise UsageError(
            f"{self.name} holds {value:.6g} as {stack.dtype}, but the codebook was fitted on whole numbers, "
            f"{self.dtype}; segment bands in the units that it was fitted on, or fit another codebook"
        )

    def arrays(self, pixels: da.Array, valid: da.Array | None) -> tuple[da.Array, da.Array]:
        """Pixels (band, y, x) and validity (y, x), lazily; `valid` is chunked as the pixels are."""
        touched = (
            valid is None
            or self.dtype != pixels.dtype
            or pixels.dtype.kind == "f"
            or any(value is not None for value in self.nodata)
        )
        if valid is not None and not touched:
            return pixels, valid.astype(bool)
        stack = da.map_blocks(
            partial(_stack, self),
            pixels,
            *(() if valid is None else (valid[None],)),
            chunks=((len(self.nodata) + 1,), *pixels.chunks[1:]),
            dtype=self.dtype,
            meta=np.empty((0, 0, 0), self.dtype),
        )
        return stack[:-1], stack[-1].astype(bool)


def _stack(decoding: Decoding, *planes: npt.NDArray[Any]) -> Stack:
    return decoding.stack(*planes)


def computed_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that kernels get for pixels of a dtype: in the machine's byte order, no floats of 16 bits.

    Raises
    ------
    UsageError
        If they are no real numbers.
    """
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise UsageError(f"pixels of {dtype}; real numbers are needed, such as array.astype('float32')")
    return np.dtype(np.float32) if dtype == np.float16 else dtype.newbyteorder("=")


def decoded_dtype(dtype: np.dtype[Any], wanted: str) -> str:
    """The dtype in which a codebook takes pixels: whole numbers if it is of some and they are floats."""
    own = computed_dtype(dtype)
    return wanted if own.kind == "f" and np.dtype(wanted).kind in "iu" else str(own)


def nodata_of(array: xr.DataArray, band: int = 0) -> float | None:
    """The nodata value that an array declares for a band, or None; where it is masked, NaN stands for it."""
    if array.rio.encoded_nodata is not None:
        return None
    for name in DECLARING:
        if (value := array.attrs.get(name)) is not None:
            several = isinstance(value, (tuple, list)) and len(value) > band
            return usable(value[band] if several else value, array.dtype)
    return None


def usable(value: Any, dtype: np.dtype[Any]) -> float | None:
    """A nodata value as a float, unless no pixel of the dtype can have it (-9999 in bytes)."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return declared.nodata_of(number, dtype)


def gap_of(array: xr.DataArray) -> float | None:
    """The nodata value of the 8-bit file that a masked array of floats was read from, or None."""
    encoding = array.encoding
    stored, value = encoding.get("rasterio_dtype", encoding.get("dtype")), array.rio.encoded_nodata
    scaled = any(float(encoding.get(key, plain)) != plain for key, plain in _UNSCALED.items())
    if array.dtype.kind != "f" or stored is None or value is None or scaled:
        return None
    try:
        stored = np.dtype(stored)
    except TypeError:
        return None
    return float(value) if stored.kind in "iu" and stored.itemsize == 1 and np.isfinite(value) else None
