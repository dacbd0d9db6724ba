"""Arrays of every kind as pixels (band, y, x) with their bands, validity and position."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from engine.codebook import Band
from engine.grid import Window
from pipeline.api import validity
from pipeline.api.origin import Origin
from pipeline.api.position import bounds_of, georeference_of, named, spatial_dims
from pipeline.errors import UsageError
from pipeline.grid.georeference import Georeference

VALID, INSIDE = "valid", "inside"
"""Coordinates of masks (y, x): where pixels are valid, and where labels are wanted."""

_TIMES = frozenset({"time", "t", "times", "date", "datetime"})
_MOST_CHANNELS = 4  # of an array (y, x, channel) as pictures are stored, which is taken for (band, y, x) else

Nodata = float | Sequence[float | None] | None


@dataclass(frozen=True)
class Imagery:
    """An array whatever it came as, ready to be sampled or labelled.

    Parameters
    ----------
    array
        Dimensions (band, y, x) under its own names, with coordinates.
    bands
        Numbers or names of its bands.
    nodata
        Nodata value of each band, or None.
    valid, inside
        Masks (y, x), True where a pixel is valid and where labels are wanted; None for everywhere.
    decoding
        How values become pixels, of the array's own dtype.
    """

    array: xr.DataArray
    bands: tuple[Band, ...]
    valid: Any
    inside: Any
    decoding: validity.Decoding

    @classmethod
    def of(cls, source: Any, nodata: Nodata = None, valid: Any = None) -> Imagery:
        """An array of any kind; see `api.arrays.segment` for what is taken.

        Raises
        ------
        UsageError
            If it is no raster, or its validity is not known.
        """
        array, declared = _with_bands(source)
        dims = spatial_dims(array)
        bands = _bands(array)
        coordinate = _mask(array, VALID, dims)
        origin = Origin.of(array) or Origin()
        _refuse_lost(array, origin, VALID if valid is not None else "")
        looked_at = coordinate is not None and set(declared) == {origin.nodata} != {None}
        if nodata is not None:
            declared, looked_at = _each_band(nodata, len(bands), array.dtype), False
        elif looked_at and len(bands) != origin.bands and str(array.dtype) != origin.dtype:
            # an index of the bands: that it is 0 where they are equal is a value, whatever they declared
            declared, looked_at = (None,) * len(bands), False
        decoding = validity.Decoding(
            named(array),
            str(validity.computed_dtype(array.dtype)),
            declared,
            validity.gap_of(array) if nodata is None else None,
            only_whole=looked_at,
        )
        given = None if valid is None else _given(valid, array, dims)
        mask = given if coordinate is None or given is None else _both(coordinate, given)
        mask = coordinate if mask is None else mask
        return cls(array, bands, mask, _mask(array, INSIDE, dims), decoding)

    @property
    def path(self) -> str:
        """Its name for messages."""
        return self.decoding.name

    @property
    def band_names(self) -> tuple[str, ...]:
        """What the bands are called; "" where nothing says it."""
        if (origin := Origin.of(self.array)) is not None and origin.names:
            names = dict(origin.names)
            return tuple(names.get(band, "") for band in self.bands)
        texts = self.array.attrs.get("long_name")
        # rioxarray has descriptions of all bands there, which a choice of bands leaves as they are
        known = dict(enumerate(texts, 1)) if isinstance(texts, (tuple, list)) else {}
        if known.keys() >= set(self.bands):
            return tuple(str(known[b]) for b in self.bands if isinstance(b, int))
        return tuple(b if isinstance(b, str) else "" for b in self.bands)

    def only(self, bands: Sequence[Band]) -> Imagery:
        """Some of its bands, in the order given."""
        if tuple(bands) == self.bands:
            return self
        indices = [self.bands.index(band) for band in bands]
        array = self.array.isel({self.array.dims[0]: indices})
        decoding = replace(self.decoding, nodata=tuple(self.decoding.nodata[i] for i in indices))
        return replace(self, array=array, bands=tuple(bands), decoding=decoding)

    @property
    def bounds(self) -> Window:
        """Window of its pixels on its grid."""
        return bounds_of(self.array)

    @property
    def georeference(self) -> Georeference:
        """Where it lies on the ground."""
        return georeference_of(self.array)

    def decoded(self, dtype: str) -> validity.Decoding:
        """How values become pixels for a codebook that was fitted on pixels of a dtype."""
        return replace(self.decoding, dtype=validity.decoded_dtype(self.array.dtype, dtype))


def _with_bands(source: Any) -> tuple[xr.DataArray, tuple[float | None, ...]]:
    """An array (band, y, x) and the nodata value that it declares for each band."""
    if isinstance(source, xr.Dataset):
        return _of_dataset(source)
    if isinstance(source, xr.DataArray):
        array = _three_dims(source)
        return array, tuple(validity.nodata_of(array, i) for i in range(array.shape[0]))
    if isinstance(source, (np.ndarray, da.Array)):
        array = _of_plain(source)
        return array, (None,) * array.shape[0]
    if isinstance(source, (str, Path)):
        raise UsageError(f"{source}: a path; open it first, pipeline.open_raster({str(source)!r})")
    raise UsageError(
        f"a {type(source).__name__} is no raster; give an xarray.DataArray or Dataset, a NumPy or Dask array "
        "(band, y, x), or a path"
    )


def _of_plain(pixels: Any) -> xr.DataArray:
    """A NumPy or Dask array as a DataArray of a grid of its own."""
    if pixels.ndim not in (2, 3):
        raise UsageError(f"an array of shape {pixels.shape}; (band, y, x) or (y, x) is needed")
    if any(math.isnan(size) for size in pixels.shape):
        raise UsageError(
            f"a Dask array of unknown shape {pixels.shape}; call its compute_chunk_sizes() first"
        )
    if pixels.ndim == 3 and pixels.shape[2] <= _MOST_CHANNELS < pixels.shape[0] // 4:
        raise UsageError(
            f"an array of shape {pixels.shape} looks like (y, x, band), and (band, y, x) is needed; "
            "turn it: numpy.moveaxis(array, -1, 0)"
        )
    masked = isinstance(pixels, np.ma.MaskedArray) and np.ma.getmaskarray(pixels).any()
    if masked:
        raise UsageError("a masked array of NumPy; give its data, and where it is valid as valid=")
    return xr.DataArray(pixels if pixels.ndim == 3 else pixels[None], dims=("band", "y", "x"))


def _three_dims(array: xr.DataArray) -> xr.DataArray:
    """The array as (band, y, x): axes of length 1 dropped, a missing band axis added, axes in order."""
    y, x = spatial_dims(array)
    others = [d for d in array.dims if d not in (y, x)]
    for dim in others:
        if array.sizes[dim] > 1 and _is_time(array, dim):
            raise UsageError(
                f"{named(array)} has {array.sizes[dim]} steps of {dim!r}; take one: array.isel({dim}=0)"
            )
    band = _band_dim(array, others)
    remembered = array.encoding
    array = array.isel({d: 0 for d in others if d != band})
    if band is None:
        band = "band"
        array = array.drop_vars(band, errors="ignore").expand_dims(band)
    array = array.transpose(band, y, x)
    array.encoding = remembered  # says what masked arrays were read from; xarray drops it on the way
    array.rio.set_spatial_dims(x_dim=x, y_dim=y, inplace=True)
    return array


def _is_time(array: xr.DataArray, dim: Hashable) -> bool:
    return str(dim).casefold() in _TIMES or (dim in array.coords and array.coords[dim].dtype.kind in "mM")


def _band_dim(array: xr.DataArray, others: Sequence[Hashable]) -> Hashable | None:
    """The dimension of bands among those that are not y and x; None if there is none."""
    longer = [d for d in others if array.sizes[d] > 1]
    if len(longer) > 1:
        raise UsageError(
            f"{named(array)} has dimensions {', '.join(map(str, array.dims))}; bands, y and x are needed: "
            f"take one step of each other one, such as array.isel({longer[0]}=0)"
        )
    if longer:
        return longer[0]
    return next((d for d in others if not _is_time(array, d)), None)


def _of_dataset(dataset: xr.Dataset) -> tuple[xr.DataArray, tuple[float | None, ...]]:
    """The variables of a Dataset as bands, each with its own nodata value."""
    dims = spatial_dims(dataset)
    beside = [n for n, v in dataset.data_vars.items() if v.ndim == 0 or n in (VALID, INSIDE)]
    dataset = dataset.set_coords(beside)  # such as a grid mapping
    layers: dict[str, xr.DataArray] = {}
    for name, variable in dataset.data_vars.items():
        if not set(dims) <= set(variable.dims):
            raise UsageError(
                f"variable {name!r} of the Dataset has dimensions {variable.dims} and not {dims}; "
                "choose the variables that are bands of one grid: dataset[[...]]"
            )
        # a Dataset made of an array (`to_dataset("band")`) has what the bands share
        layer = _three_dims(variable.assign_attrs({**dataset.attrs, **variable.attrs}))
        if layer.shape[0] != 1:
            raise UsageError(
                f"variable {name!r} of the Dataset has {layer.shape[0]} bands; give that array itself"
            )
        layers[str(name)] = layer.isel({layer.dims[0]: 0}, drop=True)
    if not layers:
        raise UsageError("the Dataset has no variable with pixels; give bands as variables of (y, x)")
    first = next(iter(layers.values()))
    dtype = np.result_type(*(validity.computed_dtype(layer.dtype) for layer in layers.values()))
    pixels = da.stack([da.asarray(layer.data).astype(dtype) for layer in layers.values()])
    array = xr.DataArray(
        pixels.rechunk({0: -1}),
        dims=("band", *first.dims),
        coords={**first.coords, "band": list(layers)},
        attrs={k: v for k, v in first.attrs.items() if k not in validity.DECLARING},
        name="Dataset",
    )
    if len({validity.gap_of(layer) for layer in layers.values()}) == 1:
        array.encoding = first.encoding
    array.rio.set_spatial_dims(x_dim=dims[1], y_dim=dims[0], inplace=True)
    nodata = [validity.nodata_of(layer) for layer in layers.values()]
    return array, tuple(None if n is None else validity.usable(n, dtype) for n in nodata)


def _bands(array: xr.DataArray) -> tuple[Band, ...]:
    """Numbers or names of the bands: their coordinate, else 1, 2, ..."""
    band, count = array.dims[0], array.shape[0]
    if band not in array.coords:
        return tuple(range(1, count + 1))
    values = array.coords[band].values.tolist()
    return tuple(int(v) if isinstance(v, int) else str(v) for v in values)


def _each_band(nodata: Nodata, count: int, dtype: np.dtype[Any]) -> tuple[float | None, ...]:
    values: list[Any] = [nodata] * count
    if isinstance(nodata, Iterable) and not isinstance(nodata, str):
        values = list(nodata)
    if len(values) != count:
        raise UsageError(f"nodata= has {len(values)} values for {count} bands; give one for all or for each")
    for value in values:
        number = value is None or (isinstance(value, (int, float, np.number)) and not isinstance(value, bool))
        if not number:
            raise UsageError(f"nodata={value!r}; give a number, or one for each band")
        if value is not None and not math.isnan(value) and validity.usable(value, dtype) is None:
            raise UsageError(f"nodata={value!r}: no pixel of {dtype} can have this value")
    return tuple(None if v is None else validity.usable(v, dtype) for v in values)


def _mask(array: xr.DataArray, name: str, dims: tuple[str, str]) -> Any:
    """A coordinate of an array that is a mask (y, x), or None.

    Raises
    ------
    UsageError
        If it is no mask any more, such as a mean of one.
    """
    if name not in array.coords:
        return None
    mask = array.coords[name]
    if set(mask.dims) != set(dims) or mask.dtype not in (bool, object):
        raise UsageError(
            f"coordinate {name!r} of {named(array)} is {mask.dtype} of {mask.dims} and no mask of {dims}; "
            f"drop it, array.drop_vars({name!r}), and say where pixels are valid with valid="
        )
    pixels = mask.transpose(*dims).data
    # padded or aligned with another array, a mask holds NaN where it says nothing
    return pixels if mask.dtype == bool else pixels == True  # noqa: E712  (element by element)


def _given(valid: Any, array: xr.DataArray, dims: tuple[str, str]) -> Any:
    """The mask that was passed as `valid=`, in the order of the array's axes."""
    shape = tuple(array.sizes[d] for d in dims)
    if isinstance(valid, xr.DataArray):
        if set(valid.dims) == set(dims):
            valid = valid.transpose(*dims)
        for dim in set(valid.dims) & set(dims):
            here, there = array.coords.get(dim), valid.coords.get(dim)
            if here is not None and there is not None and not np.array_equal(here.values, there.values):
                raise UsageError(f"valid= has other coordinates {dim!r} than the array; align it first")
        valid = valid.data
    if not isinstance(valid, (np.ndarray, da.Array)) or valid.shape != shape or valid.dtype.kind not in "biu":
        said = f"{getattr(valid, 'dtype', type(valid).__name__)} of {getattr(valid, 'shape', 'no shape')}"
        raise UsageError(f"valid= is {said}; give a mask of {shape}, True where a pixel is valid")
    return valid


def _both(one: Any, other: Any) -> Any:
    return (da.asarray(one) != 0) & (da.asarray(other) != 0)


def _refuse_lost(array: xr.DataArray, origin: Origin, given: str) -> None:
    """Refuse an array whose masks were left behind, as `rio.reproject` does: its pixels do not say them."""
    lost = [n for n in origin.needs if n not in array.coords and n != given]
    if VALID in lost:
        raise UsageError(
            f"{named(array)} lost its coordinate 'valid', which holds its raster's alpha band or masks; "
            "pass it reprojected too: valid=array.valid.astype('uint8').rio.reproject(CRS, nodata=0)"
        )
    if INSIDE in lost:
        raise UsageError(
            f"{named(array)} lost its coordinate 'inside', the area that it was opened for; "
            "open it without the area and clip it (rio.clip)"
        )
