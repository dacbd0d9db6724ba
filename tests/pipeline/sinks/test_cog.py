"""The label file as GDAL and a COG validator see it: layout, labels, colours, and its place to the bit."""

from __future__ import annotations

import errno
import os
import xml.etree.ElementTree as ET
import zlib

import dask.array as da
import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rio_cogeo.cogeo import cog_validate

from pipeline.api.arrays import labels_like, open_raster
from pipeline.api.writing import write
from pipeline.errors import StorageError
from pipeline.legend.label_style import LabelStyle
from pipeline.sinks import cog
from tests.rasters import label_array, level_arrays, naive_halves, noise, patchy_labels, write_geotiff
from tests.strategies import codebook


def assert_valid(path):
    valid, errors, warnings = cog_validate(path, strict=True, quiet=True)
    assert (valid, errors, warnings) == (True, [], [])


def assert_holds(path, labels):
    expected = naive_halves(labels)
    found = level_arrays(path)
    assert len(found) == len(expected)
    for ours, naive in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, naive)


def is_stored(dataset, col, row):
    return dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=1) is not None


# Layout and labels

# not one pixel wide: the validator tells overviews by their width (it refuses what GDAL writes, too)
SHAPES = [(1, 1), (512, 512), (511, 513), (513, 2), (1, 1025), (1200, 700), (700, 2100)]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_file_of_any_shape_is_a_valid_cog_that_holds_its_labels(tmp_path, shape):
    labels = patchy_labels(*shape, holes=shape != (1, 1))
    path = write(label_array(labels), tmp_path / "l.tif", chunk_size=512)
    assert_valid(path)
    assert_holds(path, labels)
    with rasterio.open(path) as dataset:
        assert (dataset.dtypes, dataset.nodata, dataset.count) == (("uint8",), 255, 1)
        assert dataset.block_shapes == [(512, 512)]
        assert dataset.profile["compress"] == "deflate"


@pytest.mark.parametrize("shape", [(1, 1), (700, 1300)])
def test_a_file_too_large_for_32_bits_is_a_valid_cog_too(tmp_path, monkeypatch, shape):
    labels = patchy_labels(*shape)
    small = write(label_array(labels), tmp_path / "small.tif")
    monkeypatch.setattr(cog, "_CLASSIC_LIMIT", -1)
    big = write(label_array(labels), tmp_path / "big.tif")
    assert small.read_bytes()[:4] == b"II*\0"
    assert big.read_bytes()[:4] == b"II+\0"
    assert_valid(big)
    assert_holds(big, labels)
    with rasterio.open(small) as one, rasterio.open(big) as two:
        assert one.tags() == two.tags()
        assert one.colormap(1) == two.colormap(1)


def test_tiles_without_labels_take_no_room(tmp_path):
    labels = np.full((1024, 2048), 255, np.uint8)
    labels[600, 1100] = 3
    path = write(label_array(labels), tmp_path / "l.tif")
    assert_valid(path)
    assert_holds(path, labels)
    with rasterio.open(path) as dataset:
        stored = [[is_stored(dataset, col, row) for col in range(4)] for row in range(2)]
    assert stored == [[False] * 4, [False, False, True, False]]
    assert path.stat().st_size < 10_000


def test_each_tile_stands_between_its_length_and_its_last_bytes(tmp_path):
    # GDAL's block leader and trailer, by which a reader fetches a tile without its directory
    labels = patchy_labels(900, 1100)
    path = write(label_array(labels), tmp_path / "l.tif")
    raw = path.read_bytes()
    with rasterio.open(path) as dataset:
        for row, col in np.ndindex(2, 3):
            at, size = (
                int(dataset.get_tag_item(f"BLOCK_{what}_{col}_{row}", "TIFF", bidx=1))
                for what in ("OFFSET", "SIZE")
            )
            assert int.from_bytes(raw[at - 4 : at], "little") == size
            assert raw[at + size : at + size + 4] == raw[at + size - 4 : at + size]
            unpacked = zlib.decompressobj()
            assert len(unpacked.decompress(raw[at : at + size])) == 512 * 512
            assert unpacked.unused_data == b""


def test_labels_of_a_chunk_of_nodata_come_back_as_nodata(tmp_path):
    labels = np.full((600, 600), 255, np.uint8)
    path = write(label_array(labels), tmp_path / "l.tif")
    assert_valid(path)
    assert_holds(path, labels)


@pytest.mark.parametrize("fails", [errno.EXDEV, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_that_cannot_copy_within_itself_gets_the_same_file(tmp_path, monkeypatch, fails):
    labels = label_array(patchy_labels(1100, 900))
    expected = write(labels, tmp_path / "a.tif").read_bytes()

    def refuse(*_):
        raise OSError(fails, os.strerror(fails))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    assert write(labels, tmp_path / "b.tif").read_bytes() == expected


def test_a_copy_in_small_steps_gives_the_same_file(tmp_path, monkeypatch):
    labels = label_array(patchy_labels(1100, 900))
    expected = write(labels, tmp_path / "a.tif").read_bytes()
    real = os.copy_file_range
    monkeypatch.setattr(os, "copy_file_range", lambda s, t, n, *rest: real(s, t, min(n, 1000), *rest))
    assert write(labels, tmp_path / "b.tif").read_bytes() == expected


def test_a_disk_that_fills_up_while_parts_are_joined_leaves_no_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "copy_file_range", full)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StorageError, match="free space"):
        write(label_array(patchy_labels(700, 600)), tmp_path / "l.tif")
    assert not list(tmp_path.glob("*.tif"))


def test_a_file_that_was_there_stays_until_the_new_one_is_whole(tmp_path):
    path = write(label_array(patchy_labels(60, 60)), tmp_path / "l.tif")
    before = path.read_bytes()

    def fail(block):
        raise RuntimeError("enough")

    labels = label_array(patchy_labels(60, 60, seed=1))
    failing = labels.copy(data=labels.data.map_blocks(fail, dtype=np.uint8, meta=np.empty((0, 0), np.uint8)))
    with pytest.raises(RuntimeError, match="enough"):
        write(failing, path)
    assert path.read_bytes() == before


# Colours, names, statistics


@pytest.mark.parametrize("segments", [2, 12, 40, 254])
def test_labels_have_colours_and_names(tmp_path, segments):
    labels = patchy_labels(90, 80, segments)
    path = write(label_array(labels, segments), tmp_path / "l.tif")
    style = LabelStyle.of(segments)
    with rasterio.open(path) as dataset:
        colours = dataset.colormap(1)
        assert [colours[i][:3] for i in range(segments)] == list(style.colours)
        assert dataset.colorinterp[0].name == "palette"
        assert dataset.tags()["TILEWRIGHT_CODEBOOK"] == "0123456789abcdef" * 4
    assert len(set(style.colours)) == segments
    sidecar = ET.parse(f"{path}.aux.xml").getroot()
    assert [c.text for c in sidecar.iter("Category")] == list(style.names)
    qml = ET.parse(path.with_suffix(".qml")).getroot()
    entries = [(int(e.get("value")), e.get("color"), e.get("label")) for e in qml.iter("paletteEntry")]
    assert entries == [
        (i, "#{:02x}{:02x}{:02x}".format(*c), n)
        for i, (c, n) in enumerate(zip(style.colours, style.names, strict=True))
    ]


def test_a_label_s_colour_does_not_depend_on_how_many_there_are():
    assert LabelStyle.of(254).colours[:9] == LabelStyle.of(9).colours


def test_statistics_and_counts_are_those_of_the_labels(tmp_path):
    labels = patchy_labels(600, 700)
    path = write(label_array(labels), tmp_path / "l.tif")
    valid = labels[labels != 255]
    with rasterio.open(path) as dataset:
        tags = dataset.tags(1)
    assert float(tags["STATISTICS_MEAN"]) == pytest.approx(valid.mean())
    assert float(tags["STATISTICS_STDDEV"]) == pytest.approx(valid.std())
    assert (int(tags["STATISTICS_MINIMUM"]), int(tags["STATISTICS_MAXIMUM"])) == (valid.min(), valid.max())
    assert float(tags["STATISTICS_VALID_PERCENT"]) == pytest.approx(100 * valid.size / labels.size, rel=1e-3)
    rows = ET.parse(f"{path}.aux.xml").getroot().iter("Row")
    assert [int(r[1].text) for r in rows] == np.bincount(valid, minlength=8).tolist()


# Its place on the ground


def labels_on(source, path):
    """A small label file that lies where a raster's upper left corner does."""
    array = open_raster(source)[:, :9, :7]
    book = codebook(np.arange(8 * len(array)).reshape(8, -1))
    labels = labels_like(array, da.from_array(patchy_labels(*array.shape[1:], holes=False)), book)
    return write(labels, path)


def assert_same_place(source, labels):
    with rasterio.open(source) as one, rasterio.open(labels) as two:
        by_points = one.transform.is_identity and bool(one.gcps[0])
        assert tuple(two.transform) == tuple(one.transform)
        assert (two.gcps[1] if by_points else two.crs) == (one.gcps[1] if by_points else one.crs)
        assert two.tags().get("AREA_OR_POINT", "Area") == one.tags().get("AREA_OR_POINT", "Area")
        points = [[(p.row, p.col, p.x, p.y, p.z or 0.0) for p in d.gcps[0]] for d in (one, two)]
        assert points[1] == (points[0] if by_points else [])


@pytest.mark.filterwarnings("ignore:.*lost in conversion to CF")
def test_labels_lie_where_real_rasters_do(catalogue, tmp_path):
    places = {}
    for found in catalogue.some("a grid of numbers", lambda f: f.is_grid_of_numbers, most=1000):
        places.setdefault((str(found.crs), found.transform, found.gcps), found)
    assert len(places) > 1
    for number, found in enumerate(places.values()):
        labels = labels_on(found.path, tmp_path / f"{number}.tif")
        assert_same_place(found.path, labels)


CUSTOM = (
    'PROJCS["mine",GEOGCS["GCS_mine",DATUM["D_mine",SPHEROID["S_mine",3396190,169.8944472236]],'
    'PRIMEM["Reference_Meridian",0],UNIT["degree",0.0174532925199433]],'
    'PROJECTION["Equirectangular"],PARAMETER["standard_parallel_1",12.5],PARAMETER["central_meridian",180],'
    'PARAMETER["false_easting",0],PARAMETER["false_northing",0],UNIT["metre",1]]'
)
POINTS = [
    GroundControlPoint(r, c, 10.1 + c / 3, 50.2 - r / 7, z)
    for r, c, z in [(0, 0, 0), (0.5, 9, 1.5), (8, 3, 2)]
]


# what open_raster writes for other programs to read loses some CRS's details; here the labels' CRS counts
@pytest.mark.filterwarnings("ignore:.*lost in conversion to CF")
@pytest.mark.parametrize(
    "place",
    [
        {"crs": None, "transform": Affine.identity()},
        {"crs": None},
        {"transform": Affine.identity()},
        {"transform": Affine(0.1, 0, 1e6 / 3, 0, -0.3, 2e6 / 7)},
        {"transform": Affine(0.5, 0, 100, 0, 0.5, 200)},
        {"transform": Affine(-0.5, 0, 100, 0, -0.5, 200)},
        {"transform": Affine(0.5, 0.1, 1 / 3, -0.2, -0.7, 2 / 3)},
        {"crs": "EPSG:4326", "transform": Affine(1 / 3600, 0, -180, 0, -1 / 3600, 90)},
        {"crs": "EPSG:2056+5728"},
        {"crs": CUSTOM},
        {"crs": "ESRI:102039"},
        {"crs": "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=30 +lon_0=10 +datum=WGS84"},
        {"crs": "EPSG:4326", "transform": Affine.identity(), "gcps": POINTS},
    ],
    ids=[
        "nowhere", "no CRS", "no transform", "thirds and sevenths", "south up", "mirrored", "rotated",
        "degrees", "compound CRS", "CRS of Mars", "ESRI's CRS", "rotated pole", "points",
    ],
)  # fmt: skip
def test_labels_lie_where_their_raster_does_to_the_bit(tmp_path, place):
    source = write_geotiff(tmp_path / "r.tif", noise(1, 12, 11), **place)
    assert_same_place(source, labels_on(source, tmp_path / "l.tif"))


def test_points_without_a_crs_are_carried_too(tmp_path):
    source = write_geotiff(tmp_path / "r.tif", noise(1, 12, 11), crs=None, transform=Affine.identity())
    with rasterio.open(source, "r+") as dataset:
        dataset.gcps = (POINTS, CRS())
    assert_same_place(source, labels_on(source, tmp_path / "l.tif"))


NUMBERS = st.floats(-1e7, 1e7, allow_subnormal=False).filter(lambda v: abs(v) > 1e-6)


@settings(max_examples=40)
@given(st.tuples(*[NUMBERS] * 6), st.booleans(), st.booleans())
def test_any_transform_is_carried_to_the_bit(tmp_path_factory, six, straight, point):
    a, b, c, d, e, f = six
    transform = Affine(a, 0, c, 0, e, f) if straight else Affine(a, b, c, d, e, f)
    folder = tmp_path_factory.mktemp("place")
    source = write_geotiff(folder / "r.tif", noise(1, 4, 4), transform=transform)
    if point:
        with rasterio.open(source, "r+") as dataset:
            dataset.update_tags(AREA_OR_POINT="Point")
    assert_same_place(source, labels_on(source, folder / "l.tif"))


def test_a_crs_that_tags_cannot_hold_stands_in_the_sidecar_and_others_do_not(tmp_path):
    mars = write_geotiff(tmp_path / "m.tif", noise(1, 9, 9), crs=CUSTOM)
    labels_on(mars, tmp_path / "ml.tif")
    utm = write_geotiff(tmp_path / "u.tif", noise(1, 9, 9))
    labels_on(utm, tmp_path / "ul.tif")
    assert "<SRS" not in (tmp_path / "ul.tif.aux.xml").read_text()
