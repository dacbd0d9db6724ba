"""Stacks: single bands of several files as one raster."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import Affine, from_origin

from engine.codebook import Codebook
from engine.grid import Window
from pipeline.commands.fit import fit_to_file
from pipeline.commands.plan.plan import plan
from pipeline.config import RunConfig, build
from pipeline.config_file import load_file
from pipeline.errors import RasterError, UsageError
from pipeline.running.run import run
from pipeline.source.joined.stack import build as stack_up
from pipeline.source.opening import open_numbered
from tests.rasters import level_arrays, noise, write_geotiff
from tests.strategies import windows_in


def place(x=0.0, y=0.0, width=1.0, height=1.0):
    return {"transform": from_origin(1000 + x, 2000 - y, width, height)}


def stacked(**files):
    return stack_up([(name, open_numbered(str(path))) for name, path in files.items()], "s")


def segmented(out, **options):
    report = run(RunConfig(out=str(out), segments=4, resolution=2, **options))
    assert not report.failed, report.failed
    return report


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A raster of three bands with nodata, and each of its bands in a file."""
    folder = tmp_path_factory.mktemp("stack")
    pixels = noise(3, 700, 611, high=4000, dtype="uint16")
    pixels[0, 50:90, 20:70] = 0
    pixels[1, 80:99] = 0
    whole = write_geotiff(folder / "whole.tif", pixels, nodata=0, **place())
    bands = [write_geotiff(folder / f"B{i + 2}.tif", p, nodata=0, **place()) for i, p in enumerate(pixels)]
    return whole, bands


def test_a_stack_is_the_raster_of_its_bands(three):
    whole, bands = three
    one, stack = open_numbered(str(whole)), stacked(b2=bands[0], b3=bands[1], b4=bands[2])
    assert stack.identity == one.identity
    assert (stack.bands, stack.band_names, stack.nodata) == ((1, 2, 3), ("b2", "b3", "b4"), (0, 0, 0))
    for found, wanted in zip(stack.read(stack.bounds), one.read(one.bounds), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_nodata_of_any_file_makes_a_pixel_invalid_also_of_8_bits(tmp_path):
    pixels = np.array([[[0, 0, 5]], [[0, 9, 0]]], np.uint8)
    files = [write_geotiff(tmp_path / f"{i}.tif", p, nodata=0, **place()) for i, p in enumerate(pixels)]
    stack = stacked(a=files[0], b=files[1])
    assert not stack.read(Window(0, 0, 1, 3))[1].any()
    # and one file of both is an image, in which 0 is a colour too
    whole = open_numbered(str(write_geotiff(tmp_path / "w.tif", pixels, nodata=0, **place())))
    assert whole.read(whole.bounds)[1].tolist() == [[False, True, True]]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_an_index_of_a_stack_has_no_value_where_a_band_has_none(tmp_path, dtype):
    red, nir = noise(2, 30, 40, dtype=dtype)
    red[3:9, 5:20] = nir[20:25] = 0
    files = {
        n: str(write_geotiff(tmp_path / f"{n}.tif", p, nodata=0)) for n, p in (("red", red), ("nir", nir))
    }
    segmented(
        tmp_path / "out",
        stack=f"red={files['red']},nir={files['nir']}",
        bands="(nir-red)/(nir+red)",
        workers="1",
    )
    with rasterio.open(tmp_path / "out" / "stack.tif") as dataset:
        labels = dataset.read(1)
    np.testing.assert_array_equal(labels == 255, (red == 0) | (nir == 0))


def test_masks_of_all_files_count(tmp_path):
    files = [write_geotiff(tmp_path / f"{i}.tif", noise(1, 1, 4), **place()) for i in range(2)]
    for file, mask in zip(files, ([[True, False, True, True]], [[True, True, False, True]]), strict=True):
        with rasterio.open(file, "r+") as dataset:
            dataset.write_mask(np.array(mask))
    valid = stacked(a=files[0], b=files[1]).read(Window(0, 0, 1, 4))[1]
    assert valid.tolist() == [[True, False, False, True]]


def test_dtypes_become_one_that_holds_all(tmp_path):
    a = write_geotiff(tmp_path / "a.tif", np.array([[200, 255]], np.uint8), **place())
    b = write_geotiff(tmp_path / "b.tif", np.array([[-5, -9]], np.int16), nodata=-9, **place())
    stack = stacked(a=a, b=b)
    pixels, valid = stack.read(stack.bounds)
    assert (stack.dtype, pixels.tolist()) == ("int16", [[[200, 255]], [[-5, -9]]])
    assert valid.tolist() == [[True, False]]


@settings(max_examples=60)
@given(data=st.data())
def test_coarser_bands_are_repeated_onto_the_finest_grid(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("coarse")
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    fine = noise(1, height, width, dtype="int16")
    files = {"fine": write_geotiff(folder / "fine.tif", fine, **place())}
    wanted, valid = [fine[0]], np.ones((height, width), bool)
    for i in range(data.draw(st.integers(1, 3))):
        down, across = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
        row, col = data.draw(st.integers(-5, height - 1)), data.draw(st.integers(-5, width - 1))
        rows, cols = data.draw(st.integers(6, 20)), data.draw(st.integers(6, 20))
        pixels = noise(1, rows, cols, seed=i, low=0, high=9, dtype="int16")
        path = folder / f"{i}.tif"
        files[f"c{i}"] = write_geotiff(path, pixels, nodata=0, **place(col, row, across, down))
        # the oracle looks each pixel up
        r = (np.arange(height)[:, None] - row) // down
        c = (np.arange(width)[None] - col) // across
        inside = (r >= 0) & (r < rows) & (c >= 0) & (c < cols)
        band = np.where(inside, pixels[0][r.clip(0, rows - 1), c.clip(0, cols - 1)], 0)
        wanted.append(band)
        valid &= band != 0
    stack = stacked(**files)
    window = data.draw(windows_in(stack.bounds))
    found, here = stack.read(window)
    np.testing.assert_array_equal(here, valid[window.slices()])
    np.testing.assert_array_equal(found[:, here], np.stack(wanted)[:, *window.slices()][:, here])


def test_the_finest_grid_counts_whichever_band_has_it_and_is_chosen(tmp_path):
    coarse = write_geotiff(tmp_path / "c.tif", noise(1, 10, 10), **place(0, 0, 2, 2))
    fine = write_geotiff(tmp_path / "f.tif", noise(1, 21, 19), **place())
    stack = stacked(c=coarse, f=fine)
    assert (stack.height, stack.width, stack.georeference.transform[0]) == (21, 19, 1)
    assert stack.origin["stack"][0]["repeated"] == [2, 2]
    only = stack.only((1,))
    assert (only.bands, only.band_names, only.bounds) == ((1,), ("c",), stack.bounds)


@pytest.mark.parametrize(
    ("profile", "bands", "why"),
    [
        (
            {"crs": "EPSG:32634", **place()},
            1,
            "origin is 21, not 15; warp it first: gdalwarp -t_srs EPSG:32633 -te 1000 1980 1020 2000",
        ),
        (place(0, 0, 1.5, 1.5), 1, "its pixels are 1.5 x 1.5 of those; give --resample (nearest, "),
        (place(0.5, 0, 2, 2), 1, "its corner lies at pixel 0.50, 0.00 of it"),
        (place(500, 0, 2, 2), 1, "it lies elsewhere"),
        ({"transform": Affine(1, 0.2, 1000, 0.2, -1, 2000)}, 1, "its pixels are"),
        ({"transform": Affine(1, 0, 1000, 0, 1, 2000)}, 1, "its pixels are"),
        ({"transform": Affine.identity()}, 1, "without a transform"),
        (place(), 3, "has 3 bands, where other is one"),
    ],
)
def test_a_file_that_does_not_lie_on_the_grid_is_named_with_the_reason(tmp_path, profile, bands, why):
    first = write_geotiff(tmp_path / "first.tif", noise(1, 20, 20), **place())
    other = write_geotiff(tmp_path / "other.tif", noise(bands, 20, 20), **profile)
    with pytest.raises(RasterError) as caught:
        stacked(first=first, other=other)
    text = str(caught.value)
    assert str(other) in text
    assert why in text
    assert "\n" not in text


def test_files_without_a_place_are_stacked_where_their_sizes_are_equal(tmp_path):
    files = [
        write_geotiff(tmp_path / f"{i}.tif", noise(1, 7, 8, seed=i), crs=None, transform=Affine.identity())
        for i in range(2)
    ]
    stack = stacked(a=files[0], b=files[1])
    assert stack.read(stack.bounds)[0].shape == (2, 7, 8)
    other = write_geotiff(tmp_path / "o.tif", noise(1, 7, 9), crs=None, transform=Affine.identity())
    with pytest.raises(RasterError, match="sizes and control points have to be equal"):
        stacked(a=files[0], b=other)


# Runs


def options(bands):
    return ",".join(f"b{i + 2}={path}" for i, path in enumerate(bands))


@pytest.mark.parametrize("more", [{}, {"workers": "processes:1", "chunk_size": 512}, {"bands": "b4,b2"}])
def test_a_stack_has_the_labels_of_the_raster_of_its_bands(three, tmp_path, more):
    whole, bands = three
    chosen = {"bands": (3, 1)} if "bands" in more else {}
    segmented(tmp_path / "whole", sources=(str(whole),), **chosen)
    report = segmented(tmp_path / "s", stack=options(bands), **more)
    assert report.done == ["stack"]
    found, wanted = (level_arrays(tmp_path / p) for p in ("s/stack.tif", "whole/whole.tif"))
    assert [f.tobytes() for f in found] == [w.tobytes() for w in wanted]
    book = Codebook.load(tmp_path / "s" / "codebook.npz")
    assert book.bands == (("b4", "b2") if "bands" in more else (1, 2, 3))


def test_an_index_of_a_stack_uses_its_names_and_codebooks_ask_for_them_again(three, tmp_path):
    whole, bands = three
    index = "b4,(b3-b2)/(b3+b2)"
    segmented(tmp_path / "s", stack=options(bands), bands=index)
    # in another order, with the names that the codebook remembers
    turned = f"b4={bands[2]},b2={bands[0]},b3={bands[1]}"
    segmented(tmp_path / "t", stack=turned, codebook=str(tmp_path / "s" / "codebook.npz"))
    # the same numbers by place in one file
    segmented(tmp_path / "w", sources=(str(whole),), bands="3,(b2-b1)/(b2+b1)")
    files = ("s/stack.tif", "t/stack.tif", "w/whole.tif")
    assert len({level_arrays(tmp_path / f)[0].tobytes() for f in files}) == 1


def test_plan_and_fit_see_the_stack_too(three, tmp_path):
    whole, bands = three
    assert plan(RunConfig(stack=options(bands))).pixels == plan(RunConfig(sources=(str(whole),))).pixels
    for name, config in (("s", {"stack": options(bands)}), ("w", {"sources": (str(whole),)})):
        fit_to_file(RunConfig(segments=3, progress="none", **config), tmp_path / f"{name}.npz")
    books = [Codebook.load(tmp_path / f"{n}.npz").content_hash for n in "sw"]
    assert books[0] == books[1]


def test_the_run_json_of_a_stack_makes_the_same_bytes_again(three, tmp_path):
    _, bands = three
    segmented(tmp_path / "s", stack=options(bands))
    again = build({**load_file(str(tmp_path / "s" / "run.json"))[0], "out": str(tmp_path / "again")})
    assert not run(again).failed
    assert (tmp_path / "again" / "stack.tif").read_bytes() == (tmp_path / "s" / "stack.tif").read_bytes()
    # and is done once
    assert run(build({**load_file(str(tmp_path / "s" / "run.json"))[0]})).skipped == ["stack"]


def test_a_file_of_a_stack_that_cannot_be_read_is_named(three, tmp_path):
    _, bands = three
    (tmp_path / "bad.tif").write_text("x")
    report = run(RunConfig(stack=f"{options(bands)},bad={tmp_path / 'bad.tif'}", out=str(tmp_path / "o")))
    assert report.exit_code == 1
    (said,) = report.failed.values()
    assert f"bad: {tmp_path / 'bad.tif'}: not a raster" in said
    report = run(RunConfig(stack=options(bands), bands="red", out=str(tmp_path / "o"), overwrite=True))
    (said,) = report.failed.values()
    assert "has no band 'red'; it has b2, b3, b4" in said


def test_a_stack_and_sources_together_are_refused():
    with pytest.raises(UsageError, match=re.escape("--stack names the files of each raster")):
        RunConfig(stack="a=b", sources=("c",))


def test_a_stack_pickles(three):
    _, bands = three
    stack = stacked(a=bands[0], b=bands[1])
    assert pickle.loads(pickle.dumps(stack)) == stack
    assert stack.pixel_bytes > 2 * 3
