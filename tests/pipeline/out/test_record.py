"""The record of a raster as a value: what is written of it, and what is refused."""

from __future__ import annotations

import json
import os
import pickle

import pytest

from pipeline.durable.files import write_json
from pipeline.out.record import RasterRecord, chunks_done
from pipeline.out.run_file import RasterState, RunFile

RECORD = {
    "name": "scene",
    "source": os.fsdecode(b"/caf\xe9/scene.tif"),  # no Unicode
    "input": {
        "fingerprint": "f",
        "width": 700,
        "height": 600,
        "bands": [1, "(b1 - b2) / b3"],
        "dtype": "float32",
        "nodata": [None, 0, 0.0, -9999.0, "nan", "inf", 1e308],
        "crs_wkt": None,
        "transform": [0.1, 0, 500000.0, 0.0, -0.1, 5800000],
        "files": [{"path": "a", "size": 3}],
        "expression": {"b": 1},
    },
    "region": [0, 0, 600, 700],
    "parameters": {"segments": 5, "extent": [0.1, 2, 3.0, 4], "chunk_size": 512},
    "codebook_hash": "c",
    "kernel": {"name": "kmeans", "cell_px": 4},
    "device": "cpu",
    "device_failure": "it broke",
    "fit": {"seed": 0, "sample": 1.0},
    "chunks": 4,
    "timings": {"wall_s": 1.0, "read_s": 0},
    "versions": {"numpy": "2"},
    "files": ["scene.png", "scene.qml", "scene.tif"],
    "checksums": {"scene.tif": "1", "scene.png": "2"},
    "labels": {"0": 1, "1": 419999},
    "nodata_pixels": 0,
    "bad_chunks": 0,
    "seam_score": None,
    "seam_score_error": 0.125,
    "assemble_s": 0.001,
}


@pytest.mark.parametrize("gone", [(), ("device_failure",)])
def test_a_record_is_written_as_it_was_read_to_the_byte(tmp_path, gone):
    value = {key: RECORD[key] for key in RECORD if key not in gone}
    write_json(tmp_path / "wanted.json", value)
    record = RasterRecord.read(tmp_path / "wanted.json")
    record.write(tmp_path / "made.json")
    assert (tmp_path / "made.json").read_bytes() == (tmp_path / "wanted.json").read_bytes()
    assert pickle.loads(pickle.dumps(record)) == record


def test_what_a_record_need_not_say_is_made_up_for(tmp_path):
    few = {**RECORD, "stranger": 1}
    for key in ("device", "device_failure", "fit", "chunks", "timings", "bad_chunks", "seam_score"):
        del few[key]
    (tmp_path / "few.json").write_text(json.dumps(few))
    record = RasterRecord.read(tmp_path / "few.json")
    assert (record.chunks, record.bad_chunks, record.seam_score, record.fit) == (0, 0, None, {})


@pytest.mark.parametrize(
    "change",
    [
        {"name": None},
        {"input": {}},
        {"input": 3},
        {"region": "0 0 1 1"},
        {"region": [0, 0, 1.5, 1]},
        {"files": "scene.tif"},
        {"files": [3]},
        {"checksums": {"scene.tif": 3}},
        {"labels": {"0": True}},
        {"labels": [1]},
        {"nodata_pixels": "3"},
        {"seam_score": "9"},
        {"chunks": []},
    ],
)
def test_what_is_no_record_is_refused(tmp_path, change):
    (tmp_path / "a.json").write_text(json.dumps({**RECORD, **change}))
    with pytest.raises(ValueError, match=next(iter(change))):
        RasterRecord.read(tmp_path / "a.json")


def test_a_raster_is_done_when_its_record_says_so_and_all_files_are_there(tmp_path):
    damaged = {}
    assert chunks_done(tmp_path, "scene", damaged) is None
    (tmp_path / "scene.json").write_text(json.dumps(RECORD))
    assert chunks_done(tmp_path, "scene", damaged) is None
    for name in RECORD["files"]:
        (tmp_path / name).touch()
    assert chunks_done(tmp_path, "scene", damaged) == 4
    assert damaged == {}
    (tmp_path / "scene.json").write_text(json.dumps({**RECORD, "files": ["../scene.tif"]}))
    assert chunks_done(tmp_path, "scene", damaged) is None
    assert damaged == {tmp_path / "scene.json": "strange files"}


def test_a_run_file_is_written_without_what_is_not_known_and_with_any_path(tmp_path):
    path = tmp_path / "run.json"
    state = RasterState(name="a", source=RECORD["source"], state="done", output="a.tif", chunks=3, pixels=9)
    run = RunFile(format="x", config={"k": None}, rasters=(state,))
    run.write(path, {"more": 1}, tmp_path)
    written = json.loads(path.read_text())
    assert list(written) == ["format", "config", "rasters", "more"]
    assert list(written["rasters"][0].items()) == [
        ("name", "a"), ("source", RECORD["source"]), ("state", "done"), ("output", "a.tif"), ("chunks", 3),
        ("pixels", 9),
    ]  # fmt: skip
    assert RunFile.read(path) == run


@pytest.mark.parametrize("rasters", [3, [3], [{"name": "a"}], [{"name": 3, "source": "/a"}]])
def test_what_is_no_run_file_is_refused(tmp_path, rasters):
    (tmp_path / "run.json").write_text(json.dumps({"format": "x", "config": {}, "rasters": rasters}))
    with pytest.raises(ValueError, match="rasters"):
        RunFile.read(tmp_path / "run.json")
