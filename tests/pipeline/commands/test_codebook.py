"""Names and colours that people give classes go back into the codebook, and `inspect` shows them."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest

from engine.codebook import Codebook, Scaling
from pipeline import cli
from pipeline.commands.inspect import shows_colours
from pipeline.legend.label_style import LabelStyle
from pipeline.sinks.style import qml
from tests.rasters import noise, write_geotiff
from tests.strategies import codebook

BOOK = codebook(
    [[10, 20, 30], [90.25, 90, 90]],
    band_names=("red", "green", "blue"),
    fit={"share": [0.125, 0.875]},
    mean_colours=((10, 20, 30), (90, 90, 90)),
    colours=((10, 20, 30), (90, 90, 90)),
)
NAMED = LabelStyle(((1, 2, 3), (4, 5, 6)), ("Wald & Wiese", 'Dach "rot"'))


@pytest.fixture
def book(tmp_path):
    return BOOK.save(tmp_path / "codebook.npz")


@pytest.fixture
def style(tmp_path):
    path = tmp_path / "labels.qml"
    path.write_text(qml(NAMED), encoding="utf-8")
    return path


@pytest.fixture
def command(capsys):
    def call(*arguments):
        try:
            code = cli.main([str(a) for a in arguments])
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    return call


def style_of(path):
    return LabelStyle.of_codebook(Codebook.load(path))


def test_names_and_colours_of_a_qgis_style_are_taken_into_the_codebook(command, book, style):
    code, out, err = command("codebook", book, "--names-from", style)
    assert (code, err) == (0, "")
    assert out.startswith(f"{book}: 2 classes with names")
    assert style_of(book) == NAMED
    assert Codebook.load(book).content_hash == BOOK.content_hash
    assert {p.name for p in book.parent.iterdir()} == {"codebook.npz", "labels.qml"}
    assert "the same already" in command("codebook", book, "--names-from", style)[1]


def test_the_changed_codebook_may_get_a_name_of_its_own(command, book, style):
    before, new = book.read_bytes(), book.parent / "new" / "named.npz"
    code, out, _ = command("codebook", book, "--names-from", style, "--palette", "distinct", "-o", new)
    assert code == 0
    assert out.startswith(f"{new}: ")
    assert book.read_bytes() == before
    # what the file says counts more than the palette
    assert style_of(new) == NAMED
    assert command("codebook", new, "--palette", "natural")[0] == 0
    assert style_of(new) == LabelStyle(BOOK.colours, NAMED.names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to change; give --names-from FILE or --palette"),
        (["--names-from", "natural"], "--names-from natural: no names"),
        (["--names-from", "{folder}/none.qml"], "none.qml: cannot read this palette"),
        (["--names-from", "{folder}/three.csv"], "three.csv:1: label 2, but labels are 0 to 1"),
        (["--names-from", "{folder}/labels.qml", "-o", "{folder}/labels.qml"], "would overwrite this file"),
        (["--palette", "distinct", "-o", "{folder}/labels.qml/x.npz"], "cannot write there"),
        (["--palette", "{folder}/labels.qml", "--palette", "distinct"], "given twice"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(command, book, style, arguments, message):
    (book.parent / "three.csv").write_text("2,#000000\n")
    code, out, err = command("codebook", book, *(a.format(folder=book.parent) for a in arguments))
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert message in err
    assert book.read_bytes() == BOOK.to_bytes()
    assert style.read_text(encoding="utf-8") == qml(NAMED)


def test_a_file_that_is_no_codebook_is_never_written_over(command, book, style, tmp_path):
    raster = write_geotiff(tmp_path / "r.tif", noise(3, 40, 50))
    other = write_geotiff(tmp_path / "other.tif", noise(3, 20, 20))
    before = other.read_bytes()
    for arguments in (["codebook", book, "--names-from", style], ["fit", raster]):
        code, _, said = command(*arguments, "-o", other)
        assert code == 2
        assert "other.tif: is no codebook, and would be overwritten; choose another name" in said
        assert other.read_bytes() == before


def test_what_is_no_codebook_is_refused(command, style):
    code, _, err = command("codebook", style, "--palette", "distinct")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "not a codebook" in err


def test_inspect_shows_colours_shares_names_and_centres_in_units(command, book, style):
    command("codebook", book, "--names-from", style)
    code, out, _ = command("inspect", book)
    assert code == 0
    assert "\x1b" not in out  # no terminal
    assert "centres   in the bands' units (values as stored)" in out
    head, *rows = out.splitlines()[-3:]
    assert head.split() == ["label", "share", "colour", "name", "red", "green", "blue"]
    assert rows[0].split() == ["0", "12.5%", "#010203", "Wald", "&", "Wiese", "10", "20", "30"]
    assert re.split(r"  +", rows[1].strip()) == ["1", "87.5%", "#040506", 'Dach "rot"', "90.25", "90", "90"]


def test_centres_are_values_of_the_bands_and_not_scaled_ones(command, tmp_path):
    limits = Scaling(np.array([1000.0]), np.array([3000.0]))
    path = codebook([[0], [127.5]], dtype="uint16", scaling=limits).save(tmp_path / "b.npz")
    rows = command("inspect", path)[1].splitlines()[-2:]
    assert [row.split()[-1] for row in rows] == ["1000", "2000"]
    assert rows[0].split()[1] == "#332288"  # nobody knows the shares of such a codebook


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "shown"),
    [
        (Terminal, {"COLORTERM": "truecolor"}, True),
        (Terminal, {"COLORTERM": "24bit"}, True),
        (Terminal, {"WT_SESSION": "0"}, True),
        (Terminal, {}, False),
        (Terminal, {"COLORTERM": "truecolor", "NO_COLOR": "1"}, False),
        (io.StringIO, {"COLORTERM": "truecolor"}, False),
    ],
)
def test_swatches_are_for_terminals_that_show_any_colour(
    monkeypatch, command, book, stream, environment, shown
):
    for name in ("COLORTERM", "WT_SESSION", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert shows_colours(stream()) is shown
    monkeypatch.setattr("sys.stdout", output := stream())
    assert cli.main(["inspect", str(book)]) == 0
    assert ("\x1b[48;2;10;20;30m" in output.getvalue()) is shown
    assert "#0a141e" in output.getvalue()
