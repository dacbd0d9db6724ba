"""Arrays that others made: their labels are those of the file, and what cannot be right is refused."""

from __future__ import annotations

import functools
import warnings
from dataclasses import replace

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import pipeline
from engine.grid import Window
from pipeline.api.position import bounds_of, georeference_of, spatial_dims
from pipeline.errors import NoValidPixelError, UsageError
from tests.rasters import noise, write_geotiff
from tests.strategies import codebook

HEIGHT, WIDTH = 600, 700
NODATA = {"uint8": 0, "uint16": 0, "int16": -9999, "float32": -9999.0, "float64": np.nan}


def raising(*_, **__):
    raise AssertionError("something was computed before it was asked for")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """For each dtype a raster of 3 bands with a hole, and pixels where one band alone is nodata."""
    folder = tmp_path_factory.mktemp("files")
    paths = {}
    for dtype, nodata in NODATA.items():
        pixels = noise(3, HEIGHT, WIDTH, seed=3, low=1, high=250, dtype=dtype)
        pixels[:, 100:180, 50:400] //= 3
        pixels[:, 200:330, 300:520] = nodata
        pixels[1, 400:420, 100:300] = nodata
        paths[dtype] = write_geotiff(
            folder / f"{dtype}.tif", pixels, nodata=nodata, tiled=True, blockxsize=256, blockysize=256
        )
    return paths


@functools.cache
def fitted(path, resolution=3):
    return pipeline.fit(str(path), segments=5, resolution=resolution)


@functools.cache
def expected(path, window=None, resolution=3):
    array = pipeline.open_raster(path)
    if window is not None:
        array = array[(slice(None), *window.slices())]
    return pipeline.segment(array, fitted(path, resolution)).values


def as_dataset(array):
    bands = array.to_dataset("band")
    return bands.rename({name: f"b{name}" for name in bands.data_vars})


KINDS = {
    "rioxarray": lambda path, chunks: rioxarray.open_rasterio(path, chunks=chunks),
    "masked": lambda path, chunks: rioxarray.open_rasterio(path, chunks=chunks, masked=True),
    "loaded": lambda path, chunks: rioxarray.open_rasterio(path).load(),
    "Dataset": lambda path, chunks: as_dataset(rioxarray.open_rasterio(path, chunks=chunks)),
    "bands last": lambda path, chunks: rioxarray.open_rasterio(path, chunks=chunks).transpose("y", "x", ...),
    "turned": lambda path, chunks: rioxarray.open_rasterio(path, chunks=chunks).transpose("x", "band", "y"),
    "geographic names": lambda path, chunks: rioxarray.open_rasterio(path, chunks=chunks).rename(
        y="latitude", x="longitude"
    ),
    "short names": lambda path, chunks: rioxarray.open_rasterio(path, chunks=chunks).rename(y="lat", x="lon"),
    "one time": lambda path, chunks: rioxarray.open_rasterio(path, chunks=chunks).expand_dims(
        time=[np.datetime64("2024-06-01", "ns")]
    ),
    "own": lambda path, chunks: pipeline.open_raster(path).chunk(chunks),
    "without validity": lambda path, chunks: pipeline.open_raster(path).drop_vars("valid"),
}


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(NODATA)),
    st.sampled_from(sorted(KINDS)),
    st.tuples(st.integers(150, 700), st.integers(150, 700)),
    st.one_of(st.none(), st.tuples(*(st.integers(0, n - 20) for n in (HEIGHT, WIDTH, HEIGHT, WIDTH)))),
)
def test_labels_of_an_array_are_those_of_the_same_slice_of_its_file(files, dtype, kind, chunks, cut):
    path = files[dtype]
    array = KINDS[kind](path, dict(zip("yx", chunks, strict=True)))
    window = None
    if cut is not None:
        row, col = min(cut[0], cut[2]), min(cut[1], cut[3])
        window = Window(row, col, abs(cut[0] - cut[2]) + 20, abs(cut[1] - cut[3]) + 20)
        array = array.isel(dict(zip(spatial_dims(array), window.slices(), strict=True)))
    with dask.config.set(scheduler=raising):
        labels = pipeline.segment(array, fitted(path))
    assert dask.is_dask_collection(labels.data)
    np.testing.assert_array_equal(labels.values, expected(path, window))


@pytest.mark.parametrize("dtype", sorted(NODATA))
@pytest.mark.parametrize("wrap", [np.asarray, lambda a: da.from_array(np.asarray(a), chunks=(1, 100, 333))])
def test_a_plain_array_with_its_nodata_has_the_labels_of_its_file(files, dtype, wrap):
    pixels = wrap(rioxarray.open_rasterio(files[dtype]))
    labels = pipeline.segment(pixels, fitted(files[dtype]), nodata=NODATA[dtype])
    np.testing.assert_array_equal(labels.values, expected(files[dtype]))
    assert dict(labels.coords) == {}
    mask = pipeline.open_raster(files[dtype]).valid.values
    np.testing.assert_array_equal(
        pipeline.segment(np.nan_to_num(pixels), fitted(files[dtype]), valid=mask).values,
        expected(files[dtype]),
    )


def test_a_dtype_in_another_byte_order_is_the_same(files):
    pixels = rioxarray.open_rasterio(files["uint16"]).values.astype(">u2")
    np.testing.assert_array_equal(
        pipeline.segment(pixels, fitted(files["uint16"]), nodata=0).values, expected(files["uint16"])
    )


@pytest.mark.parametrize("dtype", sorted(NODATA))
def test_a_fit_of_an_array_is_the_fit_of_its_file(files, dtype):
    plain = rioxarray.open_rasterio(files[dtype], chunks={"y": 300, "x": 200})
    # but for colours, which rioxarray does not tell
    named = replace(pipeline.fit(plain, segments=5, resolution=3), band_names=fitted(files[dtype]).band_names)
    assert named.to_bytes() == fitted(files[dtype]).to_bytes()
    cut = {"y": slice(128, 500), "x": slice(60, 690)}
    own = pipeline.open_raster(files[dtype])
    assert (
        pipeline.fit([plain.isel(cut)], segments=5).content_hash
        == pipeline.fit([own.isel(cut)], segments=5).content_hash
    )


def test_a_mask_in_place_of_nodata_makes_the_same_codebook(files):
    pixels = rioxarray.open_rasterio(files["int16"]).drop_attrs()
    mask = pipeline.open_raster(files["int16"]).valid
    books = [
        pipeline.fit(pixels, segments=4, nodata=NODATA["int16"]),
        pipeline.fit(pixels, segments=4, valid=mask),
        pipeline.fit(pixels, segments=4, valid=mask.values.astype("uint8") * 255),
        pipeline.fit([pixels.assign_coords(valid=(("y", "x"), mask.values))], segments=4),
        pipeline.fit([pixels.astype("int16").rio.write_nodata(NODATA["int16"])], segments=4),
    ]
    assert len({book.to_bytes() for book in books}) == 1
    assert books[0].fit["pixels_seen"] == mask.values.sum()


def test_real_rasters_opened_by_rioxarray_have_the_fit_and_the_labels_of_open_raster(catalogue):
    # alpha and masks are in no pixel, and rioxarray does not read them
    unmasked = {"all_valid", "nodata"}
    for found in catalogue.some(
        "placed grids of numbers without masks",
        lambda f: (
            f.is_grid_of_numbers
            and not f.gcps
            and 5000 < f.pixels < 4e6
            and len(set(f.nodata)) == 1
            and f.flags <= unmasked
        ),
        most=12,
    ):
        own = pipeline.open_raster(found.path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what CF cannot say of a CRS
            other = rioxarray.open_rasterio(found.path, chunks=400)
            masked = rioxarray.open_rasterio(found.path, chunks=400, masked=True)
        book = pipeline.fit([own], segments=4, resolution=3)
        labels = pipeline.segment(own, book)
        assert pipeline.fit([other], segments=4, resolution=3).content_hash == book.content_hash, found.path
        for array in (other, masked):
            same = pipeline.segment(array, book)
            np.testing.assert_array_equal(same.values, labels.values, str(found.path))
            assert georeference_of(same) == georeference_of(labels), found.path
        cut = {"y": slice(13, None), "x": slice(17, -5)}
        np.testing.assert_array_equal(
            pipeline.segment(other.isel(cut), book).values, pipeline.segment(own.isel(cut), book).values
        )


# Names and axes


def test_labels_carry_the_coordinates_and_the_crs_of_the_array(files):
    array = rioxarray.open_rasterio(files["uint8"], chunks=300).rename(y="lat", x="lon")
    array = array.rename(spatial_ref="crs").assign_coords(time=np.datetime64("2024-06-01", "ns"))
    array.encoding["grid_mapping"] = "crs"
    labels = pipeline.segment(array, fitted(files["uint8"]))
    assert labels.dims == ("lat", "lon")
    assert set(labels.coords) == {"lat", "lon", "crs", "time"}
    xr.testing.assert_identical(labels.coords["lat"], array.coords["lat"].drop_vars([]))
    assert labels.rio.crs == array.rio.crs
    assert labels.rio.nodata == 255


def test_names_of_bands_are_those_of_the_codebook(files):
    array = rioxarray.open_rasterio(files["uint8"]).assign_coords(band=["red", "green", "blue"])
    assert pipeline.fit(array, segments=3).bands == ("red", "green", "blue")
    assert pipeline.fit(array.to_dataset("band"), segments=3).bands == ("red", "green", "blue")
    assert pipeline.fit(array.values, segments=3).bands == (1, 2, 3)


def test_dimensions_that_rioxarray_was_told_are_taken(files):
    array = rioxarray.open_rasterio(files["uint8"]).rename(y="north", x="east")
    array.rio.set_spatial_dims(y_dim="north", x_dim="east", inplace=True)
    np.testing.assert_array_equal(
        pipeline.segment(array, fitted(files["uint8"])).values, expected(files["uint8"])
    )


def test_an_array_of_y_and_x_is_one_band(files, tmp_path):
    path = write_geotiff(tmp_path / "r.tif", noise(1, 90, 80, seed=1), nodata=7)
    array = rioxarray.open_rasterio(path)
    book = pipeline.fit(path, segments=3, resolution=2)
    assert pipeline.fit(array[0], segments=3, resolution=2).content_hash == book.content_hash
    labels = pipeline.segment(pipeline.open_raster(path), book).values
    for flat in (array[0], array[0].drop_vars("band"), array.isel(band=0).T):
        np.testing.assert_array_equal(pipeline.segment(flat, book).values, labels)
    np.testing.assert_array_equal(pipeline.segment(array[0].values, book, nodata=7).values, labels)


def test_a_dataset_takes_the_nodata_of_each_variable(tmp_path):
    pixels = noise(2, 40, 50, seed=2, dtype="uint16")
    pixels[0, :10] = 500
    pixels[1, 5:20] = 600
    coords = {"y": np.arange(40.0)[::-1], "x": np.arange(50.0)}
    bands = xr.Dataset(
        {
            name: (("y", "x"), band, {"nodata": nodata})
            for name, band, nodata in zip(("a", "b"), pixels, (500, 600), strict=True)
        },
        coords=coords,
    )
    bands["spatial_ref"] = xr.DataArray(0)  # as xarray.open_dataset leaves a grid mapping
    labels = pipeline.segment(bands, codebook([[50, 50], [150, 150]], dtype="uint16"))
    np.testing.assert_array_equal(labels.values == 255, (pixels[0] == 500) | (pixels[1] == 600))
    assert bands["a"].attrs == {"nodata": 500}  # what was passed is left as it was


# What stackstac and odc-stac return


def as_stackstac(array):
    """As `stackstac.stack`: coordinates of upper-left corners, CRS and transform as attributes, one time."""
    transform = array.rio.transform()
    return xr.DataArray(
        array.data[None],
        dims=("time", "band", "y", "x"),
        coords={
            "time": [np.datetime64("2024-06-01", "ns")],
            "id": ("time", ["S2A_1"]),
            "band": ["red", "green", "blue"],
            "common_name": ("band", ["red", "green", "blue"]),
            "x": transform.c + transform.a * np.arange(array.sizes["x"]),
            "y": transform.f + transform.e * np.arange(array.sizes["y"]),
            "epsg": 32633,
        },
        attrs={"spec": object(), "crs": "epsg:32633", "transform": transform, "resolution": 0.5},
        name="stackstac-1",
    )


def as_odc(array):
    """As `odc.stac.load`: a Dataset of (time, y, x), nodata as an attribute."""
    return xr.Dataset(
        {
            name: array.isel(band=i, drop=True).expand_dims(time=[0]).assign_attrs(nodata=0)
            for i, name in enumerate(("red", "green", "blue"))
        }
    )


@pytest.mark.parametrize("wrap", [as_stackstac, as_odc])
@pytest.mark.parametrize("cut", [{}, {"y": slice(130, 500), "x": slice(77, 600)}], ids=["whole", "slice"])
def test_what_catalogues_load_has_the_labels_of_the_file_and_lies_where_it_does(files, wrap, cut, tmp_path):
    plain = rioxarray.open_rasterio(files["uint8"], chunks=300).drop_attrs(deep=False)
    array = wrap(plain).isel(cut)
    own = pipeline.open_raster(files["uint8"]).isel(cut)
    book = fitted(files["uint8"])
    labels = pipeline.segment(array, book, nodata=0)
    np.testing.assert_array_equal(labels.values, pipeline.segment(own, book).values)
    np.testing.assert_array_equal(labels["x"].values, array["x"].values)
    written = [
        pipeline.write(a, tmp_path / n)
        for a, n in ((labels, "a.tif"), (pipeline.segment(own, book), "b.tif"))
    ]
    with_own = rioxarray.open_rasterio(written[1])
    xr.testing.assert_identical(rioxarray.open_rasterio(written[0]), with_own)


# NaN


def test_nan_is_invalid_wherever_it_comes_from(files):
    array = pipeline.open_raster(files["uint8"])
    masked = array.astype("float32").where(array[0] > 90)
    book = pipeline.fit([masked], segments=4, resolution=1)
    assert np.isfinite(book.centres).all()
    np.testing.assert_array_equal(
        pipeline.segment(masked, book).values == 255, ~((array[0] > 90) & array.valid).values
    )


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")
def test_an_index_of_0_is_a_value_though_its_bands_declare_0_as_nodata(files):
    array = pipeline.open_raster(files["uint8"])
    red, nir = array.sel(band=1).astype("int16"), array.sel(band=2).astype("int16")
    index = (nir - red) / (nir + red)
    assert index.rio.nodata == 0  # as xarray keeps it
    valid = array.valid.values & np.isfinite(index.values)
    assert (index.values[valid] == 0).any()
    labels = pipeline.segment(index, codebook([[-0.5], [0.5]], dtype="float64"))
    np.testing.assert_array_equal(labels.values != 255, valid)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_in_one_band_is_invalid_in_all(value):
    pixels = noise(2, 30, 40, dtype="float32")
    pixels[1, 4:9, 3] = value
    for array in (
        pixels,
        xr.DataArray(pixels, dims=("band", "y", "x")),
        da.from_array(pixels, chunks=(1, 8, 9)),
    ):
        book = pipeline.fit(array, segments=3, resolution=1)
        assert np.isfinite(book.centres).all()
        np.testing.assert_array_equal(
            pipeline.segment(array, book).values == 255, ~np.isfinite(pixels).all(axis=0)
        )


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("scale", [None, "none", (0, 1)])
def test_a_fit_of_nothing_but_nan_says_so(value, scale):
    with pytest.raises(NoValidPixelError, match="scene: no valid pixel"):
        pipeline.fit(
            xr.DataArray(np.full((2, 50, 60), value), dims=("band", "y", "x"), name="scene"), scale=scale
        )


@pytest.mark.parametrize("scale", [None, "none"])
def test_values_whose_means_are_no_numbers_make_no_codebook(scale):
    pixels = noise(1, 40, 40, dtype="float64") * 1e305
    with pytest.raises(UsageError, match="too large to be clustered"), np.errstate(all="ignore"):
        pipeline.fit(pixels, segments=3, resolution=4, scale=scale)


def test_nan_within_one_band_of_a_masked_file_of_bytes_is_the_value_that_stood_there(files):
    # where band 2 alone is 0 the file's pixel is valid, and masked=True makes NaN of that 0
    masked = rioxarray.open_rasterio(files["uint8"], masked=True)
    labels = pipeline.segment(masked, fitted(files["uint8"]))
    assert (labels.values[400:420, 100:300] != 255).all()
    # what `where` makes NaN is not from the file
    labels = pipeline.segment(masked.where(masked > 20), fitted(files["uint8"]))
    assert (labels.values[400:420, 100:300] == 255).all()


# Whole numbers held in floats


def test_floats_that_are_no_whole_numbers_are_not_taken_for_bytes(files):
    array = pipeline.open_raster(files["uint8"])
    book = fitted(files["uint8"])
    same = pipeline.segment(array.astype("float64"), book)
    np.testing.assert_array_equal(same.values, expected(files["uint8"]))
    for changed in (array / 255, array.astype("float32") + 300, array.astype("float32") - 250):
        with pytest.raises(UsageError, match="the codebook was fitted on whole numbers, uint8"):
            pipeline.segment(changed, book).compute()


@pytest.mark.parametrize(
    ("held", "wanted"), [("uint16", "uint8"), ("uint8", "float32"), ("float64", "float32")]
)
def test_other_dtypes_are_not_converted_unseen(held, wanted):
    with pytest.raises(
        UsageError, match=f"1 bands of {held}, but the codebook was fitted on 1 bands of {wanted}"
    ):
        pipeline.segment(noise(1, 9, 9, dtype=held), codebook([[1], [9]], dtype=wanted))


# Refusals


GOOD = xr.DataArray(noise(2, 30, 40), dims=("band", "y", "x"), name="scene")


@pytest.mark.parametrize(
    ("array", "options", "said"),
    [
        (GOOD.expand_dims(time=3), {}, r"scene has 3 steps of 'time'; take one: array.isel\(time=0\)"),
        (GOOD.expand_dims(step=3), {}, r"scene has dimensions step, band, y, x; .*array.isel\(step=0\)"),
        (GOOD.rename(y="a", x="b"), {}, "none of its dimensions band, a, b is known as y or x"),
        (GOOD.values[..., None], {}, "shape"),
        (noise(300, 400, 3), {}, r"looks like \(y, x, band\).*numpy.moveaxis"),
        (GOOD > 3, {}, "pixels of bool; real numbers are needed"),
        (GOOD + 1j, {}, "pixels of complex128; real numbers are needed"),
        ([[1, 2], [3, 4]], {}, "a list is no raster"),
        ("scene.tif", {}, r"scene.tif: a path; open it first, pipeline.open_raster\('scene.tif'\)"),
        (da.from_array(GOOD.values)[:, da.ones(30) > 0], {}, "of unknown shape .*compute_chunk_sizes"),
        (np.ma.masked_greater(GOOD.values, 100), {}, "valid="),
        (GOOD, {"nodata": [0]}, "nodata= has 1 values for 2 bands"),
        (GOOD, {"nodata": -9999}, "nodata=-9999: no pixel of uint8"),
        (GOOD, {"nodata": "0"}, "nodata='0'; give a number"),
        (GOOD, {"valid": np.ones((3, 3), bool)}, r"give a mask of \(30, 40\)"),
        (GOOD, {"valid": GOOD[0] / 2}, r"give a mask of \(30, 40\)"),
        (GOOD.assign_coords(x=range(40)), {"valid": GOOD[0].assign_coords(x=range(1, 41))}, "align it"),
        (GOOD.assign_coords(valid=GOOD[0] / 2), {}, "coordinate 'valid' of scene is float64"),
        (GOOD.assign_coords(y=np.arange(30.0) ** 2), {}, "coordinates 'y' in uneven steps"),
        (GOOD.to_dataset(name="all"), {}, "variable 'all' of the Dataset has 2 bands"),
        (xr.Dataset({"a": GOOD[0], "b": ("t", [1, 2])}), {}, "variable 'b' of the Dataset has dimensions"),
        (xr.Dataset(coords={"y": [1], "x": [2]}), {}, "has no variable with pixels"),
    ],
)  # fmt: skip
def test_what_cannot_be_labelled_is_refused_in_one_line(array, options, said):
    with pytest.raises(UsageError, match=said) as caught:
        pipeline.segment(array, codebook([[1, 2], [3, 4]]), **options)
    assert "\n" not in str(caught.value)


def test_a_mask_is_of_one_array_and_not_of_files(files):
    with pytest.raises(UsageError, match="valid= of 2 arrays; give each its own"):
        pipeline.fit([GOOD, GOOD], valid=np.ones((30, 40), bool))
    with pytest.raises(UsageError, match=r"nodata= and valid= are of arrays; open .*uint8\.tif with"):
        pipeline.fit(files["uint8"], nodata=0)


# Grids


def test_a_grid_of_its_own_starts_at_its_first_pixel(files):
    array = rioxarray.open_rasterio(files["uint8"])
    cut = array[:, 100:300, 50:250]
    assert bounds_of(cut) == Window(100, 50, 200, 200)
    assert bounds_of(cut.rio.write_transform()) == Window(0, 0, 200, 200)
    assert bounds_of(cut.drop_vars(["x", "y"])) == Window(0, 0, 200, 200)
    assert bounds_of(cut.rio.reproject("EPSG:4326")).row == 0
    assert bounds_of(array.rio.pad_box(499990, 5799700, 500350, 5800010)) == Window(0, 0, 620, 720)
    coarse = array.astype("float32").coarsen(x=2, y=2).mean()
    assert bounds_of(coarse) == Window(0, 0, 300, 350)


def test_coordinates_of_32_bits_are_even_enough():
    lon, lat = (np.linspace(a, b, n).astype("float32") for a, b, n in ((10, 11, 900), (50, 49, 800)))
    array = xr.DataArray(noise(1, 800, 900), dims=("band", "lat", "lon"), coords={"lat": lat, "lon": lon})
    assert bounds_of(array) == Window(0, 0, 800, 900)


# Clusters


def test_a_graph_is_the_same_twice_and_survives_pickling(files):
    array = rioxarray.open_rasterio(files["uint8"], chunks=300, masked=True)
    labels = [pipeline.segment(array, fitted(files["uint8"])) for _ in range(2)]
    assert labels[0].data.name == labels[1].data.name
    assert dict(labels[0].data.__dask_graph__()).keys() == dict(labels[1].data.__dask_graph__()).keys()
    sent = cloudpickle.loads(cloudpickle.dumps(labels[0]))
    np.testing.assert_array_equal(sent.values, expected(files["uint8"]))


def test_a_cluster_labels_and_fits_as_threads_do(files):
    from distributed import Client

    path = files["uint8"]
    arrays = {
        "rioxarray": rioxarray.open_rasterio(path, chunks={"y": 256, "x": 300}),
        "own": pipeline.open_raster(path),
        # in other chunks: rioxarray names both alike, and a cluster takes what has a name for the same
        "masked": rioxarray.open_rasterio(path, chunks={"y": 128, "x": 512}, masked=True),
    }
    with Client(n_workers=1, threads_per_worker=2, dashboard_address=None):
        arrays["persisted"] = arrays["rioxarray"].persist()
        for name, array in arrays.items():
            np.testing.assert_array_equal(pipeline.segment(array, fitted(path)).values, expected(path), name)
        for name in ("own", "persisted"):
            book = pipeline.fit(arrays[name], segments=5, resolution=3)
            assert book.content_hash == fitted(path).content_hash, name


def test_bands_of_arrays_go_by_name(tmp_path):
    pixels = noise(3, 90, 80)
    for name, order in (("a", (0, 1, 2)), ("b", (2, 0, 1))):
        with rasterio.open(write_geotiff(tmp_path / f"{name}.tif", pixels[list(order)]), "r+") as dataset:
            dataset.descriptions = [("blue", "red", "nir")[i] for i in order]
    first, second = (pipeline.open_raster(tmp_path / f"{n}.tif") for n in "ab")
    book = pipeline.fit([first], segments=4, resolution=1)
    assert book.band_names == ("blue", "red", "nir")
    wanted = pipeline.segment(first, book).values
    plain = rioxarray.open_rasterio(tmp_path / "b.tif")
    named = second.assign_coords(band=["nir", "blue", "red"]).drop_attrs()
    for array in (second, second.isel(band=[1, 2, 0]), plain, named, as_dataset_of(named)):
        np.testing.assert_array_equal(pipeline.segment(array, book).values, wanted)
    with pytest.raises(UsageError, match=r"it has nir, blue, but .* blue, red, nir.*codebook_bands=\"any\""):
        pipeline.segment(second[:2], book)
    by_order = pipeline.segment(second, book, codebook_bands="any").values
    assert (by_order != wanted).mean() > 0.2


def as_dataset_of(array):
    return array.to_dataset("band")


def test_bands_that_are_matched_keep_their_own_nodata_and_others_are_left_out(tmp_path):
    pixels = noise(4, 90, 80)
    pixels[0, :9], pixels[1, :9], pixels[2, :9] = 0, 255, 7
    names = ("red", "green", "blue", "nir")

    def array(*order):
        picked = [names.index(name) for name in order]
        return xr.DataArray(pixels[picked], dims=("band", "y", "x"), coords={"band": list(order)})

    first = array("red", "green", "blue")
    book = pipeline.fit([first], segments=4, resolution=1, nodata=[0, 255, 7])
    wanted = pipeline.segment(first, book, nodata=[0, 255, 7]).values
    assert (wanted[:9] == 255).all()
    other = pipeline.segment(array("blue", "nir", "green", "red"), book, nodata=[7, None, 255, 0])
    np.testing.assert_array_equal(other.values, wanted)
    bands = array(*names).astype("float32").to_dataset("band")
    assert pipeline.segment(bands, book).shape == (90, 80)
