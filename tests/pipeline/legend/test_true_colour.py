"""Which bands are red, green and blue, and how their values are shown."""

from __future__ import annotations

import numpy as np
import pytest

from engine.codebook import Scaling
from pipeline.legend.true_colour import displayed, of_codebook, red_green_blue
from tests.strategies import codebook

NONE = ("", "", "")


@pytest.mark.parametrize(
    ("bands", "names", "dtype", "expected"),
    [
        ((1, 2, 3), [("red", "green", "blue")], "uint16", (0, 1, 2)),
        ((3, 2, 1), [("blue", "green", "red")], "float32", (2, 1, 0)),
        (
            (1, 2, 3, 4),
            [("B04", "", "B02", "B08"), ("red", "green", "blue", "undefined")],
            "uint16",
            (0, 1, 2),
        ),
        (("nir", "Red", "green", "blue", "(nir-Red)/(nir+Red)"), [("",) * 5], "float32", (1, 2, 3)),
        ((1, 2, 3), [NONE, ("gray", "undefined", "undefined")], "uint8", (0, 1, 2)),
        ((1, 2, 3, 4), [("",) * 4], "uint8", (0, 1, 2)),
        # by their place only where they are the first of three or four bands of bytes
        ((1, 2, 3), [NONE], "uint16", None),
        ((3, 2, 1), [NONE], "uint8", None),
        ((1, 2, 3, 4, 5), [("",) * 5], "uint8", None),
        ((1,), [("",)], "uint8", None),
        # names that say otherwise
        ((1, 2, 3), [("nir", "red", "green")], "uint8", None),
        ((1, 2, 3), [("", "", "ndvi")], "uint8", None),
        ((1, 2, 3), [("red", "red", "blue")], "uint8", None),
        (("rededge", "green", "blue"), [NONE], "uint8", None),
    ],
)
def test_red_green_and_blue_are_known_by_name_or_else_by_place(bands, names, dtype, expected):
    assert red_green_blue(bands, names, dtype) == expected


def test_bytes_are_shown_as_they_are_and_wider_values_between_the_limits():
    values = np.array([[0.0, 127.6, 255.0], [10.2, 300.0, -5.0]])
    plain = codebook([[0, 0, 0]])
    assert displayed(plain, (0, 1, 2), values) == ((0, 128, 255), (10, 255, 0))
    assert displayed(plain, (2, 1, 0), values)[0] == (255, 128, 0)
    limits = Scaling(np.array([100.0, 0.0, 5.0]), np.array([300.0, 1000.0, 5.0]))
    wide = codebook([[0, 0, 0]], dtype="uint16", scaling=limits)
    bright = np.array([[200.0, 0.0, 5.0], [400.0, 900.0, 9.0], [300.0, 1000.0, 9.0]])
    assert displayed(wide, (0, 1, 2), bright) == ((128, 0, 0), (255, 230, 0), (255, 255, 0))
    # --scale of bytes changes what is clustered, not what they look like
    scaled = codebook([[0, 0, 0]], scaling=Scaling(np.zeros(3), np.full(3, 10.0)))
    assert displayed(scaled, (0, 1, 2), np.array([[5.0, 6.0, 7.0]])) == ((5, 6, 7),)
    # without limits from the darkest to the brightest class
    unscaled = codebook([[0, 0, 0]], dtype="float32")
    assert displayed(unscaled, (0, 1, 2), np.array([[0.1, 0.2, 0.3], [0.5, 0.5, 0.5]]))[1] == (255, 255, 255)


def test_a_dark_scene_with_few_clouds_is_lightened_and_its_hues_are_kept():
    limits = Scaling(np.zeros(3), np.full(3, 1000.0))
    values = np.array([[20.0, 60.0, 20.0], [60.0, 60.0, 60.0], [1000.0, 1000.0, 1000.0]])

    def shown(*share):
        book = codebook([[0, 0, 0]] * 3, dtype="uint16", scaling=limits, fit={"share": list(share)})
        return displayed(book, (0, 1, 2), values)

    forest, road, cloud = shown(0.6, 0.38, 0.02)
    assert forest[0] == forest[2] >= 40
    assert forest[1] == road[0] == road[1] == road[2] >= 70
    assert cloud == (255, 255, 255)
    # where clouds are most of it, nothing is lightened, and never is anything darkened
    for crafted in ((0.0, 0.0, 0.0), (np.inf, 1.0, 1.0), (np.nan, 1.0, 1.0), (-1.0, 1.0, 1.0)):
        assert shown(*crafted) == shown()
    assert shown(0.1, 0.2, 0.7) == ((5, 15, 5), (15, 15, 15), (255, 255, 255))


def test_a_codebook_of_before_has_the_colours_of_its_centres():
    assert of_codebook(codebook([[1, 2, 3], [9, 8, 7]])) == ((1, 2, 3), (9, 8, 7))
    assert of_codebook(codebook([[1, 2, 3]], mean_colours=((4, 5, 6),))) == ((4, 5, 6),)
    assert of_codebook(codebook([[1, 2, 3]], band_names=("nir", "red", "green"))) == ()
