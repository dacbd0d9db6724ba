"""Smoothing is the plain majority, however it is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.grid import Window, tiles
from engine.kernel import NODATA
from engine.labels.majority import majority
from engine.labels.smoothing import MAX_WINDOW_PX, Smoothing


def plain_majority(labels, window_px):
    """The definition, with an array of votes for each label."""
    radius, count = window_px // 2, 255
    height, width = labels.shape
    padded = np.pad(labels, radius, mode="edge")
    used = [k for k in range(count) if (labels == k).any()]
    votes = np.zeros((count, height, width), np.int32)
    for y in range(window_px):
        for x in range(window_px):
            for k in used:
                votes[k] += padded[y : y + height, x : x + width] == k
    own = np.take_along_axis(votes, np.minimum(labels, count - 1)[None].astype(int), 0)[0]
    keep = (labels == NODATA) | (own == votes.max(0))
    return np.where(keep, labels, votes.argmax(0)).astype(np.uint8)


@st.composite
def maps(draw):
    """Labels in patches or as noise, few or many, with and without nodata."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    side = draw(st.sampled_from([1, 1, 3, 7]))
    count = draw(st.sampled_from([1, 2, 5, 15, 16, 17, 254]))
    coarse = rng.integers(0, count, (-(-height // side), -(-width // side))).astype(np.uint8)
    labels = coarse.repeat(side, 0).repeat(side, 1)[:height, :width].copy()
    labels[rng.random((height, width)) < draw(st.sampled_from([0, 0.1, 0.9, 1]))] = NODATA
    return labels


@settings(max_examples=150, deadline=None)
@given(labels=maps(), window_px=st.sampled_from([3, 5, 9, 31]))
def test_each_pixel_gets_the_majority_of_its_window(labels, window_px):
    before = labels.copy()
    np.testing.assert_array_equal(majority(labels, window_px), plain_majority(labels, window_px))
    np.testing.assert_array_equal(labels, before)


@settings(max_examples=60, deadline=None)
@given(labels=maps(), window_px=st.sampled_from([3, 5, 9]), passes=st.integers(1, 3), side=st.integers(1, 20))
def test_a_window_needs_no_more_than_the_halo_around_it(labels, window_px, passes, side):
    smoothing = Smoothing(window_px, passes)
    whole = labels
    for _ in range(passes):
        whole = plain_majority(whole, window_px)
    bounds = Window(7, 3, *labels.shape)
    for core in tiles(bounds, side):
        outer = core.grow(smoothing.halo_px, bounds)
        found = smoothing.of_core(labels[outer.slices(bounds)], outer, core)
        np.testing.assert_array_equal(found, whole[core.slices(bounds)])


def test_the_widest_window_counts_all_its_pixels():
    labels = np.zeros((400, 400), np.uint8)
    labels[:, 200:] = 1
    np.testing.assert_array_equal(majority(labels, MAX_WINDOW_PX), labels)
    labels[::2] = 2  # one row in two is more than half of a side
    assert (majority(labels, MAX_WINDOW_PX)[128:-128, 130:-130] == 2).all()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3", Smoothing(3)), ("7x2", Smoothing(7, 2)), ("9x1", Smoothing(9)), ("none", None)],
)
def test_text_is_read_and_written(text, expected):
    assert Smoothing.parse(text) == expected
    assert expected is None or Smoothing.parse(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("4", "a window of 4 px; give an odd one, 3 to 255"),
        ("1", "a window of 1 px"),
        ("257", "a window of 257 px"),
        ("3x0", "0 passes; give 1 or more"),
        ("3x2049", "reaches 2049 px, more than 2048; give fewer passes"),
        *[(text, "give PX or PXxN") for text in ("", "-3", "3x", "x2", "3x2x1", "3.0", "٣", "true")],
    ],
)
def test_what_is_no_smoothing_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        Smoothing.parse(text)
