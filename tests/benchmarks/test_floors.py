"""Floors, sinks and bare networks do all of the work that they are said to do."""

import math

import numpy as np
import pytest
import rasterio

from benchmarks import clock, data
from benchmarks.parts import mapping, sinks
from benchmarks.races import bare, by_hand, floors, old_system
from engine.block_kmeans import BlockKMeans
from engine.networks.network import STRAIGHT
from pipeline import cli
from pipeline.sinks import cog
from pipeline.sinks.pyramid import level_shapes

SIZE = 1100


@pytest.fixture
def once(monkeypatch):
    """Repeated work is done once, after its warm-up."""
    for function in (clock.repeated, clock.best):
        monkeypatch.setattr(function, "__defaults__", (0.0001,))


@pytest.fixture
def labels(work):
    """Stripes of eight labels as a file, and in memory."""
    array = (np.arange(SIZE) // 37 % 8).astype(np.uint8)[None].repeat(SIZE, 0)
    array[:, :50] = 255
    path = work / "labels.tif"
    grid = {"crs": "EPSG:32633", "transform": rasterio.Affine(1, 0, 5e5, 0, -1, 5e6)}
    with rasterio.open(
        path, "w", "GTiff", SIZE, SIZE, 1, dtype="uint8", tiled=True, compress="deflate", nodata=255, **grid
    ) as file:
        file.write(array, 1)
    return path, array


def test_every_pixel_is_decoded(work, once, monkeypatch):
    photo, read = data.photo(SIZE), []
    monkeypatch.setattr(floors, "_WINDOW_PX", 512)
    monkeypatch.setenv("GDAL_CACHEMAX", "64")  # as it will be, and not longer than this test
    whole = rasterio.DatasetReader.read

    def counted(self, *arguments, **options):
        read.append(options["out"].size)
        return whole(self, *arguments, **options)

    monkeypatch.setattr(rasterio.DatasetReader, "read", counted, raising=False)
    done = floors.decode(photo.path, 2)
    assert done.pixels == SIZE**2
    assert sum(read) == 2 * 3 * SIZE**2  # the warm-up, and the time that counts


def test_every_pixel_is_assigned(work, once):
    done = floors.assign(data.photo(SIZE).path, 2, 8, 1)
    assert (done.pixels, done.seconds > 0) == (SIZE**2, True)


def test_tiles_of_all_levels_are_encoded(labels, once, monkeypatch):
    path, array = labels
    made = []
    encode = cog.encode_tile
    monkeypatch.setattr(cog, "encode_tile", lambda tile: made.append(tile.shape) or encode(tile))
    monkeypatch.setattr(floors, "_WINDOW_PX", 512)  # so that there is more than one stage
    assert floors.encode(path, 2).pixels == array.size
    tiles = sum(math.ceil(h / 512) * math.ceil(w / 512) for h, w in level_shapes(SIZE, SIZE))
    assert made == [(512, 512)] * 2 * tiles


@pytest.mark.parametrize("sink", ["ours", "gdal"])
def test_both_sinks_leave_the_same_labels_with_overviews(labels, work, once, capsys, sink):
    path, array = labels
    out = work / "made" / "out.tif"
    out.parent.mkdir()
    getattr(sinks, sink)(path, out, 2)
    assert clock.read(clock.found(capsys.readouterr().out)).pixels == SIZE**2
    with rasterio.open(out) as made:
        assert made.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert made.overviews(1) == [2, 4]
        np.testing.assert_array_equal(made.read(1), array)


def test_a_halo_is_handed_over_and_changes_no_label(work, once, monkeypatch):
    monkeypatch.setattr(mapping, "_CHUNK_PX", 512)
    photo, margins, found = data.photo(SIZE), [], []
    plain = BlockKMeans.labels

    def seen(self, patch, codebook):
        margins.append(patch.outer.width - patch.core.width)
        return plain(self, patch, codebook)

    monkeypatch.setattr(BlockKMeans, "labels", seen)
    for halo in (0, 16):
        margins.clear()
        out = work / f"halo-{halo}"
        out.mkdir()
        done = mapping.measure(photo.path, out, *mapping.with_halo(photo.path, 8, halo), 2)
        assert done.pixels == SIZE**2
        assert (max(margins) > 0) == (halo > 0)
        with rasterio.open(out / "0" / "labels.tif") as file:
            found.append(file.read(1))
    np.testing.assert_array_equal(*found)


def test_a_network_maps_as_a_run_does(work, once):
    photo = data.photo(700)
    kernel = mapping.with_network(photo.path, 4, "builtin:filters-16")
    assert mapping.measure(photo.path, work / "mapped", *kernel, 2).pixels == 700**2
    line = ["run", str(photo.path), "-o", str(work / "run"), "--segments", "4", "--method", "cnn"]
    assert cli.main([*line, "--resolution", "16", "--progress", "none"]) == 0
    with (
        rasterio.open(work / "mapped/0/labels.tif") as one,
        rasterio.open(next((work / "run").glob("*.tif"))) as two,
    ):
        np.testing.assert_array_equal(one.read(), two.read())


def test_what_is_written_by_hand_is_a_cog_of_eight_labels(work):
    photo, out = data.photo(SIZE), work / "hand.tif"
    by_hand.with_rioxarray(by_hand.labels_of(photo.path, 8), out, 2)
    with rasterio.open(photo.path) as source, rasterio.open(out) as made:
        assert made.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert (made.crs, made.shape, made.overviews(1)) == (source.crs, source.shape, [2, 4])
        assert set(np.unique(made.read())) == set(range(8))
        assert set(np.unique(made.read(1, out_shape=(275, 275)))) == set(range(8))


def test_the_old_way_with_a_network_stretches_features_over_its_tiles(work):
    pixels = np.zeros((3, 600, 700), np.uint8)
    pixels[:, :, 300:] = 200
    labels = old_system.segment_cnn(pixels, 2, data.network(16))
    assert labels.shape == (600, 700)
    assert labels.dtype == np.uint8
    assert len(np.unique(labels)) == 2
    assert (labels[:400, 50:250] == labels[0, 50]).all()
    assert labels[0, 50] != labels[0, 400]


def test_a_network_is_measured_in_the_form_of_a_run(work):
    # it was the first form, at a fifth of the speed: what a run took beside it looked far better than it was
    model = str(data.network(16, built_in=True))
    assert bare.kernel_of(model).form == STRAIGHT
    assert mapping.with_network(data.photo(700).path, 4, model)[0].form == STRAIGHT


@pytest.mark.parametrize("processes", [1, 2])
def test_a_bare_network_has_a_rate(processes):
    done = bare.ours("builtin:filters-16", 0.1, processes, 1)
    assert 0 < done.s_per_mpx < 60


def test_a_bare_network_as_loaded_has_a_rate(work):
    done = bare.loaded(str(data.network(16)), 0.1, 2)
    assert done.pixels == 512**2
    assert done.seconds > 0
