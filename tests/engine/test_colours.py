"""Colours of classes: CIELAB as published, and colours that are near others and never too near each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.colours import FLOOR, from_hex, lab, least_distance, made_distinct, to_hex


def distances(colours):
    """Distance of each colour to the nearest other one."""
    places = lab(np.asarray(colours, np.uint8))
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    return (apart + 1e9 * np.eye(len(places))).min(axis=1)


def test_lab_is_that_of_published_tables():
    # B. Lindbloom's calculator, sRGB with white D65
    colours = np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 128, 0], [119, 119, 119]], np.uint8)
    expected = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [46.23, -51.70, 49.90], [50.03, 0, 0]]
    np.testing.assert_allclose(lab(colours), expected, atol=0.02)


@given(
    st.integers(2, 40).flatmap(
        lambda n: st.tuples(
            st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=n, max_size=n),
            st.lists(st.integers(0, 9), min_size=n, max_size=n),
        )
    )
)
def test_no_two_colours_are_closer_than_the_floor(case):
    colours, weights = np.array(case[0], np.uint8), np.array(case[1], float)
    result = made_distinct(colours, weights)
    assert distances(result).min() >= least_distance(len(colours))
    # those of most weight stay, and all do where nothing is too close
    heaviest = int(np.argmax(weights))
    assert result[heaviest].tolist() == colours[heaviest].tolist()
    if distances(colours).min() >= least_distance(len(colours)):
        assert (result == colours).all()


@pytest.mark.parametrize("count", [2, 8, 20, 254])
def test_equal_colours_are_told_apart_and_stay_near(count):
    colours = np.full((count, 3), [96, 104, 80], np.uint8)
    result = made_distinct(colours, np.ones(count))
    assert len({tuple(c) for c in result.tolist()}) == count
    moved = np.linalg.norm(lab(result) - lab(colours), axis=1)
    # a ball that holds so many balls of the floor's size
    assert moved.max() <= 2.5 * least_distance(count) * count ** (1 / 3)


def test_lightness_gives_way_before_hue():
    green = np.array([[60, 90, 50], [60, 90, 50]], np.uint8)
    (_, a, b), (_, other_a, other_b) = lab(made_distinct(green, np.array([2.0, 1.0])))
    assert abs(np.arctan2(b, a) - np.arctan2(other_b, other_a)) < 0.1


def test_few_colours_keep_the_whole_distance():
    assert least_distance(3) == least_distance(8) == FLOOR > least_distance(20) > least_distance(254) > 1


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_hex_text_is_read_as_it_was_written(colour):
    assert from_hex(to_hex(colour)) == colour == from_hex(to_hex(colour).upper().replace("X", "x"))


@pytest.mark.parametrize("text", ["", "#12345", "#1234567", "123456", "#12345g", "red", "#12345\u0661"])
def test_other_text_is_no_colour(text):
    with pytest.raises(ValueError, match="no colour"):
        from_hex(text)
