"""Runs on many scenes: a raster for each stack, one codebook, and an OUT that grows."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import rasterio
import yaml
from rasterio.transform import from_origin

from engine.codebook import Codebook
from pipeline import cli
from pipeline.api.arrays import open_raster, segment
from pipeline.config import RunConfig, build
from pipeline.config_file import load_file
from pipeline.running.run import run
from tests.rasters import noise, write_geotiff

PATTERN = "red={scene}_B4.tif,nir={scene}_B8.tif,swir={scene}_B11.tif"


def make_scene(folder, name, seed, bands=("B4", "B8", "B11")):
    """A scene with bands of 10 and 20 m."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, band in enumerate(bands):
        side = 20 if band == "B11" else 10
        shape = (1, 600 // side, 700 // side)
        place = {"transform": from_origin(500000 + 7000 * seed, 5800000, side, side)}
        pixels = noise(*shape, seed=10 * seed + i, high=4000, dtype="uint16")
        write_geotiff(folder / f"{name}_{band}.tif", pixels, nodata=0, **place)


@pytest.fixture
def incoming(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("S1", "S2")):
        make_scene(tmp_path / "in", name, seed)
    return tmp_path / "in"


def pattern(folder):
    return ",".join(f"{name}={folder}/{file}" for name, file in (p.split("=") for p in PATTERN.split(",")))


def config(stack, out, **options):
    return RunConfig(stack=stack, out=str(out), **{"segments": 3, "resample": "bilinear", **options})


def done(stack, out, **options):
    report = run(config(stack, out, **options))
    assert not report.failed, report.failed
    return report


def labels(out):
    files = {path.stem: rasterio.open(path) for path in sorted(out.glob("*.tif"))}
    return {name: dataset.read(1).tobytes() for name, dataset in files.items()}


def states(out):
    return {r["name"]: r for r in json.loads((out / "run.json").read_text())["rasters"]}


def verified(out):
    return cli.main(["verify", str(out), "--progress", "none"]) == 0


def test_scenes_are_a_batch_with_one_codebook_however_they_are_named(incoming, tmp_path, capsys):
    assert sorted(done(pattern(incoming), tmp_path / "a").done) == ["S1", "S2"]
    each = [pattern(incoming).replace("{scene}", name) for name in ("S1", "S2")]
    words = ["run", "-o", str(tmp_path / "b"), "--segments", "3", "--resample", "bilinear"]
    assert cli.main([*words, "--progress", "none", *(w for text in each for w in ("--stack", text))]) == 0
    bands = {"red": "B4", "nir": "B8", "swir": "B11"}
    named = {n: {name: f"in/{n}_{band}.tif" for name, band in bands.items()} for n in ("S1", "S2")}
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump({"stack": named, "segments": 3, "resample": "bilinear"}, sort_keys=False))
    assert cli.main(["run", "--config", str(file), "-o", str(tmp_path / "c"), "--progress", "none"]) == 0
    books = [Codebook.load(tmp_path / out / "codebook.npz") for out in "abc"]
    assert len({book.content_hash for book in books}) == 1
    assert books[0].band_names == ("red", "nir", "swir")
    assert labels(tmp_path / "a") == labels(tmp_path / "b") == labels(tmp_path / "c")
    assert verified(tmp_path / "a")
    assert "S1" in capsys.readouterr().out
    # and the same from Python
    with rasterio.open(tmp_path / "a" / "S2.tif") as dataset:
        wanted = dataset.read(1)
    array = open_raster(named["S2"], resample="bilinear")
    np.testing.assert_array_equal(segment(array, books[0]).compute(scheduler="synchronous").values, wanted)


def test_plan_status_and_fit_know_the_scenes(incoming, tmp_path, capsys):
    words = ["--stack", pattern(incoming), "--resample", "average", "--reference-band", "swir"]
    assert cli.main(["plan", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rasters"] == 2
    assert cli.main(["fit", *words, "-o", str(tmp_path / "book.npz"), "--progress", "none"]) == 0
    out = tmp_path / "out"
    assert cli.main(["run", *words, "-o", str(out), "--codebook", str(tmp_path / "book.npz"), "-q"]) == 0
    capsys.readouterr()
    assert cli.main(["status", str(out)]) == 0
    assert "S2" in capsys.readouterr().out
    record = json.loads((out / "S1.json").read_text())
    assert (record["input"]["width"], record["input"]["height"]) == (35, 30)
    resampled = {band["name"]: band.get("resampled") for band in record["input"]["stack"]}
    assert resampled == {"red": "average", "nir": "average", "swir": None}
    assert verified(out)


def test_new_scenes_are_added_with_the_codebook_that_is_there(incoming, tmp_path):
    out = tmp_path / "out"
    done(pattern("in"), out)
    before = (out / "codebook.npz").read_bytes(), labels(out)
    make_scene(incoming, "S0", 5)
    report = done(pattern(incoming), out)
    assert (report.done, report.skipped) == (["S0"], ["S1", "S2"])
    assert (out / "codebook.npz").read_bytes() == before[0]
    assert before[1].items() <= labels(out).items()
    assert {name: s["state"] for name, s in states(out).items()} == dict.fromkeys(("S0", "S1", "S2"), "done")
    assert verified(out)
    # a single one, and all of them by run.json
    make_scene(incoming, "S9", 6)
    assert done(pattern(incoming).replace("{scene}", "S9"), out).done == ["stack"]
    again = build({**load_file(str(out / "run.json"))[0], "out": str(tmp_path / "again")})
    assert sorted(run(again).done) == ["S0", "S1", "S2", "stack"]


def test_scenes_are_known_by_their_files_wherever_these_are(incoming, tmp_path):
    out = tmp_path / "out"
    done(pattern("in"), out)
    (tmp_path / "link").symlink_to("in")
    for folder in ("link", "./in/../in", incoming):
        assert done(pattern(folder), out).skipped == ["S1", "S2"]
    elsewhere = incoming.rename(tmp_path / "elsewhere")
    assert done(pattern(elsewhere), out).skipped == ["S1", "S2"]
    assert states(out)["S1"]["stack"][0] == ["red", str(elsewhere / "S1_B4.tif")]
    shutil.rmtree(elsewhere)
    make_scene(incoming, "S3", 7)
    assert done(pattern(incoming), out).done == ["S3"]
    assert states(out)["S1"]["state"] == "done"


def test_a_scene_without_a_file_fails_alone_till_it_is_there(incoming, tmp_path):
    out = tmp_path / "out"
    make_scene(incoming, "S3", 3, bands=("B4", "B8"))
    for folder in ("in", "?n"):
        report = run(config(pattern(folder), out))
        assert report.failed.keys() == {"S3"}
        assert f"swir: {folder}/S3_B11.tif: no such file" in report.failed["S3"]
    assert sorted(labels(out)) == ["S1", "S2"]
    make_scene(incoming, "S3", 3)
    assert done(pattern("?n"), out).done == ["S3"]
    assert states(out).keys() == {"S1", "S2", "S3"}
    assert verified(out)


def test_a_scene_on_grids_that_do_not_fit_fails_alone(incoming, tmp_path):
    place = {"transform": from_origin(500000, 5800000, 10, 10), "crs": "EPSG:32634"}
    write_geotiff(incoming / "S2_B8.tif", noise(1, 60, 70, dtype="uint16"), **place)
    report = run(config(pattern(incoming), tmp_path / "out"))
    assert (report.done, report.failed.keys()) == (["S1"], {"S2"})
    assert "its CRS is EPSG:32634, not EPSG:32633" in report.failed["S2"]


def test_only_scenes_of_the_same_bands_and_resampling_are_added(incoming, tmp_path):
    out = tmp_path / "out"
    done(pattern(incoming), out)
    two = ",".join(pattern(incoming).split(",")[:2])
    for stack, options, said in (
        (two, {}, "stack ['red', 'nir', 'swir'], not ['red', 'nir']"),
        (pattern(incoming), {"resample": "average"}, "resample bilinear, not average"),
        (pattern(incoming), {"reference_band": "swir"}, "reference_band None, not swir"),
    ):
        with pytest.raises(Exception, match="holds another run") as caught:
            run(config(stack, out, **options))
        assert said in str(caught.value)


def test_an_out_from_before_there_were_scenes_is_taken_up(incoming, tmp_path):
    out, stack = tmp_path / "out", pattern("in").replace("{scene}", "S1")
    done(stack, out, resample=None)
    said = json.loads((out / "run.json").read_text())
    pairs = [list(pair) for pair in RunConfig(stack=stack).stack[0].bands]
    label = f"stack of {', '.join('='.join(pair) for pair in pairs)}"
    for key in ("resample", "reference_band"):
        del said["config"][key]
    said["config"]["stack"], said["rasters"][0]["source"] = pairs, label
    del said["rasters"][0]["stack"]
    (out / "run.json").write_text(json.dumps(said))
    record = json.loads((out / "stack.json").read_text())
    record["parameters"]["stack"], record["source"] = pairs, label
    for key in ("resample", "reference_band"):
        del record["parameters"][key]
    (out / "stack.json").write_text(json.dumps(record))
    assert verified(out)
    assert done(stack, out, resample=None).skipped == ["stack"]
    assert done(pattern(incoming), out, resample=None).done == ["S2"]
    assert states(out).keys() == {"stack", "S2"}
    assert verified(out)
