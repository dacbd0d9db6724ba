"""Where arrays and their labels lie: as they say now, and to the last bit where nothing changed."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio import Affine
from rasterio.control import GroundControlPoint

import pipeline
from engine.grid import Window
from pipeline.api.arrays import open_raster, segment
from pipeline.api.position import bounds_of, georeference_of
from pipeline.api.writing import write
from pipeline.errors import UsageError
from tests.rasters import label_array, noise, write_geotiff
from tests.strategies import codebook

BOOK = codebook([[20, 20], [180, 180]], 3)
SCENE_BOX = (500010, 5799950, 500040, 5799980)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write_geotiff(tmp_path_factory.mktemp("scene") / "scene.tif", noise(2, 120, 150, seed=1), nodata=0)


def both(labels, folder):
    """What `write` and rioxarray say of the same labels: CRS, transform, labels."""
    said = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write(labels, folder / "ours.tif")
        labels.rio.to_raster(folder / "theirs.tif")
        for name in ("ours.tif", "theirs.tif"):
            with rasterio.open(folder / name) as dataset:
                said.append((dataset.crs, dataset.transform, dataset.read(1)))
    return said


def assert_as_rioxarray(labels, folder):
    ours, theirs = both(labels, folder)
    assert ours[0] == theirs[0]
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-12, atol=1e-9)
    np.testing.assert_array_equal(ours[2], theirs[2])


CHANGES = {
    "nothing": lambda a: a,
    "slice": lambda a: a[..., 13:90, 30:],
    "one row": lambda a: a[..., 5:6, :],
    "thinned": lambda a: a[..., ::2, ::3],
    "flipped": lambda a: a[..., ::-1, :],
    "another CRS": lambda a: a.rio.write_crs(32733),
    "no CRS": lambda a: a.drop_vars("spatial_ref"),
    "moved": lambda a: a.assign_coords(x=a.x + 1000, y=a.y - 7.5),
    "moved by part of a pixel": lambda a: a.assign_coords(x=a.x + 0.123),
    "in kilometres": lambda a: a.assign_coords(x=a.x / 1000, y=a.y / 1000),
    "warped": lambda a: a.rio.reproject("EPSG:4326"),
    "warped to its own CRS": lambda a: a.rio.reproject("EPSG:32633", resolution=0.75),
    "warped, same size": lambda a: a.rio.reproject("EPSG:32632", shape=a.shape[-2:]),
    "clipped to a box": lambda a: a.rio.clip_box(*SCENE_BOX),
    "padded": lambda a: a.rio.pad_box(499990, 5799900, 500100, 5800010),
    "transform written": lambda a: a[..., 20:, 10:].rio.write_transform(),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("opened", [open_raster, lambda p: rioxarray.open_rasterio(p, chunks=64)])
def test_labels_are_written_where_they_say_they_are(scene, tmp_path, name, opened):
    assert_as_rioxarray(CHANGES[name](segment(opened(scene), BOOK)), tmp_path)


@pytest.mark.parametrize("name", sorted(set(CHANGES) - {"thinned", "flipped"}))
@pytest.mark.parametrize("opened", [open_raster, lambda p: rioxarray.open_rasterio(p, chunks=64)])
def test_labels_of_an_array_lie_where_the_array_does(scene, tmp_path, name, opened):
    array = CHANGES[name](opened(scene))
    labels = segment(array, BOOK)
    np.testing.assert_array_equal(labels["x"], array["x"])
    assert labels.rio.crs == array.rio.crs
    assert_as_rioxarray(labels, tmp_path)


def test_what_a_reprojection_leaves_of_a_raster_is_a_raster_of_its_own(scene):
    # same numbers of rows and columns: offsets in the former raster would still fit, and lie
    array = open_raster(scene)[:, 10:, 20:]
    warped = array.rio.reproject("EPSG:32632", shape=array.shape[1:])
    assert bounds_of(array) == Window(10, 20, 110, 130)
    assert bounds_of(warped) == Window(0, 0, 110, 130)
    invalid = (warped == warped.rio.nodata).all("band").values
    assert invalid.any()
    np.testing.assert_array_equal(segment(warped, BOOK).values == 255, invalid)
    assert pipeline.fit(warped, segments=2).segments == 2


@pytest.mark.parametrize("opened", [open_raster, rioxarray.open_rasterio])
@settings(max_examples=25)
@given(data=st.data())
def test_an_untouched_slice_lies_where_it_did_to_the_last_bit(tmp_path_factory, opened, data):
    corner = [data.draw(st.floats(-1e7, 1e7)) for _ in range(2)]
    side = data.draw(st.floats(1e-2, 1e3))
    transform = Affine(side, 0, corner[0], 0, -side * data.draw(st.sampled_from([1, -1, 0.3])), corner[1])
    path = write_geotiff(tmp_path_factory.mktemp("p") / "r.tif", noise(1, 40, 50), transform=transform)
    row, col = data.draw(st.integers(0, 39)), data.draw(st.integers(0, 49))
    with rasterio.open(path) as dataset:
        from_whole = open_raster(path).attrs
        array = opened(path)[:, row:, col:]
        place = georeference_of(array)
        a, b, c, d, e, f = tuple(dataset.transform)[:6]
        assert place.transform == (a, b, a * col + b * row + c, d, e, d * col + e * row + f)
        assert place.crs_wkt == dataset.crs.to_wkt()
    assert bounds_of(array) == Window(row, col, 40 - row, 50 - col)
    assert from_whole == open_raster(path).attrs


# Grids without axes


def rotated(folder):
    transform = Affine(1, 0.5, 7, 0.2, -1, 9)
    return write_geotiff(folder / "r.tif", noise(2, 60, 70), transform=transform, crs="EPSG:32633")


def placed_by_points(folder):
    path = folder / "g.tif"
    corners = [(0, 0), (0, 70), (60, 0), (60, 70)]
    points = [GroundControlPoint(r, c, 10 + c / 100, 50 - r / 100, 3.5) for r, c in corners]
    write_geotiff(path, noise(2, 60, 70), transform=None, crs=None)
    with rasterio.open(path, "r+") as dataset:
        dataset.gcps = points, "EPSG:4326"
    return path


@pytest.mark.parametrize("make", [rotated, placed_by_points])
def test_a_slice_of_a_grid_without_axes_lies_where_it_did(tmp_path, make):
    array = open_raster(make(tmp_path))
    whole = georeference_of(array)
    assert georeference_of(array[:, 20:, 11:]) == whole.shifted(20, 11)
    assert georeference_of(segment(array, BOOK)[20:, 11:]) == whole.shifted(20, 11)


def test_a_slice_of_a_rotated_raster_of_rioxarray_lies_where_it_did(tmp_path):
    path = rotated(tmp_path)
    array, own = rioxarray.open_rasterio(path), open_raster(path)
    cut = {"y": slice(20, 50), "x": slice(11, None)}
    assert bounds_of(array.isel(cut)) == bounds_of(own.isel(cut)) == Window(20, 11, 30, 59)
    assert georeference_of(array.isel(cut)).transform == georeference_of(own.isel(cut)).transform
    np.testing.assert_array_equal(segment(array.isel(cut), BOOK).values, segment(own.isel(cut), BOOK).values)


@pytest.mark.parametrize("make", [rotated, placed_by_points])
@pytest.mark.parametrize("opened", [open_raster, rioxarray.open_rasterio])
def test_what_is_written_into_a_grid_without_axes_counts(tmp_path, make, opened):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = opened(make(tmp_path))
        assert_as_rioxarray(segment(array.rio.write_crs("EPSG:32733"), BOOK), tmp_path)
    transform = Affine(2, 0, 1000, 0, -2, 2000)
    if opened is open_raster:
        array = array.drop_vars([c for c in ("xc", "yc") if c in array.coords])
        place = georeference_of(segment(array.rio.write_transform(transform), BOOK))
        assert (place.transform, place.gcps) == (tuple(transform)[:6], ())


def test_points_of_a_raster_of_rioxarray_are_written(tmp_path):
    path = placed_by_points(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = rioxarray.open_rasterio(path)
    assert georeference_of(segment(array, BOOK)) == georeference_of(open_raster(path))


# What is said of an array that lost something


def test_masks_that_a_reprojection_drops_are_asked_for(tmp_path):
    pixels = noise(4, 80, 90)
    pixels[3] = 255
    pixels[3, 20:40, 30:60] = 0
    path = write_geotiff(tmp_path / "r.tif", pixels, photometric="rgb", alpha="yes")
    array = open_raster(path, bands=(1, 2))
    assert not array.valid.values.all()
    warped = array.rio.reproject("EPSG:4326")
    with pytest.raises(UsageError, match=r"lost its coordinate 'valid'.*pass it reprojected too: valid="):
        segment(warped, BOOK)
    with pytest.raises(UsageError, match="lost its coordinate 'valid'"):
        pipeline.fit(warped)
    mask = array.valid.astype("uint8").rio.reproject("EPSG:4326", nodata=0)
    labels = segment(warped, BOOK, valid=mask)
    np.testing.assert_array_equal(labels.values == 255, mask.values == 0)


def test_what_clip_leaves_out_is_invalid(scene):
    array = open_raster(scene)
    x0, y0, x1, y1 = SCENE_BOX
    triangle = {"type": "Polygon", "coordinates": [[(x0, y0), (x1, y0), (x1, y1), (x0, y0)]]}
    clipped = array.rio.clip([triangle])
    inside = clipped.valid.values & (clipped != 0).any("band").values
    assert 0.3 < inside.mean() < 0.7
    np.testing.assert_array_equal(segment(clipped, BOOK).values != 255, inside)


def test_a_nodata_value_that_is_written_later_counts(scene):
    array = open_raster(scene)
    value = int(array[0, 5, 5])
    marked = array.where(array[0] != value, value).astype("uint8").rio.write_nodata(value)
    assert (segment(marked, BOOK).values[(marked == value).all("band").values] == 255).all()


@pytest.mark.parametrize(
    "change", [lambda a: a[[0, 1, 5]], lambda a: a.assign_coords(x=np.arange(150.0) ** 2)]
)
def test_labels_on_no_even_grid_are_not_written(scene, tmp_path, change):
    labels = segment(open_raster(scene), BOOK)
    with pytest.raises(UsageError, match="in uneven steps"):
        write(change(labels), tmp_path / "l.tif")
    assert not list(tmp_path.iterdir())


def test_labels_of_another_program_can_be_written(tmp_path):
    plain = xr.DataArray(np.zeros((5, 6), "uint8"), dims=("lat", "lon"))
    path = write(plain.assign_coords(lat=np.arange(5.0), lon=np.arange(6.0)), tmp_path / "l.tif")
    with rasterio.open(path) as dataset:
        assert dataset.transform == Affine(1, 0, -0.5, 0, 1, -0.5)
    assert georeference_of(label_array(np.zeros((5, 6)))).transform is None
