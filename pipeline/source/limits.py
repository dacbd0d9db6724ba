"""Limits on rasters: larger values in a header mean that it is damaged or forged."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import numpy as np

from engine.grid import CELL_PX, Window
from pipeline.errors import RasterError

BLOCK_BYTES = 256 << 20
"""Most bytes of a decoded block; each thread decodes whole blocks."""

CELL_BYTES = 1 << 30
"""Most bytes of a cell with all its bands."""

PIXEL_BYTES = 1 << 13
"""Most bytes of a pixel with all its bands; GDAL takes minutes for tens of thousands of bands."""

PIXELS = 1 << 44
"""Most pixels of a raster: a fit lists their cells."""

_FREE_CELLS = 1 << 15  # rasters with up to this many cells may claim any size
_BYTES_PER_CELL = 2  # stored bytes that a larger raster has at least


def item_bytes(dtype: str) -> int:
    """Bytes of a value of a dtype as GDAL names it, complex integers too."""
    return 4 if dtype == "complex_int16" else np.dtype(dtype).itemsize


def refuse_block(path: str, shape: Iterable[int], pixel_bytes: int) -> None:
    """Refuse blocks that are too large to decode.

    Parameters
    ----------
    path
        The raster, for the message.
    shape
        Shape of a block, along every axis that is decoded at once.
    pixel_bytes
        Bytes of one position in it, with all bands that are stored together.

    Raises
    ------
    RasterError
        If a block exceeds `BLOCK_BYTES`.
    """
    shape = tuple(shape)
    if (size := prod(shape) * pixel_bytes) > BLOCK_BYTES:
        sides = " x ".join(str(side) for side in reversed(shape))
        raise RasterError(
            path,
            f"is stored in blocks of {sides} px ({size >> 20} MiB each), more than {BLOCK_BYTES >> 20} MiB; "
            "rewrite it in tiles (gdal_translate -co TILED=YES)",
        )


def refuse_claim(path: str, width: int, height: int, sizes: Iterable[int]) -> None:
    """Refuse a raster that claims more pixels than its files can hold.

    Even an empty sparse GeoTIFF has an entry for each tile. A raster of at most 2^15 cells may claim
    anything: it is processed in a bounded time.

    Parameters
    ----------
    path
        The raster, for the message.
    width, height
        Size that the header claims.
    sizes
        Bytes of each file of the raster; iterated only as far as needed.

    Raises
    ------
    RasterError
        If the files are too small.
    """
    cells = _cells(height, width)
    if cells <= _FREE_CELLS:
        return
    stored = 0
    for size in sizes:
        stored += size
        if stored >= cells * _BYTES_PER_CELL:
            return
    raise RasterError(
        path,
        f"claims {width} x {height} px, behind which there are {stored} bytes; "
        "its header is damaged, or it is empty nearly everywhere: crop it to where its data is",
    )


def refuse_region(path: str, region: Window, pixel_bytes: int) -> None:
    """Refuse a region with more pixels than `PIXELS`, or more bands than fit into memory.

    Parameters
    ----------
    path
        The raster, for the message.
    region
        The window of it that gets labels.
    pixel_bytes
        Bytes of a pixel with its bands.

    Raises
    ------
    RasterError
        If it is too large.
    """
    if _cells(region.height, region.width) * CELL_PX * CELL_PX > PIXELS:
        raise RasterError(
            path,
            f"{region.width} x {region.height} px are more than a run can do "
            f"(2^44 px in cells of {CELL_PX}); "
            "crop it (--extent), or cut it into several",
        )
    cell = min(region.height, CELL_PX) * min(region.width, CELL_PX)
    if pixel_bytes > PIXEL_BYTES or cell * pixel_bytes > CELL_BYTES:
        raise RasterError(
            path,
            f"{pixel_bytes} bytes for each pixel are more than memory is meant for; "
            "choose some of its bands with --bands",
        )


def _cells(height: int, width: int) -> int:
    return -(-height // CELL_PX) * -(-width // CELL_PX)
