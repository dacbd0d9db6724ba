"""Opening a raster of any format: as it is, or prepared for segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.codebook import Band
from pipeline.source.bands.computed import choose
from pipeline.source.bands.selection import Selection
from pipeline.source.declared import AS_IN_FILE, Declared, Nodata
from pipeline.source.gdal.palette import open_intensities
from pipeline.source.gdal.raster import open_header
from pipeline.source.raster import Raster, SingleRaster
from pipeline.source.zarr import raster as zarr_raster
from pipeline.source.zarr.names import store_of


def open_any(
    path: str | Path, numbers: Sequence[int] | None = None, declared: Declared = AS_IN_FILE
) -> SingleRaster:
    """A raster as it is: the indices of a palette stay indices.

    Parameters
    ----------
    path
        Anything GDAL opens, or a Zarr store.
    numbers
        1-based band numbers to use (default: all but alpha).
    declared
        What is declared in place of the header.

    Raises
    ------
    RasterError
        If it cannot be opened, has no grid of real numbers, or lacks a band.
    """
    path = str(path)
    if store_of(path) is not None:
        return zarr_raster.open_store(path, numbers, declared)
    return open_header(path, numbers, declared)


def open_numbered(
    path: str, numbers: Sequence[int] | None = None, declared: Declared = AS_IN_FILE
) -> SingleRaster:
    """The same as `open_any`, for segmentation: the colours of a palette become intensities."""
    if store_of(path) is not None:
        return zarr_raster.open_store(path, numbers, declared)
    return open_intensities(path, numbers, declared)


def open_segmentable(
    path: str | Path,
    bands: Sequence[Band] | None = None,
    *,
    valid: str | None = None,
    nodata: Nodata | None = None,
    raw_values: bool = False,
) -> Raster:
    """A raster for segmentation, with the selected bands.

    Parameters
    ----------
    path
        Anything GDAL opens, or a Zarr store.
    bands
        Band numbers, names or expressions (default: all but alpha).
    valid, nodata, raw_values
        As of `Selection`.

    Raises
    ------
    RasterError
        As `open_any`, or if selected bands are missing or hold indices of a palette.
    """
    path = str(path)
    selection = Selection(None if bands is None else tuple(bands), valid, nodata, raw_values)
    chosen = choose(selection, lambda: open_numbered(path))
    return chosen.of(open_numbered(path, chosen.numbers, selection.declared))
