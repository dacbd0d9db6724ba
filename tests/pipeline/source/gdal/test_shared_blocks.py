"""Windows with halos: what they share is decoded once, whatever thread reads it, and nothing else changes."""

from __future__ import annotations

import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.grid import Window, tiles
from pipeline.errors import DamageError
from pipeline.graph import label_graph as graph_labels
from pipeline.source import bad_blocks
from pipeline.source.gdal import dataset_opening, shared_blocks
from pipeline.source.gdal.raster import open_header
from pipeline.source.gdal.shared_blocks import SharedBlocks, Source, UndecodableError
from pipeline.source.reading import ReadContext
from pipeline.source.view import View
from tests.pipeline.graph.test_label_graph import Neighbours
from tests.rasters import noise, spoil, write_geotiff
from tests.strategies import codebook
from tests.waiting import HANG_S, waited_for

TILED = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}
HEIGHT, WIDTH, CHUNK = 1100, 1300, 256


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    fresh = SharedBlocks(shared_blocks.LIMIT)
    monkeypatch.setattr(shared_blocks, "of_process", fresh)
    return fresh


@pytest.fixture(scope="module")
def pixels():
    return noise(3, HEIGHT, WIDTH, seed=3)


@pytest.fixture
def source(pixels, tmp_path):
    return write_geotiff(tmp_path / "scene.tif", pixels, **TILED)


@pytest.fixture
def decoded(monkeypatch):
    """How often each block of a file was asked of GDAL, by all handles."""
    count, lock, opened = Counter(), threading.Lock(), dataset_opening.open_dataset

    class Counting:
        def __init__(self, *arguments, **options):
            self._dataset = opened(*arguments, **options)

        def __enter__(self):
            return self._dataset.__enter__()

        def __exit__(self, *raised):
            return self._dataset.__exit__(*raised)

        def __getattr__(self, name):
            return getattr(self._dataset, name)

        def read(self, *arguments, window, **options):
            height, width = self._dataset.block_shapes[0]
            (row, row_end), (col, col_end) = window.toranges()
            rows, cols = (
                range(row // height, -(-row_end // height)),
                range(col // width, -(-col_end // width)),
            )
            with lock:
                count.update(product(rows, cols))
            return self._dataset.read(*arguments, window=window, **options)

    monkeypatch.setattr(dataset_opening, "open_dataset", Counting)
    return count


def read_all(raster, halo, chunk=CHUNK, threads=2):
    """All windows of a raster as workers read them: in order, each with its halo."""

    def read(core):
        window = core.grow(halo, raster.bounds)
        return window, raster.read_masked(window, ReadContext(halo))

    with ThreadPoolExecutor(threads) as executor:
        return list(executor.map(read, tiles(raster.bounds, chunk)))


# Once


@pytest.mark.parametrize("halo", [1, 16, 64, 128, 150])
@pytest.mark.parametrize("threads", [1, 2, 8])
def test_each_block_is_decoded_once(source, pixels, decoded, halo, threads):
    found = read_all(open_header(source), halo, threads=threads)
    assert set(decoded.values()) == {1}
    assert len(decoded) == -(-HEIGHT // 128) * -(-WIDTH // 128)
    for window, stack in found:
        np.testing.assert_array_equal(stack[:3], pixels[:, *window.slices()])
        assert stack[3].all()


def test_the_chunk_graph_says_how_far_its_windows_reach(source, decoded):
    view = View.whole(open_header(source))
    for core in tiles(view.bounds, CHUNK):
        lazy = graph_labels.label_window(view, Neighbours(16), codebook([[0.0]]), core, CHUNK)
        lazy.compute(scheduler="synchronous")
    assert set(decoded.values()) == {1}


def test_blocks_in_the_way_of_no_one_are_read_in_one_go(source, kept, monkeypatch):
    monkeypatch.setattr(SharedBlocks, "read", lambda *_: pytest.fail("kept without a halo"))
    read_all(open_header(source), 0)
    assert kept.kept_bytes == 0


@pytest.mark.parametrize(
    "profile",
    [
        {"blockysize": 16},
        {"tiled": True, "blockxsize": 1312, "blockysize": 128},
        {"tiled": True, "blockxsize": 16, "blockysize": 16},
    ],
    ids=["strips", "as wide as the raster", "tiny"],
)
def test_blocks_that_are_not_worth_it_are_not_kept(pixels, tmp_path, kept, profile):
    raster = open_header(write_geotiff(tmp_path / "scene.tif", pixels, **profile))
    window = Window(0, 0, 1024, 1024).grow(16, raster.bounds)
    stack = raster.read_masked(window, ReadContext(16))
    np.testing.assert_array_equal(stack[:3], pixels[:, *window.slices()])
    assert kept.kept_bytes == 0


# The same


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_labels_are_those_without_it(data, tmp_path_factory):
    height, width = data.draw(st.integers(1, 300)), data.draw(st.integers(1, 300))
    profile = {
        "tiled": True,
        "blockxsize": data.draw(st.sampled_from([16, 32, 64])),
        "blockysize": data.draw(st.sampled_from([16, 32, 64])),
        "interleave": data.draw(st.sampled_from(["pixel", "band"])),
    }
    dtype = data.draw(st.sampled_from(["uint8", "uint16", "float32"]))
    values = noise(data.draw(st.integers(1, 4)), height, width, seed=height, dtype=dtype)
    path = write_geotiff(tmp_path_factory.mktemp("any") / "scene.tif", values, **profile)
    view = View.whole(open_header(path))
    halo = data.draw(st.integers(1, 50))
    chunk, side = data.draw(st.integers(50, 200)), data.draw(st.integers(50, 200))
    limit = data.draw(st.sampled_from([0, 5_000, shared_blocks.LIMIT]))
    book, cores = codebook([[0.0]]), list(tiles(view.bounds, chunk))

    def labels(core):
        return graph_labels.label_window(view, Neighbours(halo), book, core, side).compute(
            scheduler="synchronous"
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Source, "shares", lambda *_: False)
        plain = [labels(core) for core in cores]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_blocks, "of_process", SharedBlocks(limit))
        with ThreadPoolExecutor(2) as executor:
            shared = list(executor.map(labels, cores))
        assert shared_blocks.of_process.kept_bytes <= limit
    for one, other in zip(plain, shared, strict=True):
        np.testing.assert_array_equal(one, other)


def test_alpha_and_bands_in_any_order_are_told_apart(tmp_path):
    values = noise(4, 400, 500, seed=1)
    values[3, 100:200, 50:300] = 0
    colours = {"photometric": "rgb", "alpha": "yes"}
    path = write_geotiff(tmp_path / "scene.tif", values, **TILED, **colours)
    for bands in (None, (3, 1, 2), (2,)):
        for window, stack in read_all(open_header(path, bands), 16):
            rows, cols = window.slices()
            wanted = [number - 1 for number in bands or (1, 2, 3)]
            np.testing.assert_array_equal(stack[:-1], values[wanted][:, rows, cols])
            np.testing.assert_array_equal(stack[-1], values[3, rows, cols] != 0)


# Bounds


@pytest.mark.parametrize("limit", [0, 1_000, 200_000])
def test_no_more_is_kept_than_may_be(source, pixels, monkeypatch, limit):
    small, most = SharedBlocks(limit), []
    monkeypatch.setattr(shared_blocks, "of_process", small)
    keep = SharedBlocks._keep

    def watched(self, *arguments):
        keep(self, *arguments)
        most.append(self.kept_bytes)

    monkeypatch.setattr(SharedBlocks, "_keep", watched)
    for window, stack in read_all(open_header(source), 16):
        np.testing.assert_array_equal(stack[:3], pixels[:, *window.slices()])
    assert 0 <= max(most) <= limit
    held = sum(stack.nbytes for pieces in small._kept.values() for _, stack in pieces)
    assert small.kept_bytes == held


def test_a_block_that_is_used_up_is_kept_no_more(source, kept):
    read_all(open_header(source), 4)
    # four edges of each window and no block more, for each was one window's
    assert 0 < kept.kept_bytes < 3 * HEIGHT * WIDTH / 5


def test_no_pixel_of_a_block_is_kept_twice_where_halos_are_as_large(source, kept):
    read_all(open_header(source), 128)
    assert 0 < kept.kept_bytes <= 3 * HEIGHT * WIDTH


# Files that change, and that cannot be read


def test_a_file_that_was_replaced_is_read_anew(source, pixels):
    raster, core = open_header(source), Window(0, 0, 256, 256)
    raster.read_masked(core.grow(16, raster.bounds), ReadContext(16))
    stat = source.stat()
    write_geotiff(source, 255 - pixels, **TILED)
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    window = Window(0, 256, 256, 256).grow(16, raster.bounds)
    found = raster.read_masked(window, ReadContext(16))
    np.testing.assert_array_equal(found[:3], (255 - pixels)[:, *window.slices()])


@pytest.mark.parametrize("place", [(0, 0), (1, 1), (2, 2), (2, 0)], ids=str)
def test_a_block_that_cannot_be_decoded_fails_as_without_it(source, monkeypatch, place):
    monkeypatch.setattr(bad_blocks, "RETRY_AFTER_S", ())
    spoil(source, *place)
    raster = open_header(source)
    found = {}
    for halo in (0, 16):
        found[halo] = []
        for core in tiles(raster.bounds, CHUNK):
            window = core.grow(16, raster.bounds)
            bad, said = [], None
            stack = raster.read_masked(window, ReadContext(halo, bad))
            try:
                raster.read_masked(window, ReadContext(halo))
            except DamageError as error:
                said = str(error)
            found[halo].append((stack.tobytes(), bad, said))
    assert found[0] == found[16]
    assert any(said for _, _, said in found[0])


def test_who_waits_for_a_block_that_another_cannot_decode_tries_it_itself():
    tried, begun = [], threading.Event()
    waiting = threading.Event()

    def decode(window, out):
        tried.append(window)
        if len(tried) == 1:
            begun.set()
            waiting.wait(HANG_S)
            raise UndecodableError
        out[...] = 7

    cache, bounds = SharedBlocks(1 << 20), Window(0, 0, 64, 128)
    source = Source("file", bounds, (64, 64), 1, "uint8", decode)
    out = np.zeros((1, 64, 70), np.uint8)
    with ThreadPoolExecutor(2) as executor:
        first = executor.submit(cache.read, source, Window(0, 0, 64, 64), 6, np.zeros((1, 64, 64), np.uint8))
        assert begun.wait(HANG_S)
        second = executor.submit(cache.read, source, Window(0, 0, 64, 70), 6, out)
        # it reads what is not being decoded while it waits
        waited_for(lambda: len(tried) == 2)
        waiting.set()
        with pytest.raises(UndecodableError):
            first.result(HANG_S)
        second.result(HANG_S)
    assert (out == 7).all()
    assert len(tried) == 3
