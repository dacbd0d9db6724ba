"""The log of a run and its status file: whole lines whatever happens, and never the end of a run."""

from __future__ import annotations

import json
import os
import re

import pytest

from pipeline import journal, runlog
from pipeline.config import build
from pipeline.errors import StorageError
from pipeline.journal import Journal, chunk_ids
from pipeline.progress import Silent
from pipeline.runlog import RunLog
from pipeline.running import run
from pipeline.standing import Standing
from tests.rasters import noise, write_geotiff
from tests.waiting import waited_for

WINDOW = {"raster": "a", "stage": 0, "row": 512, "col": 0, "height": 512, "width": 600, "chunks": 2}
SECONDS = {"read_s": 0.1, "label_s": 0.2, "encode_s": 0.3, "write_s": 0.4}
PROGRESS = {
    "raster": "a",
    "chunks_done": 2,
    "chunks": 4,
    "mpx_per_s": 1.5,
    "eta_s": 2.5,
    "batch_done": 600_000,
    "batch_pixels": 1_000_000,
    "batch_eta_s": 3.0,
}


def lines(out, name="run.log.jsonl"):
    """Parsed lines of a log; those that are no JSON are passed over, as the format says."""
    found = []
    for line in (out / name).read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def events(out):
    return [line["event"] for line in lines(out)]


class Heard:
    """A display that remembers what it was told."""

    def __init__(self):
        self.events = []

    def event(self, name, **fields):
        self.events.append((name, fields))

    def close(self):
        raise AssertionError("the display is its maker's to close")


@pytest.fixture
def out(tmp_path):
    (tmp_path / ".partial").mkdir()
    return tmp_path


def status_of(out):
    return json.loads((out / ".partial" / "status.json").read_text())


def begin(journal):
    journal.event("start", rasters=2, workers=3, dashboard=None)
    journal.event("raster", raster="a", chunks=4, chunk_px=512, pixels=1_000_000)


def test_each_line_says_when_how_grave_what_and_of_which_run(tmp_path):
    log = RunLog(tmp_path, "r1")
    log.add("window", {"raster": "a"})
    log.add("done", {"raster": "ü\udcff\n"})
    log.add("failed", {"raster": "b", "error": "damaged"})
    log.add("warning", {"message": "few values"})
    found = lines(tmp_path)
    assert [line["level"] for line in found] == ["debug", "info", "error", "warning"]
    assert {line["run"] for line in found} == {"r1"}
    assert found[1]["raster"] == "ü\udcff\n"
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in found)


def test_lines_of_former_runs_stay(tmp_path):
    for name in ("first", "second"):
        log = RunLog(tmp_path, name)
        log.add("start", {})
        log.close()
    assert [line["run"] for line in lines(tmp_path)] == ["first", "second"]


@pytest.mark.parametrize("torn", ['{"event": "wind', "\x00\x00", '{"event": "a"}'])
def test_a_line_torn_by_a_crash_takes_no_other_with_it(tmp_path, torn):
    (tmp_path / "run.log.jsonl").write_text('{"event": "before"}\n' + torn)
    RunLog(tmp_path, "r").add("after", {})
    assert (tmp_path / "run.log.jsonl").read_text().splitlines()[-2] == torn
    assert events(tmp_path)[0] == "before"
    assert events(tmp_path)[-1] == "after"


def test_a_log_that_grows_large_gives_its_place_to_a_new_one(tmp_path):
    log = RunLog(tmp_path, "r", limit=2000)
    for number in range(60):
        log.add("window", {"number": number})
        assert (tmp_path / "run.log.jsonl").stat().st_size <= 2000
    old, new = lines(tmp_path, "run.log.jsonl.1"), lines(tmp_path)
    numbers = [line["number"] for line in (*old, *new)]
    assert numbers == list(range(numbers[0], 60))
    assert len(old) > 10
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.log.jsonl", "run.log.jsonl.1"]


def test_a_short_write_is_ended_and_the_next_line_is_whole(tmp_path, monkeypatch):
    log = RunLog(tmp_path, "r")
    real = os.write
    monkeypatch.setattr(runlog.os, "write", lambda handle, data: real(handle, data[:20]))
    log.add("cut", {})
    monkeypatch.setattr(runlog.os, "write", real)
    log.add("whole", {})
    assert events(tmp_path) == ["whole"]


def test_a_failed_write_loses_its_line_alone(tmp_path, monkeypatch):
    log = RunLog(tmp_path, "r")
    log.add("first", {})
    real = os.write

    def full(handle, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runlog.os, "write", full)
    log.add("lost", {})
    monkeypatch.setattr(runlog.os, "write", real)
    log.add("last", {})
    assert events(tmp_path) == ["first", "last"]


def test_a_folder_that_cannot_be_written_ends_nothing(tmp_path):
    log = RunLog(tmp_path / "absent", "r")
    log.add("lost", {})
    log.close()
    with Journal(Silent(), tmp_path / "absent") as events:
        begin(events)
    assert not (tmp_path / "absent").exists()


def test_a_journal_passes_every_event_on_as_it_is(out):
    display = Heard()
    with Journal(display, out) as events:
        begin(events)
        for _ in range(3):
            events.event("progress", **PROGRESS)
        events.event("window", **WINDOW, **SECONDS)
    assert [name for name, _ in display.events] == ["start", "raster", *["progress"] * 3, "window"]
    assert display.events[-1][1] == {**WINDOW, **SECONDS}


def test_what_comes_by_the_hundred_is_logged_now_and_then_but_each_window(out):
    with Journal(Silent(), out) as events_:
        begin(events_)
        for _ in range(50):
            events_.event("progress", **PROGRESS)
            events_.event("window", **WINDOW, **SECONDS)
    assert events(out).count("progress") == 1
    windows = [line for line in lines(out) if line["event"] == "window"]
    assert len(windows) == 50
    assert windows[0]["chunk_ids"] == [[1, 0], [1, 1]]
    assert windows[0]["write_s"] == 0.4


@pytest.mark.parametrize(
    ("row", "col", "height", "width", "ids"),
    [
        (0, 0, 512, 512, [[0, 0]]),
        (1024, 512, 1, 1, [[2, 1]]),
        (512, 512, 700, 512, [[1, 1], [2, 1]]),
        (0, 0, 1024, 1024, [[0, 0], [0, 1], [1, 0], [1, 1]]),
    ],
)
def test_a_chunk_is_known_by_its_row_and_column(row, col, height, width, ids):
    assert chunk_ids({"row": row, "col": col, "height": height, "width": width}, 512) == ids


def test_the_status_file_says_where_the_run_stands(out):
    with Journal(Silent(), out) as events:
        assert status_of(out)["phase"] == "open"
        events.event("start", rasters=2, workers=3, dashboard=None)
        events.event("fit", done=1, total=64, raster=None)
        assert events.snapshot()["phase"] == "fit"
        assert events.snapshot()["fit"] == {"done": 1, "total": 64, "raster": None}
        begin(events)
        events.event("window", **WINDOW, **SECONDS, bad_chunks=1)
        events.event("progress", **PROGRESS)
        events.event("failed", raster="b", error="b: damaged")
    found = status_of(out)
    assert found["pid"] == os.getpid()
    assert found["workers"] == 3
    assert found["phase"] == "map"
    assert found["counts"] == {"rasters": 2, "done": 0, "failed": 1, "skipped": 0}
    assert found["failed"] == {"b": "b: damaged"}
    assert found["last_error"] == "b: damaged"
    assert found["memory_bytes"] > 10 << 20
    assert found["memory_peak_bytes"] >= found["memory_bytes"]
    (row,) = found["rasters"]
    assert (row["name"], row["chunks_done"], row["chunks"], row["bad_chunks"]) == ("a", 2, 4, 1)
    assert (row["state"], row["stage"], row["mpx_per_s"], row["eta_s"]) == ("running", "label", 1.5, 2.5)


def test_a_raster_whose_chunks_are_done_is_at_its_overviews(out):
    with Journal(Silent(), out) as events:
        begin(events)
        events.event("progress", **{**PROGRESS, "chunks_done": 4})
        assert events.snapshot()["phase"] == "finish"
        assert events.snapshot()["rasters"][0]["stage"] == "overviews"
        events.event("done", raster="a", output="a.tif", seconds=1.0)
        assert events.snapshot()["rasters"] == []


def test_a_run_that_stalls_still_gives_signs_of_life(out, monkeypatch):
    monkeypatch.setattr(journal, "_EVERY_S", 0.02)
    with Journal(Silent(), out):
        first = status_of(out)
        waited_for(lambda: status_of(out)["updated"] != first["updated"])
        later = status_of(out)
    assert later["updated"] > first["updated"]
    assert later["event_at"] == first["event_at"]


def test_nothing_is_written_after_the_journal_is_left(out, monkeypatch):
    monkeypatch.setattr(journal, "_EVERY_S", 0.01)
    with Journal(Silent(), out) as left:
        assert left._thread.is_alive()
    assert not left._thread.is_alive()
    (out / ".partial" / "status.json").unlink()
    assert list((out / ".partial").iterdir()) == []


def test_what_ends_a_run_early_is_logged(out):
    with pytest.raises(StorageError), Journal(Silent(), out):
        raise StorageError("/disk: cannot write (no space left)")
    assert lines(out)[-1]["event"] == "error"
    assert lines(out)[-1]["level"] == "error"
    assert "traceback" not in lines(out)[-1]
    assert status_of(out)["last_error"] == "/disk: cannot write (no space left)"
    with pytest.raises(ZeroDivisionError), Journal(Silent(), out):
        1 / 0  # noqa: B018
    assert "test_log.py" in lines(out)[-1]["traceback"]
    assert status_of(out)["last_error"] == "ZeroDivisionError: division by zero"


def test_the_rate_is_that_of_late_and_falls_while_nothing_happens(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("pipeline.standing.time.monotonic", lambda: now[0])
    standing = Standing("r")
    for second in range(200):
        now[0] = float(second)
        done = second * (1_000_000 if second >= 100 else 10_000)
        standing.event("progress", {**PROGRESS, "batch_done": done, "batch_pixels": 400_000_000})
    batch = standing.snapshot()["batch"]
    assert batch["mpx_per_s"] == pytest.approx(1.0, rel=0.02)
    assert batch["eta_s"] == pytest.approx(201, rel=0.02)
    now[0] += 60
    assert standing.snapshot()["batch"]["mpx_per_s"] < 0.6


def test_failures_by_the_thousand_do_not_grow_the_status_without_bound():
    standing = Standing("r")
    for number in range(3000):
        standing.event("failed", {"raster": f"r{number}", "error": "damaged"})
    found = standing.snapshot()
    assert found["counts"]["failed"] == 3000
    assert len(found["failed"]) == 1000
    assert "r2999" in found["failed"]


def test_a_run_leaves_its_log_and_no_status_file(tmp_path):
    source = write_geotiff(tmp_path / "a.tif", noise(3, 600, 700))
    config = build({"sources": [str(source)], "out": str(tmp_path / "out"), "workers": "1", "segments": 3})
    run(config)
    assert not (tmp_path / "out" / ".partial").exists()
    found = events(tmp_path / "out")
    assert found[0] == "start"
    assert found[-1] == "end"
    assert {"fit", "codebook", "raster", "progress", "done"} <= set(found)


def test_a_window_that_ends_after_its_raster_has_failed_is_logged_too(out):
    with Journal(Silent(), out) as events_:
        begin(events_)
        events_.event("failed", raster="a", error="a: damaged")
        events_.event("window", **WINDOW, **SECONDS)
    assert events(out)[-1] == "window"
