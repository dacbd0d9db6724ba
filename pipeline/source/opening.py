"""Opening a raster of any format: as it is, or prepared for segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.codebook import Band
from pipeline.source.bands.computed import choose
from pipeline.source.gdal.palette import open_intensities
from pipeline.source.gdal.raster import open_header
from pipeline.source.raster import Raster, SingleRaster
from pipeline.source.zarr import raster as zarr_raster
from pipeline.source.zarr.names import store_of


def open_any(path: str | Path, numbers: Sequence[int] | None = None) -> Raster:
    """A raster as it is: the indices of a palette stay indices.

    Parameters
    ----------
    path
        Anything GDAL opens, or a Zarr store.
    numbers
        1-based band numbers to use (default: all but alpha).

    Raises
    ------
    RasterError
        If it cannot be opened, has no grid of real numbers, or lacks a band.
    """
    path = str(path)
    if store_of(path) is not None:
        return zarr_raster.open_store(path, numbers)
    return open_header(path, numbers)


def open_numbered(path: str, numbers: Sequence[int] | None = None) -> SingleRaster:
    """The same as `open_any`, for segmentation: the colours of a palette become intensities."""
    if store_of(path) is not None:
        return zarr_raster.open_store(path, numbers)
    return open_intensities(path, numbers)


def open_segmentable(path: str | Path, bands: Sequence[Band] | None = None) -> Raster:
    """A raster for segmentation, with the selected bands.

    Parameters
    ----------
    path
        Anything GDAL opens, or a Zarr store.
    bands
        Band numbers, names or expressions (default: all but alpha).

    Raises
    ------
    RasterError
        As `open_any`, or if selected bands are missing or hold indices of a palette.
    """
    path = str(path)
    chosen = choose(bands, lambda: open_numbered(path))
    return chosen.of(open_numbered(path, chosen.numbers))
