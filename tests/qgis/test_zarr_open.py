"""Zarr stores in the QGIS that a person has installed: through their VRT they look like the COG."""

import json
from pathlib import Path

import pytest

from pipeline.api.arrays import labels_like, open_raster
from pipeline.api.writing import write
from tests.rasters import noise, write_geotiff
from tests.strategies import codebook

pytestmark = pytest.mark.qgis

LOOK = Path(__file__).with_name("look.py")


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Labels 0 to 4 of a raster with a hole, and the raster."""
    pixels = noise(1, 1400, 1100).repeat(7, 1).repeat(7, 2)[:, :1400, :1100]
    pixels[:, 200:500, 300:700] = 0
    source = write_geotiff(tmp_path_factory.mktemp("source") / "s.tif", pixels, nodata=0)
    array = open_raster(source)
    found = (array.data[0] % 5).astype("uint8")
    found[200:500, 300:700] = 255
    return labels_like(array, found, codebook([[float(i)] for i in range(5)])), source


def seen(outside, python, path, source):
    """What QGIS says of a layer, and its pictures of a window and of all of it."""
    pictures = [path.with_name(f"{path.name}.{part}.png") for part in ("window", "whole")]
    text = outside(python, LOOK, path, source, "250,100,512,512", *pictures)
    return json.loads(text)["labels"], [p.read_bytes() for p in pictures]


@pytest.mark.parametrize("version", [3, 2])
def test_a_store_opens_styled_and_looks_like_the_cog(outside, qgis_python, labels, tmp_path, version):
    array, source = labels
    cog = write(array, tmp_path / "c.tif", chunk_size=512)
    store = write(array, tmp_path / "z.zarr", chunk_size=512, zarr_version=version)
    ours, our_pictures = seen(outside, qgis_python, store.with_suffix(".vrt"), source)
    theirs, their_pictures = seen(outside, qgis_python, cog, source)
    assert ours["valid"]
    assert ours["renderer"] == "paletted"
    assert [c[2] for c in ours["classes"]] == [f"Segment {i}" for i in range(5)]
    for key in ("classes", "crs", "extent", "size", "bands", "nodata", "pyramids"):
        assert ours[key] == theirs[key], key
    assert our_pictures == their_pictures
    # a style of its own stands beside it too, which QGIS would take first: the VRT has to do without
    store.with_suffix(".qml").unlink()
    without, pictures = seen(outside, qgis_python, store.with_suffix(".vrt"), source)
    assert without["classes"] == theirs["classes"]
    assert pictures == their_pictures
