"""Every raster: real odd files, palettes, containers, Zarr stores, sidecars; right, or refused and why."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rioxarray  # noqa: F401  (xarray's accessor of CRS and transform)
import xarray as xr
import zarr
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.transform import from_origin

from engine.grid import Window
from pipeline.commands.inspect import describe
from pipeline.config import RunConfig
from pipeline.errors import ContainerError, RasterError
from pipeline.running.run import run
from pipeline.source.arguments import resolve
from pipeline.source.gdal.palette import PaletteRaster
from pipeline.source.opening import open_any, open_segmentable
from pipeline.source.zarr.raster import ZarrRaster
from tests.conftest import DATA
from tests.rasters import level_arrays, noise, write_geotiff

SIDECARS = (".xml", ".msk", ".md", ".txt", ".json", ".ovr")
AWKWARD = sorted(
    p for p in (DATA / "awkward").rglob("*") if p.is_file() and not p.name.lower().endswith(SIDECARS)
)
_MOST_PIXELS = 12e6


def segmented(source, out, **options):
    report = run(RunConfig(sources=(str(source),), out=str(out), segments=4, resolution=2, **options))
    assert not report.failed, report.failed
    return report


def labels(out, name):
    return level_arrays(Path(out) / f"{name}.tif")[0]


# Real files, by what rasterio says of them


def validity(dataset):
    """What rasterio says is valid, with our rule for 8 bits and palettes."""
    bands = [i for i, c in enumerate(dataset.colorinterp, 1) if c != ColorInterp.alpha]
    masks, pixels = dataset.read_masks(bands) != 0, dataset.read(bands)
    if dataset.colorinterp[0] == ColorInterp.palette:
        colours = dataset.colormap(1)
        seen = np.isin(pixels[0], [number for number, colour in colours.items() if colour[3]])
        return masks[0] & seen
    valid = masks.any(axis=0) if pixels.dtype.itemsize == 1 else masks.all(axis=0)
    return valid & np.isfinite(pixels).all(axis=0) & (dataset.dataset_mask() != 0)


def expected(path):
    """Validity of what can be segmented, or None."""
    try:
        with rasterio.open(path) as dataset:
            if dataset.driver == "VRT":
                named = re.findall(r"<SourceFilename[^>]*>([^<]+)<", Path(path).read_text())
                if len(set(named)) + 1 > len(dataset.files):
                    return None
            if any(d.startswith("complex") for d in dataset.dtypes):
                return None
            valid = validity(dataset)
            return valid if valid.any() else None
    except RasterioError:
        return None


@pytest.mark.parametrize("path", AWKWARD, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_real_odd_file_is_right_or_refused_with_a_line_that_names_it(path, tmp_path):
    try:
        with rasterio.open(path) as dataset:
            parts, pixels = dataset.subdatasets if dataset.count == 0 else (), dataset.width * dataset.height
    except RasterioError:
        parts, pixels = (), 0
    if pixels > _MOST_PIXELS:
        return large_file_is_read_as_rasterio_reads_it(path)
    wanted = [expected(p) for p in parts or [path]]
    report = run(RunConfig(sources=(str(path),), out=str(tmp_path), segments=4, resolution=2))
    if all(w is None for w in wanted):
        assert report.exit_code == 1
        (said,) = report.failed.values()
        assert said.startswith(f"{path}: ")
        assert "\n" not in said
        assert not list(tmp_path.glob("*.tif"))
        return None
    assert not report.failed, report.failed
    assert len(report.done) == len(wanted)
    for source, name, valid in zip(parts or [path], sorted(report.done), wanted, strict=True):
        with rasterio.open(source) as src, rasterio.open(tmp_path / f"{name}.tif") as out:
            np.testing.assert_array_equal(out.read(1) != 255, valid)
            placed = not src.transform.is_identity
            assert (out.crs, out.transform) == (src.crs, src.transform) or not placed
            assert len(out.gcps[0]) == (0 if placed else len(src.gcps[0]))
    return None


def large_file_is_read_as_rasterio_reads_it(path):
    raster = open_segmentable(path)
    rng = np.random.default_rng(0)
    for _ in range(3):
        row, col = int(rng.integers(0, raster.height - 300)), int(rng.integers(0, raster.width - 300))
        valid = raster.read(Window(row, col, 300, 300))[1]
        with rasterio.open(path) as dataset:
            part = rasterio.windows.Window(col, row, 300, 300)
            masks = dataset.read_masks(window=part)
            # of an alpha band its own mask is always full
            masks = masks[[i for i, c in enumerate(dataset.colorinterp) if c != ColorInterp.alpha]] != 0
            np.testing.assert_array_equal(valid, masks.any(axis=0))


# Palettes


@pytest.fixture
def palette(tmp_path):
    """A palette raster of 60 x 50 with nodata, a transparent colour, and numbers without a colour."""
    numbers = noise(1, 50, 60, low=0, high=9)
    path = write_geotiff(tmp_path / "p.tif", numbers, nodata=8)
    colours = {i: (10 * i, 200 - i, 3 * i, 255) for i in range(9)}
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, colours)
    return path, numbers[0], colours


def test_a_palette_is_expanded_to_its_colours(palette, tmp_path):
    path, numbers, colours = palette
    raster = open_segmentable(path)
    assert isinstance(raster, PaletteRaster)
    assert (raster.bands, raster.dtype, raster.band_names) == ((1, 2, 3), "uint8", ("red", "green", "blue"))
    pixels, valid = raster.read(raster.bounds)
    wanted = np.array([colours[i][:3] for i in range(9)], np.uint8)[numbers]
    np.testing.assert_array_equal(pixels, wanted.transpose(2, 0, 1))
    np.testing.assert_array_equal(valid, numbers != 8)
    window = Window(7, 9, 20, 31)
    np.testing.assert_array_equal(
        raster.read_stack(window), raster.read_stack(raster.bounds)[:, *window.slices()]
    )


def test_the_labels_of_a_palette_are_those_of_its_colours(palette, tmp_path):
    path, numbers, colours = palette
    rgb = np.array([colours[i][:3] for i in range(9)], np.uint8)[numbers].transpose(2, 0, 1)
    with rasterio.open(path) as dataset:
        place = {"crs": dataset.crs, "transform": dataset.transform}
    plain = write_geotiff(tmp_path / "rgb.tif", rgb, **place)
    with rasterio.open(plain, "r+") as dataset:
        dataset.write_mask(numbers != 8)
    segmented(path, tmp_path / "p")
    segmented(plain, tmp_path / "q")
    np.testing.assert_array_equal(labels(tmp_path / "p", "p"), labels(tmp_path / "q", "rgb"))
    record = json.loads((tmp_path / "p" / "p.json").read_text())
    assert record["input"]["palette"] == "band 1 expanded to red, green, blue"


@pytest.mark.parametrize("dtype", ["Byte", "Int16", "UInt16"])
def test_what_is_transparent_or_has_no_colour_is_invalid(tmp_path, dtype):
    numbers = np.array([[0, 1, 2, 3, 4, 255]])
    kind = {"Byte": "uint8", "Int16": "int16", "UInt16": "uint16"}[dtype]
    if kind == "int16":
        numbers[0, 4] = -1
    write_geotiff(tmp_path / "n.tif", numbers.astype(kind))
    entries = ((9, 9, 9, 255), (1, 2, 3, 0), (7, 8, 9, 128), (4, 5, 6, 255))
    table = "".join(f'<Entry c1="{r}" c2="{g}" c3="{b}" c4="{a}"/>' for r, g, b, a in entries)
    path = tmp_path / "p.vrt"
    path.write_text(
        f'<VRTDataset rasterXSize="6" rasterYSize="1"><VRTRasterBand dataType="{dtype}" band="1">'
        f"<ColorInterp>Palette</ColorInterp><ColorTable>{table}</ColorTable><SimpleSource>"
        '<SourceFilename relativeToVRT="1">n.tif</SourceFilename><SourceBand>1</SourceBand></SimpleSource>'
        "</VRTRasterBand></VRTDataset>"
    )
    raster = open_segmentable(path)
    pixels, valid = raster.read(raster.bounds)
    assert valid.astype(int).tolist() == [[1, 0, 1, 1, 0, 0]]
    assert pixels[:, 0, [0, 2, 3]].T.tolist() == [[9, 9, 9], [7, 8, 9], [4, 5, 6]]


def test_bands_are_not_chosen_of_a_palette(palette):
    path, *_ = palette
    assert open_segmentable(path, (1, 2, 3)).bands == (1, 2, 3)  # as a codebook of RGB rasters asks for
    for bands in ((1,), (2, 1), ("red",), ("red*2",)):
        with pytest.raises(RasterError, match=r"palette raster.* leave --bands out") as caught:
            open_segmentable(path, bands)
        assert str(caught.value).startswith(f"{path}: ")
    with pytest.raises(RasterError, match="has no band 'nir'"):
        open_segmentable(path, ("nir",))


def test_a_palette_among_other_bands_is_refused_unless_others_are_chosen(tmp_path):
    path = write_geotiff(tmp_path / "r.tif", noise(2, 5, 5))
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.palette, ColorInterp.gray]
    with rasterio.open(path) as dataset:
        if ColorInterp.palette not in dataset.colorinterp:
            pytest.skip("this GDAL does not keep such a palette")
    with pytest.raises(RasterError, match="colour numbers"):
        open_segmentable(path)
    assert open_segmentable(path, (2,)).bands == (2,)


# Containers


@pytest.fixture
def netcdf(tmp_path):
    """A NetCDF file with two rasters, coordinates in two dimensions and bounds; and its pixels."""
    rng = np.random.default_rng(4)
    pixels = {n: rng.integers(1, 99, (40, 50)).astype(np.int16) for n in ("red", "nir")}
    x, y = 500005 + 10.0 * np.arange(50), 5800000 - 10.0 * np.arange(40)
    lat = np.broadcast_to(np.linspace(52, 51, 40)[:, None], (40, 50))
    dataset = xr.Dataset(
        {
            **{n: (("y", "x"), p) for n, p in pixels.items()},
            "latitude": (("y", "x"), lat, {"units": "degrees_north", "standard_name": "latitude"}),
            "x_bnds": (("x", "bnds"), np.stack([x - 5, x + 5], axis=1)),
        },
        coords={"x": ("x", x), "y": ("y", y)},
    )
    dataset.to_netcdf(tmp_path / "c.nc", engine="scipy")
    return tmp_path / "c.nc", pixels


def test_each_raster_in_a_container_is_done_under_a_name_of_its_own(netcdf, tmp_path):
    path, _ = netcdf
    report = segmented(path, tmp_path / "o")
    assert sorted(report.done) == ["c_nir", "c_red"]
    assert sorted(report.skipped) == ["c_latitude", "c_x_bnds"]
    assert report.exit_code == 0
    state = json.loads((tmp_path / "o" / "run.json").read_text())
    reasons = {r["name"]: r.get("reason", "") for r in state["rasters"]}
    assert "coordinates or their bounds" in reasons["c_latitude"]
    # the same as the variable alone, and by its own name
    segmented(f"NETCDF:{path}:nir", tmp_path / "p", codebook=str(tmp_path / "o" / "codebook.npz"))
    np.testing.assert_array_equal(labels(tmp_path / "o", "c_nir"), labels(tmp_path / "p", "c_nir"))
    # and done once
    assert sorted(segmented(path, tmp_path / "o").skipped) == ["c_latitude", "c_nir", "c_red", "c_x_bnds"]


def test_a_container_of_different_rasters_needs_codebooks_of_their_own(tmp_path):
    dataset = xr.Dataset(
        {
            "a": (("y", "x"), noise(30, 30, dtype="int16")),
            "b": (("t", "y", "x"), noise(3, 30, 30).astype("f4")),
        },
        coords={"x": np.arange(30.0), "y": np.arange(30.0)},
    )
    dataset.to_netcdf(tmp_path / "c.nc", engine="scipy")
    report = segmented(tmp_path / "c.nc", tmp_path / "o", codebook_scope="raster")
    assert sorted(report.done) == ["c_a", "c_b"]


def test_a_container_without_rasters_is_refused_on_one_line(tmp_path):
    dataset = xr.Dataset(
        {n: (("x", "bnds"), np.zeros((9, 2))) for n in ("x_bnds", "y_bnds")}, coords={"x": np.arange(9.0)}
    )
    dataset.to_netcdf(tmp_path / "c.nc", engine="scipy")
    report = run(RunConfig(sources=(str(tmp_path / "c.nc"),), out=str(tmp_path / "o")))
    assert report.failed == {
        "c": f"{tmp_path / 'c.nc'}: has no bands of its own, and none of its 2 parts is a raster"
    }


def test_a_file_of_vectors_alone_is_refused(tmp_path):
    import pyogrio.raw
    import shapely

    shape = shapely.to_wkb([shapely.box(0, 0, 1, 1)])
    pyogrio.raw.write(tmp_path / "v.gpkg", shape, [], [], geometry_type="Polygon", crs="EPSG:4326")
    report = run(RunConfig(sources=(str(tmp_path / "v.gpkg"),), out=str(tmp_path / "o")))
    (said,) = report.failed.values()
    assert "holds no raster" in said or "not a raster that GDAL can open" in said


def test_hdf4_is_named_as_what_it_is(tmp_path):
    (tmp_path / "a.hdf").write_bytes(b"\x0e\x03\x13\x01" + bytes(99))
    with pytest.raises(RasterError, match="HDF4 is not among the formats of this GDAL"):
        open_segmentable(tmp_path / "a.hdf")


def test_hdf5_is_a_container_too(tmp_path):
    write_geotiff(tmp_path / "a.tif", noise(2, 40, 50))
    rasterio.shutil.copy(tmp_path / "a.tif", tmp_path / "a.nc", driver="netCDF", FORMAT="NC4")
    (tmp_path / "a.nc").rename(tmp_path / "a.h5")
    assert sorted(segmented(tmp_path / "a.h5", tmp_path / "o").done) == ["a_Band1", "a_Band2"]


def test_a_container_itself_says_what_is_in_it(netcdf):
    path, _ = netcdf
    with pytest.raises(
        ContainerError, match=r"no bands of its own but 4 parts; name one of them \(netcdf:.*red"
    ):
        open_segmentable(path)


def test_a_container_in_a_batch_keeps_names_apart(netcdf, tmp_path):
    path, _ = netcdf
    other = write_geotiff(tmp_path / "c_red.tif", noise(1, 40, 50, dtype="int16"))
    report = run(RunConfig(sources=(str(other), str(path)), out=str(tmp_path / "o"), segments=3))
    assert sorted(report.done) == ["c_nir", "c_red", "c_red (2)"]


# Zarr


PLACE = {"crs": "EPSG:32633", "transform": from_origin(500000, 5800000, 10, 10)}


def as_xarray(pixels, transform=PLACE["transform"], nodata=None):
    bands, height, width = pixels.shape
    array = xr.DataArray(
        pixels,
        dims=("band", "y", "x"),
        coords={
            "band": [f"B{i}" for i in range(bands)],
            "x": transform.c + transform.a * (np.arange(width) + 0.5),
            "y": transform.f + transform.e * (np.arange(height) + 0.5),
        },
        name="image",
    )
    array = array.rio.write_crs("EPSG:32633").rio.write_transform(transform)
    return array if nodata is None else array.rio.write_nodata(nodata)


def store_in(path, dataset, **options):
    """Write a Zarr store; xarray's names of bands are of a type that format 3 does not specify yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.to_zarr(path, consolidated=False, **options)
    return path


@pytest.mark.parametrize("kind", ["v2", "v3", "v3 sharded", "v3 big chunks"])
def test_a_zarr_store_has_the_labels_of_the_same_geotiff(tmp_path, kind):
    pixels = noise(3, 530, 610, dtype="uint16", high=4000)
    pixels[1, 40:80, 200:300] = 0
    tif = write_geotiff(tmp_path / "image.tif", pixels, nodata=0, **PLACE)
    store = tmp_path / "image.zarr"
    encoding = {"chunks": (3, 530, 610) if "big" in kind else (1, 128, 128)}
    if "sharded" in kind:
        encoding["shards"] = (3, 256, 256)
    dataset = as_xarray(pixels, nodata=0).to_dataset()
    store_in(store, dataset, zarr_format=int(kind[1]), encoding={"image": encoding})
    raster = open_segmentable(store)
    assert isinstance(raster, ZarrRaster)
    assert raster.identity == open_segmentable(tif).identity
    assert raster.band_names == ("B0", "B1", "B2")
    assert CRS.from_wkt(raster.georeference.crs_wkt) == CRS.from_epsg(32633)
    for found, wanted in zip(
        raster.read(raster.bounds), open_segmentable(tif).read(raster.bounds), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)
    segmented(tif, tmp_path / "t")
    segmented(store, tmp_path / "z", chunk_size=512, workers="2")
    np.testing.assert_array_equal(labels(tmp_path / "z", "image"), labels(tmp_path / "t", "image"))
    assert "format    Zarr, 610 x 530 px" in describe(str(store))
    record = json.loads((tmp_path / "z" / "image.json").read_text())
    assert len(record["input"]["fingerprint"]) == 64


@pytest.mark.parametrize("version", [2, 3])
def test_our_own_stores_are_read_again_at_full_resolution(tmp_path, version):
    source = write_geotiff(tmp_path / "r.tif", noise(3, 1100, 700))
    report = segmented(source, tmp_path / "o", format="zarr", zarr_version=version)
    assert report.done == ["r"]
    raster = open_any(tmp_path / "o" / "r.zarr")
    assert (raster.height, raster.width, raster.nodata, raster.dtype) == (1100, 700, (255,), "uint8")
    assert raster.georeference.transform == open_any(source).georeference.transform
    segmented(source, tmp_path / "t")
    np.testing.assert_array_equal(raster.read(raster.bounds)[0][0], labels(tmp_path / "t", "r"))


def test_bands_of_a_store_are_chosen_by_number_and_name(tmp_path):
    pixels = noise(4, 20, 30, dtype="float32")
    store_in(tmp_path / "s.zarr", as_xarray(pixels).to_dataset())
    raster = open_segmentable(tmp_path / "s.zarr", (3, "B0"))
    np.testing.assert_array_equal(raster.read(raster.bounds)[0], pixels[[2, 0]])
    index = open_segmentable(tmp_path / "s.zarr", ("(b3-b1)/b0",))
    np.testing.assert_array_equal(
        index.read(index.bounds)[0][0], ((pixels[3].astype("f8") - pixels[1]) / pixels[0]).astype("f4")
    )
    with pytest.raises(RasterError, match="has bands 1 to 4, not 5"):
        open_segmentable(tmp_path / "s.zarr", (5,))


def test_a_store_of_several_arrays_is_a_container(tmp_path):
    pixels = noise(2, 20, 30, dtype="int16")
    data = as_xarray(pixels[:1]).isel(band=0, drop=True)
    both = xr.Dataset({"red": data, "nir": data + 1, "scalar": 3, "line": ("x", np.arange(30.0))})
    store_in(tmp_path / "s.zarr", both)
    report = segmented(tmp_path / "s.zarr", tmp_path / "o")
    assert sorted(report.done) == ["s_nir", "s_red"]
    segmented(f'ZARR:"{tmp_path / "s.zarr"}":/nir', tmp_path / "p")
    assert (tmp_path / "p" / "s_nir.tif").exists()
    with pytest.raises(RasterError, match="one dimension"):
        open_segmentable(f'ZARR:"{tmp_path / "s.zarr"}":/line')


@pytest.mark.parametrize(
    ("dims", "shape", "wanted"),
    [
        (("y", "x"), (20, 30), (1, 20, 30)),
        (("x", "y"), (30, 20), (1, 20, 30)),
        (("y", "x", "band"), (20, 30, 3), (3, 20, 30)),
        (("time", "band", "lat", "lon"), (1, 3, 20, 30), (3, 20, 30)),
        (None, (3, 20, 30), (3, 20, 30)),
        (None, (20, 30), (1, 20, 30)),
    ],
)
def test_axes_are_told_by_their_names_or_their_order(tmp_path, dims, shape, wanted):
    values = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    array = zarr.create_array(
        tmp_path / "s.zarr", data=values, chunks=(7,) * len(shape), dimension_names=dims
    )
    assert array.shape == shape
    raster = open_segmentable(tmp_path / "s.zarr")
    assert (len(raster.bands), raster.height, raster.width) == wanted
    if dims is not None:
        order = [dims.index(d) for d in ("band", *(d for d in ("time",) if d in dims)) if d in dims]
        order += [next(i for i, d in enumerate(dims) if d in names) for names in (("y", "lat"), ("x", "lon"))]
        values = values.transpose(order)
    np.testing.assert_array_equal(raster.read(raster.bounds)[0], values.reshape(wanted))


@pytest.mark.parametrize(
    ("dims", "shape", "dtype", "said"),
    [
        (("time", "band", "y", "x"), (2, 3, 20, 30), "uint8", "where \\(band, y, x\\) is needed"),
        (("y", "x"), (20, 30), "complex64", "no real numbers"),
        (("y", "x"), (0, 30), "uint8", "nothing to segment"),
    ],
)
def test_an_array_that_is_no_raster_is_refused_with_its_dimensions(tmp_path, dims, shape, dtype, said):
    zarr.create_array(tmp_path / "s.zarr", shape=shape, dtype=dtype, dimension_names=dims)
    with pytest.raises(RasterError, match=said) as caught:
        open_segmentable(tmp_path / "s.zarr")
    assert str(caught.value).startswith(f"{tmp_path / 's.zarr'}: ")


def test_a_damaged_store_is_refused(tmp_path):
    pixels = noise(1, 300, 300, dtype="int16")
    encoding = {"image": {"chunks": (1, 100, 100)}}
    store_in(tmp_path / "s.zarr", as_xarray(pixels).to_dataset(), encoding=encoding)
    whole = shutil.copytree(tmp_path / "s.zarr", tmp_path / "t.zarr")
    for file in (whole / "image" / "c").rglob("*"):
        if file.is_file():
            file.write_bytes(b"rubbish")
    report = run(RunConfig(sources=(str(whole),), out=str(tmp_path / "o")))
    (said,) = report.failed.values()
    assert re.search(r"t\.zarr: cannot read rows 0 to 299, columns 0 to 299 .*the store is damaged", said)
    (whole / "zarr.json").write_text("{")
    report = run(RunConfig(sources=(str(whole),), out=str(tmp_path / "p")))
    assert "not a Zarr store that can be read" in next(iter(report.failed.values()))


def test_coordinates_alone_place_a_store_where_they_are_even(tmp_path):
    data = xr.DataArray(
        noise(5, 4), dims=("lat", "lon"), coords={"lat": 50 - np.arange(5) / 4, "lon": 7 + np.arange(4) / 2}
    )
    store_in(tmp_path / "s.zarr", data.to_dataset(name="a"))
    place = open_segmentable(tmp_path / "s.zarr").georeference
    assert (place.transform, place.crs_wkt) == ((0.5, 0, 6.75, 0, -0.25, 50.125), None)
    uneven = data.assign_coords(lat=[50, 49, 47, 46, 45])
    store_in(tmp_path / "u.zarr", uneven.to_dataset(name="a"))
    assert open_segmentable(tmp_path / "u.zarr").georeference.transform is None


def test_float_stores_with_nan_fill_values_are_read(tmp_path):
    pixels = noise(1, 9, 9, dtype="float32")
    pixels[0, 2, 3] = np.nan
    pixels[0, 4, 4] = -1
    store_in(tmp_path / "s.zarr", as_xarray(pixels, nodata=-1).to_dataset())
    raster = open_segmentable(tmp_path / "s.zarr")
    valid = raster.read(raster.bounds)[1]
    assert np.argwhere(~valid).tolist() == [[2, 3], [4, 4]]


# Folders and sidecars


def test_a_store_is_a_source_and_not_a_folder_of_files(tmp_path):
    store_in(tmp_path / "d" / "s.zarr", as_xarray(noise(1, 9, 9)).to_dataset())
    write_geotiff(tmp_path / "d" / "a.tif", noise(1, 9, 9))
    (tmp_path / "d" / "plain.zarr").mkdir()
    store, folder = tmp_path / "d" / "s.zarr", tmp_path / "d"
    assert [s.path for s in resolve([str(store)])] == [str(store)]
    assert [s.path for s in resolve([str(folder)])] == [str(folder / "a.tif"), str(store)]
    assert [s.path for s in resolve([f"{folder}/*.zarr"])] == [str(store)]


def test_a_folder_stands_for_all_formats_and_not_for_their_sidecars(tmp_path):
    rasters = [
        "a.tif",
        "b.JP2",
        "c.png",
        "d.jpeg",
        "e.nc",
        "f.h5",
        "g.vrt",
        "h.img",
        "i.asc",
        "j.grib2",
        "k.bil",
    ]
    others = [
        "a.tif.aux.xml",
        "a.tif.ovr",
        "a.tif.msk",
        "a.tfw",
        "c.pgw",
        "d.wld",
        "k.hdr",
        "k.prj",
        "x.txt",
        "y.csv",
    ]
    for name in rasters + others:
        (tmp_path / name).touch()
    assert [Path(s.path).name for s in resolve([str(tmp_path)])] == sorted(rasters)


@pytest.mark.parametrize(
    ("driver", "suffix", "world"),
    [("JPEG", "jpg", "jgw"), ("JPEG", "jpg", "JGW"), ("JPEG", "jpeg", "wld"), ("PNG", "png", "pgw"),
     ("GTiff", "tif", "tfw"), ("JP2OpenJPEG", "jp2", "j2w"), ("BMP", "bmp", "bpw")],
)  # fmt: skip
def test_world_files_place_rasters_of_other_formats(tmp_path, driver, suffix, world):
    plain, path = tmp_path / "x.tif", tmp_path / f"r.{suffix}"
    with rasterio.open(plain, "w", driver="GTiff", width=50, height=40, count=1, dtype="uint8") as dataset:
        dataset.write(noise(1, 40, 50))
    rasterio.shutil.copy(plain, path, driver=driver)
    (tmp_path / f"r.{world}").write_text("0.5\n0\n0\n-0.25\n1000.25\n1999.875\n")
    assert open_segmentable(path).georeference.transform == (0.5, 0, 1000, 0, -0.25, 2000)
    segmented(path, tmp_path / "o")
    with rasterio.open(tmp_path / "o" / "r.tif") as dataset:
        assert tuple(dataset.transform)[:6] == (0.5, 0, 1000, 0, -0.25, 2000)


def test_a_large_folder_does_not_hide_masks_and_statistics_beside_a_file(tmp_path):
    path = write_geotiff(tmp_path / "r.tif", noise(1, 9, 9))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.eye(9, dtype=bool))
    for i in range(400):
        (tmp_path / f"a{i}.txt").touch()
    np.testing.assert_array_equal(open_segmentable(path).read(Window(0, 0, 9, 9))[1], np.eye(9, dtype=bool))
