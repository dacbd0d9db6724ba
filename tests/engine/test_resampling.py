"""Resampling: positions and weights are those of exact fractions, and means those of a plain reading."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.resampling import Axis
from engine.resampling_loops import weighted_means

SIDES = st.sampled_from(["1", "2", "6", "1/6", "1/2", "2/3", "5/2", "7/5"]).map(Fraction)
STARTS = st.sampled_from(["0", "1/2", "-7", "5", "-1/3", "9/4"]).map(Fraction)


def position(start, side, number):
    """Where a target pixel begins on the source."""
    return (number - start) / side


def overlap(low, high, pixel):
    return max(Fraction(0), min(high, pixel + 1) - max(low, Fraction(pixel)))


@given(start=STARTS, side=SIDES, size=st.integers(1, 20))
def test_nearest_and_covered_pixels_are_those_of_exact_fractions(start, side, size):
    axis, numbers = Axis.of(start, side, size), range(-60, 200)
    centres = [position(start, side, n + Fraction(1, 2)) for n in numbers]
    assert axis.nearest(-60, 200).tolist() == [math.floor(c) for c in centres]
    inside = [n for n, c in zip(numbers, centres, strict=True) if 0 <= c < size]
    assert list(range(*axis.covered(-60, 200))) == inside


@given(start=STARTS, side=SIDES, size=st.integers(1, 20), method=st.sampled_from(["average", "bilinear"]))
def test_weights_are_those_of_exact_fractions(start, side, size, method):
    axis = Axis.of(start, side, size)
    first, stop = axis.covered(-60, 200)
    if first >= stop:
        return
    begins, weights = axis.weights(first, stop, method)
    for number, begin, row in zip(range(first, stop), begins, weights, strict=True):
        low, high = position(start, side, number), position(start, side, number + 1)
        radius = max(Fraction(1), high - low)
        unit = 2 * axis.divisor * (1 if method == "average" else float(radius))
        for pixel in range(-30, size + 30):
            if method == "average":
                wanted = overlap(low, high, pixel)
            else:
                wanted = max(Fraction(0), 1 - abs(pixel + Fraction(1, 2) - (low + high) / 2) / radius)
            wanted = wanted if 0 <= pixel < size else Fraction(0)
            found = row[pixel - begin] if 0 <= pixel - begin < len(row) else 0.0
            assert found == float(wanted * Fraction(unit))
            assert (found > 0) == (wanted > 0)


@given(
    start=st.floats(-50, 50), side=st.floats(0.05, 20), size=st.integers(1, 30), cut=st.integers(-100, 100)
)
def test_a_pixel_is_made_of_the_same_in_any_range(start, side, size, cut):
    axis = Axis.of(Fraction(start), Fraction(side), size)
    for method in ("average", "bilinear"):
        whole, part = axis.weights(-100, 120, method), axis.weights(cut, cut + 9, method)
        for all_of_it, some in zip(whole, part, strict=True):
            np.testing.assert_array_equal(all_of_it[cut + 100 : cut + 109], some)
    np.testing.assert_array_equal(axis.nearest(-100, 120)[cut + 100 : cut + 109], axis.nearest(cut, cut + 9))


@given(start=STARTS, side=SIDES, size=st.integers(1, 20), pixel=st.integers(0, 19))
def test_a_source_pixel_lies_in_the_target_pixels_that_it_spreads_over(start, side, size, pixel):
    first, stop = Axis.of(start, side, size).spread(pixel, pixel + 1)
    assert first <= start + pixel * side < first + 1
    assert stop - 1 < start + (pixel + 1) * side <= stop


def test_a_grid_shifted_by_whole_pixels_is_the_same_one():
    assert Axis.of(Fraction(-3), Fraction(1), 9).is_same
    assert not Axis.of(Fraction(1, 2), Fraction(1), 9).is_same
    assert not Axis.of(Fraction(0), Fraction(2), 9).is_same


@given(seed=st.integers(0, 999), holes=st.sampled_from([0.0, 0.3, 0.95]))
def test_means_are_those_of_the_pixels_that_are_numbers(seed, holes):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(-50, 50, (9, 11)).astype(np.float64)
    pixels[rng.random(pixels.shape) < holes] = np.nan
    rows, row_weights = rng.integers(0, 6, 4), rng.integers(0, 4, (4, 3)) / 4
    cols, col_weights = rng.integers(0, 8, 5), rng.integers(0, 4, (5, 3)) / 4
    means = np.empty((4, 5))
    weighted_means(pixels, rows, row_weights, cols, col_weights, means)
    for y, x in np.ndindex(4, 5):
        part = pixels[rows[y] : rows[y] + 3, cols[x] : cols[x] + 3]
        weights = np.outer(row_weights[y], col_weights[x]) * ~np.isnan(part)
        wanted = (np.nan_to_num(part) * weights).sum() / weights.sum() if weights.sum() else np.nan
        assert means[y, x] == pytest.approx(wanted, nan_ok=True)
