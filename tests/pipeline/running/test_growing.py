"""One OUT over many runs: a folder that grows, is moved, and loses files."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from pipeline import cli
from pipeline.api.fitting import fit
from pipeline.config import RunConfig, build
from pipeline.config_file import load_file
from pipeline.errors import UsageError
from pipeline.running.run import run
from tests.rasters import noise, spoil, write_geotiff


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for seed, name in enumerate("ab"):
        write_geotiff(tmp_path / "in" / f"{name}.tif", noise(3, 60, 70, seed=seed))
    return tmp_path / "in"


def done(folder, out, **options):
    report = run(RunConfig(sources=(str(folder),), out=str(out), segments=3, **options))
    assert not report.failed, report.failed
    return report


def contents(out):
    """Every file but run.json, its log, and records, which hold times."""
    files = [p for p in out.rglob("*") if p.is_file() and p.suffix != ".jsonl"]
    return {str(p.relative_to(out)): p.read_bytes() for p in files if p.suffix != ".json" or p.parent != out}


def states(out):
    return {r["name"]: r for r in json.loads((out / "run.json").read_text())["rasters"]}


@pytest.mark.parametrize("options", [{}, {"format": "zarr"}, {"codebook_scope": "raster"}])
def test_what_is_new_is_added_and_what_was_done_stays(folder, tmp_path, options):
    out = tmp_path / "out"
    done(folder, out, **options)
    before = contents(out)
    write_geotiff(folder / "c.tif", noise(3, 50, 90, seed=5))
    report = done(folder, out, **options)
    assert (report.done, sorted(report.skipped)) == (["c"], ["a", "b"])
    assert before.items() <= contents(out).items()
    assert states(out).keys() == {"a", "b", "c"}


def test_a_raster_is_known_however_it_is_named(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.chdir(tmp_path)
    done("in", "out")
    (tmp_path / "link").symlink_to("in")
    for named in (folder, "./in/../in", "link", "in/*.tif"):
        assert sorted(done(named, out).skipped) == ["a", "b"]
    assert states(out).keys() == {"a", "b"}


def test_a_folder_that_was_moved_is_known_by_what_it_holds(folder, tmp_path):
    out = tmp_path / "out"
    done(folder, out)
    elsewhere = folder.rename(tmp_path / "elsewhere")
    assert sorted(done(elsewhere, out).skipped) == ["a", "b"]
    assert states(out)["a"]["source"] == str(elsewhere / "a.tif")


def test_a_copy_of_a_project_is_known_by_what_it_holds_beside_the_first(folder, tmp_path):
    project = folder.parent / "project"
    project.mkdir()
    folder.rename(project / "in")
    done(project / "in", project / "out")
    shutil.copytree(project, tmp_path / "copy")
    copy = tmp_path / "copy"
    assert sorted(done(copy / "in", copy / "out").skipped) == ["a", "b"]
    assert sorted(states(copy / "out")) == ["a", "b"]
    sources = {s["source"] for s in states(copy / "out").values()}
    assert sources == {str(copy / "in" / f"{name}.tif") for name in "ab"}


def test_a_new_raster_of_a_name_that_is_taken_gets_another(folder, tmp_path):
    out = tmp_path / "out"
    done(folder, out)
    before = contents(out)
    other = tmp_path / "other"
    other.mkdir()
    write_geotiff(other / "a.tif", noise(3, 60, 70, seed=9))
    assert done(other, out).done == ["a (2)"]
    assert before.items() <= contents(out).items()
    # and keeps it, in whatever company
    report = run(RunConfig(sources=(str(other), str(folder)), out=str(out), segments=3))
    assert sorted(report.skipped) == ["a", "a (2)", "b"]


def test_what_is_gone_stays_done(folder, tmp_path):
    out = tmp_path / "out"
    done(folder, out)
    before = contents(out)
    (folder / "b.tif").unlink()
    assert done(folder, out).skipped == ["a"]
    assert contents(out) == before
    assert states(out)["b"]["state"] == "done"


@pytest.mark.parametrize("options", [{}, {"format": "zarr"}])
def test_only_a_damaged_output_is_made_again(folder, tmp_path, options):
    out = tmp_path / "out"
    done(folder, out, **options)
    whole = contents(out)
    labels = [p for p in (out / "a.zarr").rglob("*") if p.is_file()] if options else [out / "a.tif"]
    damaged = max(labels, key=lambda path: path.stat().st_size)
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 255
    damaged.write_bytes(data)
    later = (out / "a.json").stat().st_mtime + 5
    os.utime(damaged, (later, later))
    report = done(folder, out, **options)
    assert (report.done, report.skipped) == (["a"], ["b"])
    assert contents(out) == whole


def test_a_copy_of_out_and_an_edited_style_are_not_taken_for_damage(folder, tmp_path):
    done(folder, tmp_path / "out")
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "out", copy, copy_function=shutil.copyfile)
    (copy / "a.qml").write_text("mine")
    assert sorted(done(folder, copy).skipped) == ["a", "b"]
    assert (copy / "a.qml").read_text() == "mine"


def test_other_options_and_tiles_of_a_mosaic_are_still_another_run(folder, tmp_path):
    done(folder, tmp_path / "out")
    with pytest.raises(UsageError, match="holds another run: segments 3, not 4"):
        run(RunConfig(sources=(str(folder),), out=str(tmp_path / "out"), segments=4))


def test_a_copy_and_another_raster_of_the_name_are_rasters_of_their_own(folder, tmp_path):
    out = tmp_path / "out"
    done(folder, out)
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    assert sorted(done(other, out).done) == ["a (2)", "b (2)"]
    assert sorted(done(folder, out).skipped) == ["a", "b"]


def test_two_names_of_one_file_are_one_raster_in_each_run(folder, tmp_path):
    out = tmp_path / "out"
    (folder / "link.tif").symlink_to("a.tif")
    assert sorted(done(folder, out).done) == ["a", "b"]
    for name in ("link.tif", "a.tif"):
        assert done(folder / name, out).skipped == ["a"]


def test_run_json_knows_the_rasters_of_all_runs(folder, tmp_path):
    out = tmp_path / "out"
    done(folder / "a.tif", out)
    done(folder / "b.tif", out)
    config = json.loads((out / "run.json").read_text())["config"]
    assert sorted(config["sources"]) == [str(folder / "a.tif"), str(folder / "b.tif")]
    assert cli.main(["verify", str(out), "--progress", "none"]) == 0
    (folder / "a.tif").unlink()
    done(folder / "b.tif", out)
    assert json.loads((out / "run.json").read_text())["config"]["sources"] == [str(folder / "b.tif")]


def test_what_failed_is_not_forgotten_while_others_are_done(folder, tmp_path):
    out = tmp_path / "out"
    (folder / "c.tif").write_bytes(b"II*\0 no raster")
    assert run(RunConfig(sources=(str(folder),), out=str(out), segments=3)).failed.keys() == {"c"}
    done(folder / "a.tif", out)
    assert states(out)["c"]["state"] == "failed"


def test_a_changed_input_is_refused_though_its_labels_are_gone(folder, tmp_path):
    out = tmp_path / "out"
    done(folder, out)
    write_geotiff(folder / "b.tif", noise(3, 60, 70, seed=8))
    (out / "b.tif").unlink()
    with pytest.raises(UsageError, match="the input has changed since"):
        done(folder, out)


def test_labels_of_another_codebook_in_out_are_not_added_to(folder, tmp_path):
    book, out = tmp_path / "c.npz", tmp_path / "out"
    for name, said in (("a", None), ("b", "has labels of another codebook")):
        fit([str(folder / f"{name}.tif")], segments=3).save(book)
        asked = RunConfig(sources=(str(folder / f"{name}.tif"),), out=str(out), codebook=str(book))
        if said is None:
            assert not run(asked).failed
        else:
            with pytest.raises(UsageError, match=said):
                run(asked)


def test_a_path_is_that_of_the_folder_where_it_was_said(tmp_path, monkeypatch):
    for seed, name in enumerate(("one", "two")):
        (tmp_path / name).mkdir()
        write_geotiff(tmp_path / name / "s.tif", noise(3, 60, 70, seed=seed))
    monkeypatch.chdir(tmp_path / "one")
    assert done("s.tif", "../out").done == ["s"]
    monkeypatch.chdir(tmp_path / "two")
    assert done("s.tif", "../out").done == ["s (2)"]
    assert cli.main(["verify", "../out", "--progress", "none"]) == 0
    sources = {raster["source"] for raster in states(tmp_path / "out").values()}
    assert sources == {str(tmp_path / name / "s.tif") for name in ("one", "two")}


def test_a_codebook_that_is_gone_is_not_made_anew_of_other_rasters(folder, tmp_path):
    out = tmp_path / "out"
    done(folder, out)
    codebook = out / "codebook.npz"
    made = codebook.read_bytes()
    codebook.unlink()
    write_geotiff(folder / "c.tif", noise(3, 50, 90, seed=5))
    with pytest.raises(UsageError, match=r"codebook\.npz: gone, and .* has labels of it; put it back"):
        done(folder, out)
    (folder / "c.tif").unlink()
    (out / "a.tif").unlink()
    assert done(folder, out).done == ["a"]
    assert codebook.read_bytes() == made


def test_what_is_added_is_compared_with_the_limits_of_the_codebook(tmp_path):
    pixels = noise(2, 90, 80, high=9000, dtype="uint16") + 1000
    first, other = (tmp_path / f"{name}.tif" for name in ("first", "other"))
    write_geotiff(first, pixels)
    write_geotiff(other, pixels // 20)
    done(first, tmp_path / "out")
    done(other, tmp_path / "out")
    records = [json.loads((tmp_path / "out" / f"{n}.json").read_text()) for n in ("first", "other")]
    assert ["outside_limits" in record for record in records] == [False, True]
    assert records[1]["outside_limits"] == 1


def test_a_retry_goes_by_how_a_raster_was_done_whatever_came_later(tmp_path):
    bad, good, out = tmp_path / "bad.tif", tmp_path / "good.tif", tmp_path / "out"
    tiled = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    for path in (bad, good):
        write_geotiff(path, noise(3, 600, 700), **tiled)
    spoil(bad)
    done(bad, out, on_bad_chunk="nodata")
    done(good, out)
    again = build(*load_file(str(out / "run.json"))[:1], recorded=RunConfig.model_fields)
    assert again.on_bad_chunk == "fail"
    report = run(again, retry_bad=True)
    assert (report.failed, report.done) == ({}, ["bad"])
    assert cli.main(["verify", str(out), "--progress", "none"]) == 0
