"""Rasters in which there is nothing to label: those that the area misses, and those that are all nodata."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from pipeline.cli import main
from pipeline.config import RunConfig
from pipeline.running.run import run
from tests.rasters import noise, write_geotiff

EXTENT = "500010,5799950,500040,5799990"


def tile(folder, name, pixels, column):
    place = from_origin(500000 + 1000 * column, 5800000, 0.5, 0.5)
    return str(write_geotiff(folder / f"{name}.tif", pixels, transform=place, nodata=0))


@pytest.fixture
def tiles(tmp_path):
    """A tile with data, one far away, and one that lies there too and is all nodata."""
    folder = tmp_path / "in"
    folder.mkdir()
    tile(folder, "b", noise(3, 200, 200), 0)
    tile(folder, "a_far", noise(3, 200, 200, seed=1), 1)
    tile(folder, "c_empty", np.zeros((3, 200, 200), np.uint8), 0)
    return folder


def states(out):
    kept = json.loads((out / "run.json").read_text())
    return {r["name"]: (r["state"], r.get("reason", "")) for r in kept["rasters"]}, kept["counts"]


@pytest.mark.parametrize("options", [(), ("--codebook-scope", "raster"), ("--fit", "exact")])
def test_tiles_with_nothing_to_label_are_skipped_with_the_reason(tiles, tmp_path, capsys, options):
    out, command = tmp_path / "out", ["run", str(tiles), "-o", str(tmp_path / "out"), "--extent", EXTENT]
    command += ["--segments", "3", "--workers", "1", "--progress", "plain", *options]
    if "exact" in options:
        command += ["--resolution", "1"]
    for again in (False, True):
        assert main(command) == 0
        said = capsys.readouterr().err
        assert "--extent misses this raster" in said
        assert "no valid pixel" in said
        kept, counts = states(out)
        assert kept["b"][0] == "done"
        assert kept["a_far"] == ("skipped", "--extent misses this raster; check its coordinates and CRS")
        assert kept["c_empty"][0] == "skipped"
        assert "no valid pixel" in kept["c_empty"][1]
        assert counts == {"done": int(not again), "failed": 0, "skipped": 2 + again}
        assert sorted(p.name for p in out.glob("*.tif")) == ["b.tif"]
        assert not (out / ".partial").exists()
    assert main(["status", str(out)]) == 0
    assert main(["verify", str(out)]) == 0
    said = capsys.readouterr().out
    assert "misses this raster" in said
    assert "no valid pixel" in said


def test_a_tile_without_data_is_not_read_again_until_it_has_some(tiles, tmp_path, monkeypatch):
    out, options = tmp_path / "out", {"segments": 3, "workers": "1", "sources": (str(tiles),)}
    assert run(RunConfig(out=str(out), **options)).skipped == ["c_empty"]
    from pipeline.source.gdal import planes

    reads = []
    monkeypatch.setattr(planes.BandPlanes, "read", lambda self, *_: reads.append(self.path))
    assert sorted(run(RunConfig(out=str(out), **options)).skipped) == ["a_far", "b", "c_empty"]
    assert not reads
    monkeypatch.undo()
    tile(tiles, "c_empty", noise(3, 200, 200, seed=2), 0)
    report = run(RunConfig(out=str(out), **options))
    assert (report.done, report.failed) == (["c_empty"], {})
    with rasterio.open(out / "c_empty.tif") as dataset:
        assert (dataset.read(1) != 255).all()


def test_where_there_is_nothing_to_label_at_all_that_is_an_error(tiles, tmp_path, capsys):
    out = tmp_path / "out"
    for _ in range(2):
        assert main(["run", str(tiles), "-o", str(out), "--extent", "0,0,9,9", "--progress", "plain"]) == 1
        said = capsys.readouterr().err
        assert all(f"{name}.tif: --extent misses this raster" in said for name in ("a_far", "b", "c_empty"))
        assert {state for state, _ in states(out)[0].values()} == {"failed"}


def test_of_a_codebook_too(tiles, tmp_path):
    options = {"sources": (str(tiles / "b.tif"),), "segments": 3, "workers": "1"}
    assert not run(RunConfig(out=str(tmp_path / "fit"), **options)).failed
    (tiles / "b.tif").unlink()
    book = str(tmp_path / "fit" / "codebook.npz")
    options = {"sources": (str(tiles),), "codebook": book, "extent": EXTENT, "workers": "1"}
    report = run(RunConfig(out=str(tmp_path / "o"), **options))
    assert (sorted(report.failed), report.skipped) == (["a_far", "c_empty"], [])


def test_a_tile_that_is_damaged_fails_beside_those_that_are_missed(tiles, tmp_path):
    (tiles / "b.tif").write_bytes(b"")
    report = run(RunConfig(sources=(str(tiles),), out=str(tmp_path / "o"), workers="1", extent=EXTENT))
    assert (list(report.failed), report.exit_code) == (["b"], 1)
    assert sorted(report.skipped) == ["a_far", "c_empty"]


def test_a_fit_leaves_out_what_the_area_misses(tiles, tmp_path, capsys):
    book = tmp_path / "c.npz"
    command = ["fit", str(tiles), "-o", str(book), "--segments", "3", "--workers", "1", "--progress", "none"]
    assert main([*command, "--extent", EXTENT]) == 0
    assert book.exists()
    assert main([*command, "--extent", "0,0,9,9"]) == 1
    assert "--extent misses this raster" in capsys.readouterr().err
