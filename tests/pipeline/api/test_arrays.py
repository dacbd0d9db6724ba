"""Rasters as lazy arrays: what they carry, what slices keep, and labels that equal a run's."""

from __future__ import annotations

import importlib
import warnings

import dask
import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio import Affine
from rasterio.windows import Window as FileWindow

import pipeline
from engine.codebook import Codebook, CodebookError
from engine.grid import Window
from pipeline.api.arrays import open_raster, segment
from pipeline.api.fitting import fit
from pipeline.api.position import bounds_of, georeference_of
from pipeline.api.writing import write
from pipeline.config import RunConfig
from pipeline.errors import RasterError, UsageError
from pipeline.running.run import run
from tests.rasters import PLACE, level_arrays, noise, write_geotiff
from tests.strategies import codebook


def raising(*_, **__):
    raise AssertionError("something was computed before it was asked for")


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A raster of 3 bands with nodata holes, larger than a cell."""
    pixels = noise(3, 700, 1100, seed=4)
    pixels[:, 100:300, 50:600] //= 4
    pixels[:, 250:420, 700:900] = 0
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    return write_geotiff(path, pixels, nodata=0, tiled=True, blockxsize=256, blockysize=256)


@pytest.fixture(scope="module")
def made(scene, tmp_path_factory):
    """A run on the scene: its codebook and its label file."""
    out = tmp_path_factory.mktemp("out")
    report = run(RunConfig(sources=(str(scene),), out=str(out), segments=5, resolution=3))
    assert not report.failed
    return Codebook.load(out / "codebook.npz"), out / "scene.tif"


# What an array carries


def test_opening_computes_nothing(scene):
    with dask.config.set(scheduler=raising):
        array = open_raster(scene)
        part = array[:, 100:200, 300:]
    assert dask.is_dask_collection(array.data)
    assert dask.is_dask_collection(array.coords["valid"].data)
    with pytest.raises(AssertionError, match="before it was asked for"):
        part.compute(scheduler=raising)


def test_an_array_holds_the_pixels_and_their_validity(scene):
    array = open_raster(scene)
    with rasterio.open(scene) as dataset:
        np.testing.assert_array_equal(array.values, dataset.read())
        np.testing.assert_array_equal(array.coords["valid"].values, dataset.dataset_mask() != 0)
        assert (array.dims, array.dtype, array.name) == (("band", "y", "x"), "uint8", "scene")
    assert array.coords["band"].values.tolist() == [1, 2, 3]
    assert array.attrs["long_name"] == ("band 1", "band 2", "band 3")


def test_bands_and_chunks_are_as_asked_for(scene):
    array = open_raster(scene, bands=(3, 1), chunk_size=300)
    assert array.coords["band"].values.tolist() == [3, 1]
    assert array.chunks == ((2,), (512, 188), (512, 512, 76))
    np.testing.assert_array_equal(array.values, open_raster(scene).values[[2, 0]])


def test_coordinates_are_the_centres_of_pixels(scene):
    array = open_raster(scene)
    with rasterio.open(scene) as dataset:
        xs, _ = dataset.xy([0] * 3, [0, 500, 1099])
        _, ys = dataset.xy([0, 300, 699], [0] * 3)
    np.testing.assert_allclose(array.coords["x"].values[[0, 500, 1099]], xs, rtol=1e-15)
    np.testing.assert_allclose(array.coords["y"].values[[0, 300, 699]], ys, rtol=1e-15)


def test_a_rotated_raster_has_offsets_but_no_axes(tmp_path):
    path = write_geotiff(tmp_path / "r.tif", noise(1, 20, 30), transform=Affine(1, 0.5, 7, 0.2, -1, 9))
    array = open_raster(path)
    assert "x" not in array.coords
    assert "y" not in array.coords
    assert array.rio.transform() == Affine(1, 0.5, 7, 0.2, -1, 9)
    assert bounds_of(array) == Window(0, 0, 20, 30)


def test_other_programs_find_crs_transform_and_nodata_where_rioxarray_has_them(scene):
    array = open_raster(scene)
    with rasterio.open(scene) as dataset:
        assert array.rio.crs == dataset.crs
        assert array.rio.transform() == dataset.transform
        assert array.rio.bounds() == pytest.approx(tuple(dataset.bounds))
        assert array.rio.nodata == dataset.nodata
        assert (array.rio.height, array.rio.width) == dataset.shape
    part = array[:, 40:90, 60:]
    assert part.rio.transform(recalc=True) == PLACE["transform"] @ Affine.translation(60, 40)
    assert part.rio.crs == array.rio.crs


def test_ground_control_points_are_found_there_too(catalogue):
    for found in catalogue.some("placed by points only", lambda f: f.gcps and f.is_grid_of_numbers):
        array = open_raster(found.path)
        with rasterio.open(found.path) as dataset:
            points = dataset.gcps[0] if dataset.transform.is_identity else []
        assert [(p.row, p.col, p.x, p.y) for p in array.rio.get_gcps() or []] == [
            (p.row, p.col, p.x, p.y) for p in points
        ]


@pytest.mark.parametrize("crs", ["EPSG:2056", "EPSG:3035", "ESRI:102039", "EPSG:2056+5728", None])
def test_opening_a_raster_warns_of_nothing_whatever_its_crs(tmp_path, crs):
    # as of details that are lost in a form of the CRS which only other programs read
    path = write_geotiff(tmp_path / "r.tif", noise(1, 4, 4), crs=crs)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        open_raster(path)
    ours = [w for w in caught if not issubclass(w.category, PendingDeprecationWarning)]
    assert [str(w.message) for w in ours] == []


def test_a_file_that_is_no_raster_is_refused(tmp_path):
    (tmp_path / "r.tif").write_text("no")
    with pytest.raises(RasterError, match=r"r\.tif: not a raster"):
        open_raster(tmp_path / "r.tif")


# Slices


def offsets_only(array):
    """As a rotated raster has it: no axes, but pixel offsets."""
    rows, columns = ((d, np.arange(array.sizes[d])) for d in ("y", "x"))
    return array.drop_vars(["x", "y"]).assign_coords(row=rows, column=columns)


@settings(max_examples=30)
@given(st.data())
def test_a_slice_knows_where_it_lies(scene, data):
    row, col = data.draw(st.integers(0, 699)), data.draw(st.integers(0, 1099))
    height, width = data.draw(st.integers(1, 700 - row)), data.draw(st.integers(1, 1100 - col))
    part = open_raster(scene)[:, row : row + height, col : col + width]
    assert bounds_of(part) == Window(row, col, height, width)
    with rasterio.open(scene) as dataset:
        expected = dataset.window_transform(FileWindow(col, row, width, height))
    assert georeference_of(part).transform == tuple(expected)[:6]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda a: a[:, ::2], "leaves out or turns around pixels"),
        (lambda a: a[:, :, ::-1], "leaves out or turns around pixels"),
        (lambda a: a[:, [0, 1, 5]], "'y' in uneven steps"),
        (lambda a: a[:, [3, 2]], "leaves out or turns around pixels"),
        (lambda a: offsets_only(a)[:, ::2], "skips pixels along 'row'"),
        (lambda a: offsets_only(a)[:, :, [0, 1, 5]], "skips pixels along 'column'"),
        (lambda a: a[:, :0], "has no pixels"),
        (lambda a: a[0], "it has red, but the codebook was fitted on red, green, blue"),
        (lambda a: a.rename(y="u", x="v"), "is known as y or x"),
        (lambda a: a[:2], "it has red, green, but the codebook was fitted on red, green, blue"),
        (lambda a: a.astype("uint16"), "3 bands of uint16, but"),
    ],
    ids=["step", "flipped", "gaps", "order", "step of offsets", "gaps of offsets", "empty",
         "one band without its dimension", "unknown dimensions", "fewer bands", "another dtype"],
)  # fmt: skip
def test_an_array_that_is_not_on_the_grid_or_does_not_fit_is_refused(scene, made, change, match):
    with pytest.raises(UsageError, match=match or None) as caught:
        segment(change(open_raster(scene)), made[0])
    assert "\n" not in str(caught.value)


# Labels


def test_labels_are_lazy_and_equal_a_run_s(scene, made):
    book, file = made
    with dask.config.set(scheduler=raising):
        labels = segment(open_raster(scene), book)
    assert (labels.dims, labels.dtype, labels.name) == (("y", "x"), "uint8", "labels")
    assert dask.is_dask_collection(labels.data)
    with rasterio.open(file) as dataset:
        np.testing.assert_array_equal(labels.values, dataset.read(1))


@pytest.mark.parametrize("change", [lambda a: a.chunk({"y": 333, "x": 100}), lambda a: a.chunk({"band": 1})])
def test_other_chunks_give_the_same_labels(scene, made, change):
    array = open_raster(scene, chunk_size=512)
    np.testing.assert_array_equal(segment(change(array), made[0]).values, segment(array, made[0]).values)


def test_an_array_that_was_loaded_gives_the_same_labels(scene, made):
    array = open_raster(scene)
    np.testing.assert_array_equal(
        segment(array.load().copy(), made[0]).values, segment(open_raster(scene), made[0]).values
    )


@settings(max_examples=15)
@given(st.integers(0, 500), st.integers(0, 900), st.integers(20, 200), st.integers(20, 200))
def test_a_slice_has_the_labels_of_the_whole_but_for_blocks_that_it_cuts(
    scene, made, row, col, height, width
):
    book, file = made
    with rasterio.open(file) as dataset:
        whole = dataset.read(1)
    part = segment(open_raster(scene)[:, row : row + height, col : col + width], book).values
    expected = whole[row : row + height, col : col + width]
    inner = np.s_[-row % 3 : height - 3, -col % 3 : width - 3]
    np.testing.assert_array_equal(part[inner], expected[inner])
    np.testing.assert_array_equal(part == 255, expected == 255)


def test_labels_keep_the_grid_of_their_pixels(scene, made):
    labels = segment(open_raster(scene)[:, 30:, 40:], made[0])
    assert bounds_of(labels) == Window(30, 40, 670, 1060)
    assert labels.rio.crs == open_raster(scene).rio.crs
    assert labels.rio.nodata == 255
    assert labels.attrs["codebook_hash"] == made[0].content_hash
    np.testing.assert_array_equal(labels.coords["x"].values, open_raster(scene).coords["x"].values[40:])


def test_a_codebook_from_python_is_that_of_a_run(scene, made):
    options = {"segments": 5, "resolution": 3}
    assert fit([open_raster(scene)], **options).content_hash == made[0].content_hash
    assert fit([scene], **options).content_hash == made[0].content_hash
    assert (
        fit([open_raster(scene, chunk_size=512)], **options).to_bytes() == fit([scene], **options).to_bytes()
    )


# Files


def test_a_written_file_holds_the_labels_of_a_run_at_every_level(scene, made, tmp_path):
    book, file = made
    path = write(segment(open_raster(scene), book), tmp_path / "l.tif", chunk_size=512)
    for ours, theirs in zip(level_arrays(path), level_arrays(file), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with rasterio.open(path) as one, rasterio.open(file) as two:
        assert (one.crs, one.transform, one.nodata) == (two.crs, two.transform, two.nodata)
        assert one.colormap(1) == two.colormap(1)
        assert one.tags()["TILEWRIGHT_CODEBOOK"] == two.tags()["TILEWRIGHT_CODEBOOK"]


def test_a_slice_s_file_lies_where_the_slice_does(scene, made, tmp_path):
    path = write(segment(open_raster(scene)[:, 99:, 102:], made[0]), tmp_path / "l.tif")
    with rasterio.open(path) as dataset, rasterio.open(made[1]) as whole:
        assert dataset.transform == whole.window_transform(FileWindow(102, 99, 998, 601))
        np.testing.assert_array_equal(dataset.read(1), whole.read(1)[99:, 102:])


def test_nothing_is_left_beside_the_file_and_its_sidecars(scene, made, tmp_path):
    write(segment(open_raster(scene), made[0]), tmp_path / "new" / "l.tif")
    assert {p.name for p in (tmp_path / "new").iterdir()} == {"l.tif", "l.tif.aux.xml", "l.qml"}


def test_nothing_is_left_of_a_file_whose_raster_cannot_be_read(scene, made, tmp_path):
    path = write_geotiff(tmp_path / "r.tif", noise(3, 60, 60))
    labels = segment(open_raster(path), made[0])
    path.unlink()
    with pytest.raises(RasterError, match="damaged or gone"):
        write(labels, tmp_path / "out" / "l.tif")
    assert not list((tmp_path / "out").glob("*.*"))


@pytest.mark.parametrize(
    "change", [lambda a: a.astype("int16"), lambda a: a.expand_dims("band"), lambda a: a.T]
)
def test_what_are_no_labels_is_not_written(scene, made, tmp_path, change):
    with pytest.raises(UsageError, match="uint8 is needed"):
        write(change(segment(open_raster(scene), made[0])), tmp_path / "l.tif")
    assert not list(tmp_path.iterdir())


def test_numbers_without_a_grid_are_not_written(tmp_path):
    with pytest.raises(
        UsageError, match="a ndarray has no grid to write labels on; give what segment returns"
    ):
        write(np.zeros((3, 4), np.uint8), tmp_path / "l.tif")


# Names


@pytest.mark.parametrize("name", pipeline.__all__)
def test_a_public_name_stays_what_it_is_however_often_and_after_whatever_it_is_used(name):
    # a module named as a function would take its place in the package once it is imported
    first = getattr(pipeline, name)
    for module in (
        "api.arrays",
        "api.fitting",
        "api.writing",
        "fitting",
        "running.run",
        "graph",
        "config",
        "cli",
    ):
        importlib.import_module(f"pipeline.{module}")
    assert callable(first)
    assert getattr(pipeline, name) is first


def test_a_name_that_is_not_there_is_said_not_to_be():
    with pytest.raises(AttributeError, match="no attribute 'segments'"):
        pipeline.segments  # noqa: B018  (asking is the point)


def test_labels_of_a_single_pixel_are_labels(tmp_path):
    path = write_geotiff(tmp_path / "r.tif", np.array([[200]], np.uint8))
    labels = segment(open_raster(path), codebook([[0], [255]], 4))
    assert labels.values.tolist() == [[1]]
    assert level_arrays(write(labels, tmp_path / "l.tif"))[0].tolist() == [[1]]


def test_a_codebook_may_be_named_by_its_file(scene, made, tmp_path):
    codebook, labels = made
    array = open_raster(scene)
    for file in (labels.parent / "codebook.npz", str(labels.parent / "codebook.npz")):
        np.testing.assert_array_equal(segment(array, file).values, segment(array, codebook).values)
    with pytest.raises(CodebookError, match=r"none\.npz: no such file"):
        segment(array, tmp_path / "none.npz")
