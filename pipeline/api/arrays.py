"""Rasters as lazy `xarray.DataArray`s that carry their grid, CRS and validity with them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import rioxarray  # noqa: F401  (registers the .rio accessor)
import xarray as xr
from rasterio.control import GroundControlPoint as RasterioGcp
from rasterio.transform import Affine

from engine.codebook import Codebook
from engine.grid import Window, chunk_side, split
from pipeline.errors import UsageError
from pipeline.graph.labels import label_array, read_arrays
from pipeline.graph.overlap import DEFAULT_CHUNK_PX, Layout
from pipeline.grid.georeference import Georeference, GroundControlPoint
from pipeline.kernels import kernel_of, mismatch
from pipeline.source.bands.computed import choose
from pipeline.source.bands.options import read_nodata, read_valid
from pipeline.source.bands.selection import Selection
from pipeline.source.opening import open_any

_GRID = "tilewright_georeference"


def open_raster(
    path: str | Path,
    *,
    bands: Sequence[int] | None = None,
    nodata: object = None,
    valid: str | None = None,
    raw_values: bool = False,
    chunk_size: int = DEFAULT_CHUNK_PX,
) -> xr.DataArray:
    """A raster as a lazy array; only its header is read.

    Parameters
    ----------
    path
        Anything GDAL opens.
    bands
        1-based band numbers (default: all but alpha).
    nodata
        A nodata value, or one for each band of the file, in place of those that it declares; "none" for
        no nodata value. Masks and alpha count always.
    valid
        A condition of the file's bands, such as "(qa & 8) == 0": where it is not true a pixel is invalid.
    raw_values
        Whether the condition sees the numbers that are stored, and not ``value * scale + offset`` as the
        file declares. The array holds stored numbers in any case.
    chunk_size
        Side of the Dask chunks in pixels, rounded up to whole cells of 512.

    Returns
    -------
    xarray.DataArray
        Dimensions (band, y, x), the file's dtype, backed by Dask. Coordinates: `band`; `x` and `y`
        (pixel centres, where the grid is not rotated); `row` and `column` (pixel offsets in the
        raster, which slices keep); `valid` (y, x), bool, True where nodata, alpha, masks and NaN
        leave a pixel valid; `spatial_ref` (CRS and transform, as rioxarray writes them). Band names
        are in ``attrs["long_name"]``.

    Raises
    ------
    RasterError
        If the raster cannot be opened, or lacks a band.
    UsageError
        If `nodata` or `valid` cannot be understood.
    """
    wanted = None if bands is None else tuple(bands)
    selection = Selection(wanted, read_valid(valid), read_nodata(nodata), raw_values)
    chosen = choose(selection, lambda: open_any(path))
    raster = chosen.of(open_any(path, chosen.numbers, selection.declared))
    layout = Layout.of(raster.bounds, raster.bounds, 0, chunk_side(chunk_size))
    pixels, mask = read_arrays(raster, layout)
    array = xr.DataArray(
        pixels,
        dims=("band", "y", "x"),
        coords={
            "band": list(raster.bands),
            **_axes(raster.georeference, raster.height, raster.width),
            "valid": (("y", "x"), mask),
        },
        name=Path(raster.path).stem,
        attrs={"long_name": raster.band_names, "source": raster.path, _GRID: _pack(raster.georeference)},
    )
    nodata = next((n for n in raster.nodata if n is not None), None)
    if nodata is not None:
        array = _with_nodata(array, nodata)
    return _georeferenced(array, raster.georeference)


def _axes(place: Georeference, height: int, width: int) -> dict[str, Any]:
    rows, cols = np.arange(height, dtype=np.int64), np.arange(width, dtype=np.int64)
    axes: dict[str, Any] = {"row": ("y", rows), "column": ("x", cols)}
    if place.axes is not None:
        (y, height_y), (x, width_x) = place.axes
        axes |= {"x": x + width_x * (cols + 0.5), "y": y + height_y * (rows + 0.5)}
    return axes


def _georeferenced(array: xr.DataArray, place: Georeference) -> xr.DataArray:
    """Write CRS, transform and ground control points where rioxarray looks for them."""
    if place.crs_wkt:
        with warnings.catch_warnings():
            # the attributes hold the CRS as WKT beside CF's words, which lack some parameters
            warnings.simplefilter("ignore")
            array = array.rio.write_crs(place.crs_wkt)
    if place.transform is not None:
        array = array.rio.write_transform(Affine(*place.transform))
    if place.gcps:
        points = [RasterioGcp(p.row, p.col, p.x, p.y, p.z) for p in place.gcps]
        array = array.rio.write_gcps(points, place.crs_wkt)
    return array


def _with_nodata(array: xr.DataArray, value: float) -> xr.DataArray:
    marked: xr.DataArray = array.rio.write_nodata(value)
    return marked


def _pack(place: Georeference) -> str:
    """A georeference as JSON text: an attribute that survives xarray and keeps every bit."""
    gcps = [(p.row, p.col, p.x, p.y, p.z) for p in place.gcps]
    return json.dumps([place.crs_wkt, place.transform, gcps, place.area_or_point])


def bounds_of(array: xr.DataArray) -> Window:
    """Where an array lies on its raster's pixel grid.

    Raises
    ------
    UsageError
        If it lost its grid or was thinned out, flipped or reordered.
    """
    for name in ("row", "column"):
        if name not in array.coords:
            raise UsageError(f"the array has no coordinate {name!r}; open rasters with pipeline.open_raster")
    if array.dims[-2:] != ("y", "x") or array.size == 0:
        raise UsageError(
            f"the array has dimensions {array.dims} of {array.shape}; (band, y, x) with pixels is needed"
        )
    starts = []
    for name in ("row", "column"):
        offsets = np.atleast_1d(array.coords[name].values)
        if offsets.size > 1 and not (np.diff(offsets) == 1).all():
            raise UsageError(f"the array skips pixels along {name!r}; take plain slices without a step")
        starts.append(int(offsets[0]))
    return Window(starts[0], starts[1], array.sizes["y"], array.sizes["x"])


def georeference_of(array: xr.DataArray) -> Georeference:
    """The georeference of an array or a slice, exact to the bit for a whole raster."""
    place = Georeference()
    if text := array.attrs.get(_GRID):
        wkt, transform, gcps, area = json.loads(text)
        place = Georeference(
            wkt, tuple(transform) if transform else None, tuple(GroundControlPoint(*p) for p in gcps), area
        )
    bounds = bounds_of(array)
    return place.shifted(bounds.row, bounds.col)


def check_fits(array: xr.DataArray, codebook: Codebook) -> None:
    """Refuse an array that a codebook was not made for, or that lost its validity.

    Raises
    ------
    UsageError
        If bands or dtype differ, or there is no coordinate `valid`.
    """
    if array.dims != ("band", "y", "x"):
        raise UsageError(f"the array has dimensions {array.dims}; (band, y, x) is needed")
    if "valid" not in array.coords:
        raise UsageError("the array has no coordinate 'valid'; open rasters with pipeline.open_raster")
    if problem := mismatch(array.sizes["band"], str(array.dtype), codebook):
        raise UsageError(f"{array.name or 'the array'}: {problem}")


def labels_like(array: xr.DataArray, labels: da.Array, codebook: Codebook) -> xr.DataArray:
    """Labels with the grid, CRS and coordinates of the array that they label."""
    coords = {n: c for n, c in array.coords.items() if "band" not in c.dims and n not in ("band", "valid")}
    attrs = {"segments": codebook.segments, "codebook_hash": codebook.content_hash}
    if "source" in array.attrs:
        attrs["source"] = array.attrs["source"]
    if _GRID in array.attrs:
        attrs[_GRID] = array.attrs[_GRID]
    result: xr.DataArray = xr.DataArray(labels, dims=("y", "x"), coords=coords, name="labels", attrs=attrs)
    return _with_nodata(result, 255)


def segment(
    array: xr.DataArray, codebook: Codebook, *, model: str | None = None, device: str = "auto"
) -> xr.DataArray:
    """Labels of a raster, lazily: nothing is read or computed until it is asked for.

    Parameters
    ----------
    array
        As `open_raster` gives it, or a slice of it: (band, y, x), with the coordinates `valid`,
        `row` and `column`.
    codebook
        From `fit` or `Codebook.load`.
    model
        For a CNN codebook: where its network is now, if it was moved.
    device
        Torch device for a network: "auto", "cpu", "cuda", "cuda:N" or "mps".

    Returns
    -------
    xarray.DataArray
        (y, x), uint8, labels 0 to K - 1 and 255 = nodata, on the array's grid.

    Raises
    ------
    UsageError
        If the array has other bands or another dtype than the codebook, or is not on the grid.
    """
    bounds = bounds_of(array)
    check_fits(array, codebook)
    kernel = kernel_of(codebook, model=model, device=device)
    layout = Layout.of(bounds, bounds, kernel.halo_px, _chunk_px(array, bounds, kernel.cell_px))
    # an array that was loaded holds NumPy's, which Dask takes as well
    pixels = da.asarray(array.data).rechunk(((array.sizes["band"],), *layout.outer_chunks))
    valid = da.asarray(array.coords["valid"].data).rechunk(layout.outer_chunks)
    return labels_like(array, label_array(pixels, valid, layout, kernel, codebook, bounds), codebook)


def _chunk_px(array: xr.DataArray, bounds: Window, cell_px: int) -> int:
    """The array's own chunk side where its chunks are whole cells of the grid, else the default."""
    if array.chunks is None:
        return DEFAULT_CHUNK_PX
    side = max(array.chunks[1] + array.chunks[2])
    on_grid = array.chunks[1:] == (
        split(bounds.row, bounds.height, side),
        split(bounds.col, bounds.width, side),
    )
    return side if on_grid and side % cell_px == 0 else DEFAULT_CHUNK_PX


class ArrayPixels:
    """An array as something that a fit can sample: its shape, identity and windows."""

    def __init__(self, array: xr.DataArray) -> None:
        self._array = array
        self.bounds = self.region = bounds_of(array)
        self.bands = tuple(int(b) for b in np.atleast_1d(array.coords["band"].values))
        self.dtype = str(array.dtype)
        self.physical = None
        place = georeference_of(array)
        self.identity = (self.bounds.height, self.bounds.width, place.transform, len(self.bands), self.dtype)
        self.path = str(array.name or "array")

    def inside(self, window: Window) -> None:
        """Everywhere."""

    def read(self, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Pixels (band, y, x) and validity (y, x) of a window, in absolute pixels."""
        rows, cols = window.slices(self.bounds)
        part = self._array[:, rows, cols]
        pixels, valid = da.compute(part.data, part.coords["valid"].data, scheduler="synchronous")
        return pixels, valid
