"""Where a run stands, told from its files: alive, killed, over, half-written."""

from __future__ import annotations

import cProfile
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pipeline import cli
from pipeline.commands.status.status import status, watch
from pipeline.commands.status.status_text import status_text
from pipeline.config import build
from pipeline.cost.readable import bytes_text, seconds_text
from pipeline.durable.checksums import FileDigest
from pipeline.durable.ledger import Ledger
from pipeline.durable.lock import FolderLock
from pipeline.errors import UsageError
from pipeline.events.journal import Journal
from pipeline.events.kinds import RasterStarted, RunStarted
from pipeline.events.progress import Silent
from pipeline.running.run import run
from tests.rasters import noise, write_geotiff
from tests.waiting import HANG_S

ROOT = Path(__file__).resolve().parents[3]
PIXELS = 1_000_000


class Out:
    """A folder as a run leaves it at some moment."""

    def __init__(self, path, monkeypatch):
        self.path = path
        self._patch = monkeypatch
        self.live(alive=False)

    def live(self, *, alive=True):
        self._patch.setattr("pipeline.durable.lock.alive", lambda out: alive)

    def write(self, name, text):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if isinstance(text, str) else json.dumps(text))

    def kept(self, *rasters, **more):
        """run.json of rasters with their states."""
        entries = [{"name": n, "source": f"/{n}.tif", "state": s, "chunks": 10, "pixels": PIXELS, **m}
                   for n, s, m in rasters]  # fmt: skip
        self.write("run.json", {"format": "tilewright-run-1", "rasters": entries, **more})

    def ledger(self, name, done, torn=0):
        path = self.path / ".partial" / name / "ledger"
        path.parent.mkdir(parents=True, exist_ok=True)
        book = Ledger(path)
        for i in range(done):
            book.add(0, (0, i), FileDigest.of(b"part"))
        book.close()
        with path.open("ab") as file:
            file.write(b"t" * torn)

    def done(self, name, chunks=10):
        self.write(f"{name}.json", {"name": name, "chunks": chunks, "files": [f"{name}.tif"]})
        self.write(f"{name}.tif", "labels")

    def raster(self, name="a"):
        return next(r for r in status(self.path).rasters if r.name == name)


@pytest.fixture
def out(tmp_path, monkeypatch):
    return Out(tmp_path / "out", monkeypatch)


def shown(found):
    return found.state, found.chunks_done, found.chunks


def test_the_raster_that_the_fit_is_for_is_running_while_the_run_lives(out):
    out.kept(("a", "waiting", {}), ("b", "waiting", {}))
    out.write(".partial/status.json", {"phase": "fit"})
    out.live()
    assert [shown(r) for r in status(out.path).rasters] == [("running", 0, 10), ("waiting", 0, 10)]
    assert out.raster().stage == "fit"
    assert status(out.path).state == "running"


def test_a_run_killed_in_the_fit_is_interrupted(out):
    out.kept(("a", "waiting", {}))
    (out.path / ".partial").mkdir()
    assert shown(out.raster()) == ("interrupted", 0, 10)
    assert status(out.path).state == "interrupted"


def test_chunks_are_counted_in_the_ledger_whatever_the_run_says(out):
    out.kept(("a", "waiting", {}))
    out.ledger("a", 4, torn=39)
    row = {"name": "a", "state": "running", "chunks_done": 9, "chunks": 10, "mpx_per_s": 2.5, "eta_s": 7.0}
    out.write(".partial/status.json", {"phase": "map", "rasters": [row], "batch": {"mpx_per_s": 3.0}})
    out.live()
    found = out.raster()
    assert shown(found) == ("running", 4, 10)
    assert (found.mpx_per_s, found.eta_s) == (2.5, 7.0)
    assert status(out.path).mpx_per_s == 3.0
    out.live(alive=False)
    found = out.raster()
    assert shown(found) == ("interrupted", 4, 10)
    assert found.mpx_per_s is None
    assert status(out.path).mpx_per_s is None


def test_a_raster_is_done_when_record_and_labels_are_there(out):
    out.kept(("a", "waiting", {}), ("b", "waiting", {}))
    out.done("a")
    out.done("b")
    (out.path / "b.tif").unlink()
    assert [shown(r) for r in status(out.path).rasters] == [("done", 10, 10), ("interrupted", 0, 10)]


def test_a_raster_whose_labels_were_deleted_is_done_no_more(out):
    out.kept(("a", "done", {"output": "a.tif"}))
    out.done("a")
    assert shown(out.raster()) == ("done", 10, 10)
    (out.path / "a.tif").unlink()
    assert out.raster().state == "interrupted"


def test_the_moment_between_record_and_ledger_shows_no_chunk_less(out):
    out.kept(("a", "failed", {"error": "before"}))
    out.live()
    out.write(".partial/status.json", {"rasters": [{"name": "a", "chunks_done": 10, "chunks": 10}]})
    out.ledger("a", 10)
    assert shown(out.raster()) == ("running", 10, 10)
    out.done("a")
    assert shown(out.raster()) == ("done", 10, 10)
    shutil.rmtree(out.path / ".partial" / "a")
    assert shown(out.raster()) == ("done", 10, 10)


def test_the_record_of_an_earlier_run_does_not_hide_a_failure(out):
    out.kept(("a", "failed", {"error": "/a.tif: changed"}))
    out.done("a")
    assert (out.raster().state, out.raster().error) == ("failed", "/a.tif: changed")


def test_failures_since_the_last_save_are_told_too(out):
    out.kept(("a", "waiting", {}), ("b", "skipped", {"reason": "no raster"}), ("c", "waiting", {}))
    out.write(".partial/status.json", {"failed": {"a": "/a.tif: damaged"}, "last_error": "/a.tif: damaged"})
    out.live()
    found = status(out.path)
    assert [r.state for r in found.rasters] == ["failed", "skipped", "running"]
    assert found.last_error == "/a.tif: damaged"
    assert found.rasters[1].error == "no raster"


def test_work_left_by_an_earlier_run_waits_till_its_turn(out):
    out.kept(("a", "waiting", {}), ("b", "waiting", {}))
    out.ledger("a", 3)
    out.ledger("b", 2)
    out.write(".partial/status.json", {"rasters": [{"name": "a", "chunks_done": 3, "chunks": 10}]})
    out.live()
    assert [shown(r) for r in status(out.path).rasters] == [("running", 3, 10), ("waiting", 2, 10)]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (("done", "done"), "done"),
        (("done", "skipped"), "done"),
        (("done", "failed"), "failed"),
        (("done", "waiting"), "interrupted"),
    ],
)
def test_a_run_that_is_over_is_done_or_failed(out, states, expected):
    out.kept(*((n, s, {"output": f"{n}.tif"}) for n, s in zip("ab", states, strict=True)))
    for name, state in zip("ab", states, strict=True):
        if state == "done":
            out.done(name)
    assert status(out.path).state == expected
    assert cli.main(["status", str(out.path)]) == (expected == "failed")


def test_totals_are_sums_over_the_rasters(out):
    out.kept(("a", "done", {"output": "a.tif"}), ("b", "waiting", {}), ("c", "failed", {"error": "x"}))
    out.done("a")
    out.ledger("b", 5)
    totals = status(out.path).totals
    assert (totals["chunks_done"], totals["chunks"]) == (15, 30)
    assert (totals["pixels_done"], totals["pixels"]) == (1_500_000, 3_000_000)
    assert (totals["done"], totals["interrupted"], totals["failed"], totals["rasters"]) == (1, 1, 1, 3)


def test_bad_chunks_are_those_listed_beside_the_labels(out):
    out.kept(("a", "done", {"output": "a.tif"}))
    out.done("a")
    out.write("a.bad.geojson", {"type": "FeatureCollection", "features": [{}, {}]})
    assert out.raster().bad_chunks == 2
    assert status(out.path).totals["bad_chunks"] == 2


def test_bad_chunks_of_a_raster_that_is_not_done_are_those_noted_in_its_workspace(out):
    out.kept(("a", "waiting", {}))
    out.ledger("a", 4)
    for name in ("00000_00001.json", "00000_00003.json", ".x.part"):
        out.write(f".partial/a/bad/{name}", "[]")
    assert shown(out.raster()) == ("interrupted", 4, 10)
    assert out.raster().bad_chunks == 2


def test_the_age_of_the_last_sign_of_life_is_told(out):
    out.kept(("a", "waiting", {}))
    out.write(
        ".partial/status.json", {"updated": "2020-01-01T00:00:00.000Z", "event_at": "2999-01-01T00:00:00Z"}
    )
    found = status(out.path)
    assert found.age_s > 1e8
    assert found.idle_s == 0.0


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"rasters": 3}', '{"rasters": [3, {"name": 4}]}',
                                  '{"batch": 1, "failed": [], "rasters": [{"name": "a", "chunks": "x"}]}',
                                  "\x00\xff", "[" * 100_000])  # fmt: skip
def test_files_that_are_half_written_or_strange_are_lived_with(out, text):
    out.kept(("a", "waiting", {}))
    out.ledger("a", 2)
    for name in (".partial/status.json", "a.json", "a.bad.geojson"):
        out.write(name, text)
    assert shown(out.raster()) == ("interrupted", 2, 10)
    out.write("run.json", text)
    assert status(out.path).state == "interrupted"
    assert "run" in status_text(status(out.path))


HUGE = 10**400


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("a.json", {"files": 5, "chunks": 10}, "strange files"),
        ("a.json", {"files": [["a.tif"]], "chunks": 10}, "strange files"),
        ("a.json", {"files": ["/etc/passwd"], "chunks": 10}, "strange files"),
        ("a.json", {"files": ["a.tif"], "chunks": HUGE}, "strange chunks"),
        ("a.json", {"files": ["a.tif"], "chunks": True}, "strange chunks"),
        ("a.json", "[" * 100_000, "nested too deep"),
        ("a.json", "[3]", "not a JSON object"),
        ("a.bad.geojson", {"features": [3]}, "strange features"),
        ("run.json", {"rasters": [{"name": "a", "pixels": HUGE, "chunks": 10}]}, "strange pixels"),
        ("run.json", {"rasters": [{"name": "a", "pixels": -1, "chunks": 10}]}, "strange pixels"),
        ("run.json", {"rasters": [{"name": "a", "state": [], "chunks": 10}]}, "strange state"),
        ("run.json", {"rasters": [3, {"name": "a", "chunks": 10}]}, "strange rasters"),
        ("run.json", {"rasters": [{"name": "a", "chunks": 10}, {"name": "x" * 9999}]}, "strange name"),
        ("run.json", {"rasters": [{"name": "a", "chunks": 10}, {"name": "\ud800"}]}, "strange name"),
        (".partial/status.json", {"updated": "0001-01-01T00:00:00"}, "strange updated"),
        (".partial/status.json", {"updated": HUGE}, "strange updated"),
        (".partial/status.json", {"memory_bytes": HUGE}, "strange memory_bytes"),
        (".partial/status.json", {"batch": {"eta_s": HUGE}}, "strange eta_s"),
        (".partial/status.json", {"failed": {"a": {}}}, "strange a"),
        (".partial/status.json", '{"batch": {"mpx_per_s": NaN}}', "strange mpx_per_s"),
    ],
)
def test_a_damaged_file_is_named_and_the_others_are_told(out, name, value, what, capsys):
    out.kept(("a", "waiting", {}))
    out.ledger("a", 2)
    out.live()
    out.write(name, value)
    found = status(out.path)
    assert found.damaged == [f"{out.path / name}: {what}"]
    assert out.raster().chunks_done == 2
    assert f"damaged  {out.path / name}: {what}" in status_text(found, everything=True)
    json.dumps(found.as_json(), allow_nan=False)
    assert cli.main(["status", str(out.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["damaged"] == found.damaged


def test_files_beyond_any_size_are_named_and_not_read(out, monkeypatch):
    out.kept(("a", "waiting", {}))
    out.ledger("a", 2)
    for name in (".partial/status.json", "a.json", ".partial/a/ledger"):
        with (out.path / name).open("wb") as file:
            file.truncate(300 << 20)
    out.write("a.bad.geojson", '{"features": [' + "[],[]," * (1 << 22) + "0]}")
    io = psutil.Process().io_counters
    if not hasattr(io(), "read_chars"):
        pytest.skip("this system does not count what a process reads")
    before = io().read_chars
    found = status(out.path)
    # the list of what is bad, and nothing of the 300 MiB of each other one
    assert io().read_chars - before < 64 << 20
    assert sorted(found.damaged) == [
        f"{out.path / '.partial/a/ledger'}: larger than 256 MiB, not counted",
        f"{out.path / '.partial/status.json'}: larger than 256 MiB",
        f"{out.path / 'a.bad.geojson'}: holds more than 8388608 values",
        f"{out.path / 'a.json'}: larger than 256 MiB",
    ]
    assert shown(found.rasters[0]) == ("interrupted", 0, 10)


def test_pipes_and_folders_in_the_place_of_files_are_not_waited_for(out):
    out.kept(("a", "waiting", {}))
    (out.path / ".partial" / "a").mkdir(parents=True)
    for name in (".partial/status.json", "a.json", ".partial/a/ledger"):
        os.mkfifo(out.path / name)
    (out.path / "a.bad.geojson").mkdir()
    assert sorted(status(out.path).damaged) == [
        f"{out.path / '.partial/a/ledger'}: not a file",
        f"{out.path / '.partial/status.json'}: not a file",
        f"{out.path / 'a.bad.geojson'}: cannot be read (Is a directory)",
        f"{out.path / 'a.json'}: not a file",
    ]


def test_a_rate_of_nothing_is_no_number(out):
    out.kept(("a", "waiting", {}))
    out.write(".partial/status.json", '{"rasters": [{"name": "a", "eta_s": Infinity, "mpx_per_s": NaN}]}')
    out.live()
    json.dumps(status(out.path).as_json(), allow_nan=False)
    assert out.raster().eta_s is None


def test_a_ledger_without_header_yet_holds_nothing(out):
    out.kept(("a", "waiting", {}))
    out.ledger("a", 0)
    (out.path / ".partial" / "a" / "ledger").write_bytes(b"h" * 7)
    assert shown(out.raster()) == ("interrupted", 0, 10)


def test_a_name_that_leads_out_of_the_folder_is_passed_over(out):
    out.kept(("../a", "waiting", {}), ("..", "waiting", {}), ("b", "waiting", {}))
    assert [r.name for r in status(out.path).rasters] == ["b"]


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    with pytest.raises(UsageError, match="no run here"):
        status(tmp_path)
    assert cli.main(["status", str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_text_begins_with_totals_and_names_every_raster_of_a_few(out):
    out.kept(("scene one", "waiting", {}), ("b", "failed", {"error": "/b.tif:\n damaged"}))
    out.ledger("scene one", 5)
    lines = status_text(status(out.path)).splitlines()
    assert lines[0].startswith("run      interrupted")
    assert "5 of 20 (25.0%)" in lines[1]
    assert any("interrupted" in s and "5/10" in s and s.endswith("scene one") for s in lines)
    assert any("failed" in s and "b: /b.tif: damaged" in s for s in lines)


def test_ten_thousand_rasters_do_not_flood_and_take_some_calls_each(out):
    states = ["done"] * 9000 + ["failed"] * 500 + ["waiting"] * 500
    out.kept(*((f"r{i}", s, {"output": f"r{i}.tif", "error": "x"}) for i, s in enumerate(states)))
    for i in range(9000):
        (out.path / f"r{i}.json").touch()
        (out.path / f"r{i}.tif").touch()
    for i in (9500, 9501):
        out.ledger(f"r{i}", 1)
    out.live()
    out.write(".partial/status.json", {"rasters": [{"name": f"r{i}"} for i in (9500, 9501)]})
    with cProfile.Profile() as profile:
        found = status(out.path)
    calls = sum(entry.callcount for entry in profile.getstats())
    # a second or two of a quiet machine; one raster looked for among all of them would be 10,000 calls
    assert calls < 300 * len(states)
    lines = status_text(found).splitlines()
    assert len(lines) < 40
    assert "9000 done, 2 running, 498 waiting, 500 failed" in lines[0]
    assert [s.rsplit(" ", 1)[-1] for s in lines if s.startswith("running ")] == ["r9500", "r9501"]
    assert "--all" in lines[-1]
    assert len(status_text(found, everything=True).splitlines()) > 10_000


def test_watching_ends_with_the_run(out, monkeypatch):
    out.kept(("a", "waiting", {}))
    out.live()
    naps = []

    def sleep(_):
        naps.append(1)
        out.live(alive=len(naps) < 3)

    monkeypatch.setattr("pipeline.commands.status.status.time.sleep", sleep)
    states = [found.state for found in watch(out.path)]
    assert states == ["running", "running", "running", "interrupted"]


def test_a_finished_run_is_done_with_all_its_chunks(tmp_path, capsys):
    source = write_geotiff(tmp_path / "scene.tif", noise(3, 700, 1200))
    out = tmp_path / "out"
    run(build({"sources": [str(source)], "out": str(out), "workers": "1", "chunk_size": 512, "segments": 3}))
    assert cli.main(["status", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (raster,) = found["rasters"]
    assert (found["state"], raster["name"], raster["state"]) == ("done", "scene", "done")
    assert raster["chunks_done"] == raster["chunks"] == 6
    assert found["verdict"].startswith("start ")
    assert cli.main(["status", str(out)]) == 0
    text = capsys.readouterr().out
    assert "scene" in text
    assert "6 of 6" in text


def test_a_live_journal_is_read_back(out):
    out.kept(("a", "waiting", {}))
    (out.path / ".partial").mkdir()
    out.live()
    with Journal(Silent(), out.path) as journal:
        journal.event(RunStarted(rasters=1, workers=2, dashboard=None))
        journal.event(RasterStarted("a", chunks=10, chunk_px=512, pixels=PIXELS))
        journal._write()
        found = status(out.path)
        text = status_text(found)
    assert (found.pid, found.workers, found.phase) == (os.getpid(), 2, "map")
    assert found.age_s < 60
    assert found.memory_bytes > 10 << 20
    assert f"process {os.getpid()}" in text
    assert "memory" in text


def test_a_killed_run_is_interrupted_and_the_command_loads_nothing_heavy(out):
    out.kept(("a", "waiting", {}))
    (out.path / ".partial").mkdir()
    code = (
        "import sys, pipeline.cli; code = pipeline.cli.main(['status', sys.argv[1], '--json']); "
        "assert not {'dask', 'numba', 'torch', 'rasterio'} & set(sys.modules); sys.exit(code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, out.path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["state"] == "interrupted"


def test_interrupting_a_watch_is_no_error(out):
    out.kept(("a", "waiting", {}))
    (out.path / ".partial").mkdir(exist_ok=True)
    lock = FolderLock(out.path / ".partial")
    watching = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "status", out.path, "--watch"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=HANG_S)
    assert watching.returncode == 130
    assert "run the same command again" not in said
    lock.release()


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (300 << 20, "300 MiB"), (5 << 40, "5.0 TiB"),
     (5000 << 40, "5000.0 TiB")],
)  # fmt: skip
def test_bytes_are_told_in_the_largest_unit(count, text):
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3725, "1 h 02 min"),
        (90_000, "1 d 01 h"),
        (-3, "0 s"),
    ],
)
def test_seconds_are_told_in_two_units(seconds, text):
    assert seconds_text(seconds) == text
