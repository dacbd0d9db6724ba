"""Palettes on codebooks: what they change, what stays, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest

from engine.colours import to_hex
from pipeline.errors import UsageError
from pipeline.legend.label_style import LabelStyle
from pipeline.legend.palette import Palette, of_fit, restyled
from tests.strategies import codebook

BOOK = codebook(
    [[10, 20, 30], [90, 90, 90], [90, 91, 90]],
    band_names=("red", "green", "blue"),
    fit={"share": [0.2, 0.3, 0.5]},
)
GREY = codebook([[10], [20]])


def palette(tmp_path, text, segments=3):
    path = tmp_path / "p.csv"
    path.write_text(text)
    return Palette.of(path, segments)


def test_a_fit_gives_the_mean_colours_where_there_are_such():
    assert of_fit(GREY, None).colours == ()
    book = of_fit(BOOK, None)
    # the second is too close to the third, which has more pixels
    assert (book.colours[0], book.colours[2]) == ((10, 20, 30), (90, 91, 90))
    assert book.colours[1] != (90, 90, 90)
    assert book == dataclasses.replace(restyled(BOOK, Palette.of("natural", 3)), centres=book.centres)
    assert of_fit(BOOK, Palette.of("distinct", 3)).colours == ()


def test_natural_colours_are_refused_where_there_are_none():
    for styled in (of_fit, restyled):
        with pytest.raises(UsageError, match="takes bands that are red, green and blue; choose distinct"):
            styled(GREY, Palette.of("natural", 2))


def test_a_file_changes_what_it_says_and_no_more(tmp_path):
    named = dataclasses.replace(BOOK, names=("a", "b", "c"), colours=((1, 1, 1), (2, 2, 2), (3, 3, 3)))
    book = restyled(named, palette(tmp_path, "1,#0a0b0c\n2,,Roof\n"))
    assert book.names == ("a", "b", "Roof")
    assert book.colours == ((1, 1, 1), (10, 11, 12), (3, 3, 3))
    assert restyled(named, Palette.of("distinct", 3)).names == named.names
    # in a fit the others are natural
    fresh = of_fit(BOOK, palette(tmp_path, "1,#0a0b0c,Road\n"))
    assert fresh.colours == (of_fit(BOOK, None).colours[0], (10, 11, 12), of_fit(BOOK, None).colours[2])
    assert fresh.names == ("Segment 0", "Road", "Segment 2")


def test_a_file_of_the_default_changes_nothing(tmp_path):
    style = LabelStyle.of(2)
    lines = [f"{i},{to_hex(c)},{n}" for i, (c, n) in enumerate(zip(style.colours, style.names, strict=True))]
    assert restyled(GREY, palette(tmp_path, "\n".join(lines))).style_hash == GREY.style_hash == ""


def test_a_file_that_speaks_of_another_number_of_classes_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"p.csv:2: label 3, but labels are 0 to 2"):
        palette(tmp_path, "0,#000000\n3,#ffffff\n")
    # where a fit finds fewer classes than were asked for, the last ones are nothing wrong
    book = restyled(GREY, palette(tmp_path, "0,#000001\n2,#ffffff\n"))
    assert book.colours[0] == (0, 0, 1)


def test_names_and_colours_are_read_back_from_attributes():
    style = LabelStyle.of(2, [(1, 2, 3), (4, 5, 6)], ["Nasse Wiese", "Dach\u00a0rot"])
    assert style.flags["flag_meanings"].split() == ["Nasse_Wiese", "Dach_rot"]
    read = LabelStyle.of_flags(style.flags, 2)
    assert read == LabelStyle.of(2, style.colours, ["Nasse Wiese", "Dach rot"])
    for attributes in ({}, {"flag_colors": "red blue", "flag_meanings": "a"}, LabelStyle.of(3).flags):
        assert LabelStyle.of_flags(attributes, 2) == LabelStyle.of(2)
