"""The log of a run and its status file: whole lines whatever happens, and never the end of a run."""

from __future__ import annotations

import io
import json
import os
import re
from dataclasses import replace

import pytest

from pipeline.config import build
from pipeline.errors import StorageError
from pipeline.events import journal, run_log
from pipeline.events.event_text import text_of
from pipeline.events.journal import Journal
from pipeline.events.kinds import (
    CodebookChosen,
    FilesOpened,
    FitAdvanced,
    RasterAdvanced,
    RasterDone,
    RasterFailed,
    RasterSkipped,
    RasterStarted,
    RasterVerified,
    RunAborted,
    RunEnded,
    RunStarted,
    Warned,
    WindowDone,
)
from pipeline.events.live_state import LiveState
from pipeline.events.observer import Observer, Observers
from pipeline.events.progress import JsonLines, Silent
from pipeline.events.run_log import RunLog, chunk_ids
from pipeline.running.run import run
from tests.rasters import noise, write_geotiff
from tests.waiting import waited_for

WINDOW = WindowDone(
    raster="a",
    stage=0,
    row=512,
    col=0,
    height=512,
    width=600,
    chunks=2,
    bad_chunks=0,
    read_s=0.1,
    label_s=0.2,
    encode_s=0.3,
    write_s=0.4,
)
PROGRESS = RasterAdvanced(
    raster="a",
    chunks_done=2,
    chunks=4,
    mpx_per_s=1.5,
    eta_s=2.5,
    batch_done=600_000,
    batch_pixels=1_000_000,
    batch_eta_s=3.0,
)
START = RunStarted(rasters=2, workers=3, dashboard=None)
RASTER = RasterStarted("a", chunks=4, chunk_px=512, pixels=1_000_000)


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

    def event(self, event):
        self.events.append(event)

    def close(self):
        raise AssertionError("the display is its maker's to close")


@pytest.fixture
def out(tmp_path):
    (tmp_path / ".partial").mkdir()
    return tmp_path


def status_of(out):
    return json.loads((out / ".partial" / "status.json").read_text())


def begin(journal):
    journal.event(START)
    journal.event(RASTER)


def test_each_line_says_when_how_grave_what_and_of_which_run(tmp_path):
    log = RunLog(tmp_path, "r1")
    log.event(replace(WINDOW, stage=1))
    log.event(RasterDone("ü\udcff\n", "a.tif", 1.0))
    log.event(RasterFailed("b", "damaged"))
    log.event(Warned("few values"))
    found = lines(tmp_path)
    assert [line["level"] for line in found] == ["debug", "info", "error", "warning"]
    assert {line["run"] for line in found} == {"r1"}
    assert found[1]["raster"] == "ü\udcff\n"
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in found)


def test_lines_of_former_runs_stay(tmp_path):
    for name in ("first", "second"):
        log = RunLog(tmp_path, name)
        log.event(START)
        log.close()
    assert [line["run"] for line in lines(tmp_path)] == ["first", "second"]


@pytest.mark.parametrize("torn", ['{"event": "wind', "\x00\x00", '{"event": "a"}'])
def test_a_line_torn_by_a_crash_takes_no_other_with_it(tmp_path, torn):
    (tmp_path / "run.log.jsonl").write_text('{"event": "before"}\n' + torn)
    RunLog(tmp_path, "r").event(START)
    assert (tmp_path / "run.log.jsonl").read_text().splitlines()[-2] == torn
    assert events(tmp_path)[0] == "before"
    assert events(tmp_path)[-1] == "start"


def test_a_log_that_grows_large_gives_its_place_to_a_new_one(tmp_path):
    log = RunLog(tmp_path, "r", limit=2000)
    for number in range(60):
        log.event(Warned(str(number)))
        assert (tmp_path / "run.log.jsonl").stat().st_size <= 2000
    old, new = lines(tmp_path, "run.log.jsonl.1"), lines(tmp_path)
    numbers = [int(line["message"]) for line in (*old, *new)]
    assert numbers == list(range(numbers[0], 60))
    assert len(old) > 10
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.log.jsonl", "run.log.jsonl.1"]


def test_a_short_write_is_ended_and_the_next_line_is_whole(tmp_path, monkeypatch):
    log = RunLog(tmp_path, "r")
    real = os.write
    monkeypatch.setattr(run_log.os, "write", lambda handle, data: real(handle, data[:20]))
    log.event(RASTER)
    monkeypatch.setattr(run_log.os, "write", real)
    log.event(START)
    assert events(tmp_path) == ["start"]


def test_a_failed_write_loses_its_line_alone(tmp_path, monkeypatch):
    log = RunLog(tmp_path, "r")
    log.event(START)
    real = os.write

    def full(handle, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_log.os, "write", full)
    log.event(RASTER)
    monkeypatch.setattr(run_log.os, "write", real)
    log.event(Warned("few values"))
    assert events(tmp_path) == ["start", "warning"]


def test_a_folder_that_cannot_be_written_ends_nothing(tmp_path):
    log = RunLog(tmp_path / "absent", "r")
    log.event(START)
    log.close()
    with Journal(Silent(), tmp_path / "absent") as events:
        begin(events)
    assert not (tmp_path / "absent").exists()


def test_a_journal_passes_every_event_on_as_it_is(out):
    display = Heard()
    with Journal(display, out) as events:
        begin(events)
        for _ in range(3):
            events.event(PROGRESS)
        events.event(WINDOW)
    assert display.events == [START, RASTER, *[PROGRESS] * 3, WINDOW]


def test_what_comes_by_the_hundred_is_logged_now_and_then_but_each_window(out):
    with Journal(Silent(), out) as events_:
        begin(events_)
        for _ in range(50):
            events_.event(PROGRESS)
            events_.event(WINDOW)
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
    assert chunk_ids(replace(WINDOW, row=row, col=col, height=height, width=width), 512) == ids


def test_the_status_file_says_where_the_run_stands(out):
    with Journal(Silent(), out) as events:
        assert status_of(out)["phase"] == "open"
        events.event(START)
        events.event(FitAdvanced(1, 64, None))
        assert events.snapshot()["phase"] == "fit"
        assert events.snapshot()["fit"] == {"done": 1, "total": 64, "raster": None}
        begin(events)
        events.event(replace(WINDOW, bad_chunks=1))
        events.event(PROGRESS)
        events.event(RasterFailed("b", "b: damaged"))
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
        events.event(replace(PROGRESS, chunks_done=4))
        assert events.snapshot()["phase"] == "finish"
        assert events.snapshot()["rasters"][0]["stage"] == "overviews"
        events.event(RasterDone("a", "a.tif", 1.0))
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
    assert "test_run_log.py" in lines(out)[-1]["traceback"]
    assert status_of(out)["last_error"] == "ZeroDivisionError: division by zero"


def test_the_rate_is_that_of_late_and_falls_while_nothing_happens(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("pipeline.events.live_state.time.monotonic", lambda: now[0])
    standing = LiveState("r")
    for second in range(200):
        now[0] = float(second)
        done = second * (1_000_000 if second >= 100 else 10_000)
        standing.event(replace(PROGRESS, batch_done=done, batch_pixels=400_000_000))
    batch = standing.snapshot()["batch"]
    assert batch["mpx_per_s"] == pytest.approx(1.0, rel=0.02)
    assert batch["eta_s"] == pytest.approx(201, rel=0.02)
    now[0] += 60
    assert standing.snapshot()["batch"]["mpx_per_s"] < 0.6


def test_failures_by_the_thousand_do_not_grow_the_status_without_bound():
    standing = LiveState("r")
    for number in range(3000):
        standing.event(RasterFailed(f"r{number}", "damaged"))
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
        events_.event(RasterFailed("a", "a: damaged"))
        events_.event(WINDOW)
    assert events(out)[-1] == "window"


BUDGET = {"verdict": "start 100%"}
EVERY = {
    START: '"start", "rasters": 2, "workers": 3, "dashboard": null',
    FilesOpened(3, 9): '"open", "done": 3, "total": 9',
    FitAdvanced(1, 64, None): '"fit", "done": 1, "total": 64, "raster": null',
    CodebookChosen(
        "f00", 3, "a", 5, None
    ): '"codebook", "codebook_hash": "f00", "segments": 3, "raster": "a", '
    '"cells_read": 5, "cells_total": null',
    RASTER: '"raster", "raster": "a", "chunks": 4, "chunk_px": 512, "pixels": 1000000',
    WINDOW: '"window", "raster": "a", "stage": 0, "row": 512, "col": 0, "height": 512, "width": 600, '
    '"chunks": 2, "bad_chunks": 0, "read_s": 0.1, "label_s": 0.2, "encode_s": 0.3, "write_s": 0.4',
    PROGRESS: '"progress", "raster": "a", "chunks_done": 2, "chunks": 4, "mpx_per_s": 1.5, "eta_s": 2.5, '
    '"batch_done": 600000, "batch_pixels": 1000000, "batch_eta_s": 3.0',
    RasterDone("a", "a.tif", 1.5): '"done", "raster": "a", "output": "a.tif", "seconds": 1.5',
    RasterSkipped("a", "why"): '"skipped", "raster": "a", "reason": "why"',
    RasterFailed("a", "why"): '"failed", "raster": "a", "error": "why"',
    RasterVerified("a", ok=True): '"verified", "raster": "a", "ok": true',
    Warned("few values"): '"warning", "message": "few values"',
    RunAborted("why"): '"error", "error": "why"',
    RunAborted("why", "Traceback"): '"error", "error": "why", "traceback": "Traceback"',
}


@pytest.mark.parametrize(("event", "fields"), EVERY.items(), ids=lambda value: getattr(value, "name", ""))
def test_programs_read_each_event_under_its_name_with_its_fields_in_their_order(event, fields):
    stream = io.StringIO()
    JsonLines(stream).event(event)
    assert re.sub(r'"time": [\d.]+, ', "", stream.getvalue()) == '{"event": ' + fields + "}\n"


def test_the_end_of_a_run_is_two_lines_for_people_and_all_figures_for_programs():
    event = RunEnded(1, 0, 2, 3.25, 1.5, BUDGET)
    names = ["done", "failed", "skipped", "seconds", "mpx_per_s", "budget"]
    assert list(event.as_json().items()) == list(zip(names, (1, 0, 2, 3.25, 1.5, BUDGET), strict=True))
    assert text_of(event) == "1 done, 0 failed, 2 skipped in 3.2 s (1.5 Mpx/s)\ntime: start 100%"


def test_a_name_cannot_steer_the_terminal():
    for event in (CodebookChosen("f00", 3, "a\x1b[2J", 5, 9), RasterSkipped("a\x1b[2J", "done already")):
        assert "\x1b" not in text_of(event)


def test_several_observers_hear_as_one_and_each_may_hear_nothing():
    first, second = Heard(), Heard()
    several = Observers(first, Observer(), second)
    several.event(START)
    assert first.events == second.events == [START]
    Observer().close()
