"""The mean colours of classes are those of their pixels, whatever clusters them."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio

from engine.colours import lab
from pipeline.api.arrays import open_raster, segment
from pipeline.api.fitting import fit
from pipeline.errors import UsageError
from tests.rasters import write_geotiff

COLOURS = ((20, 70, 20), (90, 110, 60), (180, 160, 120), (30, 40, 110))


@pytest.fixture(scope="module")
def quilt():
    """Large patches of four colours with some grain, uint8 (3, y, x)."""
    rng = np.random.default_rng(3)
    patches = rng.integers(0, 4, (6, 8)).repeat(64, 0).repeat(64, 1)
    pixels = np.moveaxis(np.array(COLOURS)[patches], -1, 0) + rng.integers(-6, 7, (3, 384, 512))
    return pixels.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("method", "features"), [("kmeans", "bands"), ("kmeans", "lab"), ("kmeans", "texture"), ("cnn", "bands")]
)
def test_they_are_the_means_of_the_labelled_pixels(quilt, tmp_path, method, features):
    path = write_geotiff(tmp_path / "q.tif", quilt, photometric="RGB")
    book = fit(path, segments=4, method=method, features=features)
    labels = segment(open_raster(path), book).values
    means = np.array([quilt[:, labels == i].mean(axis=1) for i in range(4)])
    # of a network's labels, which are interpolated, the sample sees those at its features alone
    np.testing.assert_allclose(book.mean_colours, means, atol=1 if method == "kmeans" else 8)
    if method == "kmeans" and features != "texture":  # which may have a class for edges
        assert sorted(book.colours) == sorted(book.mean_colours)
        assert np.abs(np.array(sorted(book.colours)) - sorted(COLOURS)).max() <= 2


def test_wide_values_are_shown_between_the_codebook_s_limits(quilt, tmp_path):
    wide = quilt.astype(np.uint16) * 200 + 1000
    path = write_geotiff(tmp_path / "w.tif", wide, photometric="RGB")
    book = fit(path, segments=4)
    low, high = book.scaling.low, book.scaling.high
    linear = np.clip((book.centre_values - low) / (high - low), 0, 1)
    shares = np.array(book.fit["share"])
    exponent = np.log(0.4) / np.log((linear.mean(axis=1) * shares).sum())
    np.testing.assert_allclose(book.mean_colours, 255 * linear ** np.clip(exponent, 1 / 2.4, 1), atol=0.51)
    assert len(book.colours) == 4


@pytest.mark.parametrize("method", ["kmeans", "cnn"])
def test_what_is_not_red_green_and_blue_has_none(quilt, tmp_path, method):
    path = write_geotiff(tmp_path / "w.tif", quilt.astype(np.int16), photometric="MINISBLACK")
    book = fit(path, segments=3, method=method)
    assert book.mean_colours == book.colours == ()
    with pytest.raises(UsageError, match=r"w\.tif: --palette natural"):
        fit(path, segments=3, method=method, palette="natural")


def test_rasters_whose_bands_show_other_things_have_no_common_colours(quilt, tmp_path):
    rgb = write_geotiff(tmp_path / "rgb.tif", quilt, photometric="RGB")
    nameless = write_geotiff(tmp_path / "nameless.tif", quilt[:, :100], photometric="MINISBLACK")
    infrared = write_geotiff(tmp_path / "cir.tif", quilt[:, :90], photometric="MINISBLACK")
    with rasterio.open(infrared, "r+") as dataset:
        dataset.descriptions = ("nir", "swir", "thermal")
    assert fit([rgb, nameless], segments=3).mean_colours
    assert fit([rgb, infrared], segments=3).mean_colours == ()


def test_colours_are_part_of_the_codebook_and_not_of_its_hash(quilt, tmp_path):
    path = write_geotiff(tmp_path / "q.tif", quilt, photometric="RGB")
    natural, distinct = fit(path, segments=4), fit(path, segments=4, palette="distinct")
    assert natural.content_hash == distinct.content_hash
    assert (distinct.colours, distinct.mean_colours) == ((), natural.mean_colours)
    places = lab(np.array(natural.colours, np.uint8))
    assert min(np.linalg.norm(a - b) for i, a in enumerate(places) for b in places[:i]) >= 10
