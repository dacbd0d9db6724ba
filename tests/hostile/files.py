"""The honest files that hostile ones are made of: small, and of as many kinds as GDAL writes here."""

from __future__ import annotations

import io
import json
import warnings
import zipfile

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp

from tests.rasters import noise, write_geotiff

_TILED = {"tiled": True, "blockxsize": 32, "blockysize": 32}
_TIFFS = {
    "deflate": ((3, "uint8"), {"compress": "deflate", **_TILED}),
    "lzw-strips": ((3, "uint8"), {"compress": "lzw", "predictor": 2, "blockysize": 16}),
    "jpeg": ((3, "uint8"), {"compress": "jpeg", "photometric": "ycbcr", **_TILED}),
    "zstd": ((1, "uint16"), {"compress": "zstd", "interleave": "band", **_TILED}),
    "lerc": ((1, "float32"), {"compress": "lerc", "MAX_Z_ERROR": 0.5, **_TILED}),
    "packbits": ((4, "uint8"), {"compress": "packbits", "nodata": 0}),
    "float-predictor": ((2, "float32"), {"compress": "deflate", "predictor": 3}),
    "plain": ((3, "int16"), {"nodata": -9999}),
    "bigtiff": ((3, "uint8"), {"BIGTIFF": "YES", "compress": "lzma", **_TILED}),
    "webp": ((3, "uint8"), {"compress": "webp", **_TILED}),
}
_OTHERS = {
    "png": ("PNG", 3, "uint8"),
    "jpg": ("JPEG", 3, "uint8"),
    "gif": ("GIF", 1, "uint8"),
    "bmp": ("BMP", 3, "uint8"),
    "webp": ("WEBP", 3, "uint8"),
    "jp2": ("JP2OpenJPEG", 3, "uint8"),
    "img": ("HFA", 2, "uint16"),
    "nc": ("netCDF", 1, "float32"),
    "asc": ("AAIGrid", 1, "int32"),
    "bil": ("EHdr", 1, "uint8"),
    "dat": ("ENVI", 2, "int16"),
    "mrf": ("MRF", 3, "uint8"),
    "grd": ("GSBG", 1, "float32"),
    "rst": ("RST", 1, "uint8"),
    "ers": ("ERS", 1, "uint8"),
    "pix": ("PCIDSK", 2, "uint8"),
    "ntf": ("NITF", 3, "uint8"),
    "sdat": ("SAGA", 1, "float32"),
}


def tiffs(folder):
    """Bytes of GeoTIFFs by what is special about them."""
    found = {}
    for name, ((bands, dtype), profile) in _TIFFS.items():
        pixels = noise(bands, 75, 90, low=0, dtype=dtype)
        found[name] = write_geotiff(folder / f"{name}.tif", pixels, **profile).read_bytes()
    path = write_geotiff(folder / "palette.tif", noise(1, 60, 70, high=16))
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {i: (i * 16, 255 - i, i, 255) for i in range(16)})
    found["palette"] = path.read_bytes()
    path = write_geotiff(folder / "alpha.tif", noise(4, 60, 70), transform=None, crs=None)
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
        dataset.descriptions = ["red", "green", "blue", "a b\nc"]
        points = [GroundControlPoint(r, c, c * 2.0, r * 3.0) for r, c in ((0, 0), (0, 70), (60, 0))]
        dataset.gcps = points, rasterio.CRS.from_epsg(32633)
    found["alpha-gcps"] = path.read_bytes()
    path = folder / "mask.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        write_geotiff(path, noise(3, 60, 70), compress="deflate")
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(noise(60, 70, high=3) > 1)
            dataset.build_overviews([2])
            dataset.update_tags(A="b" * 100)
    found["mask-overviews"] = path.read_bytes()
    return found


def others(folder):
    """Rasters of other formats by suffix: names and bytes of their files, the main one first."""
    found = {}
    for suffix, (driver, bands, dtype) in _OTHERS.items():
        inside = folder / f"of-{suffix}"
        inside.mkdir()
        source = write_geotiff(folder / f"{suffix}-source.tif", noise(bands, 40, 50, dtype=dtype))
        path = inside / f"r.{suffix}"
        try:
            with rasterio.open(source) as dataset:
                rasterio.shutil.copy(dataset, path, driver=driver)
        except rasterio.errors.RasterioError:
            continue
        rest = sorted(p for p in inside.iterdir() if p != path)
        found[suffix] = [(p.name, p.read_bytes()) for p in (path, *rest)]
    return found


def store(folder, version):
    """A Zarr store as names and bytes."""
    import zarr

    path = folder / f"v{version}.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    more = {"dimension_names": ("band", "y", "x")} if version == 3 else {}
    array = group.create_array("image", shape=(3, 60, 70), chunks=(3, 32, 32), dtype="uint8", **more)
    array[...] = noise(3, 60, 70)
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def codebook(_):
    """Bytes of a codebook, and what it says of itself."""
    from engine.block_kmeans import BlockKMeans
    from engine.codebook import Codebook

    made = Codebook(
        centres=np.arange(9, dtype=np.float32).reshape(3, 3) * 20,
        kernel=BlockKMeans(4).identity,
        bands=(1, 2, 3),
        dtype="uint8",
        band_mean=np.full(3, 90.0),
    )
    data = made.to_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        meta = json.loads(np.load(io.BytesIO(archive.read("meta.npy"))).tobytes())
    return data, meta


def model(folder):
    """Bytes of a small TorchScript network."""
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, stride=2), torch.nn.ReLU(), torch.nn.Conv2d(4, 6, 3, 2)
    )
    path = folder / "net.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(net.eval()).save(str(path))
    return path.read_bytes()


def areas(folder):
    """Bytes of vector files by suffix."""
    ring = [[500005, 5799990], [500020, 5799990], [500020, 5799970], [500005, 5799970], [500005, 5799990]]
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    text = json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]})
    found = {"geojson": text.encode()}
    import pyogrio.raw
    import shapely

    shape = np.array([shapely.to_wkb(shapely.Polygon(ring))], object)
    for suffix, driver in (("gpkg", "GPKG"), ("fgb", "FlatGeobuf"), ("kml", "KML"), ("gml", "GML")):
        path = folder / f"a.{suffix}"
        pyogrio.raw.write(path, shape, [], [], geometry_type="Polygon", crs="EPSG:32633", driver=driver)
        found[suffix] = path.read_bytes()
    return found
