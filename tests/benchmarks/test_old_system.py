"""The baseline does what the old system did."""

import numpy as np
import pytest
import rasterio

from benchmarks import data
from benchmarks.races import old_system


def squares(side, colours):
    """Stripes of `side` px, each of one colour, shape (3, side, side * len(colours))."""
    return np.repeat(np.array(colours, np.uint8).T, side, axis=1)[:, None].repeat(side, 1)


@pytest.mark.parametrize("resolution", [1, 4])
def test_labels_ascend_with_their_centres(resolution):
    pixels = squares(16, [(200, 190, 210), (10, 20, 15), (90, 100, 110)])
    labels = old_system.segment(pixels, 3, resolution)
    np.testing.assert_array_equal(labels, np.repeat([2, 0, 1], 16)[None].repeat(16, 0))
    assert labels.dtype == np.uint8


def test_feature_of_a_block_is_all_its_values():
    pixels = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4)
    features = old_system.block_features(pixels, 2)
    assert features.shape == (4, 12)
    np.testing.assert_array_equal(features[1], pixels[:, :2, 2:].ravel())


def test_a_cut_block_still_covers_its_pixels():
    pixels = squares(13, [(10, 10, 10), (240, 240, 240)])
    labels = old_system.segment(pixels, 2, 4)
    assert labels.shape == (13, 26)
    assert set(labels[:, :12].ravel()) == {0}
    assert set(labels[:12, 16:24].ravel()) == {1}


def test_chunks_of_the_expanded_distance_agree_with_the_plain_one():
    rng = np.random.default_rng(3)
    features = rng.integers(0, 256, (5000, 3)).astype(np.uint8)
    centres = rng.integers(0, 256, (40, 3)).astype(np.float32)
    plain = ((features[:, None].astype(np.float64) - centres) ** 2).sum(2)
    got = plain[np.arange(5000), old_system.assign(features, centres)]
    np.testing.assert_allclose(got, plain.min(1), atol=0.05)


def test_old_system_writes_a_cog_where_the_raster_lies(work):
    photo = data.photo(700)
    old_system.run(photo.path, work / "old.tif", 5, 3)
    with rasterio.open(photo.path) as source, rasterio.open(work / "old.tif") as out:
        assert out.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (out.crs, out.transform, out.shape) == (source.crs, source.transform, source.shape)
        assert set(np.unique(out.read())) == set(range(5))
