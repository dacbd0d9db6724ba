"""The command line: exit codes, one line for each thing that is wrong, and what is left in OUT."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from engine.codebook import Codebook
from pipeline import cli
from pipeline.events import kinds, progress
from pipeline.running import run as run_module
from pipeline.source import bad_blocks
from tests.disk import files_no_larger_than
from tests.rasters import from_file, level_arrays, noise, write_geotiff, write_vrt

ROOT = Path(__file__).resolve().parents[2]
SIDECARS = (".tif", ".tif.aux.xml", ".qml", ".png", ".json")
BATCH = {"codebook.npz", "run.json", "run.log.jsonl"}


class Ended:
    """How a command ended: exit code, stdout, stderr."""

    def __init__(self, code, captured):
        self.code = code
        self.out = captured.out
        self.err = captured.err
        self.errors = [line for line in captured.err.splitlines() if line.strip()]

    def said(self):
        """Its one line on stderr."""
        assert len(self.errors) == 1, self.err
        return self.errors[0]


@pytest.fixture
def command(capsys, monkeypatch):
    """Runs a command in this process."""
    monkeypatch.setattr(bad_blocks, "RETRY_AFTER_S", (0.0,))

    def call(*arguments):
        capsys.readouterr()
        try:
            code = cli.main([str(a) for a in arguments])
        except SystemExit as error:
            code = error.code
        ended = Ended(code, capsys.readouterr())
        if "--debug" not in arguments:
            assert "Traceback" not in ended.out + ended.err
        return ended

    return call


@pytest.fixture
def run(command):
    """`run` without progress."""

    def call(*arguments):
        return command("run", *arguments, "--progress", "none")

    return call


@pytest.fixture
def good(tmp_path):
    """A small raster."""
    return write_geotiff(tmp_path / "good.tif", noise(3, 60, 70))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def names(folder):
    return {p.name for p in Path(folder).iterdir()} if Path(folder).exists() else set()


def outputs(*rasters):
    """Names of what a run of some rasters leaves in OUT."""
    return {f"{r}{suffix}" for r in rasters for suffix in SIDECARS} | BATCH


def snapshot(folder):
    """What every file holds and when it was written."""
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in Path(folder).iterdir() if p.is_file()}


def of_rasters(files):
    """Without the files of the whole run, which may be written anew."""
    return {name: state for name, state in files.items() if name not in BATCH}


def strict_json(path):
    """JSON as other programs read it: without NaN and Infinity."""

    def refuse(constant):
        raise AssertionError(f"{path}: {constant} is no JSON")

    return json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=refuse)


# Rasters that cannot be done


def missing(folder):
    return folder / "bad.tif"


def empty(folder):
    (folder / "bad.tif").touch()
    return folder / "bad.tif"


def text(folder):
    (folder / "bad.tif").write_text("not a raster")
    return folder / "bad.tif"


def truncated(folder):
    raw = write_geotiff(folder / "whole", noise(3, 60, 60), compress="deflate").read_bytes()
    (folder / "bad.tif").write_bytes(raw[: len(raw) // 3])
    return folder / "bad.tif"


def corrupt_tile(folder):
    path = write_geotiff(
        folder / "bad.tif", noise(3, 96, 96), tiled=True, blockxsize=32, blockysize=32, compress="deflate"
    )
    with rasterio.open(path) as dataset:
        at = int(dataset.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))
    raw = bytearray(path.read_bytes())
    raw[at : at + 200] = b"\xff" * 200
    path.write_bytes(raw)
    return path


def vrt_without_source(folder):
    return write_vrt(folder / "bad.vrt", (9, 9), *[("Byte", from_file("lost.tif"))] * 3)


def all_nodata(folder):
    return write_geotiff(folder / "bad.tif", np.zeros((3, 40, 40), np.uint8), nodata=0)


def complex_pixels(folder):
    return write_geotiff(folder / "bad.tif", np.ones((3, 9, 9), np.complex64))


def folder_called_tif(folder):
    (folder / "bad.gdb").mkdir()
    (folder / "bad.gdb" / "x.tif").write_text("no")
    return folder / "bad.gdb" / "x.tif"


def name_that_is_no_unicode(folder):
    path = folder / os.fsdecode(b"bad\xe9.tif")
    path.write_text("not a raster")
    return path


def too_long_a_name(folder):
    return folder / f"bad{'x' * 300}.tif"


BAD = [
    missing, empty, text, truncated, corrupt_tile, vrt_without_source, all_nodata, complex_pixels,
    folder_called_tif, name_that_is_no_unicode, too_long_a_name,
]  # fmt: skip


@pytest.mark.parametrize("make", BAD)
def test_a_raster_that_cannot_be_done_is_named_on_one_line_and_leaves_nothing(run, tmp_path, out, make):
    bad = make(tmp_path)
    ended = run(bad, "-o", out)
    assert ended.code == 1
    assert bad.stem[:3] in ended.said()
    assert names(out) <= BATCH
    assert "Error" not in ended.said()  # what is wrong is said in words, not by an exception's name


@pytest.mark.parametrize("make", [make for make in BAD if make is not all_nodata])
def test_the_other_rasters_of_a_batch_are_done(run, tmp_path, good, out, make):
    bad = make(tmp_path)
    ended = run(bad, good, "-o", out)
    assert ended.code == 1
    assert bad.stem[:3] in ended.said()
    assert names(out) == outputs("good")
    states = {r["name"]: r for r in strict_json(out / "run.json")["rasters"]}
    assert states["good"]["state"] == "done"
    (failed,) = [s for name, s in states.items() if name != "good"]
    assert failed["state"] == "failed"
    assert failed["error"] in ended.err


def test_all_of_a_batch_that_is_bad_in_many_ways_but_one_is_reported(run, tmp_path, good, out):
    makers = [missing, empty, text, truncated, corrupt_tile]
    bad = []
    for make in makers:
        (tmp_path / make.__name__).mkdir()
        made = make(tmp_path / make.__name__)
        bad.append(made)
    ended = run(*bad, good, "-o", out)
    assert ended.code == 1
    assert len(ended.errors) == len(bad)
    for path in bad:
        assert sum(str(path) in line for line in ended.errors) == 1
    assert names(out) == outputs("good")


def test_bands_that_a_raster_does_not_have_are_refused(run, good, out):
    ended = run(good, "-o", out, "--bands", "1,2,9")
    assert ended.code == 1
    assert ended.said() == f"{good}: has bands 1 to 3, not 9; change --bands"


# Rasters that can


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 3), (5, 600)])
@pytest.mark.parametrize("resolution", [1, 4, 31])
def test_a_raster_smaller_than_a_block_or_a_cell_is_done(run, tmp_path, out, shape, resolution):
    source = write_geotiff(tmp_path / "r.tif", noise(2, *shape))
    assert run(source, "-o", out, "--segments", "2", "--resolution", resolution).code == 0
    assert names(out) == outputs("r")
    assert level_arrays(out / "r.tif")[0].shape == shape
    assert level_arrays(out / "r.tif")[0].max() < 2


def test_more_labels_than_distinct_values_are_warned_of(run, tmp_path, out):
    pixels = np.repeat(np.array([[[10, 90, 200]]], np.uint8), 8, axis=2)
    ended = run(write_geotiff(tmp_path / "r.tif", pixels), "-o", out, "--segments", "7", "--resolution", "1")
    assert ended.code == 0
    assert "3 distinct values, fewer than --segments 7" in ended.said()
    assert level_arrays(out / "r.tif")[0].tolist() == [[0] * 8 + [1] * 8 + [2] * 8]


def test_values_that_are_not_finite_get_no_label(run, tmp_path, out):
    pixels = noise(1, 20, 20).astype(np.float32)
    pixels[0, 3], pixels[0, 4], pixels[0, 5] = np.nan, np.inf, -np.inf
    assert run(write_geotiff(tmp_path / "r.tif", pixels), "-o", out, "--resolution", "1").code == 0
    labels = level_arrays(out / "r.tif")[0]
    np.testing.assert_array_equal(labels == 255, ~np.isfinite(pixels[0]))


def test_a_raster_of_nothing_but_nan_has_nothing_to_segment(run, tmp_path, out):
    ended = run(write_geotiff(tmp_path / "r.tif", np.full((1, 9, 9), np.nan, np.float32)), "-o", out)
    assert ended.code == 1
    assert "no valid pixel" in ended.said()
    assert names(out) == {"run.json", "run.log.jsonl"}


# Requests that cannot be carried out


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--segments", "0"], "--segments"),
        (["--segments", "1"], "--segments"),
        (["--segments", "255"], "--segments"),
        (["--segments", "many"], "--segments"),
        (["--method", "magic"], "--method"),
        (["--resolution", "0"], "--resolution"),
        (["--chunk-size", "-5"], "--chunk-size"),
        (["--bands", "0"], "--bands"),
        (["--scale", "5"], "--scale"),
        (["--scale", "nan,nan"], "--scale"),
        (["--workers", "none"], "--workers"),
        (["--seed", "-1"], "--seed"),
        (["--nonsense", "1"], "--nonsense"),
        (["--segments"], "--segments"),
        (["--config", "none.yaml"], "none.yaml"),
        (["--codebook", "none.npz"], "none.npz"),
        (["--scale", "1,2,3,4"], "--scale"),
        (["--fit", "exact", "--bands", "1,2,3,1"], "--fit exact"),
    ],
    ids=" ".join,
)
def test_a_wrong_option_is_named_on_one_line_and_nothing_is_done(run, good, out, options, named):
    ended = run(good, "-o", out, *options)
    assert ended.code == 2
    assert named in ended.said()
    assert not [n for n in names(out) if n.startswith("good")]


def test_an_unknown_key_in_a_file_is_named_with_the_nearest(run, good, out, tmp_path):
    (tmp_path / "typo.yaml").write_text("segmants: 5\n")
    ended = run(good, "-o", out, "--config", tmp_path / "typo.yaml")
    assert ended.code == 2
    assert "'segmants'; did you mean 'segments'?" in ended.said()
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["-o", "OUT"], "no SOURCE"),
        (["GOOD"], "no -o OUT"),
        (["GOOD", "-o", ""], "no -o OUT"),
        (["EMPTY", "-o", "OUT"], "no rasters in this folder"),
        (["EMPTY/*.tif", "-o", "OUT"], "no file matches"),
        (["@EMPTY/list.txt", "-o", "OUT"], "cannot read this list"),
        (["", "-o", "OUT"], ""),
        ([], ""),
    ],
)
def test_a_run_without_rasters_or_without_a_place_for_outputs_is_refused(
    run, good, out, tmp_path, monkeypatch, arguments, named
):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    places = {"GOOD": str(good), "OUT": str(out), "EMPTY": str(tmp_path / "empty")}
    ended = run(*(re.sub("GOOD|OUT|EMPTY", lambda m: places[m[0]], a) for a in arguments))
    assert ended.code == 2
    assert named in ended.said()
    assert not out.exists()


def test_out_that_cannot_be_a_folder_is_refused(run, good, tmp_path):
    (tmp_path / "file").write_text("x")
    for place in ("file", "file/deeper"):
        ended = run(good, "-o", tmp_path / place)
        assert ended.code == 2
        assert f"{tmp_path / place}: cannot write there" in ended.said()
    assert (tmp_path / "file").read_text() == "x"


def test_rasters_of_several_kinds_are_refused_with_an_example_of_each(run, good, tmp_path, out):
    other = write_geotiff(tmp_path / "other.tif", noise(1, 9, 9, dtype="uint16"))
    ended = run(good, other, "-o", out)
    assert ended.code == 2
    assert str(good) in ended.said()
    assert str(other) in ended.said()
    assert run(good, other, "-o", out, "--codebook-scope", "raster").code == 0


# Faults of ours, interrupts, full disks


def break_run(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(run_module, "run", fail)


def test_a_fault_of_ours_is_one_line_too_and_debug_shows_where(command, good, out, monkeypatch):
    break_run(monkeypatch, KeyError("a bug"))
    ended = command("run", good, "-o", out)
    assert ended.code == 1
    assert ended.said() == "error: KeyError: 'a bug' (--debug shows where)"
    ended = command("run", good, "-o", out, "--debug")
    assert ended.code == 1
    assert "Traceback" in ended.err
    assert "in fail" in ended.err


def test_debug_shows_where_a_request_was_refused(command, out):
    ended = command("run", "none*.tif", "-o", out, "--debug")
    assert ended.code == 2
    assert "Traceback" in ended.err
    assert ended.errors[-1].startswith("error: none*.tif: no file matches")


def test_debug_in_a_file_counts_too(command, tmp_path, out):
    (tmp_path / "c.yaml").write_text("debug: true\n")
    assert (
        "Traceback" in command("run", "none*.tif", "-o", out, "--config", tmp_path / "c.yaml", "--debug").err
    )


def test_an_interrupt_has_its_own_exit_code(command, good, out, monkeypatch):
    break_run(monkeypatch, KeyboardInterrupt())
    ended = command("run", good, "-o", out)
    assert ended.code == 130
    assert "run the same command again" in ended.said()


class Interrupting:
    """A display that a person interrupts at the first progress."""

    def event(self, event):
        if event.name == "progress":
            raise KeyboardInterrupt

    def close(self):
        pass


def test_an_interrupted_run_is_finished_by_the_same_command_with_the_same_bytes(
    run, tmp_path, out, monkeypatch
):
    sources = [write_geotiff(tmp_path / f"r{i}.tif", noise(3, 700, 600, seed=i)) for i in range(3)]
    arguments = [*sources, "-o", out, "--chunk-size", "512", "--workers", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(progress, "chosen", lambda _: Interrupting())
        assert run(*arguments).code == 130
    assert not list(out.glob("*.tif"))
    assert run(*arguments).code == 0
    assert run(*sources, "-o", tmp_path / "other").code == 0
    for name in ("r0.tif", "r1.tif", "r2.tif", "codebook.npz", "r1.qml", "r1.png"):
        assert (out / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_a_disk_that_is_full_ends_a_run_with_one_line_and_no_half_written_file(run, good, tmp_path, out):
    assert run(good, "-o", tmp_path / "warm").code == 0  # compiles and imports, which writes files
    sources = [write_geotiff(tmp_path / f"r{i}.tif", noise(3, 300, 300, seed=i)) for i in range(3)]
    arguments = [*sources, "-o", out, "--resolution", "1"]
    with files_no_larger_than(12_000):
        ended = run(*arguments)
    assert ended.code == 1
    assert [line for line in ended.errors if "free space or choose another OUT" in line] == ended.errors
    assert not list(out.glob("*.tif"))
    assert run(*arguments).code == 0
    assert names(out) == outputs("r0", "r1", "r2")


# OUT that holds something already


def test_what_is_done_is_not_done_again(run, good, out):
    assert run(good, "-o", out).code == 0
    before = snapshot(out)
    ended = run(good, "-o", out)
    assert ended.code == 0
    assert ended.err == ""
    after = snapshot(out)
    assert of_rasters(after) == of_rasters(before)
    assert after["codebook.npz"][0] == before["codebook.npz"][0]
    record = strict_json(out / "run.json")
    assert record["counts"] == {"done": 0, "failed": 0, "skipped": 1}
    assert [r["state"] for r in record["rasters"]] == ["done"]


@pytest.mark.parametrize("gone", ["good.tif", "good.json"])
def test_an_output_that_is_gone_is_made_again(run, good, out, gone):
    run(good, "-o", out)
    before = (out / "good.tif").read_bytes()
    (out / gone).unlink()
    assert run(good, "-o", out).code == 0
    assert (out / "good.tif").read_bytes() == before
    assert names(out) == outputs("good")


def test_other_chunks_or_workers_are_the_same_run(run, good, out):
    run(good, "-o", out)
    assert run(good, "-o", out, "--chunk-size", "512", "--workers", "1").code == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--segments", "5"], "segments 8, not 5"),
        (["--resolution", "2"], "resolution 4, not 2"),
        (["--seed", "3"], "seed 0, not 3"),
        (["--bands", "1,2"], "bands None, not [1, 2]"),
        (["--scale", "none"], "scale None, not none"),
        (["--fit", "exact"], "fit sample, not exact"),
        (["--codebook-scope", "raster"], "codebook_scope batch, not raster"),
    ],
    ids=lambda o: " ".join(o) if isinstance(o, list) else "",
)
def test_another_run_in_out_is_refused_with_the_difference_and_stays(run, good, out, options, said):
    run(good, "-o", out)
    before = snapshot(out)
    ended = run(good, "-o", out, *options)
    assert ended.code == 2
    assert said in ended.said()
    assert "--overwrite" in ended.said()
    assert snapshot(out) == before


def test_other_rasters_are_added_and_none_that_was_there_is_named(run, good, tmp_path, out):
    other = write_geotiff(tmp_path / "other.tif", noise(3, 40, 40, seed=5))
    run(good, "-o", out)
    before = of_rasters(snapshot(out))
    ended = run(other, "-o", out)
    assert ended.code == 0
    assert "none of these rasters is of the run that stands there; they get its codebook" in ended.said()
    assert before.items() <= snapshot(out).items()
    assert run(good, other, "-o", out).errors == []


def test_overwrite_replaces_another_run(run, good, tmp_path, out):
    other = write_geotiff(tmp_path / "other.tif", noise(3, 40, 40, seed=5))
    run(good, other, "-o", out)
    (out / "mine.txt").write_text("keep")
    assert run(good, "-o", out, "--segments", "3", "--overwrite").code == 0
    assert names(out) == outputs("good") | {"mine.txt"}
    assert Codebook.load(out / "codebook.npz").segments == 3


@pytest.mark.parametrize("codebook", ["none.npz", "OUT/codebook.npz"])
def test_overwrite_deletes_nothing_before_it_is_known_that_the_run_can_go_on(
    run, good, tmp_path, out, codebook
):
    run(good, "-o", out, "--segments", "3")
    before = {n: data for n, (data, _) in snapshot(out).items() if n.endswith(".tif")}
    path = codebook.replace("OUT", str(out))
    ended = run(good, "-o", out, "--overwrite", "--codebook", path)
    assert ended.code == (0 if "OUT" in codebook else 2), ended.err
    assert {n: (out / n).read_bytes() for n in before if (out / n).exists()} == before


def test_an_input_that_changed_is_refused_and_its_labels_stay(run, good, out):
    run(good, "-o", out)
    before = snapshot(out)
    write_geotiff(good, noise(3, 60, 70, seed=9))
    ended = run(good, "-o", out)
    assert ended.code == 2
    assert f"{good}: the input has changed" in ended.said()
    assert of_rasters(snapshot(out)) == of_rasters(before)
    assert run(good, "-o", out, "--overwrite").code == 0


@pytest.mark.parametrize("scope", ["batch", "raster"])
def test_an_input_that_is_gone_leaves_what_was_made_of_it_as_it_is(run, good, tmp_path, out, scope):
    other = write_geotiff(tmp_path / "other.tif", noise(3, 60, 70, seed=2))
    options = ("-o", out, "--codebook-scope", scope)
    run(good, other, *options)
    before = snapshot(out)
    kept = good.with_suffix(".away")
    good.rename(kept)
    ended = run(good, other, *options)
    assert ended.code == 1
    assert f"{good}: no such file" in ended.said()
    assert f"{out / 'good.tif'}, which was made of it before, stays as it is" in ended.said()
    assert of_rasters(snapshot(out)) == of_rasters(before)
    assert [r["state"] for r in json.loads((out / "run.json").read_text())["rasters"]] == ["done", "done"]
    kept.rename(good)
    assert run(good, other, *options).code == 0
    assert of_rasters(snapshot(out)) == of_rasters(before)


def test_a_raster_that_was_repaired_is_done_by_the_next_run_with_the_codebook_that_there_is(
    run, good, tmp_path, out
):
    bad = text(tmp_path)
    assert run(bad, good, "-o", out).code == 1
    codebook, labels = (out / "codebook.npz").read_bytes(), snapshot(out)["good.tif"]
    write_geotiff(bad, noise(3, 50, 50, seed=3))
    assert run(bad, good, "-o", out).code == 0
    assert names(out) == outputs("good", "bad")
    assert (out / "codebook.npz").read_bytes() == codebook
    assert snapshot(out)["good.tif"] == labels


def test_files_of_others_under_an_output_s_name_are_not_replaced(run, good, out):
    out.mkdir()
    (out / "good.qml").write_text("mine")
    ended = run(good, "-o", out)
    assert ended.code == 2
    assert "good.qml exists already" in ended.said()
    assert (out / "good.qml").read_text() == "mine"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"config": 1, "rasters": [1]}', "\x00"])
def test_a_run_json_of_something_else_is_refused_and_stays(run, good, out, content):
    out.mkdir()
    (out / "run.json").write_text(content)
    ended = run(good, "-o", out)
    assert ended.code == 2
    assert "not a run.json" in ended.said()
    assert (out / "run.json").read_text() == content


@pytest.mark.parametrize("name", ["../victim", "/tmp/victim"])
def test_overwrite_deletes_nothing_outside_out_whatever_run_json_says(run, good, tmp_path, out, name):
    out.mkdir()
    victim = tmp_path / "victim.tif"
    victim.write_text("mine")
    name = name.replace("/tmp/victim", str(tmp_path / "victim"))
    rasters = [{"name": name, "source": "x.tif", "state": "done"}]
    (out / "run.json").write_text(json.dumps({"config": {}, "rasters": rasters}))
    run(good, "-o", out, "--overwrite")
    assert victim.exists()


@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_outputs_never_replace_an_input(run, good, options):
    before = good.read_bytes()
    ended = run(good, "-o", good.parent, *options)
    assert ended.code == 2
    assert f"{good}: the outputs in {good.parent} would overwrite this input" in ended.said()
    assert good.read_bytes() == before
    assert not (good.parent / "run.json").exists()


def test_an_input_behind_a_link_is_not_replaced_either(run, good, tmp_path, out):
    out.mkdir()
    shutil.move(good, out / "good.tif")
    (tmp_path / "link.tif").symlink_to(out / "good.tif")
    shutil.copy(out / "good.tif", tmp_path / "good.tif")
    ended = run(tmp_path / "link.tif", tmp_path / "good.tif", "-o", out, "--overwrite")
    assert ended.code == 2
    assert (out / "good.tif").read_bytes() == (tmp_path / "good.tif").read_bytes()


def test_two_inputs_with_one_name_both_get_outputs_with_clear_names(run, good, tmp_path, out):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(good, tmp_path / folder / "same.tif")
    assert run(tmp_path / "a", tmp_path / "b", "-o", out).code == 0
    assert names(out) == outputs("a_same", "b_same")


@pytest.mark.parametrize("name", ["run", "codebook", "report"])
def test_a_raster_with_the_name_of_a_run_s_own_file_gets_outputs_beside_it(run, good, tmp_path, out, name):
    source = good.rename(tmp_path / f"{name}.tif")
    assert run(source, "-o", out).code == 0
    assert strict_json(out / "run.json")["counts"]["done"] == 1
    assert len(list(out.glob("*.tif"))) == 1
    assert len(list(out.glob("*.json"))) == 2
    Codebook.load(out / "codebook.npz")
    assert run(source, "-o", out).code == 0


# What a run leaves


def test_a_raster_s_record_says_what_was_done(run, tmp_path, out):
    pixels = noise(3, 600, 700)
    pixels[:, 40:200, 100:300] = 0
    source = write_geotiff(tmp_path / "r.tif", pixels, nodata=0)
    assert run(source, "-o", out, "--segments", "5", "--seed", "3", "--chunk-size", "512").code == 0
    record = strict_json(out / "r.json")
    labels = level_arrays(out / "r.tif")[0]
    counts = np.bincount(labels.ravel(), minlength=256)
    assert record["labels"] == {str(i): int(counts[i]) for i in range(5)}
    assert record["nodata_pixels"] == counts[255] == 160 * 200
    book = Codebook.load(out / "codebook.npz")
    assert record["codebook_hash"] == book.content_hash
    with rasterio.open(out / "r.tif") as dataset:
        assert dataset.tags()["TILEWRIGHT_CODEBOOK"] == book.content_hash
    assert record["source"] == str(source)
    assert (record["input"]["width"], record["input"]["height"]) == (700, 600)
    assert record["parameters"]["segments"] == 5
    assert record["parameters"]["seed"] == 3
    assert (record["chunks"], record["parameters"]["chunk_size"]) == (4, 512)
    assert {"numpy", "rasterio", "dask"} <= set(record["versions"])
    assert len(record["input"]["fingerprint"]) == 64
    with Image.open(out / "r.png") as picture:
        assert max(picture.size) <= 1024


def test_records_are_json_for_every_program_also_of_rasters_whose_nodata_is_nan(run, tmp_path, out):
    pixels = noise(1, 30, 30).astype(np.float32)
    pixels[0, :9] = np.nan
    assert run(write_geotiff(tmp_path / "r.tif", pixels, nodata=np.nan), "-o", out).code == 0
    strict_json(out / "r.json")
    strict_json(out / "run.json")


def test_one_codebook_for_a_batch_or_one_for_each_raster(run, tmp_path):
    sources = [
        write_geotiff(tmp_path / f"r{i}.tif", noise(1, 40, 40, seed=i, low=1 + 60 * i, high=90 + 60 * i))
        for i in range(2)
    ]
    assert run(*sources, "-o", tmp_path / "batch").code == 0
    assert run(*sources, "-o", tmp_path / "each", "--codebook-scope", "raster").code == 0
    hashes = {
        scope: [strict_json(tmp_path / scope / f"r{i}.json")["codebook_hash"] for i in range(2)]
        for scope in ("batch", "each")
    }
    assert hashes["batch"][0] == hashes["batch"][1]
    assert hashes["each"][0] != hashes["each"][1]
    assert names(tmp_path / "each") >= {"r0.codebook.npz", "r1.codebook.npz"}
    assert "codebook.npz" not in names(tmp_path / "each")


# Progress for programs


def documented():
    """Fields of each event, as the docstrings of the event classes have them."""
    events = [c for c in vars(kinds).values() if isinstance(c, type) and issubclass(c, kinds.Event)]
    fields = {}
    for event in (e for e in events if hasattr(e, "name")):
        sections = [(c.__doc__ or "").partition("Parameters\n    ----------\n")[2] for c in event.__mro__]
        named = [re.findall(r"^    (\w[\w, ]*)$", s.partition("\n\n")[0], re.MULTILINE) for s in sections]
        fields[event.name] = {name for lines in named for line in lines for name in line.split(", ")}
    return fields


def events(ended):
    return [json.loads(line) for line in ended.out.splitlines()]


def assert_documented(found):
    fields = documented()
    for event in found:
        assert set(event) == {"event", "time"} | fields[event["event"]]
    times = [e["time"] for e in found]
    assert times == sorted(times)


def test_progress_for_programs_is_a_json_object_a_line_with_the_documented_fields(command, tmp_path, out):
    flat = np.repeat(np.array([[[10, 90]]], np.uint8), 600, axis=2)
    source = write_geotiff(tmp_path / "r.tif", np.repeat(flat, 600, axis=1))
    bad = text(tmp_path)
    arguments = [
        "run",
        bad,
        source,
        "-o",
        out,
        "--progress",
        "json",
        "--chunk-size",
        "512",
        "--resolution",
        "1",
    ]
    ended = command(*arguments)
    assert ended.code == 1
    found = events(ended)
    assert_documented(found)
    order = [e["event"] for e in found]
    assert order[0] == "start"
    assert order[-1] == "end"
    assert {"failed", "fit", "warning", "codebook", "raster", "progress", "done"} <= set(order)
    by_kind = {e["event"]: e for e in found}
    assert by_kind["start"]["rasters"] == 2
    assert by_kind["raster"] == {**by_kind["raster"], "raster": "r", "chunks": 6, "pixels": 600 * 1200}
    assert by_kind["progress"]["chunks_done"] == by_kind["progress"]["chunks"] == 6
    assert by_kind["progress"]["batch_done"] == by_kind["progress"]["batch_pixels"] == 600 * 1200
    assert by_kind["done"]["output"] == str(out / "r.tif")
    assert (by_kind["failed"]["raster"], by_kind["end"]["failed"]) == ("bad", 1)
    assert str(bad) in ended.err
    assert by_kind["warning"]["message"] in ended.err

    again = events(command(*arguments))
    assert_documented(again)
    assert "skipped" in [e["event"] for e in again]


def test_progress_counts_up_to_all_chunks(command, tmp_path, out):
    source = write_geotiff(tmp_path / "r.tif", noise(1, 2100, 3000))
    ended = command("run", source, "-o", out, "--progress", "json", "--chunk-size", "1024")
    done = [e["chunks_done"] for e in events(ended) if e["event"] == "progress"]
    assert done == sorted(done)
    assert done[-1] == 9


def test_a_fit_s_progress_for_programs_is_json_and_nothing_else(command, good, tmp_path):
    ended = command("fit", good, "-o", tmp_path / "b.npz", "--progress", "json")
    assert ended.code == 0
    assert "fit" in [e["event"] for e in events(ended)]


def test_people_read_progress_on_stderr(command, good, tmp_path, out):
    ended = command("run", text(tmp_path), good, "-o", out, "--progress", "plain")
    assert ended.out == ""
    assert any(line.startswith("good: done in") for line in ended.errors)
    assert any("1 done, 1 failed, 0 skipped" in line for line in ended.errors)


def test_a_bar_on_a_terminal_is_shown_and_taken_away(command, good, out):
    ended = command("run", good, "-o", out, "--progress", "bar")
    assert ended.code == 0
    assert "1 done, 0 failed, 0 skipped" in ended.err
    assert ended.out == ""


# The other commands


def test_a_fit_and_a_run_with_its_codebook_equal_a_run(command, run, good, tmp_path):
    options = ["--segments", "5", "--resolution", "3", "--seed", "4"]
    ended = command("fit", good, "-o", tmp_path / "new" / "b.npz", *options, "--progress", "none")
    assert ended.code == 0
    assert "5 segments" in ended.out
    book = Codebook.load(tmp_path / "new" / "b.npz")
    assert book.content_hash[:12] in ended.out
    assert run(good, "-o", tmp_path / "one", "--codebook", tmp_path / "new" / "b.npz").code == 0
    assert run(good, "-o", tmp_path / "two", *options).code == 0
    for name in ("good.tif", "codebook.npz"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_raster_that_a_codebook_was_not_made_for_fails_alone(run, command, good, tmp_path, out):
    command("fit", good, "-o", tmp_path / "b.npz", "--progress", "none")
    wide = write_geotiff(tmp_path / "wide.tif", noise(3, 9, 9, dtype="uint16"))
    ended = run(wide, good, "-o", out, "--codebook", tmp_path / "b.npz")
    assert ended.code == 1
    assert "wide.tif: 3 bands of uint16" in ended.said()
    assert "codebook was fitted on 3 bands of uint8" in ended.said()
    assert (out / "good.tif").exists()


@pytest.mark.parametrize("damage", ["altered", "text", "folder"])
def test_a_codebook_that_cannot_be_used_is_named(run, command, good, tmp_path, out, damage):
    path = tmp_path / "b.npz"
    if damage == "altered":
        command("fit", good, "-o", path, "--progress", "none")
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 1
        path.write_bytes(raw)
    elif damage == "text":
        path.write_text("x")
    else:
        path.mkdir()
    ended = run(good, "-o", out, "--codebook", path)
    assert ended.code == 2
    assert str(path) in ended.said()


def test_a_codebook_is_not_written_over_the_raster_it_is_fitted_on(command, good):
    before = good.read_bytes()
    ended = command("fit", good, "-o", good, "--progress", "none")
    assert ended.code == 2
    assert good.read_bytes() == before


def test_a_codebook_s_place_that_cannot_be_written_is_named(command, good, tmp_path):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file" / "b.npz", tmp_path):
        ended = command("fit", good, "-o", place, "--progress", "none")
        assert ended.code == 2
        assert f"{place}: cannot write there" in ended.said()


def test_a_plan_for_programs_has_its_fields(command, tmp_path):
    sources = [write_geotiff(tmp_path / f"r{i}.tif", noise(3, 1500, 1300, seed=i)) for i in range(2)]
    before = names(tmp_path)
    ended = command("plan", *sources, "--json", "--chunk-size", "512", "--resolution", "3", "--workers", "2")
    assert (ended.code, ended.err) == (0, "")
    plan = json.loads(ended.out)
    assert (plan["rasters"], plan["pixels"], plan["chunks"]) == (2, 2 * 1500 * 1300, 2 * 9)
    assert plan["halo_px"] == 2
    assert plan["tasks"] >= 4
    assert plan["seconds"] > 0
    assert plan["peak_bytes"] > 1 << 20
    assert "2" in plan["workers"]
    assert names(tmp_path) == before


def test_a_plan_for_people_says_the_same(command, good):
    ended = command("plan", good)
    assert ended.code == 0
    for word in ("rasters", "chunks", "workers", "memory", "time"):
        assert word in ended.out


def test_a_plan_goes_by_the_rasters_that_can_be_opened(command, good, tmp_path):
    ended = command("plan", text(tmp_path), good, "--json")
    assert ended.code == 0
    assert json.loads(ended.out)["rasters"] == 1
    ended = command("plan", tmp_path / "bad.tif")
    assert ended.code == 1
    assert "bad.tif" in ended.said()


def test_a_plan_looks_past_a_raster_without_valid_pixels_as_a_run_does(command, good, tmp_path):
    assert command("plan", all_nodata(tmp_path), good, "--json").code == 0


def test_a_plan_refuses_what_a_run_would(command, good, tmp_path):
    other = write_geotiff(tmp_path / "other.tif", noise(1, 9, 9, dtype="uint16"))
    ended = command("plan", good, other)
    assert ended.code == 2
    assert "one codebook needs equal bands and dtypes" in ended.said()


def test_a_palette_is_for_run_fit_and_plan_alike(command, run, good, out, tmp_path):
    palette = tmp_path / "p.csv"
    palette.write_text("1,#0a0b0c,Wood\n")
    fitted = command("fit", good, "-o", tmp_path / "b.npz", "-k", "3", "--palette", palette)
    assert fitted.code == 0
    book = Codebook.load(tmp_path / "b.npz")
    assert (book.names[1], book.colours[1]) == ("Wood", (10, 11, 12))
    assert run(good, "-o", out, "-k", "3", "--palette", palette).code == 0
    assert Codebook.load(out / "codebook.npz").to_bytes() == book.to_bytes()
    grey = write_geotiff(tmp_path / "grey.tif", noise(1, 60, 70))
    for name, arguments in (
        ("run", ["-o", tmp_path / "no"]),
        ("plan", []),
        ("fit", ["-o", tmp_path / "no.npz"]),
    ):
        ended = command(name, grey, *arguments, "--palette", "natural", "--progress", "none")
        assert ended.code == 2
        assert ended.said().startswith(
            f"error: {grey}: --palette natural shows classes in their mean colours"
        )
    assert not (tmp_path / "no").exists()
    assert not (tmp_path / "no.npz").exists()


def test_inspect_describes_rasters_labels_and_codebooks(command, run, good, out):
    run(good, "-o", out, "--segments", "3")
    raster = command("inspect", good)
    assert raster.code == 0
    assert "70 x 60 px" in raster.out
    assert "3 of uint8" in raster.out
    assert "EPSG:32633" in raster.out
    book = Codebook.load(out / "codebook.npz")
    labels = command("inspect", out / "good.tif")
    assert labels.code == 0
    assert book.content_hash in labels.out
    codebook = command("inspect", out / "codebook.npz")
    assert codebook.code == 0
    assert book.content_hash in codebook.out
    assert "kmeans" in codebook.out
    assert len(re.findall(r"^ +[012] +\d+\.\d% ", codebook.out, re.MULTILINE)) == 3


@pytest.mark.parametrize("make", [missing, empty, text])
def test_inspect_names_what_it_cannot_describe(command, tmp_path, make):
    bad = make(tmp_path)
    ended = command("inspect", bad)
    assert ended.code in (1, 2)
    assert str(bad) in ended.said()


def test_inspect_of_nothing_is_refused(command):
    ended = command("inspect", "")
    assert ended.code in (1, 2)
    assert "Error" not in ended.said()


@pytest.mark.parametrize("name", ["run", "plan", "fit", "status", "inspect", "codebook", "verify", "demo"])
def test_every_command_has_its_help_with_the_exit_codes(command, name):
    ended = command(name, "--help")
    assert ended.code == 0
    assert "exit codes: 0 all done" in ended.out
    assert name in command("--help").out


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["--nonsense"]])
def test_what_is_no_command_is_refused_on_one_line(command, arguments):
    ended = command(*arguments)
    assert ended.code == 2
    assert "--help" in ended.said()


def test_the_module_runs_as_a_program_and_says_nothing_that_is_not_for_people(tmp_path, out):
    # in a process of its own, where Python's warnings go to stderr
    source = write_geotiff(
        tmp_path / "r.tif", noise(1, 20, 20), crs=None, transform=rasterio.Affine.identity()
    )
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", "run", source, "-o", out, "--progress", "none"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert names(out) == outputs("r")


def test_the_first_run_says_that_it_compiles_and_the_second_does_not(tmp_path):
    source = write_geotiff(tmp_path / "r.tif", noise(3, 40, 50))
    command = [sys.executable, "-m", "pipeline", "fit", source, "--segments", "3", "--progress", "plain"]
    told = []
    for name in ("first", "second"):
        ended = subprocess.run(
            [*command, "-o", tmp_path / f"{name}.npz"],
            cwd=ROOT,
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "compiled")},
            capture_output=True,
            text=True,
            check=True,
        )
        told.append(ended.stderr.count("compiling for this processor: some seconds, in the first run only"))
    assert told == [1, 0]
