"""The chunk graph: one wrapper of map_overlap, halos that are right in any cut, nothing computed early."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import dask
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.block_kmeans import BlockKMeans
from engine.grid import Window
from pipeline.api import arrays as array_module
from pipeline.api.arrays import segment
from pipeline.graph.label_graph import read_arrays
from pipeline.graph.overlap import Layout, overlap
from pipeline.source.reading import ReadContext
from tests.rasters import noise, pixel_array
from tests.strategies import codebook, windows, windows_in

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("engine", "pipeline", "shards", "training", "qgis_bridge")


def raising(*_, **__):
    raise AssertionError("something was computed before it was asked for")


# One wrapper


def test_map_overlap_is_called_in_one_place():
    calls = {
        str(path.relative_to(ROOT)): len(found)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if (found := re.findall(r"map_overlap\s*\(|import .*map_overlap", path.read_text(encoding="utf-8")))
    }
    assert calls == {"pipeline/graph/overlap.py": 1}


# Layouts


@st.composite
def layouts(draw):
    """A layout of a core within bounds, for any halo that its chunks are not smaller than."""
    bounds = draw(windows(60, 60))
    halo = draw(st.integers(0, 30))
    return Layout.of(draw(windows_in(bounds)), bounds, halo, draw(st.integers(max(halo, 1), 70))), bounds


@given(layouts())
def test_a_layout_reads_its_core_and_as_much_halo_as_there_is(drawn):
    layout, bounds = drawn
    assert layout.outer == layout.core.grow(layout.halo_px, bounds)
    for chunks, outer, side, outer_side in zip(
        layout.chunks, layout.outer_chunks, ("height", "width"), ("height", "width"), strict=True
    ):
        assert len(chunks) == len(outer)
        assert sum(chunks) == getattr(layout.core, side)
        assert sum(outer) == getattr(layout.outer, outer_side)


@given(layouts())
def test_blocks_cover_the_core_exactly_once(drawn):
    layout, _ = drawn
    count = np.zeros((layout.core.height, layout.core.width), int)
    for i in range(len(layout.chunks[0])):
        for j in range(len(layout.chunks[1])):
            count[layout.block((i, j)).slices(layout.core)] += 1
    assert (count == 1).all()


# Halos


def box_sums(pixels, valid, core, outer, halo):
    """Sum of the valid pixels within `halo` of each pixel of a core; nothing lies beyond `outer`."""
    values = np.pad((pixels[0] * valid).astype(np.int64), halo)
    wide = np.lib.stride_tricks.sliding_window_view(values, 2 * halo + 1, axis=1).sum(axis=-1)
    total = np.lib.stride_tricks.sliding_window_view(wide, 2 * halo + 1, axis=0).sum(axis=-1)
    return total[core.slices(outer)]


@settings(max_examples=60)
@given(layouts(), st.integers(0, 2**32 - 1))
def test_a_function_of_neighbours_gives_the_same_in_any_cut(drawn, seed):
    layout, bounds = drawn
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 99, (1, bounds.height, bounds.width))
    valid = rng.random((bounds.height, bounds.width)) < 0.8
    rows, cols = layout.outer.slices(bounds)
    lazy = pixel_array(pixels[:, rows, cols], valid[rows, cols])
    found = overlap(
        lambda p, v, outer, core: box_sums(p, v, core, outer, layout.halo_px),
        lazy.data.rechunk(((1,), *layout.outer_chunks)),
        lazy.coords["valid"].data.rechunk(layout.outer_chunks),
        layout,
        np.int64,
    )
    assert found.chunks == layout.chunks
    expected = box_sums(pixels, valid, layout.core, bounds, layout.halo_px)
    np.testing.assert_array_equal(found.compute(scheduler="synchronous"), expected)


@dataclass(frozen=True)
class Neighbours:
    """A kernel with a halo, as networks have: a label from the sum of all pixels that near."""

    halo_px: int
    cell_px: int = 1
    stride_px: int = 1
    costly: bool = False

    def labels(self, patch, book):
        # no more and no less than what was asked for
        assert patch.outer == patch.core.grow(self.halo_px, patch.bounds)
        sums = box_sums(patch.pixels, patch.valid, patch.core, patch.outer, self.halo_px)
        return np.where(patch.valid[patch.core.slices(patch.outer)], sums % 7, 255).astype(np.uint8)


@settings(max_examples=60)
@given(st.data())
def test_a_kernel_with_a_halo_labels_an_array_the_same_however_it_is_chunked(data):
    bounds = data.draw(windows(50, 0))
    kernel = Neighbours(data.draw(st.integers(0, 25)))
    side = data.draw(st.integers(max(1, kernel.halo_px), 60))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    pixels = rng.integers(0, 200, (1, bounds.height, bounds.width)).astype(np.uint8)
    valid = rng.random(pixels.shape[1:]) < 0.9
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(array_module, "kernel_from_codebook", lambda *_, **__: kernel)
        labels = segment(pixel_array(pixels, valid, chunks=side), codebook(np.arange(8)[:, None]))
    sums = box_sums(pixels, valid, bounds, bounds, kernel.halo_px)
    expected = np.where(valid, sums % 7, 255)
    np.testing.assert_array_equal(labels.compute(scheduler="synchronous").values, expected)


@pytest.mark.parametrize("width", [1025, 1030, 1054, 1055, 10, 30])
def test_a_last_chunk_smaller_than_the_halo_is_no_fault(width):
    # blocks of 31 do not divide 512, so that the halo is 30
    pixels, book = noise(1, 20, width), codebook([[60], [100], [140]], 31)
    whole = segment(pixel_array(pixels, chunks=5000), book).compute(scheduler="synchronous").values
    cut = segment(pixel_array(pixels, chunks=512), book).compute(scheduler="synchronous").values
    np.testing.assert_array_equal(cut, whole)
    assert BlockKMeans(31).halo_px == 30


# Laziness


def test_making_a_graph_computes_nothing_and_makes_it_the_same_each_time():
    book = codebook([[60], [100]], 3)
    with dask.config.set(scheduler=raising):
        one, two = (segment(pixel_array(noise(1, 900, 800)), book) for _ in range(2))
    assert one.data.name == two.data.name
    assert set(one.data.__dask_graph__()) == set(two.data.__dask_graph__())
    with pytest.raises(AssertionError, match="before it was asked for"):
        one.compute(scheduler=raising)


class Counted:
    """A raster that remembers what was read of it."""

    bands = (1, 2)
    dtype = "uint8"

    def __init__(self, height, width):
        self.pixels = noise(2, height, width)
        self.read, self.contexts = [], []

    def __dask_tokenize__(self):
        return "counted"

    def read_stack(self, window, context):
        self.read.append(window)
        self.contexts.append(context)
        rows, cols = window.slices()
        return np.concatenate([self.pixels[:, rows, cols], self.pixels[:1, rows, cols] % 2])


@pytest.mark.parametrize("halo", [0, 2, 30])
def test_each_block_is_read_once_and_its_pixels_and_validity_together(halo):
    raster, bounds = Counted(1300, 1100), Window(0, 0, 1300, 1100)
    core = Window(512, 0, 788, 1100)
    layout = Layout.of(core, bounds, halo, 512)
    pixels, valid = read_arrays(raster, layout)
    assert raster.read == []
    read, mask = dask.compute(pixels, valid, scheduler="synchronous")
    rows, cols = core.grow(halo, bounds).slices()
    np.testing.assert_array_equal(read, raster.pixels[:, rows, cols])
    np.testing.assert_array_equal(mask, raster.pixels[0, rows, cols] % 2 == 1)
    assert len(raster.read) == len(set(raster.read)) == len(layout.chunks[0]) * len(layout.chunks[1])
    assert sum(w.pixels for w in raster.read) == (788 + halo) * 1100
    assert set(raster.contexts) == {ReadContext(halo)}


def test_a_part_that_is_asked_for_reads_only_what_it_needs():
    raster, bounds = Counted(2000, 2000), Window(0, 0, 2000, 2000)
    pixels, _ = read_arrays(raster, Layout.of(bounds, bounds, 0, 512))
    pixels[:, 600:700, 1100:1200].compute(scheduler="synchronous")
    assert raster.read == [Window(512, 1024, 512, 512)]
