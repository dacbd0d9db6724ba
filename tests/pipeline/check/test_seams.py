"""The seam score: near 1.0 for what a run makes, far above where each cell has a codebook of its own."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

import pipeline
from engine.grid import Window, tiles
from pipeline.check.seams import Borders, Seams, count_seams
from pipeline.kernels import kernel_from_codebook
from tests.rasters import patchy_labels, pixel_array


def whole(labels, borders):
    return count_seams(labels, Window(0, 0, *labels.shape), borders)


def in_windows(labels, borders, side, *, reverse=False):
    found = []
    for window in tiles(Window(0, 0, *labels.shape), side):
        outer = labels[max(0, window.row - 1) : window.row_end, max(0, window.col - 1) : window.col_end]
        found.append(count_seams(np.ascontiguousarray(outer), window, borders))
    return reduce(Seams.__add__, reversed(found) if reverse else found)


def naive(labels, borders):
    """Pairs and changes at borders by a plain reading of what they are."""
    pairs = changes = 0
    for lines in (labels, labels.T):
        for window in tiles(Window(0, 0, *lines.shape), borders.side_px):
            cell = lines[window.slices()]
            above = [lines[window.row + i - 1, window.slices()[1]] for i in range(len(cell))]
            valid = [(a != 255) & (b != 255) for a, b in zip(cell, above, strict=True)]
            others = [valid[i].any() for i in range(borders.step_px, len(cell), borders.step_px)]
            if window.row and sum(others) >= 2:
                pairs += int(valid[0].sum())
                changes += int((valid[0] & (cell[0] != above[0])).sum())
    return pairs, changes


@given(
    shape=st.tuples(st.integers(1, 700), st.integers(1, 700)),
    side=st.sampled_from([64, 128]),
    step=st.sampled_from([5, 16]),
    seed=st.integers(0, 99),
)
def test_counts_are_those_of_a_plain_reading_and_add_up_over_windows(shape, side, step, seed):
    borders = Borders(side, step)
    labels = patchy_labels(*shape, seed=seed, holes=False)
    labels[np.random.default_rng(seed).random(shape) < 0.1] = 255
    seams = whole(labels, borders)
    assert (seams.pairs, seams.changes) == naive(labels, borders)
    # to the last bit, as those of windows that end in any order
    assert in_windows(labels, borders, 2 * side) == seams
    assert in_windows(labels, borders, side, reverse=True) == seams


def test_no_border_is_no_score_and_no_change_is_no_seam():
    borders = Borders.of(512, 4)
    assert whole(np.zeros((512, 500), np.uint8), borders).score is None
    assert whole(np.full((1500, 1500), 255, np.uint8), borders).score is None
    assert whole(np.zeros((1500, 1500), np.uint8), borders).score == 1.0


def test_labels_that_do_not_fit_their_window_are_refused():
    with pytest.raises(ValueError, match="labels of"):
        count_seams(np.zeros((512, 512), np.uint8), Window(0, 0, 510, 512), Borders.of(512, 4))
    with pytest.raises(ValueError, match="labels of"):
        count_seams(np.zeros((512, 512), np.uint8), Window(100, 0, 512, 512), Borders.of(512, 4))


@pytest.mark.parametrize("stride", [1, 3, 4, 5, 7, 16, 24, 29, 31, 32])
def test_blocks_of_any_side_are_compared_at_their_own_phase(stride):
    # random blocks change at each multiple of the stride and nowhere else
    n = -(-2300 // stride)
    blocks = np.random.default_rng(stride).integers(0, 6, (n, n)).astype(np.uint8)
    labels = np.ascontiguousarray(blocks.repeat(stride, 0).repeat(stride, 1)[:2300, :2300])
    seams = whole(labels, Borders.of(512, stride))
    assert abs(seams.score - 1) < 4 * max(seams.error, 0.01)
    assert abs(seams.score - 1) < 0.15


def test_a_seam_inside_blocks_is_seen_where_nothing_else_changes():
    labels = np.zeros((900, 900), np.uint8)
    labels[512:] = 1
    assert whole(labels, Borders.of(512, 3)).score > 100


def cases():
    kmeans = [("kmeans", r) for r in (1, 3, 4, 16)]
    return [*kmeans, ("cnn", 8)]


@pytest.fixture(scope="module")
def crops(rasters):
    """Crops of two real rasters, three cells a side and a rest."""
    found = []
    for path in sorted(rasters.glob("*.tif"), key=lambda p: p.stat().st_size)[-2:]:
        with rasterio.open(path) as dataset:
            found.append(dataset.read((1, 2, 3), window=((0, 1700), (0, 1700))))
    return found


@pytest.mark.parametrize(("method", "resolution"), cases())
def test_what_we_make_of_real_rasters_has_no_seams(crops, method, resolution):
    for pixels in crops:
        array = pixel_array(pixels)
        codebook = pipeline.fit([array], segments=6, method=method, resolution=resolution)
        labels = pipeline.segment(array, codebook).compute(scheduler="threads").values
        kernel = kernel_from_codebook(codebook)
        seams = whole(labels, Borders.of(kernel.cell_px, kernel.stride_px))
        assert abs(seams.score - 1) < max(4 * seams.error, 0.1), (seams, seams.score, seams.error)


@pytest.mark.parametrize(
    ("resolution", "sorted_labels", "least"), [(1, False, 2), (3, False, 2), (4, True, 1.3)]
)
def test_a_codebook_for_each_cell_shows_as_seams(crops, resolution, sorted_labels, least):
    # K-Means by itself numbers its labels at random, as the system before did; ours sorts them
    chance = np.random.default_rng(0)
    for pixels in crops:
        labels = np.empty(pixels.shape[1:], np.uint8)
        for window in tiles(Window(0, 0, *labels.shape), 512):
            array = pixel_array(pixels[:, *window.slices()])
            codebook = pipeline.fit([array], segments=6, resolution=resolution)
            found = pipeline.segment(array, codebook).compute(scheduler="threads").values
            order = np.arange(6) if sorted_labels else chance.permutation(6)
            labels[window.slices()] = order[found]
        seams = whole(labels, Borders.of(512, resolution))
        assert seams.score > least
        assert seams.score > 1 + 5 * seams.error
