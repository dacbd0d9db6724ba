"""What a header declares of values (nodata, scale, offset), and what is declared in its place."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import rasterio
import xarray as xr

import pipeline
from engine.grid import Window
from pipeline.commands.inspect import describe
from pipeline.config import RunConfig
from pipeline.errors import RasterError, UsageError
from pipeline.running.run import run
from pipeline.source import unchanged
from pipeline.source.bands.options import read_nodata, read_valid
from pipeline.source.declared import Declared
from pipeline.source.joined import mosaic_building, stack
from pipeline.source.opening import open_numbered, open_segmentable
from tests.rasters import from_file, noise, write_geotiff, write_vrt

NDVI = "(nir-red)/(nir+red)"
SHAPE = (40, 50)
UNITS = ((2.75e-5, -0.2), (5e-5, -0.35))


def scaled(path, pixels, units=UNITS, **profile):
    """A raster of red and nir with scales and offsets; gives its path."""
    write_geotiff(path, pixels, **profile)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = zip(*units, strict=True)
        dataset.descriptions = ("red", "nir")[: dataset.count]
    return path


@pytest.fixture(scope="module")
def numbers():
    pixels = noise(2, *SHAPE, low=7000, high=20000, dtype="uint16")
    pixels[0, 3, 4] = pixels[1, 5, 6] = 0
    return pixels


def ndvi(pixels, units=UNITS):
    red, nir = (band * np.float64(s) + offset for band, (s, offset) in zip(pixels, units, strict=True))
    return ((nir - red) / (nir + red)).astype(np.float32)


def read(raster):
    return raster.read(raster.bounds)


def check(raster, pixels, units=UNITS):
    """The index of a raster is the one in units, and nodata was compared before."""
    values, valid = read(raster)
    np.testing.assert_array_equal(valid, (pixels != 0).all(axis=0))
    np.testing.assert_array_equal(values[0][valid], ndvi(pixels, units)[valid])


# Scales in expressions


def test_an_expression_sees_units_of_each_band_and_nodata_is_compared_before(tmp_path, numbers):
    path = scaled(tmp_path / "s.tif", numbers, nodata=0)
    raster = open_segmentable(path, (NDVI,))
    check(raster, numbers)
    assert raster.physical
    assert raster.origin["scales"] == {"nir": [5e-5, -0.35], "red": [2.75e-5, -0.2]}
    raw = open_segmentable(path, (NDVI,), raw_values=True)
    check(raw, numbers, ((1, 0), (1, 0)))
    assert raw.physical is False
    assert "scales" not in raw.origin


def test_plain_bands_keep_their_numbers_also_beside_expressions(tmp_path, numbers):
    path = scaled(tmp_path / "s.tif", numbers, nodata=0)
    for bands in (None, (2, 1), ("nir", "red")):
        raster = open_segmentable(path, bands)
        assert (raster.dtype, raster.physical) == ("uint16", None)
        order = slice(None) if bands is None else slice(None, None, -1)
        np.testing.assert_array_equal(read(raster)[0], numbers[order])
    values, _ = read(open_segmentable(path, ("red", NDVI, "b1*1")))
    np.testing.assert_array_equal(values[0], numbers[0])
    np.testing.assert_array_equal(values[2], (numbers[0] * 2.75e-5 - 0.2).astype("f4"))


def test_without_scales_an_expression_is_what_it_was_to_the_bit(tmp_path, numbers):
    path = scaled(tmp_path / "s.tif", numbers, ((1, 0), (1, 0)))
    assert open_segmentable(path).scales == ()
    asked, raw = (open_segmentable(path, (NDVI,), raw_values=raw) for raw in (False, True))
    np.testing.assert_array_equal(read(asked)[0], read(raw)[0])
    red, nir = numbers.astype(np.float64)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(read(asked)[0][0], ((nir - red) / (nir + red)).astype(np.float32))


def test_units_come_through_a_vrt_and_a_stack(tmp_path, numbers):
    path = scaled(tmp_path / "s.tif", numbers, nodata=0)
    inner = "<NoDataValue>0</NoDataValue><Offset>{1}</Offset><Scale>{0}</Scale><Description>{2}</Description>"
    bands = [
        ("UInt16", inner.format(*unit, name) + from_file("s.tif", i))
        for i, (unit, name) in enumerate(zip(UNITS, ("red", "nir"), strict=True), 1)
    ]
    check(open_segmentable(write_vrt(tmp_path / "v.vrt", SHAPE, *bands), (NDVI,)), numbers)
    files = [scaled(tmp_path / f"{i}.tif", numbers[i], UNITS[i : i + 1], nodata=0) for i in range(2)]
    layers = [("red", open_numbered(str(files[0]))), ("nir", open_numbered(str(files[1])))]
    joined = stack.build(layers, "s")
    assert joined.scales == UNITS
    assert joined.only((2,)).scales == UNITS[1:]
    plain = write_geotiff(tmp_path / "p.tif", numbers[0])
    assert stack.build([("a", open_numbered(str(plain))), layers[1]], "s").scales == ((1, 0), UNITS[1])
    assert open_segmentable(path).scales == UNITS


def test_units_of_netcdf_are_cf_s(tmp_path, numbers):
    place = {"y": np.arange(SHAPE[0])[::-1] * 30.0, "x": np.arange(SHAPE[1]) * 30.0}
    signed = numbers.astype("int16")
    attributes = {"scale_factor": 2.75e-5, "add_offset": -0.2, "_FillValue": np.int16(0)}
    array = xr.DataArray(signed, dims=("band", "y", "x"), coords=place, attrs=attributes)
    array.to_dataset(name="refl").to_netcdf(tmp_path / "c.nc", engine="scipy")
    stored, _ = read(open_segmentable(tmp_path / "c.nc"))
    assert stored.dtype == "int16"
    check(open_segmentable(tmp_path / "c.nc", ("(b2-b1)/(b2+b1)",)), stored, (UNITS[0], UNITS[0]))


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("attributes", "units"),
    [
        ({"scale_factor": 2.75e-5, "add_offset": -0.2}, (UNITS[0], UNITS[0])),
        ({"scale_factor": [2.75e-5]}, ((2.75e-5, 0), (2.75e-5, 0))),
        ({"scales": [2.75e-5, 5e-5], "offsets": [-0.2, -0.35]}, UNITS),
    ],
)
def test_units_of_a_zarr_store_are_cf_s_or_those_of_each_band(tmp_path, numbers, version, attributes, units):
    array = xr.DataArray(numbers, dims=("band", "y", "x"), attrs={**attributes, "_FillValue": 0}, name="r")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array.to_dataset().to_zarr(tmp_path / "s.zarr", consolidated=False, zarr_format=version)
    raster = open_segmentable(tmp_path / "s.zarr", ("(b2-b1)/(b2+b1)",))
    check(raster, numbers, units)
    assert "scales    value * scale + offset: 2.75e-05" in describe(str(tmp_path / "s.zarr"))


def test_tiles_of_a_mosaic_have_equal_scales_or_expressions_are_refused(tmp_path, numbers):
    place = [{"transform": rasterio.Affine(1, 0, x, 0, -1, 0)} for x in (0, SHAPE[1])]
    alike = [scaled(tmp_path / f"{i}.tif", numbers, nodata=0, **p) for i, p in enumerate(place)]
    other = scaled(tmp_path / "o.tif", numbers, UNITS[::-1], nodata=0, **place[1])
    bare = write_geotiff(tmp_path / "b.tif", numbers, nodata=0, **place[1])

    def joined(*paths, physical=True):
        return mosaic_building.build((open_numbered(str(p)) for p in paths), "first", "m", physical=physical)

    assert joined(*alike).scales == UNITS
    for odd, text in ((other, "scales and offsets 5e-05 -0.35, 2.75e-05 -0.2"), (bare, "no scales")):
        with pytest.raises(UsageError, match=r"--mosaic.*--raw-values") as caught:
            joined(alike[0], odd)
        assert f"{odd} declares {text}, but {alike[0]} scales" in str(caught.value)
        # stored numbers that are asked for need no common scale
        assert joined(alike[0], odd, physical=False).width == 2 * SHAPE[1]


@pytest.mark.parametrize("bands", [None, ("red",), (NDVI,)])
def test_tiles_whose_equal_numbers_are_unequal_values_are_refused(tmp_path, numbers, bands):
    place = [{"transform": rasterio.Affine(1, 0, x, 0, -1, 0)} for x in (0, SHAPE[1])]
    files = [
        str(scaled(tmp_path / f"{i}.tif", numbers, ((1e-4, offset),) * 2, **p))
        for i, (offset, p) in enumerate(zip((0, -0.1), place, strict=True))
    ]
    options = {"sources": tuple(files), "mosaic": True, "segments": 3, "workers": "1", "bands": bands}
    with pytest.raises(UsageError, match=r"1\.tif declares scales .* unequal values; .*--raw-values"):
        run(RunConfig(out=str(tmp_path / "o"), **options))
    with pytest.raises(UsageError, match=r"--raw-values"):
        pipeline.open_raster(files, mosaic=True, bands=bands)
    assert not run(RunConfig(out=str(tmp_path / "p"), raw_values=True, **options)).failed


@pytest.mark.parametrize("unit", [(0.0, 1.0), (np.nan, 0.0), (np.inf, 0.0), (1.0, np.nan)])
def test_scales_that_make_no_sense_are_refused_only_where_they_are_used(tmp_path, numbers, unit):
    path = scaled(tmp_path / "s.tif", numbers, (unit, unit))
    np.testing.assert_array_equal(read(open_segmentable(path))[0], numbers)
    open_segmentable(path, (NDVI,), raw_values=True)
    with pytest.raises(RasterError, match=r"scale .* and offset .* --raw-values"):
        open_segmentable(path, (NDVI,))


def test_bits_of_scaled_values_are_refused(tmp_path, numbers):
    path = scaled(tmp_path / "s.tif", numbers)
    with pytest.raises(RasterError, match=r"bits of red, .* --raw-values"):
        open_segmentable(path, None, valid="(red & 8) == 0")
    open_segmentable(path, None, valid="(red & 8) == 0", raw_values=True)


def test_a_real_raster_with_scales(rasters):
    paths = list((rasters.parent / "awkward").rglob("cog_scale.tif"))
    if not paths:
        pytest.skip("no real raster with scales here")
    with rasterio.open(paths[0]) as dataset:
        stored, units = dataset.read((1, 2)), list(zip(dataset.scales, dataset.offsets, strict=True))
    assert "scales    value * scale + offset: 0.0001 +1000, 0.001 +2000" in describe(str(paths[0]))
    raster = open_segmentable(paths[0], ("b1-b2",))
    values, valid = read(raster)
    first, second = (b * s + o for b, (s, o) in zip(stored.astype("f8"), units, strict=True))
    np.testing.assert_array_equal(valid, (stored != 0).all(axis=0))
    np.testing.assert_array_equal(values[0][valid], (first - second).astype("f4")[valid])


# Whether an edit of a scale is noticed


def fingerprint(path, declared):
    return unchanged.mark_of(open_numbered(str(path), None, declared)).fingerprint


def test_an_edited_scale_is_another_raster_where_expressions_see_it_and_only_there(tmp_path, numbers):
    path = write_geotiff(tmp_path / "s.tif", numbers)
    xml = '<PAMDataset><PAMRasterBand band="1"><Scale>{}</Scale></PAMRasterBand></PAMDataset>'
    marks = {}
    for scale in (None, 2, 3):
        if scale:
            (tmp_path / "s.tif.aux.xml").write_text(xml.format(scale))
        marks[scale] = [fingerprint(path, Declared(physical=physical)) for physical in (False, True)]
    assert len({stored for stored, _ in marks.values()}) == 1
    assert len({physical for _, physical in marks.values()}) == 3
    assert marks[None][0] == marks[None][1]  # so a run from before there were scales is taken up


# Nodata


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("0", (0.0,)),
        (0, (0.0,)),
        (-9999.5, (-9999.5,)),
        ("1, 2,3", (1.0, 2.0, 3.0)),
        ([1, "2", None], (1.0, 2.0, None)),
        ("none", (None,)),
        ("None", (None,)),
        ("nan", (None,)),
        ("-9999,none", (-9999.0, None)),
        (None, None),
    ],
)
def test_nodata_is_a_value_or_one_for_each_band_or_none(said, meant):
    assert read_nodata(said) == meant
    assert read_nodata(None if meant is None else list(meant)) == meant


@pytest.mark.parametrize("said", ["", "x", "1,,2", "inf", True, [], {}, [True], [[1]], "0 0", "1e999"])
def test_nodata_that_means_nothing_is_refused(said):
    with pytest.raises(UsageError, match=r"^--nodata.*give VALUE or VALUE,VALUE"):
        read_nodata(said)


@pytest.mark.parametrize("said", ["", "scl in", 5, ["a"], "1 == 1", "a b", "a" * 2000, "(" * 99])
def test_a_condition_that_means_nothing_is_refused(said):
    with pytest.raises(UsageError, match=r"^--valid"):
        read_valid(said)


def valid_of(path, **options):
    return read(open_segmentable(path, options.pop("bands", None), **options))[1]


def test_declared_nodata_is_that_of_a_tag_in_each_dtype(tmp_path):
    for dtype in ("uint8", "int16", "float32"):
        pixels = noise(3, *SHAPE, low=0, high=4, dtype=dtype)
        bare = write_geotiff(tmp_path / f"{dtype}.tif", pixels)
        tagged = write_geotiff(tmp_path / f"{dtype}_t.tif", pixels, nodata=0)
        wanted = valid_of(tagged)
        assert not wanted.all()
        np.testing.assert_array_equal(valid_of(bare, nodata=(0.0,)), wanted)
        np.testing.assert_array_equal(valid_of(bare, nodata=(0.0,) * 3), wanted)
        for path in (bare, tagged):
            assert valid_of(path, nodata=(None,)).all()
        np.testing.assert_array_equal(
            valid_of(tagged, nodata=(1.0, 2.0, 3.0)),
            valid_of(bare, nodata=(1.0, 2.0, 3.0)),
        )


def test_a_value_for_each_band_is_in_the_order_of_the_source_whatever_bands_are_used(tmp_path):
    pixels = noise(3, *SHAPE, low=0, high=4, dtype="uint16")
    path = write_geotiff(tmp_path / "r.tif", pixels)
    np.testing.assert_array_equal(
        valid_of(path, bands=(3, 1), nodata=(1.0, 2.0, 3.0)), (pixels[0] != 1) & (pixels[2] != 3)
    )
    np.testing.assert_array_equal(valid_of(path, bands=("b2*2",), nodata=(1.0, 2.0, None)), pixels[1] != 2)
    np.testing.assert_array_equal(valid_of(path, nodata=(1.0, None, None)), pixels[0] != 1)


def test_alpha_and_masks_count_whatever_is_declared(tmp_path):
    pixels = noise(4, *SHAPE, low=0, high=2) * 255
    path = write_geotiff(tmp_path / "a.tif", pixels, photometric="rgb", alpha="yes")
    with rasterio.open(path) as dataset:
        assert dataset.colorinterp[3].name == "alpha"
    np.testing.assert_array_equal(valid_of(path, nodata=(None,)), pixels[3] != 0)
    np.testing.assert_array_equal(
        valid_of(path, nodata=(0.0, 0.0, 255.0)),
        (pixels[3] != 0) & ~((pixels[0] == 0) & (pixels[1] == 0) & (pixels[2] == 255)),
    )
    masked = write_geotiff(tmp_path / "m.tif", pixels[:3])
    with rasterio.open(masked, "r+") as dataset:
        dataset.write_mask(pixels[3])
    np.testing.assert_array_equal(valid_of(masked, nodata=(None,)), pixels[3] != 0)


def test_64_bit_nodata_can_be_ignored_and_declared(tmp_path):
    write_geotiff(tmp_path / "a.tif", np.array([[[2**62, 5, 6]]]))
    band = f"<NoDataValue>{2**62}</NoDataValue>{from_file('a.tif')}"
    path = write_vrt(tmp_path / "r.vrt", (1, 3), ("Int64", band))
    assert valid_of(path).tolist() == [[False, True, True]]
    assert valid_of(path, nodata=(None,)).tolist() == [[True, True, True]]
    assert valid_of(path, nodata=(6.0,)).tolist() == [[True, True, False]]


def test_nodata_of_a_palette_is_a_colour_number(tmp_path):
    path = write_geotiff(tmp_path / "p.tif", np.array([[0, 1, 2, 1]], np.uint8), nodata=2)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {0: (9, 9, 9, 255), 1: (0, 0, 0, 255), 2: (5, 5, 5, 255)})
    assert valid_of(path).tolist() == [[True, True, False, True]]
    assert valid_of(path, nodata=(1.0,)).tolist() == [[True, False, True, False]]
    assert valid_of(path, nodata=(None,)).all()
    with pytest.raises(RasterError, match=r"--nodata has 3 values for 1 band \(without alpha\); give 1"):
        valid_of(path, nodata=(0.0, 0.0, 0.0))


def test_nodata_of_a_vrt_and_a_zarr_store(tmp_path):
    pixels = noise(2, *SHAPE, low=0, high=4, dtype="uint16")
    write_geotiff(tmp_path / "a.tif", pixels)
    bands = [("UInt16", "<NoDataValue>3</NoDataValue>" + from_file("a.tif", i)) for i in (1, 2)]
    vrt = write_vrt(tmp_path / "a.vrt", SHAPE, *bands)
    array = xr.DataArray(pixels, dims=("band", "y", "x"), attrs={"_FillValue": 3}, name="r")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array.to_dataset().to_zarr(tmp_path / "a.zarr", consolidated=False)
    for path in (vrt, tmp_path / "a.zarr"):
        np.testing.assert_array_equal(valid_of(path), (pixels != 3).all(axis=0))
        np.testing.assert_array_equal(valid_of(path, nodata=(1.0, 2.0)), (pixels[0] != 1) & (pixels[1] != 2))
        assert valid_of(path, nodata=(None,)).all()


@pytest.mark.parametrize(
    ("nodata", "said"),
    [
        ((0.0, 0.0), "--nodata has 2 values for 3 bands (without alpha); give 1 or 3"),
        ((-9999.0,), "--nodata -9999: no pixel of uint8 can have this value"),
        ((0.5, None, None), "--nodata 0.5: no pixel of uint8 can have this value"),
    ],
)
def test_nodata_that_no_pixel_can_have_is_refused(tmp_path, nodata, said):
    path = write_geotiff(tmp_path / "r.tif", noise(3, 5, 5))
    with pytest.raises(RasterError) as caught:
        open_segmentable(path, nodata=nodata)
    assert str(caught.value) == f"{path}: {said}"


# Nodata of floats is rounded


def envi(path, pixels, nodata):
    """A raster with the bytes of a header as other programs write it; gives its path."""
    kind = {"float32": 4, "float64": 5}[str(pixels.dtype)]
    pixels.tofile(path)
    path.with_suffix(".hdr").write_text(
        f"ENVI\nsamples = {pixels.shape[-1]}\nlines = 1\nbands = {len(pixels)}\nheader offset = 0\n"
        f"data type = {kind}\ninterleave = bsq\nbyte order = 0\ndata ignore value = {nodata}\n"
    )
    return path


def by_gdal(path):
    """Validity of each band as GDAL says it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rasterio's, of values that the dtype does not hold
        with rasterio.open(path) as dataset:
            return dataset.read_masks() != 0


LIMIT = -3.4028234663852886e38


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "nodata",
    [
        *(
            "-3.4028234663852886e+38",
            "-3.40282e+38",
            "-3.4e38",
            "3.4e38",
            "-1e38",
            "-1.7976931348623157e+308",
        ),
        *("-1.79769e+308", "-9999", "-9999.0001", "0.1", "0", "nan"),
    ],
)
def test_rounded_nodata_of_floats_is_what_it_is_to_gdal(tmp_path, dtype, nodata):
    values = np.array([LIMIT, -LIMIT, -3.4e38, -3.40282e38, -2e38, -1e38, -2e35, 0, 0.1, -9999, 1.5, 7e37])
    if dtype == "float64":
        values = np.concatenate([values, [-1.7976931348623157e308, -1.79769e308, -1e300]])
    steps = np.array([0, 1e-12, 3e-8, 1e-7, 2e-7, 4e-7, 5e-7, 1e-6, 1e-5, 1e-2])
    with np.errstate(over="ignore"):
        values = np.unique(np.outer(values, np.concatenate([1 + steps, 1 - steps])).astype(dtype))
    values = values[np.isfinite(values)]
    path = envi(tmp_path / "r.img", values[None], nodata)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        valid = read(open_segmentable(path))[1]
    np.testing.assert_array_equal(valid, by_gdal(path)[0])


def test_a_nodata_value_that_rounds_to_the_lowest_float_is_that(tmp_path):
    # GDAL takes it for out of range, and masks nothing
    path = envi(tmp_path / "r.img", np.array([[LIMIT, -1, 2]], np.float32), "-3.4028235e+38")
    assert read(open_segmentable(path))[1].tolist() == [[False, True, True]]


def test_nodata_of_an_ascii_grid_is_no_class_of_its_own(tmp_path):
    heights = np.random.default_rng(0).uniform(100, 900, (40, 50)).astype(np.float32)
    heights[5:20, 7:30] = LIMIT
    text = "\n".join(" ".join(f"{v:.9g}" for v in row) for row in heights)
    path = tmp_path / "dem.asc"
    path.write_text(
        f"ncols 50\nnrows 40\nxllcorner 0\nyllcorner 0\ncellsize 1\nNODATA_value -3.40282e+38\n{text}\n"
    )
    assert not run(RunConfig(sources=(str(path),), out=str(tmp_path / "out"), segments=4, workers="1")).failed
    with rasterio.open(tmp_path / "out" / "dem.tif") as dataset:
        labels = dataset.read(1)
    np.testing.assert_array_equal(labels == 255, heights < 0)
    assert set(np.unique(labels)) == {0, 1, 2, 3, 255}


def test_each_band_is_compared_in_its_own_dtype(tmp_path):
    single = write_geotiff(tmp_path / "s.tif", np.array([[LIMIT, 1, 2]], np.float32), nodata=-3.40282e38)
    double = write_geotiff(tmp_path / "d.tif", np.array([[1.0, LIMIT, 2]]), nodata=-3.40282e38)
    layers = [(n, open_numbered(str(p))) for n, p in (("single", single), ("double", double))]
    both = stack.build(layers, "s")
    np.testing.assert_array_equal(read(both)[1], by_gdal(single)[0] & by_gdal(double)[0])
    assert read(both)[1].tolist() == [[False, True, True]]


def test_declared_nodata_of_floats_may_be_rounded_too(tmp_path):
    path = write_geotiff(tmp_path / "r.tif", np.array([[LIMIT, -1, 2]], np.float32))
    assert read(open_segmentable(path, nodata=(-3.4e38,)))[1].tolist() == [[False, True, True]]
    with pytest.raises(RasterError, match="--nodata -1e\\+300: no pixel of float32 can have this value"):
        open_segmentable(path, nodata=(-1e300,))


# Where pixels are valid


def qa_raster(path, dtype="uint8", nodata=0):
    pixels = noise(4, *SHAPE, low=0, high=6, dtype=dtype)
    write_geotiff(path, pixels, nodata=nodata, photometric="minisblack")
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("red", "green", "blue", "qa")
        dataset.colorinterp = [rasterio.enums.ColorInterp.gray] * 4
    return path, pixels


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64"])
def test_what_the_condition_is_false_for_is_invalid_and_bands_keep_what_they_are(tmp_path, dtype):
    path, pixels = qa_raster(tmp_path / "r.tif", dtype)
    ok = (pixels[3].astype(int) & 4) == 0
    for bands, indices in (((1, 2, 3), [0, 1, 2]), (("blue", "red"), [2, 0])):
        plain = open_segmentable(path, bands)
        raster = open_segmentable(path, bands, valid="(qa & 4) == 0")
        assert (raster.identity, raster.bands, raster.nodata) == (plain.identity, plain.bands, plain.nodata)
        assert raster.band_names == plain.band_names
        values, valid = read(raster)
        np.testing.assert_array_equal(values, pixels[indices])
        np.testing.assert_array_equal(valid, read(plain)[1] & ok)
        window = Window(7, 9, 20, 30)
        np.testing.assert_array_equal(raster.read(window)[1], valid[window.slices()])
    whole = open_segmentable(path, valid="red > 2 or blue in (1, 5)")
    assert whole.bands == (1, 2, 3, 4)
    np.testing.assert_array_equal(
        read(whole)[1], valid_of(path) & ((pixels[0] > 2) | (pixels[2] == 1) | (pixels[2] == 5))
    )


def test_nodata_of_a_band_that_only_the_condition_sees_is_left_to_the_condition(tmp_path):
    path, pixels = qa_raster(tmp_path / "r.tif", "int16")
    raster = open_segmentable(path, ("red",), valid="qa == 0")
    np.testing.assert_array_equal(read(raster)[1], (pixels[0] != 0) & (pixels[3] == 0))
    # and in an 8-bit raster, its value saves no pixel whose own bands are all nodata
    path, pixels = qa_raster(tmp_path / "b.tif")
    raster = open_segmentable(path, ("red", "green"), valid="qa != 3")
    np.testing.assert_array_equal(read(raster)[1], (pixels[:2] != 0).any(axis=0) & (pixels[3] != 3))


def test_an_expression_and_a_condition_together_see_units(tmp_path, numbers):
    path = scaled(tmp_path / "s.tif", numbers, nodata=0)
    values, valid = read(open_segmentable(path, (NDVI,), valid="nir > 0.2"))
    nir = numbers[1] * 5e-5 - 0.35
    np.testing.assert_array_equal(valid, (numbers != 0).all(axis=0) & (nir > 0.2))
    np.testing.assert_array_equal(values[0][valid], ndvi(numbers)[valid])
    raw = read(open_segmentable(path, ("nir",), valid="nir > 12000", raw_values=True))[1]
    np.testing.assert_array_equal(raw, numbers[1] > 12000)


def test_a_stack_keeps_the_dtype_and_nodata_rule_of_its_bands_beside_a_wider_quality_band(tmp_path):
    pixels = noise(2, *SHAPE, low=0, high=3)
    quality = noise(*SHAPE, low=0, high=1000, dtype="uint16")
    paths = [write_geotiff(tmp_path / f"{i}.tif", band, nodata=0) for i, band in enumerate(pixels)]
    paths.append(write_geotiff(tmp_path / "q.tif", quality))
    layers = [(n, open_numbered(str(p))) for n, p in zip("abq", paths, strict=True)]
    from pipeline.source.bands.computed import choose
    from pipeline.source.bands.selection import Selection

    whole = stack.build(layers, "s")
    chosen = choose(Selection(("a", "b"), "q < 500"), lambda: whole)
    raster = chosen.of(whole.only(chosen.numbers))
    assert raster.dtype == "uint8"
    values, valid = read(raster)
    np.testing.assert_array_equal(values, pixels)
    np.testing.assert_array_equal(valid, (pixels != 0).all(axis=0) & (quality < 500))


def test_a_name_that_the_condition_lacks_is_refused_with_those_that_there_are(tmp_path):
    path, _ = qa_raster(tmp_path / "r.tif")
    with pytest.raises(RasterError) as caught:
        open_segmentable(path, ("red",), valid="scl in (4, 5)")
    assert str(caught.value) == f"{path}: has no band 'scl'; it has red, green, blue, qa: change --valid"
