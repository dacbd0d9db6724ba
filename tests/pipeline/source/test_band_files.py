"""Files of single bands: the stack that their names say."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import RunConfig
from pipeline.source.band_files import band_files
from pipeline.source.scenes import resolve


@pytest.mark.parametrize(
    ("files", "stack", "scenes"),
    [
        (
            ["in/S1_B2.tif", "in/S1_B3.tif", "in/S2_B2.tif", "in/S2_B3.tif", "in/S3_B2.tif", "in/dem.tif"],
            {"b2": "in/{scene}_B2.tif", "b3": "in/{scene}_B3.tif"},
            2,
        ),
        (
            ["in/LC08_L2SP_0402_SR_B4.TIF", "in/LC08_L2SP_0402_SR_B5.TIF", "in/LC08_L2SP_0402_QA_PIXEL.TIF"],
            {"b4": "in/{scene}_B4.TIF", "b5": "in/{scene}_B5.TIF"},
            1,
        ),
        (
            ["in/A/T33_B04_10m.jp2", "in/A/T33_B8A_20m.jp2"],
            {"b04": "in/A/{scene}_B04_10m.jp2", "b8a": "in/A/{scene}_B8A_20m.jp2"},
            1,
        ),
        (
            ["in/A/red.tif", "in/A/nir.tif", "in/A/scl.tif", "in/B/red.tif", "in/B/nir.tif", "in/B/scl.tif"],
            {"red": "in/{scene}/red.tif", "nir": "in/{scene}/nir.tif", "scl": "in/{scene}/scl.tif"},
            2,
        ),
        (
            ["HLS.S30.v2.0.B04.tif", "HLS.S30.v2.0.B05.tif"],
            {"b04": "{scene}.B04.tif", "b05": "{scene}.B05.tif"},
            1,
        ),
    ],
)
def test_names_of_bands_are_made_a_pattern_that_finds_the_files(tmp_path, monkeypatch, files, stack, scenes):
    monkeypatch.chdir(tmp_path)
    for file in map(Path, files):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    found = band_files(map(str, map(Path, files)))
    assert found.stack == ",".join(f"{band}={Path(pattern)}" for band, pattern in stack.items())
    assert found.scenes == scenes
    whole = [s for s in resolve(RunConfig(stack=found.stack).stack) if all(Path(f).exists() for f in s.files)]
    assert len(whole) == scenes
    assert set(found.files) in [set(scene.files) for scene in whole]


@pytest.mark.parametrize(
    "files",
    [
        [],
        ["a/S1_B4.tif"],
        ["a/S1_B4.tif", "a/S2_B4.tif"],
        ["ortho_1.tif", "ortho_2.tif"],
        ["tab.tif", "cab.tif"],
    ],
)
def test_other_files_are_left_alone(files):
    assert band_files(files) is None
