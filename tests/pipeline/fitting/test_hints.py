"""Hints: what a run may have been meant to do otherwise."""

from __future__ import annotations

import pytest

from pipeline import cli
from tests.rasters import noise, write_geotiff


@pytest.fixture
def bands(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("S1", "S2"):
        for i, band in enumerate(("B2", "B3")):
            write_geotiff(folder / f"{name}_{band}.tif", noise(60 // (i + 1), 70 // (i + 1), seed=i))
    return folder


def warnings(capsys, *words):
    assert cli.main([*map(str, words), "--progress", "none"]) == 0
    return [line for line in capsys.readouterr().err.splitlines() if "look like single bands" in line]


def test_single_bands_of_scenes_are_taken_as_asked_with_a_hint_of_the_stack(bands, tmp_path, capsys):
    stack = f"b2={bands / '{scene}_B2.tif'},b3={bands / '{scene}_B3.tif'}"
    (said,) = warnings(capsys, "run", bands, "-o", tmp_path / "out")
    assert said.endswith(
        f"of 2 scenes, and each is segmented by itself; to segment scenes by all their bands, "
        f'give --stack "{stack}" --resample bilinear in place of SOURCE'
    )
    assert len(list((tmp_path / "out").glob("*.tif"))) == 4
    assert len(warnings(capsys, "fit", bands, "-o", tmp_path / "book.npz")) == 1
    # nothing is done, and nothing hinted at
    assert warnings(capsys, "run", bands, "-o", tmp_path / "out") == []
    assert warnings(capsys, "run", bands, "--bands", 1, "-o", tmp_path / "chosen") == []


@pytest.mark.parametrize("command", ["run", "plan", "fit"])
def test_bands_that_no_codebook_is_for_are_refused_with_the_stack(bands, tmp_path, capsys, command):
    write_geotiff(bands / "S1_SCL.tif", noise(60, 70).astype("uint16"))
    assert cli.main([command, str(bands), "-o", str(tmp_path / "out"), "--progress", "none"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert f'they look like bands of scenes: give --stack "b2={bands / "{scene}_B2.tif"}' in said


def test_rasters_of_several_bands_have_no_such_hint(tmp_path, capsys):
    for band in ("B2", "B3"):
        write_geotiff(tmp_path / f"S1_{band}.tif", noise(3, 60, 70))
    assert warnings(capsys, "run", tmp_path, "-o", tmp_path / "out") == []
