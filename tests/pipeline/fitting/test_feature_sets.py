"""Features beyond bands: who has them, what the codebook and the record say, and what they are scaled by."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio

import pipeline
from engine.codebook import Codebook
from pipeline.cli import main
from pipeline.errors import RasterError, UsageError
from tests.rasters import write_geotiff

SETS = ["lab", "texture", "lab+texture"]


@pytest.fixture(scope="module")
def grain():
    """Grey, flat on the left and a chequerboard of the same mean on the right, uint8 (3, y, x)."""
    y, x = np.indices((200, 240))
    rng = np.random.default_rng(2)
    board = 45 * np.where((y // 2 + x // 2) % 2, 1, -1) * (x >= 120)
    return np.clip(128 + board + rng.normal(0, 3, (3, 200, 240)), 0, 255).astype(np.uint8)


def halves(labels):
    """The share of one label on the left, and of another on the right, away from where the two meet."""
    left, right = labels[16:-16, 16:104], labels[16:-16, 136:-16]
    return max(((left == a).mean() + (right == 1 - a).mean()) / 2 for a in (0, 1))


@pytest.mark.parametrize(("features", "right"), [("bands", False), ("texture", True), ("lab+texture", True)])
@pytest.mark.parametrize("resolution", [1, 2, 3])
def test_texture_tells_grain_from_none(grain, features, right, resolution):
    book = pipeline.fit(grain, segments=2, features=features, resolution=resolution)
    share = halves(pipeline.segment(grain, book).values)
    assert (share > 0.98) if right else (share < 0.9)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
@pytest.mark.parametrize("resolution", [1, 4])
def test_texture_of_wide_values_is_that_of_their_scale(grain, dtype, resolution):
    steps = (grain.astype(np.float64) * 20 - 1200).clip(0).astype(dtype)
    steps[:, 0, :2] = 30000  # too bright: beyond the limits
    book = pipeline.fit(steps, segments=2, features="texture", resolution=resolution)
    assert halves(pipeline.segment(steps, book).values) > 0.98
    bands = pipeline.fit(steps, segments=2, resolution=resolution)
    # of the same blocks as bands have them
    np.testing.assert_array_equal(book.scaling.low, bands.scaling.low)
    np.testing.assert_array_equal(book.scaling.high, bands.scaling.high)
    np.testing.assert_array_equal(book.band_mean, bands.band_mean)


@pytest.mark.parametrize("features", SETS)
def test_a_codebook_remembers_its_features(grain, tmp_path, capsys, features):
    path, book = write_geotiff(tmp_path / "g.tif", grain, photometric="RGB"), tmp_path / "book.npz"
    options = ["--segments", "3", "--features", features]
    assert main(["fit", str(path), "-o", str(book), *options, "-q"]) == 0
    assert main(["run", str(path), "-o", str(tmp_path / "a"), *options, "-q"]) == 0
    assert main(["run", str(path), "-o", str(tmp_path / "b"), "--codebook", str(book), "-q"]) == 0
    assert (tmp_path / "a/g.tif").read_bytes() == (tmp_path / "b/g.tif").read_bytes()
    for out in "ab":
        record = json.loads((tmp_path / out / "g.json").read_text())
        assert record["parameters"]["feature_set"] == record["kernel"]["feature_set"] == features
    assert main(["verify", str(tmp_path / "b"), "-q"]) == 0
    capsys.readouterr()
    other = ["--codebook", str(book), "--features", "bands"]
    assert main(["run", str(path), "-o", str(tmp_path / "c"), *other]) == 2
    assert f"--features bands: the codebook has {features}" in capsys.readouterr().err
    assert main(["run", str(path), "-o", str(tmp_path / "a"), "--segments", "3"]) == 2
    assert "features" in capsys.readouterr().err


def test_inspect_names_features(grain, tmp_path, capsys):
    path = write_geotiff(tmp_path / "g.tif", grain, photometric="RGB")
    for features, heads in {
        "lab": ["L", "a", "b"],
        "texture": ["mean", "red", "mean", "green", "mean", "blue", "deviation"],
        "lab+texture": ["L", "a", "b", "deviation"],
    }.items():
        pipeline.fit(path, segments=2, features=features).save(tmp_path / "book.npz")
        assert main(["inspect", str(tmp_path / "book.npz")]) == 0
        printed = capsys.readouterr().out
        assert f"centres   in {features}" in printed
        table = printed[printed.index("label ") :].splitlines()
        assert table[0].split()[4:] == heads
        if "texture" in features:
            most = max(float(line.split()[-1]) for line in table[1:])
            assert most == pytest.approx(45 if features == "texture" else 17.3, rel=0.1)  # the board's own


def test_a_run_of_bands_says_so_and_nothing_more(grain, tmp_path):
    path = write_geotiff(tmp_path / "g.tif", grain, photometric="RGB")
    assert main(["run", str(path), "-o", str(tmp_path / "o"), "-q"]) == 0
    record = json.loads((tmp_path / "o/g.json").read_text())
    assert record["parameters"]["feature_set"] == "bands"
    assert "feature_set" not in record["kernel"]
    book = pipeline.fit(path, features="bands")
    assert book.content_hash == Codebook.load(tmp_path / "o/codebook.npz").content_hash


def write_as(path, pixels, names=(), **profile):
    write_geotiff(path, pixels, **profile)
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = names or (None,) * len(pixels)
    return path


@pytest.mark.parametrize("features", ["lab", "lab+texture"])
def test_lab_is_of_red_green_and_blue_bytes(grain, tmp_path, capsys, features):
    grey = write_as(tmp_path / "grey.tif", grain[:1])
    wide = write_as(tmp_path / "wide.tif", grain.astype(np.uint16), photometric="RGB")
    four = write_as(tmp_path / "four.tif", np.concatenate([grain, grain[:1]]), photometric="MINISBLACK")
    infrared = write_as(tmp_path / "cir.tif", grain, ("nir", "red", "green"), photometric="MINISBLACK")
    turned = write_as(tmp_path / "bgr.tif", grain, ("blue", "green", "red"), photometric="MINISBLACK")
    for path in (grey, wide, four, infrared, turned):
        with pytest.raises(RasterError, match=rf"{path.name}: --features {features[:3]}"):
            pipeline.fit(path, features=features)
        assert main(["run", str(path), "-o", str(tmp_path / path.stem), "--features", features, "-q"]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert f"--features {features} is of red, green and blue" in line
    with pytest.raises(RasterError, match="scaled by limits"):
        pipeline.fit(grain, features=features, scale=(10.0, 200.0))
    # what is chosen in their order is fine
    options = ["--bands", "red,green,blue", "--features", features, "-q"]
    assert main(["run", str(turned), "-o", str(tmp_path / "ok"), *options]) == 0


def test_a_raster_without_such_features_fails_alone(grain, tmp_path):
    write_as(tmp_path / "a.tif", grain, photometric="RGB")
    write_as(tmp_path / "b.tif", grain, ("nir", "swir", "thermal"), photometric="MINISBLACK")
    out = tmp_path / "o"
    assert main(["run", str(tmp_path), "-o", str(out), "--features", "lab", "-q"]) == 1
    assert (out / "a.tif").exists()
    assert not (out / "b.tif").exists()


def test_texture_of_unscaled_wide_values_is_refused(grain):
    with pytest.raises(RasterError, match="texture of int32 needs limits"):
        pipeline.fit(grain.astype(np.int32), features="texture", scale="none")
    assert pipeline.fit(grain, features="texture", scale="none").scaling is None


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--features", "texture", "--fit", "exact"], "--features bands clusters"),
        (["--features", "lab", "--method", "cnn"], "only --method kmeans"),
        (["--features", "LAB"], "--features 'LAB'"),
    ],
)
def test_what_cannot_be_combined_is_one_line(grain, tmp_path, capsys, options, why):
    path = write_geotiff(tmp_path / "g.tif", grain, photometric="RGB")
    assert main(["run", str(path), "-o", str(tmp_path / "o"), *options, "-q"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert why in line


def test_in_python_too(grain):
    with pytest.raises(UsageError, match="features 'grain'; kmeans has bands, lab"):
        pipeline.fit(grain, features="grain")
    with pytest.raises(UsageError, match="only kmeans"):
        pipeline.fit(grain, features="lab", method="cnn")
