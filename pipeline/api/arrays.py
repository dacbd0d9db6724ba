"""Rasters as lazy `xarray.DataArray`s that carry their grid, CRS and validity with them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
from rasterio.control import GroundControlPoint as RasterioGcp
from rasterio.transform import Affine

from engine.codebook import Band, Codebook
from engine.grid import DEFAULT_CHUNK_PX, Window, chunk_side, split
from engine.kernel import NODATA
from engine.labels.smoothing import Smoothing
from engine.resampling import Method
from pipeline.api.imagery import INSIDE, VALID, Imagery, Nodata
from pipeline.api.opening import common_nodata, needed_coordinates, open_view, read_some
from pipeline.api.origin import ATTRIBUTE, Origin
from pipeline.api.position import EXACT_PX, whole_of
from pipeline.errors import RasterError, UsageError
from pipeline.graph.label_graph import label_array, read_arrays, smooth_array
from pipeline.graph.overlap import Layout
from pipeline.grid.area import Area
from pipeline.grid.georeference import Georeference
from pipeline.kernels import kernel_from_codebook, mismatch
from pipeline.legend.label_style import LabelStyle
from pipeline.legend.true_colour import red_green_blue
from pipeline.source.bands.fitted import FittedBands, all_names, given_names
from pipeline.source.bands.options import read_nodata, read_valid
from pipeline.source.bands.selection import Selection
from pipeline.source.naming.paths import expanded


def open_raster(
    path: str | Path | Sequence[str | Path] | Mapping[str, str | Path],
    *,
    bands: Sequence[Band] | str | None = None,
    mosaic: bool = False,
    overlap: str = "first",
    resample: Method | None = None,
    reference_band: str | None = None,
    extent: Sequence[float] | None = None,
    aoi: str | Path | None = None,
    nodata: object = None,
    valid: str | None = None,
    raw_values: bool = False,
    chunk_size: int = DEFAULT_CHUNK_PX,
) -> xr.DataArray:
    """A raster as a lazy array; only headers are read.

    Parameters
    ----------
    path
        Anything GDAL opens, or a Zarr store. A mapping of names to paths is a stack, as of ``--stack``.
        With `mosaic`, a folder, a glob or a list of paths.
    bands
        Band numbers (from 1), names or expressions, as of ``--bands`` (default: all but alpha).
    mosaic
        Whether `path` names adjoining tiles that are one raster, as of ``--mosaic``.
    overlap
        The tile that a pixel is taken from where it is valid in several: "first" or "nearest-centre".
    resample
        How bands of a stack that lie on other grids become pixels of one: "nearest", "bilinear" or
        "average". `valid` sees the nearest pixel always, for classes and bits have no means. None takes
        pixels that are whole multiples, which are repeated, and refuses others.
    reference_band
        The band of a stack whose grid and extent the array has (default: the finest).
    extent, aoi
        (x0, y0, x1, y1) in the raster's CRS, or a file of polygons: only there are pixels sampled and
        labelled, as of ``--extent`` and ``--aoi``. The array holds the whole cells of 512 px around it.
    nodata
        A nodata value, or one for each band of the file, in place of those that it declares; "none" for
        no nodata value. Masks and alpha count always.
    valid
        A condition of the file's bands, such as "(qa & 8) == 0": where it is not true a pixel is invalid.
    raw_values
        Whether expressions and the condition see the numbers that are stored, and not
        ``value * scale + offset`` as the file declares. Plain bands hold stored numbers in any case.
    chunk_size
        Side of the Dask chunks in pixels, rounded up to whole cells of 512.

    Returns
    -------
    xarray.DataArray
        Dimensions (band, y, x), the file's dtype, backed by Dask. Coordinates: `band`; `x` and `y`
        (pixel centres) or, where the grid has no such axes (it is rotated, or placed by points only),
        `row` and `column` (pixel offsets in the raster, which slices keep; drop them before
        `rio.reproject`); `valid` (y, x), bool, True where nodata, alpha, masks and NaN leave a pixel
        valid; `inside` (y, x), bool, True in the area, where one was chosen; `spatial_ref` (CRS and
        transform, as rioxarray writes them). Band names are in ``attrs["long_name"]``.

    Raises
    ------
    RasterError
        If a raster cannot be opened, lacks a band, or the area misses it.
    UsageError
        If what is asked for cannot be, such as a mosaic of files that do not fit.
    """
    selection = Selection(read_some(bands), read_valid(valid), read_nodata(nodata), raw_values)
    view = open_view(
        path,
        selection,
        mosaic=mosaic,
        overlap=overlap,
        resample=resample,
        reference_band=reference_band,
        extent=extent,
        aoi=aoi,
    )
    raster, region = view.raster, view.region
    layout = Layout.of(region, region, 0, chunk_side(chunk_size))
    pixels, mask = read_arrays(raster, layout)
    declared = common_nodata(raster)
    origin = Origin(
        raster.georeference,
        bands=len(raster.bands),
        dtype=raster.dtype,
        nodata=declared,
        needs=needed_coordinates(view),
        size=None if view.area is None else (raster.height, raster.width),
        region=None if view.area is None else region,
        names=tuple(zip(raster.bands, given_names(raster), strict=True)),
    )
    masks: dict[str, Any] = {VALID: (("y", "x"), mask)}
    if view.area is not None:
        masks[INSIDE] = (("y", "x"), _area_mask(view.area, layout))
    array = xr.DataArray(
        pixels,
        dims=("band", "y", "x"),
        coords={
            "band": list(raster.bands),
            **_axes(raster.georeference, region),
            **masks,
        },
        name=Path(raster.path).stem,
        attrs={"long_name": raster.band_names, "source": raster.path, ATTRIBUTE: origin.text},
    )
    if declared is not None:
        array = _with_nodata(array, declared)
    return _georeferenced(array, raster.georeference)


def _axes(place: Georeference, region: Window) -> dict[str, Any]:
    """Coordinates along y and x that say where each pixel lies on the raster's grid.

    There are either axes or offsets: with both, what `rio.reproject` makes would keep the former offsets.
    """
    rows = np.arange(region.row, region.row_end, dtype=np.int64)
    cols = np.arange(region.col, region.col_end, dtype=np.int64)
    if place.axes is not None:
        (y, height_y), (x, width_x) = place.axes
        ys, xs = y + height_y * (rows + 0.5), x + width_x * (cols + 0.5)
        # pixels far from the origin may be too small to have centres of their own
        off = np.abs((ys - y) / height_y - 0.5 - rows).max(), np.abs((xs - x) / width_x - 0.5 - cols).max()
        if max(off) <= EXACT_PX:
            return {"y": ys, "x": xs}
    return {"row": ("y", rows), "column": ("x", cols)}


def _area_mask(area: Area, layout: Layout) -> da.Array:
    """True where a pixel is in an area, lazily: shape of the layout's outer window."""
    mask: da.Array = da.map_blocks(
        partial(_mask_block, area, layout),
        chunks=layout.outer_chunks,
        dtype=bool,
        meta=np.empty((0, 0), bool),
    )
    return mask


def _mask_block(area: Area, layout: Layout, block_id: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    starts = [
        list(accumulate(sides, initial=first))
        for first, sides in zip((layout.outer.row, layout.outer.col), layout.outer_chunks, strict=True)
    ]
    (row, height), (col, width) = (
        (s[i], c[i]) for s, c, i in zip(starts, layout.outer_chunks, block_id, strict=True)
    )
    return area.mask(Window(row, col, height, width))


def _georeferenced(array: xr.DataArray, place: Georeference) -> xr.DataArray:
    """Write CRS, transform and ground control points where rioxarray looks for them."""
    if place.crs_wkt:
        array = _with_crs(array, place.crs_wkt)
    if place.transform is not None:
        array = array.rio.write_transform(Affine(*place.transform))
    if place.gcps:
        points = [RasterioGcp(p.row, p.col, p.x, p.y, p.z) for p in place.gcps]
        array = array.rio.write_gcps(points, place.crs_wkt)
    return array


def _with_crs(array: xr.DataArray, crs: Any, mapping: str | None = None) -> xr.DataArray:
    with warnings.catch_warnings():
        # the attributes hold the CRS as WKT beside CF's words, which lack some parameters
        warnings.simplefilter("ignore")
        placed: xr.DataArray = array.rio.write_crs(crs, mapping)
    return placed


def _with_nodata(array: xr.DataArray, value: float) -> xr.DataArray:
    marked: xr.DataArray = array.rio.write_nodata(value)
    return marked


def labels_like(array: xr.DataArray, labels: da.Array, codebook: Codebook) -> xr.DataArray:
    """Labels with the grid, CRS and coordinates of the array (band, y, x) that they label."""
    band, *dims = array.dims
    leave_out = {band, "band", VALID, INSIDE}
    coords = {n: c for n, c in array.coords.items() if band not in c.dims and n not in leave_out}
    attrs: dict[str, Any] = {
        "long_name": "segment",
        "segments": codebook.segments,
        "codebook_hash": codebook.content_hash,
        # CF's words for what values mean
        "flag_values": np.arange(codebook.segments, dtype=np.uint8),
        **LabelStyle.of_codebook(codebook).flags,
        ATTRIBUTE: whole_of(array).of_labels().text,
    }
    if source := array.attrs.get("source", array.encoding.get("source")):
        attrs["source"] = source
    result: xr.DataArray = xr.DataArray(labels, dims=dims, coords=coords, name="labels", attrs=attrs)
    if array.rio.crs is not None:
        mapping = array.rio.grid_mapping
        if mapping in coords:
            result = result.rio.write_grid_mapping(mapping)
        else:
            result = _with_crs(result, array.rio.crs, mapping)
    return _with_nodata(result, NODATA)


def segment(
    array: xr.DataArray | xr.Dataset | da.Array | npt.NDArray[Any],
    codebook: Codebook | str | Path,
    *,
    nodata: Nodata = None,
    valid: xr.DataArray | da.Array | npt.NDArray[Any] | None = None,
    codebook_bands: str = "match",
    model: str | None = None,
    device: str = "auto",
    smooth: str | int | None = None,
) -> xr.DataArray:
    """Labels of a raster, lazily: nothing is read or computed until it is asked for.

    Parameters
    ----------
    array
        From `open_raster`, `rioxarray.open_rasterio`, odc-stac or stackstac, or a slice of it: bands, y and
        x in any order, in names that rioxarray knows, or lat and lon; without bands it is one. A
        `Dataset` of bands; a NumPy or Dask array (band, y, x). Of time, one step.
    codebook
        From `fit` or `Codebook.load`, or its file.
    nodata
        Value of pixels that hold nothing, or one for each band (default: what the array declares). NaN
        and infinite values are invalid anyway.
    valid
        Mask (y, x), True where a pixel is valid, in addition to what the array says by a coordinate
        `valid`, NaN and nodata.
    codebook_bands
        "match": the bands of the names that the codebook was fitted on, where both have names. "any": all
        bands in their order.
    model
        For a CNN codebook: where its network is now, if it was moved.
    device
        Torch device for a network: "auto", "cpu", "cuda", "cuda:N" or "mps".
    smooth
        Each pixel gets the label that most pixels in a window around it have: the side of the window,
        odd, or "7x2" for two passes (default: none). Beyond the array its outermost pixels are repeated.

    Returns
    -------
    xarray.DataArray
        (y, x), uint8, labels 0 to K - 1 and 255 = nodata, with the array's coordinates and CRS. Colours
        and names of the classes are in its attributes, as CF has them; `pipeline.plot` shows them.

    Raises
    ------
    UsageError
        If the array has other bands or another dtype than the codebook, or skips pixels. Floats are
        taken for a codebook of whole numbers, as masking makes them; if they are none, computing fails.
    """
    if not isinstance(codebook, Codebook):
        codebook = Codebook.load(expanded(str(codebook)))
    imagery = Imagery.of(array, nodata, valid)
    if codebook_bands not in ("match", "any"):
        raise UsageError(f"codebook_bands={codebook_bands!r}; it is match or any")
    try:
        chosen = FittedBands.of(codebook, by_order=codebook_bands == "any").in_array(imagery)
    except RasterError as error:
        raise UsageError(str(error).replace("--codebook-bands any", 'codebook_bands="any"')) from None
    imagery = imagery.only(chosen)
    bounds, decoding = imagery.bounds, imagery.decoded(codebook.dtype)
    if problem := mismatch(len(imagery.bands), decoding.dtype, codebook):
        raise UsageError(f"{decoding.name}: {problem}")
    kernel = kernel_from_codebook(codebook, model=model, device=device)
    try:
        smoothing = None if smooth is None else Smoothing.parse(str(smooth))
    except ValueError as error:
        raise UsageError(f"smooth={smooth!r}: {error}") from None
    chunk_px = _chunk_px(imagery.array, bounds, kernel.cell_px)
    layout = Layout.of(bounds, bounds, kernel.halo_px, chunk_px)
    # an array that was loaded holds NumPy's, which Dask takes as well
    raw = da.asarray(imagery.array.data).rechunk(((len(imagery.bands),), *layout.outer_chunks))
    mask = None if imagery.valid is None else da.asarray(imagery.valid).rechunk(layout.outer_chunks)
    labels = label_array(*decoding.arrays(raw, mask), layout, kernel, codebook, bounds)
    if smoothing is not None:
        labels = smooth_array(labels, Layout.of(bounds, bounds, smoothing.halo_px, chunk_px), smoothing)
    if imagery.inside is not None:
        labels = da.where(da.asarray(imagery.inside).rechunk(labels.chunks), labels, np.uint8(NODATA))
    return labels_like(imagery.array, labels, codebook)


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

    def __init__(self, array: Any, nodata: Nodata = None, valid: Any = None) -> None:
        self._imagery = Imagery.of(array, nodata, valid)
        self.bounds = self.region = self._imagery.bounds
        self.bands = self._imagery.bands
        self.given_names, self.all_names = given_names(self._imagery), all_names(self._imagery)
        self.physical = None
        self.dtype = self._imagery.decoding.dtype
        self.rgb = red_green_blue(self.bands, [self.given_names], self.dtype)
        self.identity = self._identity()
        self.path = self._imagery.decoding.name

    def _identity(self) -> tuple[Any, ...]:
        """As `source.raster.Raster.identity`: of an area that was opened, that of its raster."""
        origin = Origin.of(self._imagery.array)
        if origin is not None and origin.size is not None and origin.region == self.bounds:
            size, place = origin.size, origin.georeference
        else:
            size, place = (self.bounds.height, self.bounds.width), self._imagery.georeference
        return (*size, place.transform, len(self.bands), self.dtype)

    def inside(self, window: Window) -> npt.NDArray[np.bool_] | None:
        """True where features may be taken; None for everywhere."""
        if self._imagery.inside is None:
            return None
        mask: npt.NDArray[np.bool_] = computed(self._imagery.inside[window.slices(self.bounds)])[0]
        return mask

    def read(self, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Pixels (band, y, x) and validity (y, x) of a window, in absolute pixels."""
        rows, cols = window.slices(self.bounds)
        planes = [self._imagery.array.data[:, rows, cols]]
        if self._imagery.valid is not None:
            planes.append(self._imagery.valid[None, rows, cols])
        stack = self._imagery.decoding.stack(*computed(*planes))
        return stack[:-1], stack[-1] != 0


def computed(*arrays: Any) -> tuple[npt.NDArray[Any], ...]:
    """NumPy arrays of Dask's: in the calling thread (there are several), or by a Dask cluster in use."""
    import dask

    cluster = dask.config.get("scheduler", None) == "dask.distributed"
    return tuple(da.compute(*arrays, **({} if cluster else {"scheduler": "synchronous"})))
