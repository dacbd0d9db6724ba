"""Stacks of bands on several grids: resampled the same whatever window is read, exact where grids nest."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import Resampling
from rasterio.transform import Affine, from_origin
from rasterio.vrt import WarpedVRT

from engine.grid import Window
from pipeline.api.arrays import open_raster
from pipeline.errors import RasterError, UsageError
from pipeline.source.bands.computed import choose
from pipeline.source.bands.selection import Selection
from pipeline.source.joined import layer
from pipeline.source.joined.stack import build
from pipeline.source.opening import open_numbered
from pipeline.source.reading import ReadContext
from tests.rasters import noise, spoil, write_geotiff
from tests.strategies import windows_in

METHODS = ["nearest", "bilinear", "average"]


def place(x=0.0, y=0.0, side=1.0, height=None):
    return {"transform": from_origin(1000 + x, 2000 - y, side, height or side)}


def stacked(method, reference=None, **files):
    members = [(name, open_numbered(str(path))) for name, path in files.items()]
    return build(members, "s", method, reference)


def plain_mean(pixels, usable, row, col, method):
    """The mean around a position by the definition, None where nothing usable has a weight."""
    (s, down), (t, across) = row, col
    total = weight = 0.0
    for i, j in np.ndindex(pixels.shape):
        shares = []
        for centre, side, pixel in ((s, down, i), (t, across, j)):
            if method == "average":
                shares.append(max(0.0, min(centre + side / 2, pixel + 1) - max(centre - side / 2, pixel)))
            else:
                shares.append(max(0.0, 1 - abs(pixel + 0.5 - centre) / max(1.0, side)))
        share = shares[0] * shares[1] * usable[i, j]
        if share > 1e-6:
            total += share * float(pixels[i, j])
            weight += share
    return total / weight if weight else None


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_window_holds_the_means_of_the_definition(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("r")
    method = data.draw(st.sampled_from(["bilinear", "average"]))
    dtype = data.draw(st.sampled_from(["uint16", "int16", "float32", "float64"]))
    height, width = data.draw(st.integers(1, 14)), data.draw(st.integers(1, 14))
    side = data.draw(st.sampled_from([0.5, 1 / 3, 1.0, 2.0, 6.0, 1.7]))
    x, y = (data.draw(st.sampled_from([0.0, 0.5, -1.25, 0.3])) for _ in range(2))
    rows, cols = data.draw(st.integers(3, 12)), data.draw(st.integers(3, 12))
    pixels = noise(rows, cols, seed=data.draw(st.integers(0, 99)), low=0, high=9, dtype=dtype)
    if dtype[0] == "f":
        pixels[pixels == 1] = np.nan
    grid = write_geotiff(folder / "grid.tif", np.full((height, width), 9, dtype), **place())
    other = write_geotiff(folder / "o.tif", pixels, nodata=0, **place(x, y, side))
    centres = [(np.arange(n) + 0.5 - off) / side for n, off in ((height, y), (width, x))]
    if not all(((c >= 0) & (c < n)).any() for c, n in zip(centres, (rows, cols), strict=True)):
        with pytest.raises(RasterError, match="it lies elsewhere"):
            stacked(method, "grid", grid=grid, other=other)
        return
    stack = stacked(method, "grid", grid=grid, other=other)
    window = data.draw(windows_in(stack.bounds))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layer, "_PIECE_PX", data.draw(st.sampled_from([1, 20, 1 << 20])))
        patch.setattr(layer, "_PIECE_WIDTH_PX", 4)
        found, valid = stack.read(window)
    whole, all_valid = stack.read(stack.bounds)
    assert found.tobytes() == whole[:, *window.slices()].tobytes()
    assert valid.tobytes() == all_valid[window.slices()].tobytes()
    usable = np.isfinite(pixels.astype(float)) & (pixels != 0)
    for r, c in np.ndindex(height, width):
        s, t = centres[0][r], centres[1][c]
        on_it = 0 <= s < rows and 0 <= t < cols
        wanted = plain_mean(pixels, usable, (s, 1 / side), (t, 1 / side), method) if on_it else None
        assert all_valid[r, c] == (wanted is not None), (r, c)
        if wanted is not None and dtype[0] == "f":
            assert whole[1, r, c] == pytest.approx(wanted, rel=1e-5)
        elif wanted is not None:
            assert abs(whole[1, r, c] - wanted) <= 0.5 + 1e-9


def bands_of_three_sizes(folder, dtype="uint16"):
    """Bands of 10, 20 and 60 m from one corner, without nodata."""
    shapes = {side: (360 // side * 10, 420 // side * 10) for side in (10, 20, 60)}
    pixels = {side: noise(1, *shape, seed=side, high=4000, dtype=dtype) for side, shape in shapes.items()}
    return {f"m{s}": write_geotiff(folder / f"m{s}.tif", p, **place(side=s)) for s, p in pixels.items()}


@pytest.fixture(scope="module")
def nested(tmp_path_factory):
    return bands_of_three_sizes(tmp_path_factory.mktemp("nested"))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("reference", ["m10", "m20", "m60"])
def test_nested_grids_are_resampled_as_by_gdal_but_for_halves(nested, tmp_path, method, reference):
    stack = stacked(method, reference, **nested)
    pixels, valid = stack.read(stack.bounds)
    assert valid.all()
    exact = stacked(method, reference, **bands_of_three_sizes(tmp_path, "float64")).read(stack.bounds)[0]
    for band, mean, path in zip(pixels, exact, nested.values(), strict=True):
        with (
            rasterio.open(path) as dataset,
            WarpedVRT(
                dataset,
                transform=Affine(*stack.georeference.transform),
                width=stack.width,
                height=stack.height,
                resampling=Resampling[method],
            ) as warped,
        ):
            theirs = warped.read(1)
        np.testing.assert_array_equal(band, np.floor(mean + 0.5))
        # GDAL's weights are float32: a half may go down there
        differs = band != theirs
        assert (np.abs(mean[differs] % 1 - 0.5) < 1e-3).all()
        assert (band[differs] - theirs[differs] == 1).all()


def test_coarse_pixels_of_one_value_keep_it_to_the_edge(tmp_path):
    fine = write_geotiff(tmp_path / "f.tif", noise(1, 24, 30), **place())
    coarse = write_geotiff(tmp_path / "c.tif", np.full((4, 5), 77, np.uint8), **place(side=6))
    for method in METHODS:
        pixels, valid = stacked(method, f=fine, c=coarse).read(Window(0, 0, 24, 30))
        assert valid.all()
        assert (pixels[1] == 77).all()


@pytest.mark.parametrize(
    ("dtype", "nodata", "hole"), [("int16", -9999, -9999), ("float32", None, np.nan), ("uint8", 255, 255)]
)
@pytest.mark.parametrize("method", ["bilinear", "average"])
def test_nodata_never_gets_into_a_mean(tmp_path, dtype, nodata, hole, method):
    coarse = np.full((10, 10), 40, dtype)
    coarse[3:7, 3:7] = hole
    files = {
        "f": write_geotiff(tmp_path / "f.tif", np.full((20, 20), hole, dtype), nodata=nodata, **place()),
        "c": write_geotiff(tmp_path / "c.tif", coarse, nodata=nodata, **place(side=2)),
    }
    whole = stacked(method, **files)
    pixels, valid = whole.only((2,)).read(whole.bounds)
    assert (pixels[0][valid] == 40).all()
    # only where no pixel of the kernel is valid there is none
    margin = 1 if method == "bilinear" else 0
    assert not valid[6 + margin : 14 - margin, 6 + margin : 14 - margin].any()
    assert valid.sum() == 400 - (8 - 2 * margin) ** 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_rounded_nodata_value_never_gets_into_a_mean(tmp_path, dtype):
    lowest = np.finfo(dtype).min
    coarse = np.array([[10, lowest], [10, 10]], dtype)
    files = {
        "f": write_geotiff(tmp_path / "f.tif", np.full((8, 8), 1, dtype), **place()),
        "c": write_geotiff(
            tmp_path / "c.tif", coarse, nodata=float(f"{lowest:.4g}") * 0.999, **place(side=4)
        ),
    }
    pixels, valid = stacked("bilinear", **files).read(Window(0, 0, 8, 8))
    assert (pixels[1][valid] == 10).all()
    assert not valid[:2, 6:].any()


def test_masked_pixels_have_no_weight(tmp_path):
    fine = write_geotiff(tmp_path / "f.tif", noise(1, 8, 8), **place())
    coarse = write_geotiff(tmp_path / "c.tif", np.array([[10, 200], [10, 10]], np.uint8), **place(side=4))
    with rasterio.open(coarse, "r+") as dataset:
        dataset.write_mask(np.array([[True, False], [True, True]]))
    pixels, valid = stacked("bilinear", f=fine, c=coarse).read(Window(0, 0, 8, 8))
    assert (pixels[1][valid] == 10).all()
    assert not valid[:2, 6:].any()
    assert valid[2:].all()


@pytest.mark.parametrize(
    ("dtype", "nodata", "values", "wanted"),
    [
        ("int16", 0, [-1, 1], 1),
        ("int16", 0, [-2, 1], -1),
        ("int16", 5, [4, 6], 6),
        ("float32", 0, [-1, 1], np.nextafter(np.float32(0), np.float32(1))),
        # far enough not to be taken for a rounded 5
        ("float32", 5, [4, 6], np.float32(5 - 5 * 2.0**-20)),
        ("float64", -3, [-4, -2], -3 + 3 * 2.0**-20),
    ],
)
def test_a_mean_that_happens_to_be_the_nodata_value_stays_valid(tmp_path, dtype, nodata, values, wanted):
    fine = write_geotiff(tmp_path / "f.tif", np.array([values], dtype), nodata=nodata, **place(height=2))
    coarse = write_geotiff(tmp_path / "c.tif", np.array([[9]], dtype), **place(side=2))
    pixels, valid = stacked("average", "c", f=fine, c=coarse).read(Window(0, 0, 1, 1))
    assert valid.all()
    assert pixels[0, 0, 0] == wanted


def test_a_condition_sees_the_nearest_pixel_always(tmp_path):
    fine = write_geotiff(tmp_path / "f.tif", noise(1, 12, 12, dtype="uint16"), **place())
    classes = noise(1, 6, 6, low=3, high=9, dtype="uint8")
    files = {"red": fine, "scl": write_geotiff(tmp_path / "scl.tif", classes, **place(side=2))}

    def selected(method, *bands):
        whole = stacked(method, **files)
        chosen = choose(Selection(bands=bands or None, valid="scl in (4, 8)"), lambda: whole)
        return chosen.of(whole.only(chosen.numbers))

    for method in METHODS:
        raster = selected(method, "red")
        wanted = np.isin(classes[0].repeat(2, 0).repeat(2, 1), (4, 8))
        np.testing.assert_array_equal(raster.read(raster.bounds)[1], wanted)
        assert "resampled" not in raster.origin["stack"][1]
    # a band of the result is resampled as all of them are, and the condition sees its pixels all the same
    for bands in (("red", "scl"), ("red", "scl*2"), ()):
        raster = selected("bilinear", *bands)
        pixels, valid = raster.read(raster.bounds)
        np.testing.assert_array_equal(valid, wanted)
        assert len(np.unique(pixels[1][valid])) > 2
        assert [b.get("resampled") for b in raster.origin["stack"]] == [None, "bilinear", None]


def test_a_stack_has_the_grid_and_extent_of_the_band_that_is_named(tmp_path):
    fine = write_geotiff(tmp_path / "f.tif", noise(1, 20, 20), **place(-4, -4))
    coarse = write_geotiff(tmp_path / "c.tif", noise(1, 6, 7), **place(side=2))
    stack = stacked("average", "c", f=fine, c=coarse)
    assert (stack.height, stack.width, stack.georeference.transform[0]) == (6, 7, 2)
    # the other one ends after 16 rows and columns of its own from there
    assert stack.read(stack.bounds)[1].all()
    shifted = write_geotiff(tmp_path / "s.tif", noise(1, 20, 20), **place(6, 0))
    stack = stacked("average", "c", s=shifted, c=coarse)
    np.testing.assert_array_equal(stack.read(stack.bounds)[1], [[False] * 3 + [True] * 4] * 6)
    with pytest.raises(RasterError, match=r"pixels are 0\.5 x 0\.5 of those; give --resample"):
        stacked(None, "c", f=fine, c=coarse)


def test_nearest_of_whole_multiples_is_what_there_was_without_the_option(nested):
    plain, asked = stacked(None, **nested), stacked("nearest", **nested)
    assert plain.read(plain.bounds)[0].tobytes() == asked.read(asked.bounds)[0].tobytes()
    assert plain.origin == asked.origin
    assert plain.origin["stack"][2]["repeated"] == [6, 6]


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        (Affine(1, 0.2, 1000, 0.2, -1, 2000), "or turned; warp it first: gdalwarp -t_srs EPSG:32633 -te"),
        (Affine(1, 0, 1000, 0, 1, 1980), "or turned; warp it first"),
        (from_origin(1000, 2000, 1e-5, 1e-5), "choose another --reference-band"),
        (from_origin(9e12, 2000, 1, 1), "it lies elsewhere"),
        (from_origin(1e300, 2000, 1e-9, 1), "choose another --reference-band"),
    ],
)
def test_what_no_resampling_brings_to_the_grid_is_refused(tmp_path, transform, said):
    first = write_geotiff(tmp_path / "first.tif", noise(1, 20, 20), **place())
    other = write_geotiff(tmp_path / "other.tif", noise(1, 20, 20), transform=transform)
    with pytest.raises(RasterError) as caught:
        stacked("bilinear", "first", first=first, other=other)
    assert said in str(caught.value)


def test_damage_is_noted_in_pixels_of_the_stack_the_same_in_any_window(tmp_path):
    kind = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    fine = write_geotiff(tmp_path / "f.tif", noise(1, 384, 384), **place())
    coarse = write_geotiff(tmp_path / "c.tif", noise(1, 200, 200, seed=1), **place(side=2), **kind)
    spoil(coarse, 1, 1)
    stack, whole = stacked("bilinear", f=fine, c=coarse), ReadContext(bad=[])
    pixels, valid = stack.read(stack.bounds, whole)
    assert {block.window for block in whole.bad} == {Window(128, 128, 128, 128)}
    # the pixels at its edge have neighbours that can be read
    assert not valid[129:255, 129:255].any()
    assert valid.sum() == 384**2 - 126**2
    part = ReadContext(bad=[])
    some, some_valid = stack.read(Window(100, 90, 50, 60), part)
    assert some[:, some_valid].tobytes() == pixels[:, 100:150, 90:150][:, some_valid].tobytes()
    np.testing.assert_array_equal(some_valid, valid[100:150, 90:150])
    assert {block.window for block in part.bad} == {Window(128, 128, 128, 128)}


def test_a_layer_reads_no_more_than_the_kernel_needs(tmp_path, monkeypatch):
    tiled = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    fine = write_geotiff(tmp_path / "f.tif", noise(1, 1200, 1200), **place(), **tiled)
    coarse = write_geotiff(tmp_path / "c.tif", noise(1, 20, 20), **place(side=60))
    stack = stacked("average", "c", f=fine, c=coarse)
    monkeypatch.setattr(layer, "_PIECE_PX", 120 * 120)
    monkeypatch.setattr(layer, "_PIECE_WIDTH_PX", 120)
    read = []
    raster = type(stack.layers[0].raster)
    there = raster.read_masked
    monkeypatch.setattr(raster, "read_masked", lambda s, w, c: read.append(w) or there(s, w, c))
    stack.read(stack.bounds)
    fine_reads = [w for w in read if w != Window(0, 0, 20, 20)]
    assert {w.pixels for w in fine_reads} == {120 * 120}
    assert sum(w.pixels for w in fine_reads) == 1200 * 1200


def test_from_python_as_on_the_command_line(nested):
    files = {name: str(path) for name, path in nested.items()}
    array = open_raster(files, resample="average", reference_band="m20", chunk_size=512)
    stack = stacked("average", "m20", **nested)
    np.testing.assert_array_equal(array.values, stack.read(stack.bounds)[0])
    assert pickle.loads(pickle.dumps(stack)) == stack
    for wrong, said in (
        ({"resample": "cubic"}, "resample='cubic'; it is one of nearest, bilinear, average"),
        ({"reference_band": "m30"}, "reference_band='m30': no band of the stack, which has m10, m20, m60"),
    ):
        with pytest.raises(UsageError, match=said):
            open_raster(files, **wrong)
    folder = nested["m10"].parent
    np.testing.assert_array_equal(open_raster({"m20": f"{folder}/m2?.tif"}).values, array.values[1:2])
    with pytest.raises(UsageError, match="the stack names 3 scenes"):
        open_raster({"m": f"{folder}/m{{scene}}.tif"})
    with pytest.raises(UsageError, match="belong to a stack"):
        open_raster(files["m10"], resample="average")
