"""Where a run's time went: measured by each task itself, summed, and what follows from the numbers."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.networks.kernel import CnnKernel
from pipeline.config import build
from pipeline.cost import timing
from pipeline.cost.time_shares import Setting, Spent, time_shares
from pipeline.cost.timing import LABEL, READ, Effort
from pipeline.durable import checksums
from pipeline.events.event_text import text_of
from pipeline.events.progress import Plain, Silent
from pipeline.running import run as run_module
from pipeline.running import spending
from pipeline.running.run import run
from pipeline.workers.threads import CarryingThreads
from tests.rasters import noise, write_geotiff
from tests.waiting import HANG_S

SETTING = Setting(
    workers=2,
    cores=2,
    rasters=1,
    windows=100,
    method="kmeans",
    resolution=4,
    device="cpu",
    chunk_px=2048,
    remote=False,
    refitted=True,
)
ADVICE = (
    "--workers",
    "--codebook",
    "--resolution",
    "--device",
    "--chunk-size",
    "faster disk",
    "more rasters",
)


def advice_in(verdict):
    return {a for a in ADVICE if a in verdict}


# The stopwatch


class Clock(threading.local):
    """A clock of each thread's own, which only its sleep moves."""

    now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    """The stopwatch's clock, which nothing else in the machine moves."""
    monkeypatch.setattr(timing, "time", Clock())
    return timing.time


def test_a_task_measures_its_own_and_no_other_s(clock):
    gate = threading.Barrier(4, timeout=HANG_S)

    def one(number):
        with timing.task() as watch:
            gate.wait()
            for _ in range(number):
                with timing.measure(READ):
                    clock.sleep(2)
                    gate.wait()
            # all of them measure at the same time, as often as the one that has most to do
            for _ in range(4 - number):
                gate.wait()
        return watch[READ], watch[LABEL]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(1, 5))) == [(2, 0), (4, 0), (6, 0), (8, 0)]


def test_shared_threads_add_to_the_task_that_submitted_the_work(clock):
    def piece():
        with timing.measure(LABEL):
            clock.sleep(2)

    def one(shared, number):
        with timing.task() as watch:
            for future in [shared.submit(piece) for _ in range(number)]:
                future.result()
        return watch[LABEL]

    with CarryingThreads(2) as shared, ThreadPoolExecutor(2) as pool:
        few, many = pool.map(one, (shared, shared), (1, 10))
    assert (few, many) == (2, 20)


def test_outside_of_a_task_nothing_is_counted_and_a_task_begins_at_zero(clock):
    with timing.measure(READ):
        clock.sleep(2)
    with timing.task() as first, timing.measure(READ):
        clock.sleep(3)
    with timing.task() as second:
        pass
    assert first[READ] == 3
    assert second[READ] == 0


def test_what_fails_took_its_time_too(clock):
    def fail():
        with timing.measure(READ):
            clock.sleep(2)
            raise ValueError("damaged")

    with timing.task() as watch, pytest.raises(ValueError, match="damaged"):
        fail()
    assert watch[READ] == 2


# The verdict


@given(st.lists(st.floats(0, 1e6), min_size=10, max_size=10), st.integers(1, 64))
def test_shares_are_parts_of_one_whole(seconds, workers):
    found = time_shares(
        Spent(*seconds[:4], Effort(*seconds[4:8]), *seconds[8:]), replace(SETTING, workers=workers)
    )
    shares = found["shares"]
    assert sum(shares.values()) == pytest.approx(1, abs=1e-9)
    assert sum(map(int, re.findall(r"(\d+)%", found["verdict"]))) == 100
    assert all(0 <= share <= 1 for share in shares.values())
    assert found["bound_by"] in (*shares, "nothing")
    assert "\n" not in found["verdict"]
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("spent", "setting", "bound", "words", "advice"),
    [
        ({"read_s": 15}, {}, "read", "reading", {"faster disk"}),
        ({"read_s": 15}, {"remote": True}, "read", "network", {"--workers"}),
        ({"read_s": 15}, {"cores": 8}, "read", "6 idle cores", {"--workers"}),
        ({"label_s": 15}, {}, "compute", "labelling", set()),
        ({"label_s": 15}, {"cores": 8}, "compute", "--workers 8", {"--workers"}),
        ({"label_s": 15}, {"method": "cnn"}, "compute", "--resolution 8", {"--resolution", "--device"}),
        ({"label_s": 15}, {"method": "cnn", "resolution": 16}, "compute", "GPU", {"--device"}),
        ({"label_s": 15}, {"method": "cnn", "resolution": None}, "compute", "GPU", {"--device"}),
        ({"label_s": 15}, {"method": "cnn", "device": "cuda"}, "compute", "labelling", {"--resolution"}),
        ({"encode_s": 15}, {"method": "cnn"}, "compute", "encoding", set()),
        ({"write_s": 15}, {}, "write", "durable", {"faster disk"}),
        ({"assemble_s": 15}, {}, "write", "joining", {"faster disk"}),
        ({}, {}, "wait", "waiting", set()),
        ({}, {"windows": 1}, "wait", "1 tasks for 2 workers", {"more rasters"}),
        ({}, {"windows": 1, "chunk_px": 8192}, "wait", "1 tasks for 2 workers", {"--chunk-size"}),
        ({"fit_s": 6}, {}, "start", "the fit (6.0 s)", {"--codebook", "more rasters"}),
        ({"fit_s": 6}, {"refitted": False}, "start", "share the start", {"more rasters"}),
        ({"open_s": 6}, {"rasters": 1000}, "start", "start", set()),
        ({"setup_s": 6}, {}, "start", "share the start", {"more rasters"}),
        ({"startup_s": 5, "fit_s": 2}, {}, "start", "share the start", {"more rasters"}),
        ({"read_s": 6, "label_s": 6, "write_s": 6}, {}, "nothing", "no one thing", set()),
    ],
)
def test_a_verdict_says_what_bounds_the_run_and_what_would_help(spent, setting, bound, words, advice):
    work = {f.name: spent[f.name] for f in fields(Effort) if f.name in spent}
    others = {name: spent[name] for name in spent.keys() - work.keys()}
    found = time_shares(Spent(wall_s=10, effort=Effort(**work), **others), replace(SETTING, **setting))
    assert found["bound_by"] == bound
    assert words in found["verdict"]
    assert advice_in(found["verdict"]) == advice


def test_where_threads_shared_cores_there_is_no_negative_waiting():
    found = time_shares(Spent(wall_s=1, effort=Effort(3, 3)), SETTING)
    assert found["shares"] == {"start": 0, "read": 0.5, "compute": 0.5, "write": 0, "wait": 0}


@pytest.mark.parametrize(("workers", "form"), [("1", "cog"), ("2", "zarr"), ("processes:1", "cog")])
def test_a_run_tells_reading_from_labelling_encoding_and_writing(tmp_path, workers, form):
    source = write_geotiff(tmp_path / "a.tif", noise(3, 1500, 1500), compress="deflate")
    events = {}

    class Heard(Silent):
        def event(self, event):
            events[event.name] = event.as_json()

    out = tmp_path / "out"
    options = {"workers": workers, "format": form, "segments": 3, "resolution": 1}
    run(build({"sources": [str(source)], "out": str(out), **options}), Heard())
    seconds = events["end"]["budget"]["seconds"]
    assert all(seconds[name] > 0 for name in seconds.keys() - {"startup_s"})
    record = json.loads((out / "a.json").read_text())["timings"]
    tasks = ("read_s", "label_s", "encode_s", "write_s")
    assert {name: record[name] for name in tasks} == {name: seconds[name] for name in tasks}
    # one task did all of it, one thing after the other
    assert sum(record[name] for name in tasks) <= record["wall_s"]
    assert json.loads((out / "run.json").read_text())["budget"] == events["end"]["budget"]


def test_the_cells_of_a_shared_window_are_measured_too(tmp_path, monkeypatch):
    usual = CnnKernel.labels

    def slow(*arguments):
        time.sleep(0.25)
        return usual(*arguments)

    monkeypatch.setattr(CnnKernel, "labels", slow)
    source = write_geotiff(tmp_path / "a.tif", noise(3, 700, 700))
    out = tmp_path / "out"
    run(build({"sources": [str(source)], "out": str(out), "workers": "2", "method": "cnn", "segments": 3}))
    timings = json.loads((out / "a.json").read_text())["timings"]
    assert timings["read_s"] > 0
    # of 700 x 700 pixels there are four cells
    assert timings["label_s"] >= 4 * 0.25


def test_a_run_that_begins_no_raster_is_all_start(tmp_path):
    """Done already, or failed in the fit: no worker waited for tasks."""
    sound = write_geotiff(tmp_path / "a.tif", noise(3, 60, 70))
    empty = write_geotiff(tmp_path / "b.tif", np.zeros((1, 60, 70), np.uint8), nodata=0)
    for source, counts in ((sound, (1, 0, 0)), (sound, (0, 0, 1)), (empty, (0, 1, 0))):
        out = tmp_path / source.stem
        run(build({"sources": [str(source)], "out": str(out), "workers": "2", "segments": 3}))
        kept = json.loads((out / "run.json").read_text())
        assert tuple(kept["counts"].values()) == counts
        if not kept["counts"]["done"]:
            assert kept["budget"]["bound_by"] == "start"
            assert kept["budget"]["shares"]["start"] > 0.9


class Steady:
    """A clock that moves by a second whenever it is looked at."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 1
        return self.now


@pytest.mark.parametrize("workers", ["2", "processes:1"])
def test_what_comes_before_a_run_and_the_end_of_its_workers_count_too(tmp_path, monkeypatch, workers):
    steady = Steady()
    usual = run_module.workers.open_pool

    @contextlib.contextmanager
    def slow_to_end(*arguments, **options):
        with usual(*arguments, **options) as pool:
            yield pool
        steady.now += 5000

    monkeypatch.setattr(run_module.workers, "open_pool", slow_to_end)
    monkeypatch.setattr(spending, "time", steady)
    monkeypatch.setattr(spending.startup, "age_s", lambda: 1000.0)
    source = write_geotiff(tmp_path / "a.tif", noise(3, 60, 70))
    out, ended = tmp_path / "out", []

    class Heard(Silent):
        def event(self, event):
            ended.append(event)

    run(build({"sources": [str(source)], "out": str(out), "workers": workers, "segments": 3}), Heard())
    last = ended[-1]
    kept = json.loads((out / "run.json").read_text())
    seconds = kept["budget"]["seconds"]
    assert last.name == "end"
    assert last.seconds == kept["seconds"] == seconds["wall_s"]
    assert seconds["startup_s"] == 1000
    parts = [seconds[name] for name in ("startup_s", "open_s", "fit_s", "setup_s")]
    assert 6000 < sum(parts) + 5000 <= seconds["wall_s"] < 6100
    assert f"in {seconds['wall_s']:.1f} s" in text_of(last)


def test_plain_lines_end_with_the_verdict(tmp_path, capsys):
    source = write_geotiff(tmp_path / "a.tif", noise(3, 60, 70))
    run(build({"sources": [str(source)], "out": str(tmp_path / "out"), "workers": "1"}), Plain())
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("time: start ")


def test_joining_counts_the_checksums_of_the_labels_too(tmp_path, monkeypatch):
    usual = checksums.checksum

    def slow(path):
        time.sleep(0.5 if path.suffix == ".tif" else 0)
        return usual(path)

    monkeypatch.setattr(checksums, "checksum", slow)
    source = write_geotiff(tmp_path / "a.tif", noise(3, 60, 70))
    out = tmp_path / "out"
    run(build({"sources": [str(source)], "out": str(out), "workers": "1"}))
    assert json.loads((out / "run.json").read_text())["budget"]["seconds"]["assemble_s"] >= 0.5
