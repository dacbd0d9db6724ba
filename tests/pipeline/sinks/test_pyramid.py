"""The pyramid: the mode of 2 x 2, stages that reach every level, files that no chunk size changes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.api.writing import write
from pipeline.sinks.pyramid import FAN, TILE_PX, halve, level_shapes, stages
from tests.rasters import label_array, level_arrays, naive_half, naive_halves, patchy_labels

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)
FEW = st.sampled_from([0, 1, 2, 254, 255])
SIDES = st.integers(1, 200_000)
CHUNKS = st.integers(1, 16).map(lambda n: n * TILE_PX)


@given(hnp.arrays(np.uint8, SHAPES, elements=FEW) | hnp.arrays(np.uint8, SHAPES))
def test_half_the_size_is_the_mode_of_each_four(labels):
    half = halve(labels)
    assert half.dtype == np.uint8
    np.testing.assert_array_equal(half, naive_half(labels))


@pytest.mark.parametrize(
    ("four", "mode"),
    [
        ([[3, 3], [1, 2]], 3),
        ([[1, 2], [2, 1]], 1),
        ([[4, 3], [2, 1]], 1),
        ([[255, 255], [255, 9]], 9),
        ([[255, 255], [8, 9]], 8),
        ([[255, 255], [255, 255]], 255),
        ([[0, 7], [7, 255]], 7),
        ([[254, 255], [255, 254]], 254),
    ],
)
def test_known_modes_and_their_ties(four, mode):
    for turns in range(4):
        assert halve(np.rot90(np.array(four, np.uint8), turns).copy()).tolist() == [[mode]]


def test_a_ragged_edge_counts_only_the_pixels_that_there_are():
    assert halve(np.array([[1, 2, 5]], np.uint8)).tolist() == [[1, 5]]
    assert halve(np.array([[7], [3], [4]], np.uint8)).tolist() == [[3], [4]]


@given(SIDES, SIDES)
def test_levels_are_halved_until_one_tile_holds_the_last(height, width):
    shapes = level_shapes(height, width)
    assert shapes[0] == (height, width)
    for below, (h, w) in pairwise(shapes):
        assert (h, w) == ((below[0] + 1) // 2, (below[1] + 1) // 2)
        assert max(below) > TILE_PX
    assert max(shapes[-1]) <= TILE_PX


@given(SIDES, SIDES, CHUNKS)
@example(20_000, 40, 512)
@example(512, 512, 512)
def test_stages_write_every_level_exactly_once(height, width, chunk):
    shapes, found = level_shapes(height, width), stages(height, width, chunk)
    levels = [level for s in found for level in range(s.level, s.level + s.levels)]
    assert levels == list(range(len(shapes)))
    assert [s.index for s in found] == list(range(len(found)))
    assert [s.last for s in found] == [False] * (len(found) - 1) + [True]
    assert found[0].unit_px == chunk
    for stage in found:
        assert (stage.height, stage.width) == shapes[stage.level]


@given(SIDES, SIDES, CHUNKS)
def test_a_unit_of_a_later_stage_is_made_of_whole_units_of_the_stage_below(height, width, chunk):
    found = stages(height, width, chunk)
    for below, stage in pairwise(found):
        assert stage.unit_px == (below.unit_px >> below.levels) * FAN
        assert stage.rows == -(-below.rows // FAN)
        assert stage.cols == -(-below.cols // FAN)


@given(SIDES, SIDES, CHUNKS)
def test_no_tile_of_a_level_is_shared_by_two_units(height, width, chunk):
    for stage in stages(height, width, chunk):
        alone = stage.rows == stage.cols == 1
        assert alone or (stage.unit_px >> (stage.levels - 1)) % TILE_PX == 0


@given(st.integers(1, 9000), st.integers(1, 9000), CHUNKS)
def test_units_cover_their_level(height, width, chunk):
    for stage in stages(height, width, chunk):
        windows = [stage.window(u) for u in stage.units()]
        assert len(windows) == stage.rows * stage.cols
        assert sum(w.pixels for w in windows) == stage.height * stage.width
        assert len(set(windows)) == len(windows)
        assert max(w.row_end for w in windows) == stage.height
        assert max(w.col_end for w in windows) == stage.width


CHUNK_SIZES = (512, 1024, 1536, 2048)


def files(folder, labels):
    """The label file for each chunk size."""
    return [write(label_array(labels), folder / f"{size}.tif", chunk_size=size) for size in CHUNK_SIZES]


@pytest.mark.parametrize("shape", [(2500, 3301), (30, 20_001), (17_000, 1), (513, 512), (1, 1)])
def test_no_chunk_size_changes_a_byte_of_the_file(tmp_path, shape):
    labels = patchy_labels(*shape)
    made = files(tmp_path, labels)
    assert len({f.read_bytes() for f in made}) == 1
    found, expected = level_arrays(made[0]), naive_halves(labels)
    assert len(found) == len(expected)
    for ours, naive in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, naive)


@settings(max_examples=8)
@given(st.integers(1, 60), st.integers(1, 9000), st.booleans(), st.integers(0, 99))
def test_no_chunk_size_changes_a_byte_of_any_file(tmp_path_factory, narrow, long, upright, seed):
    labels = patchy_labels(narrow, long, seed=seed)
    made = files(tmp_path_factory.mktemp("files"), labels.T if upright else labels)
    assert len({f.read_bytes() for f in made}) == 1


def test_three_stages_are_reached_by_a_raster_of_ordinary_size():
    # so that the files above were made of remnants of remnants
    assert len(stages(30, 20_001, 512)) == 3
