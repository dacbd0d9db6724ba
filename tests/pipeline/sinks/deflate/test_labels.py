"""Our zlib data beside zlib itself: any labels come back, and take no more room than zlib's."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.commands.demo.scene import Scene
from pipeline.sinks.deflate.labels import compress


def assert_comes_back(labels):
    data = compress(labels)
    inflater = zlib.decompressobj()
    assert inflater.decompress(data) == labels.tobytes()
    assert inflater.eof  # with its checksum
    assert not inflater.unused_data


@st.composite
def any_labels(draw):
    """Noise of some values in blocks of any size, so that runs of any length meet."""
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    count, seed = draw(st.sampled_from([1, 2, 3, 8, 255, 256])), draw(st.integers(0, 2**32 - 1))
    labels = np.random.default_rng(seed).integers(0, count, shape).astype(np.uint8)
    return labels.repeat(draw(st.integers(1, 5)), 0).repeat(draw(st.sampled_from([1, 2, 3, 90, 300])), 1)


@given(any_labels())
def test_any_labels_come_back(labels):
    assert_comes_back(labels)


@pytest.mark.parametrize(
    "shape",
    [(1, 1), (1, 2), (2, 1), (1, 3), (700, 1), (1, 700), (3, 32768), (3, 32769), (2, 70000), (512, 512)],
)
@pytest.mark.parametrize("values", [1, 2, 256])
def test_any_shape_comes_back_also_where_the_row_above_is_too_far_away(shape, values):
    assert_comes_back(np.random.default_rng(0).integers(0, values, shape).astype(np.uint8))


@pytest.mark.parametrize("length", [*range(1, 20), 257, 258, 259, 260, 515, 516, 517, 518])
def test_runs_of_any_length_come_back_beside_each_other_and_below(length):
    row = np.repeat(np.array([1, 2, 1, 3], np.uint8), length)
    assert_comes_back(np.stack([row, row, np.roll(row, 1), row]))


def test_labels_that_are_a_view_come_back():
    labels = np.arange(4000, dtype=np.uint16).reshape(40, 100).astype(np.uint8)
    assert zlib.decompress(compress(labels.T[1:, ::2])) == labels.T[1:, ::2].tobytes()


def test_frequencies_that_want_the_longest_codes_come_back():
    # the sums of Fibonacci numbers are the worst there is: each is as rare as all rarer ones together
    a, b, counts = 1, 1, []
    while sum(counts) < 300_000:
        counts.append(a)
        a, b = b, a + b
    labels = np.repeat(np.arange(len(counts), dtype=np.uint8) * 9 % 255, counts)
    np.random.default_rng(0).shuffle(labels)
    assert len(counts) > 20
    assert_comes_back(labels[None])


@pytest.mark.parametrize("block", [1, 4])
def test_a_map_takes_no_more_room_than_zlib_gives_it(block):
    pixels, _ = Scene(512, 512).window(0, 0, 512, 512)
    # single pixels of a grey level: as noisy as a map can be
    labels = (pixels[0] // 32)[::block, ::block].repeat(block, 0).repeat(block, 1)
    assert len(compress(labels)) < 0.95 * len(zlib.compress(labels.tobytes(), 1))
