"""Rasters, labels and lazy arrays made for one test, and plain readings of what is made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

PARTS = ("OFFSET", "SIZE")
PLACE = {"crs": "EPSG:32633", "transform": from_origin(500000, 5800000, 0.5, 0.5)}


def noise(*shape, seed=0, low=1, high=200, dtype="uint8"):
    """Pixels of even noise, shape (band, y, x)."""
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def write_geotiff(path, pixels, **profile):
    """A GeoTIFF of pixels (band, y, x) or (y, x); gives its path."""
    pixels = np.asarray(pixels)
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    bands, height, width = pixels.shape
    size = {"width": width, "height": height, "count": bands, "dtype": pixels.dtype}
    with rasterio.open(path, "w", driver="GTiff", **{**size, **PLACE, **profile}) as dataset:
        dataset.write(pixels)
    return path


def write_vrt(path, shape, *bands, extra=""):
    """A VRT of bands, each given by its data type and its inner XML; gives its path."""
    height, width = shape
    inner = "".join(
        f'<VRTRasterBand dataType="{kind}" band="{number}">{xml}</VRTRasterBand>'
        for number, (kind, xml) in enumerate(bands, 1)
    )
    path.write_text(f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{inner}{extra}</VRTDataset>')
    return path


def from_file(name, band=1):
    """XML of a VRT source: a band of a file beside the VRT."""
    return (
        f'<SimpleSource><SourceFilename relativeToVRT="1">{name}</SourceFilename>'
        f"<SourceBand>{band}</SourceBand></SimpleSource>"
    )


def level_arrays(path):
    """Decoded labels of every level of a label file, full resolution first."""
    with rasterio.open(path) as dataset:
        levels = [dataset.read(1)]
        count = len(dataset.overviews(1))
    for level in range(count):
        with rasterio.open(path, overview_level=level) as dataset:
            levels.append(dataset.read(1))
    return levels


def label_array(labels, segments=8, chunks=700):
    """Labels (y, x) as a lazy array that `pipeline.write` takes, without a place on the ground."""
    import dask.array as da
    import xarray as xr

    labels = np.asarray(labels, np.uint8)
    coords = {"row": ("y", np.arange(labels.shape[0])), "column": ("x", np.arange(labels.shape[1]))}
    attrs = {"segments": segments, "codebook_hash": "0123456789abcdef" * 4}
    return xr.DataArray(da.from_array(labels, chunks=chunks), dims=("y", "x"), coords=coords, attrs=attrs)


def patchy_labels(height, width, segments=8, seed=0, holes=True):
    """Labels in patches of many sizes, with single pixels between and nodata holes."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.uint8)
    for side in (97, 23, 5, 1):
        coarse = rng.integers(0, segments, (-(-height // side), -(-width // side))).astype(np.uint8)
        fine = coarse.repeat(side, axis=0).repeat(side, axis=1)[:height, :width]
        labels = np.where(fine % 3 == 0, labels, fine)
    if holes:
        labels[height // 3 : height // 2, width // 4 : width * 2 // 3] = 255
        labels[rng.random((height, width)) < 0.05] = 255
    return labels


def naive_halves(labels):
    """Labels of every level by a plain reading of the rule: the mode of 2 x 2, ties to the lowest label."""
    levels = [labels]
    while max(levels[-1].shape) > 512:
        levels.append(naive_half(levels[-1]))
    return levels


def naive_half(labels):
    """The mode of each 2 x 2: ties to the lowest label, nodata only where all four are."""
    padded = np.pad(labels, [(0, s % 2) for s in labels.shape], constant_values=255)
    four = np.stack([padded[i::2, j::2] for i in (0, 1) for j in (0, 1)])
    present = [v for v in np.unique(labels) if v != 255]
    best, mode = np.zeros(four.shape[1:], int), np.full(four.shape[1:], 255, np.uint8)
    for value in present:
        count = (four == value).sum(axis=0)
        mode = np.where(count > best, value, mode)
        best = np.maximum(count, best)
    return mode


def pixel_array(pixels, valid=None, *, chunks=512, row=0, column=0):
    """Pixels (band, y, x) as a lazy array such as `open_raster` gives, without a place on the ground."""
    import dask.array as da
    import xarray as xr

    bands, height, width = pixels.shape
    valid = np.ones((height, width), bool) if valid is None else valid
    return xr.DataArray(
        da.from_array(pixels, chunks=(bands, chunks, chunks)),
        dims=("band", "y", "x"),
        coords={
            "band": list(range(1, bands + 1)),
            "row": ("y", np.arange(row, row + height)),
            "column": ("x", np.arange(column, column + width)),
            "valid": (("y", "x"), da.from_array(valid, chunks=chunks)),
        },
    )


def spoil(path, row=1, col=1, band=1):
    """Make a block of a GeoTIFF undecodable, by its place among the blocks; gives its path."""
    name = str(path)
    with rasterio.open(path) as dataset:
        place = [int(dataset.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=band)) for what in PARTS]
    # a mask in the file is a directory of its own, of which `path` is GDAL's name
    path = Path(name.partition(":2:")[2] or name)
    raw = bytearray(path.read_bytes())
    raw[place[0] : sum(place)] = b"\xff" * place[1]
    path.write_bytes(raw)
    return path
