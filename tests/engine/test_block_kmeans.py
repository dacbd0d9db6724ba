"""The K-Means kernel against a plain reading of what it is: block means, nearest centres."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.block_kmeans import BlockKMeans
from engine.codebook import Codebook, Scaling
from engine.feature_sets.feature_set import FeatureSet
from engine.grid import CELL_PX, Window, tiles
from engine.kernel import NODATA, BandStatistics, Kernel, Patch
from tests.strategies import codebook, codebooks, patches, windows_in

RESOLUTIONS = st.integers(1, 32)


def block_means(patch, r):
    """Mean of each band over the valid pixels of each block of the absolute grid, by block."""
    bounds, means = patch.bounds, {}
    for by in range(bounds.row // r, (bounds.row_end - 1) // r + 1):
        for bx in range(bounds.col // r, (bounds.col_end - 1) // r + 1):
            rows = slice(max(by * r - bounds.row, 0), (by + 1) * r - bounds.row)
            cols = slice(max(bx * r - bounds.col, 0), (bx + 1) * r - bounds.col)
            valid = patch.valid[rows, cols]
            if valid.any():
                values = patch.pixels[:, rows, cols][:, valid].astype(np.float64)
                # cumsum adds one by one, row by row, as floats have to be added to give the same bits
                means[by, bx] = np.cumsum(values, axis=1)[:, -1] / valid.sum()
    return means


def nearest(vector, book):
    """The nearest centre of a vector, in float32 and band by band."""
    x = vector.astype(np.float32) if book.scaling is None else book.scaling.apply(vector)
    distances = np.zeros(book.segments, np.float32)
    for d in range(len(x)):
        distances += (x[d] - book.centres[:, d]) ** 2
    return int(np.argmin(distances))


def expected_labels(patch, book, r):
    labels = np.full(patch.valid.shape, NODATA, np.uint8)
    of_block = {place: nearest(mean, book) for place, mean in block_means(patch, r).items()}
    for y, x in zip(*np.nonzero(patch.valid), strict=True):
        labels[y, x] = of_block[(y + patch.bounds.row) // r, (x + patch.bounds.col) // r]
    return labels


def cut(whole, core, halo):
    """The part of a patch that a core with its halo is."""
    outer = core.grow(halo, whole.bounds)
    rows, cols = outer.slices(whole.bounds)
    return Patch(whole.pixels[:, rows, cols], whole.valid[rows, cols], outer, core, whole.bounds)


@st.composite
def labelled_patches(draw):
    patch, r = draw(patches()), draw(RESOLUTIONS)
    return patch, r, draw(codebooks(patch, r))


@given(labelled_patches())
def test_labels_are_the_nearest_centres_of_block_means(drawn):
    patch, r, book = drawn
    labels = BlockKMeans(r).labels(patch, book)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, expected_labels(patch, book, r))


@given(labelled_patches(), st.data())
def test_a_patch_cut_anywhere_with_its_halo_has_the_labels_of_the_whole(drawn, data):
    whole, r, book = drawn
    kernel = BlockKMeans(r)
    # without a halo cuts lie on cell borders, which are block borders there
    core = data.draw(windows_in(whole.bounds, step=1 if kernel.halo_px else r))
    labels = kernel.labels(cut(whole, core, kernel.halo_px), book)
    np.testing.assert_array_equal(labels, kernel.labels(whole, book)[core.slices(whole.bounds)])


@given(labelled_patches(), st.integers(0, 50), st.data())
def test_more_halo_than_needed_changes_nothing(drawn, more, data):
    whole, r, book = drawn
    kernel = BlockKMeans(r)
    core = data.draw(windows_in(whole.bounds))
    labels = kernel.labels(cut(whole, core, r - 1 + more), book)
    np.testing.assert_array_equal(labels, kernel.labels(whole, book)[core.slices(whole.bounds)])


@given(patches(), RESOLUTIONS, st.integers(1, 20))
def test_every_block_with_valid_pixels_is_a_feature_of_exactly_one_cell(whole, r, side):
    kernel = BlockKMeans(r)
    side *= 1 if kernel.halo_px else r
    places, vectors = [], []
    for core in tiles(whole.bounds, side):
        found = kernel.features(cut(whole, core, kernel.halo_px))
        assert found.vectors.shape == (len(found.rows), len(whole.pixels))
        places += zip(found.rows.tolist(), found.cols.tolist(), strict=True)
        vectors += list(found.vectors)
    means = block_means(whole, r)
    assert Counter(places) == Counter(dict.fromkeys(means, 1))
    for place, vector in zip(places, vectors, strict=True):
        np.testing.assert_allclose(vector, means[place], rtol=1e-12, atol=1e-12)


@given(RESOLUTIONS, st.integers(1, 99), st.booleans())
def test_a_step_edge_stays_where_it_is(r, edge, vertical):
    pixels = np.zeros((1, 40, 100), np.uint8)
    pixels[:, :, edge:] = 200
    if vertical:
        pixels = pixels.swapaxes(1, 2)
    bounds = Window(0, 0, *pixels.shape[1:])
    patch = Patch(pixels, np.ones(pixels.shape[1:], bool), bounds, bounds, bounds)
    labels = BlockKMeans(r).labels(patch, codebook([[0], [200]], r))
    labels = labels.T if vertical else labels
    assert (labels == labels[0]).all()
    steps = np.flatnonzero(np.diff(labels[0].astype(int)))
    if edge % r == 0:
        assert steps.tolist() == [edge - 1]
    else:
        # the block that the edge cuts goes to one side, so that at a raster's end a side may be gone
        assert len(steps) <= 1
        found = steps[0] + 1 if len(steps) else (100 if labels[0, 0] == 0 else 0)
        assert abs(found - edge) < r


def test_the_old_system_s_edge_at_80_is_not_moved_to_93():
    # width 111 in blocks of 16: it padded a whole extra block and stretched the labels
    pixels = np.where(np.arange(111) < 80, 10, 240).astype(np.uint8)[None, None].repeat(20, axis=1)
    bounds = Window(0, 0, 20, 111)
    patch = Patch(pixels, np.ones((20, 111), bool), bounds, bounds, bounds)
    labels = BlockKMeans(16).labels(patch, codebook([[10], [240]], 16))
    np.testing.assert_array_equal(labels, np.broadcast_to(np.arange(111) >= 80, (20, 111)))


def test_a_block_that_nodata_or_the_edge_cuts_has_the_mean_of_what_is_valid():
    pixels = np.array([[[10, 20, 100], [30, 99, 200]]], np.uint8)
    valid = np.array([[True, True, True], [True, False, True]])
    bounds = Window(0, 0, 2, 3)
    found = BlockKMeans(2).features(Patch(pixels, valid, bounds, bounds, bounds))
    assert found.vectors.ravel().tolist() == [20, 150]
    assert (found.rows.tolist(), found.cols.tolist()) == ([0, 0], [0, 1])


def test_a_slice_s_first_block_is_the_part_of_it_that_there_is():
    pixels = np.arange(6, dtype=np.uint8)[None, None]
    bounds = Window(0, 3, 1, 6)  # columns 3 to 8: blocks of 4 begin at 0, 4 and 8
    found = BlockKMeans(4).features(Patch(pixels, np.ones((1, 6), bool), bounds, bounds, bounds))
    assert found.cols.tolist() == [0, 1, 2]
    assert found.vectors.ravel().tolist() == [0, 2.5, 5]


def test_a_cell_in_which_no_block_begins_has_no_features():
    bounds, core = Window(0, 0, 8, 40), Window(0, 33, 8, 5)
    pixels, valid = np.ones((2, 8, 40), np.uint8), np.ones((8, 40), bool)
    found = BlockKMeans(31).features(Patch(pixels, valid, bounds, core, bounds))
    assert found.vectors.shape == (0, 2)
    assert len(found.rows) == len(found.cols) == 0


@pytest.mark.parametrize("dtype", ["uint32", "int32", "int64", "uint64"])
def test_large_whole_numbers_have_exact_means(dtype):
    top = 2**31 - 1
    pixels = np.array([[[top, top - 1], [top, top]]], dtype)
    bounds = Window(0, 0, 2, 2)
    found = BlockKMeans(2).features(Patch(pixels, np.ones((2, 2), bool), bounds, bounds, bounds))
    assert found.vectors.tolist() == [[top - 0.25]]


def test_a_pixel_between_two_centres_gets_the_lower_label():
    bounds = Window(0, 0, 1, 3)
    patch = Patch(np.array([[[10, 15, 20]]], np.uint8), np.ones((1, 3), bool), bounds, bounds, bounds)
    assert BlockKMeans(1).labels(patch, codebook([[10], [20]])).tolist() == [[0, 0, 1]]


def test_what_lies_beyond_the_scaling_limits_is_clipped_to_them():
    bounds = Window(0, 0, 1, 3)
    patch = Patch(np.array([[[0, 500, 60000]]], np.uint16), np.ones((1, 3), bool), bounds, bounds, bounds)
    scaling = Scaling(np.array([100.0]), np.array([1000.0]))
    book = codebook([[0], [113], [255]], 1, "uint16", scaling)
    assert BlockKMeans(1).labels(patch, book).tolist() == [[0, 1, 2]]


def test_a_band_without_spread_decides_nothing():
    bounds = Window(0, 0, 1, 2)
    pixels = np.array([[[7, 9000]], [[100, 900]]], np.uint16)
    patch = Patch(pixels, np.ones((1, 2), bool), bounds, bounds, bounds)
    scaling = Scaling(np.array([7.0, 100.0]), np.array([7.0, 900.0]))
    book = codebook([[0, 0], [0, 255]], 1, "uint16", scaling)
    assert BlockKMeans(1).labels(patch, book).tolist() == [[0, 1]]


@pytest.mark.parametrize("resolution", [0, -1, 33, 512])
def test_a_resolution_out_of_range_is_refused_with_its_value(resolution):
    with pytest.raises(ValueError, match=f"resolution {resolution}; kmeans takes 1 to 32"):
        BlockKMeans(resolution)


@pytest.mark.parametrize("resolution", range(1, 33))
def test_the_halo_is_what_a_cell_border_can_cut_off_a_block(resolution):
    kernel = BlockKMeans(resolution)
    starts = range(0, 40 * CELL_PX, CELL_PX)
    before = max(s - s // resolution * resolution for s in starts)
    after = max(-(-s // resolution) * resolution - s for s in starts)
    assert kernel.halo_px >= max(before, after)
    assert kernel.halo_px == 0 or max(before, after) > 0


def test_the_kernel_keeps_the_contract_and_names_what_decides_its_labels():
    kernel = BlockKMeans(5)
    assert isinstance(kernel, Kernel)
    assert kernel.identity == {"name": "kmeans", "resolution": 5, "cell_px": 512}
    assert (kernel.stride_px, kernel.cell_px) == (5, 512)


@pytest.mark.parametrize("wrong", [{"valid": np.ones((3, 4), bool)}, {"pixels": np.ones((1, 4, 3))}])
def test_a_patch_whose_arrays_do_not_fit_its_window_is_refused(wrong):
    bounds = Window(0, 0, 4, 4)
    patch = Patch(np.ones((1, 4, 4)), np.ones((4, 4), bool), bounds, bounds, bounds)
    with pytest.raises(ValueError, match=r"patch of \(4, 4\) px"):
        dataclasses.replace(patch, **wrong)


@st.composite
def featured_patches(draw):
    """A patch, a kernel of other features than bands, and a codebook of such."""
    patch, r = draw(patches()), draw(RESOLUTIONS)
    bytes_of_three = patch.pixels.dtype == np.uint8 and len(patch.pixels) == 3
    scaled = patch.pixels.dtype != np.uint8 or draw(st.booleans())
    lab = bytes_of_three and not scaled and draw(st.booleans())
    features = FeatureSet(lab, texture=not lab or draw(st.booleans()))
    bands = len(patch.pixels)
    values = np.nan_to_num(patch.pixels.reshape(bands, -1).astype(np.float64))
    low, high = np.percentile(values, [2, 98], axis=1)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    dims = len(features.names([""] * bands))
    return (
        patch,
        BlockKMeans(r, features),
        Codebook(
            rng.uniform(0, 120, (draw(st.integers(1, 9)), dims)).astype(np.float32),
            BlockKMeans(r, features).identity,
            tuple(range(1, bands + 1)),
            str(patch.pixels.dtype),
            np.zeros(bands),
            Scaling(low, high) if scaled else None,
        ),
    )


@given(featured_patches(), st.integers(0, 20), st.data())
def test_labels_of_other_features_do_not_depend_on_how_a_patch_is_cut(drawn, more, data):
    patch, kernel, book = drawn
    r = kernel.resolution
    core = data.draw(windows_in(patch.bounds, step=1 if CELL_PX % r else r))
    labels = kernel.labels(cut(patch, core, kernel.halo_px + more), book)
    np.testing.assert_array_equal(labels, kernel.labels(patch, book)[core.slices(patch.bounds)])
    assert ((labels == NODATA) == ~patch.valid[core.slices(patch.bounds)]).all()


@given(featured_patches(), st.integers(1, 20))
def test_vectors_of_other_features_are_those_that_labels_come_from(drawn, side):
    patch, kernel, book = drawn
    r = kernel.resolution
    side *= 1 if CELL_PX % r else r
    labels, statistics = kernel.labels(patch, book), BandStatistics(book.band_mean, book.scaling)
    seen = 0
    for core in tiles(patch.bounds, side):
        found = kernel.features(cut(patch, core, kernel.halo_px), statistics)
        assert found.vectors.shape == (len(found.rows), book.centres.shape[1])
        for vector, row, col in zip(found.vectors, found.rows, found.cols, strict=True):
            top, left = max(row * r - patch.bounds.row, 0), max(col * r - patch.bounds.col, 0)
            block = labels[top : (row + 1) * r - patch.bounds.row, left : (col + 1) * r - patch.bounds.col]
            distances = ((vector.astype(np.float32) - book.centres) ** 2).sum(axis=1)
            assert set(block[block != NODATA]) <= set(np.flatnonzero(distances <= distances.min() * 1.0001))
            seen += np.count_nonzero(block != NODATA)
    assert seen == np.count_nonzero(patch.valid)


def test_strips_of_a_high_patch_join_without_a_trace():
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (3, 700, 40)).astype(np.uint8)
    bounds = Window(3, 5, 700, 40)
    patch = Patch(pixels, rng.random((700, 40)) < 0.8, bounds, bounds, bounds)
    for r in (1, 3, 4):
        kernel = BlockKMeans(r, FeatureSet(lab=True, texture=True))
        book = dataclasses.replace(codebook(rng.uniform(0, 60, (9, 4)), r), kernel=kernel.identity)
        labels = kernel.labels(patch, book)
        strip = Window(250, 5, 12, 40).aligned(r).shared(bounds)  # across the end of the first strip
        part = kernel.labels(cut(patch, strip, 9), book)
        np.testing.assert_array_equal(part, labels[strip.slices(bounds)])


def test_the_codebooks_of_bands_are_what_they_were():
    assert BlockKMeans(4).identity == {"name": "kmeans", "resolution": 4, "cell_px": 512}
    assert BlockKMeans(4, FeatureSet(lab=True)).identity["feature_set"] == "lab"
    book = codebook([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], 4)
    # of the version before there were other features
    assert book.content_hash == "6f24aee87fa48bcd4dd559685f21e31a57dd3b27d8e47a87577d410b2b849310"
