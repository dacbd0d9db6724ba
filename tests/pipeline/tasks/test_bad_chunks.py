"""--on-bad-chunk and --retry-bad: what cannot be read is nodata, known, and can be made good later."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import dataclass

import numpy as np
import pytest
import rasterio

from engine.block_kmeans import BlockKMeans
from pipeline import cli
from pipeline.config import RunConfig
from pipeline.durable import files
from pipeline.errors import StorageError
from pipeline.running import run as run_module
from pipeline.tasks import assembling, labelling
from tests.rasters import noise, write_geotiff

TILE = 256


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "scene.tif"
    return write_geotiff(
        path, noise(3, 1500, 1800, seed=3), tiled=True, blockxsize=TILE, blockysize=TILE, compress="deflate"
    )


def damaged(sound, path, row=2, col=3):
    """A copy whose tile at (row, col) cannot be decoded."""
    if sound != path:
        shutil.copy(sound, path)
    with rasterio.open(path) as dataset:
        offset = int(dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=1))
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 400)
    return path


def labels(out):
    with rasterio.open(out / "scene.tif") as dataset:
        return dataset.read(1)


def run(source, out, **options):
    given = {"resolution": 4, "segments": 5, "chunk_size": 512, "workers": "1", **options}
    return run_module.run(RunConfig(sources=(str(source),), out=str(out), **given))


@pytest.fixture(scope="module")
def reference(sound, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference")
    run(sound, out)
    return out


def test_by_default_the_raster_fails_alone(sound, tmp_path):
    bad = damaged(sound, tmp_path / "scene.tif")
    report = run(bad, tmp_path / "out")
    assert list(report.failed) == ["scene"]
    assert not list((tmp_path / "out").glob("scene*"))


def test_skipped_is_no_failure(sound, tmp_path):
    report = run(damaged(sound, tmp_path / "scene.tif"), tmp_path / "out", on_bad_chunk="skip-raster")
    assert (report.failed, report.skipped, report.exit_code) == ({}, ["scene"], 0)
    (state,) = json.loads((tmp_path / "out" / "run.json").read_text())["rasters"]
    assert state["state"] == "skipped"
    assert "damaged" in state["reason"]


@pytest.mark.parametrize("format_", ["cog", "zarr"])
def test_bad_blocks_are_nodata_and_are_made_good_when_the_file_is(
    sound, reference, tmp_path, format_, monkeypatch
):
    source, out = damaged(sound, tmp_path / "scene.tif"), tmp_path / "out"
    codebook = str(reference / "codebook.npz")
    report = run(source, out, on_bad_chunk="nodata", codebook=codebook, format=format_)
    assert report.exit_code == 0
    (feature,) = json.loads((out / "scene.bad.geojson").read_text())["features"]
    at = {k: feature["properties"][k] for k in ("row", "col", "height", "width")}
    assert at == {"row": 2 * TILE, "col": 3 * TILE, "height": TILE, "width": TILE}
    assert json.loads((out / "scene.json").read_text())["bad_chunks"] == 1
    wanted = labels(reference)
    hole = np.zeros(wanted.shape, bool)
    hole[2 * TILE : 3 * TILE, 3 * TILE : 4 * TILE] = True
    if format_ == "cog":
        assert (labels(out)[hole] == 255).all()
        assert (labels(out)[~hole] == wanted[~hole]).all()
    assert cli.main(["verify", str(out), "--workers", "1", "--progress", "none"]) == 0

    # nothing is better yet: the same again
    assert cli.main(["run", "--retry-bad", str(out), "--workers", "1", "--progress", "none"]) == 0
    assert (out / "scene.bad.geojson").exists()

    shutil.copy(sound, source)
    written, real = [], labelling.graph_labels

    def count(job, window):
        written.append(window)
        return real(job, window)

    monkeypatch.setattr(labelling, "graph_labels", count)
    assert cli.main(["run", "--retry-bad", str(out), "--workers", "1", "--progress", "none"]) == 0
    assert len(written) == 1  # of 12 chunks
    assert not (out / "scene.bad.geojson").exists()
    assert not (out / ".partial").exists()
    if format_ == "cog":
        assert (out / "scene.tif").read_bytes() == (reference / "scene.tif").read_bytes()
    assert cli.main(["verify", str(out), "--workers", "1", "--progress", "none"]) == 0
    assert cli.main(["run", "--retry-bad", str(out), "--workers", "1", "--progress", "none"]) == 0


def again(out):
    return cli.main(["run", "--retry-bad", str(out), "--workers", "1", "--progress", "none"])


def bad_places(out):
    features = json.loads((out / "scene.bad.geojson").read_text())["features"]
    return {(f["properties"]["row"] // TILE, f["properties"]["col"] // TILE) for f in features}


@pytest.mark.parametrize("after", ["retry", "plain run"])
@pytest.mark.parametrize("call", range(1, 8))
def test_a_retry_that_is_cut_short_while_publishing_is_taken_up(
    sound, reference, tmp_path, monkeypatch, call, after
):
    """Of two bad blocks one is mended; whatever was moved already, the other stays bad and known."""
    source, out = (
        damaged(damaged(sound, tmp_path / "scene.tif", 0, 0), tmp_path / "scene.tif"),
        tmp_path / "out",
    )
    codebook = str(reference / "codebook.npz")
    run(source, out, on_bad_chunk="nodata", codebook=codebook)
    assert bad_places(out) == {(0, 0), (2, 3)}
    source.unlink()
    damaged(sound, source)
    with monkeypatch.context() as patch:
        real, count = files.move, 0

        def move(*arguments):
            nonlocal count
            count += 1
            if count == call:
                raise StorageError("full")
            real(*arguments)

        patch.setattr(files, "move", move)
        again(out)
    if after == "retry":
        assert again(out) == 0
    else:
        assert not run(source, out, on_bad_chunk="nodata", codebook=codebook).failed
    assert bad_places(out) == {(2, 3)}
    assert (labels(out) == 255).sum() == TILE * TILE
    assert cli.main(["verify", str(out), "--workers", "1", "--progress", "none"]) == 0


@pytest.mark.parametrize("change", ["codebook", "labels", "map", "torn map"])
def test_what_a_retry_cannot_build_on_is_made_anew_whole(sound, reference, tmp_path, change):
    source, out = damaged(sound, tmp_path / "scene.tif"), tmp_path / "out"
    codebook = tmp_path / "codebook.npz"
    shutil.copy(reference / "codebook.npz", codebook)
    run(source, out, on_bad_chunk="nodata", codebook=str(codebook))
    expected = tmp_path / "expected"
    if change == "codebook":
        run(sound, tmp_path / "fit", seed=9)
        shutil.copy(tmp_path / "fit" / "codebook.npz", codebook)
    elif change == "labels":
        raw = bytearray((out / "scene.tif").read_bytes())
        raw[-2000] ^= 1
        (out / "scene.tif").write_bytes(bytes(raw))
    else:
        text = "{" if change == "torn map" else (out / "scene.bad.geojson").read_text().replace("512", "0", 1)
        (out / "scene.bad.geojson").write_text(text)
    shutil.copy(sound, source)
    assert again(out) == 0
    run(sound, expected, codebook=str(codebook))
    assert (labels(out) == labels(expected)).all()
    assert not (out / "scene.bad.geojson").exists()


def test_a_retry_that_fails_leaves_what_was_done(sound, tmp_path):
    source, out = damaged(sound, tmp_path / "scene.tif"), tmp_path / "out"
    run(source, out, on_bad_chunk="nodata", codebook_scope="raster")
    before = {p.name: p.read_bytes() for p in out.glob("scene.*")}
    with rasterio.open(sound) as dataset:
        write_geotiff(source, dataset.read()[:, :700])
    assert again(out) == 1
    assert {p.name: p.read_bytes() for p in out.glob("scene.*")} == before


def test_verify_is_content_with_what_was_done_by_an_earlier_run(sound, tmp_path):
    run(sound, tmp_path / "out")
    assert run(sound, tmp_path / "out").skipped == ["scene"]
    assert cli.main(["verify", str(tmp_path / "out"), "--workers", "1", "--progress", "none"]) == 0


def choices(out):
    """--on-bad-chunk as run.json has it, and as the record of the labels has it."""
    config, record = (json.loads((out / f"{n}.json").read_text()) for n in ("run", "scene"))
    return config["config"]["on_bad_chunk"], record["parameters"]["on_bad_chunk"]


def test_another_choice_that_redoes_nothing_is_not_said_to_have_been_taken(sound, tmp_path, capsys):
    source, out = damaged(sound, tmp_path / "scene.tif"), tmp_path / "out"
    run(source, out, on_bad_chunk="nodata")
    assert run(source, out, on_bad_chunk="fail").skipped == ["scene"]
    assert choices(out) == ("nodata", "nodata")
    # what run.json says does not decide how the labels of a raster are made anew
    text = (out / "run.json").read_text()
    (out / "run.json").write_text(text.replace('"on_bad_chunk": "nodata"', '"on_bad_chunk": "fail"'))
    capsys.readouterr()
    assert cli.main(["verify", str(out), "--workers", "1", "--progress", "none", "--sample", "9"]) == 0
    assert "nothing recomputed" not in capsys.readouterr().out


def test_another_choice_counts_for_what_is_done_anew(sound, tmp_path):
    source, out = damaged(sound, tmp_path / "scene.tif"), tmp_path / "out"
    assert list(run(source, out).failed) == ["scene"]
    assert run(source, out, on_bad_chunk="nodata").done == ["scene"]
    assert choices(out) == ("nodata", "nodata")


def test_labels_with_bad_blocks_do_not_depend_on_chunks(sound, tmp_path):
    source = damaged(sound, tmp_path / "scene.tif", row=1, col=1)
    found = []
    for i, options in enumerate([{}, {"chunk_size": 1024}, {"chunk_size": 4096, "workers": "processes:2"}]):
        run(source, tmp_path / str(i), on_bad_chunk="nodata", resolution=3, **options)
        bad = json.loads((tmp_path / str(i) / "scene.bad.geojson").read_text())
        found.append((labels(tmp_path / str(i)), bad))
    for other, bad in found[1:]:
        assert (other == found[0][0]).all()
        assert bad == found[0][1]


def test_retry_bad_takes_all_from_out(tmp_path, capsys):
    assert cli.main(["run", "x.tif", "--retry-bad", str(tmp_path)]) == 2
    assert "--retry-bad takes sources" in capsys.readouterr().err
    assert cli.main(["run", "--retry-bad", str(tmp_path)]) == 2
    assert "run.json" in capsys.readouterr().err


def test_a_chunk_that_kills_its_workers_is_nodata_and_known(sound, tmp_path, monkeypatch):
    """The one exception to equal labels: tried three times, then given up."""
    out, marker = tmp_path / "out", tmp_path / "deaths"
    marker.mkdir()
    monkeypatch.setattr(run_module, "kernel_for_run", lambda *_: Deadly(4, marker=str(marker)))
    report = run(sound, out, on_bad_chunk="nodata", workers="processes:2")
    assert report.exit_code == 0
    (feature,) = json.loads((out / "scene.bad.geojson").read_text())["features"]
    assert feature["properties"]["kind"] == "chunk"
    assert "3 times" in feature["properties"]["reason"]
    assert len(list(marker.iterdir())) == 3
    found = labels(out)
    assert (found[:512, :512] == 255).all()
    assert (found[512:] != 255).all()


@dataclass(frozen=True, slots=True)
class Deadly(BlockKMeans):
    """K-Means that kills its process when it labels the first cell."""

    marker: str = ""

    def labels(self, patch, codebook):
        """Labels, but for the first cell."""
        if (patch.core.row, patch.core.col) == (0, 0):
            with open(os.path.join(self.marker, str(os.getpid())), "w"):  # noqa: PTH118, PTH123
                pass
            os.kill(os.getpid(), signal.SIGKILL)
        return BlockKMeans.labels(self, patch, codebook)


@pytest.mark.parametrize("format_", ["cog", "zarr"])
@pytest.mark.parametrize("change", ["torn", "gone"])
def test_a_chunk_whose_note_of_what_is_bad_was_altered_is_done_again(
    sound, reference, tmp_path, monkeypatch, format_, change
):
    source, out = damaged(sound, tmp_path / "scene.tif"), tmp_path / "out"
    options = {"on_bad_chunk": "nodata", "codebook": str(reference / "codebook.npz"), "format": format_}
    with monkeypatch.context() as patch:

        def full(*_):
            raise StorageError("full")

        patch.setattr(assembling, "merge_unit", full)
        patch.setattr(assembling, "assemble", full)
        with pytest.raises(StorageError, match="full"):
            run(source, out, **options)
    (note,) = (out / ".partial" / "scene" / "bad").iterdir()
    if change == "torn":
        note.write_text(note.read_text()[:9])
    else:
        note.unlink()
    assert run(source, out, **options).done == ["scene"]
    assert bad_places(out) == {(2, 3)}
    assert json.loads((out / "scene.json").read_text())["bad_chunks"] == 1


@pytest.mark.parametrize("format_", ["cog", "zarr"])
def test_a_retry_keeps_no_labels_of_what_is_another_raster_by_now(
    sound, reference, tmp_path, capsys, format_
):
    source, out = damaged(sound, tmp_path / "scene.tif"), tmp_path / "out"
    options = {"codebook": str(reference / "codebook.npz"), "format": format_}
    run(source, out, on_bad_chunk="nodata", **options)
    with rasterio.open(sound) as dataset:
        write_geotiff(source, dataset.read()[:, ::-1, ::-1].copy())
    capsys.readouterr()
    assert cli.main(["run", "--retry-bad", str(out), "--workers", "1", "--progress", "plain"]) == 0
    assert "the input is another one now" in capsys.readouterr().err
    run(source, tmp_path / "expected", **options)
    ends = "tif" if format_ == "cog" else "vrt"
    found, expected = (rasterio.open(folder / f"scene.{ends}") for folder in (out, tmp_path / "expected"))
    with found, expected:
        assert (found.read() == expected.read()).all()
    assert cli.main(["verify", str(out), "--workers", "1", "--progress", "none"]) == 0
