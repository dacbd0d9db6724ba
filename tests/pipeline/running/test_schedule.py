"""The coordinator with fake jobs: phases in order, a bounded window, failures that stay their own."""

from __future__ import annotations

import errno
import shutil
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.grid import Window
from pipeline.check.seams import Seams
from pipeline.cost.timing import Effort
from pipeline.errors import RasterError, StorageError, WorkerLostError
from pipeline.out.record import RasterRecord
from pipeline.process import memory
from pipeline.running import raster_run, schedule
from pipeline.running.raster_run import RasterRun
from pipeline.running.task import Task, TaskKind
from pipeline.tasks.assembling import Assembled
from pipeline.tasks.units import UnitsDone
from pipeline.workers import throttle
from pipeline.workers.pool import Pool
from tests.waiting import HANG_S

HUNDRED = Window(0, 0, 10, 10)


@dataclass(frozen=True)
class FakeStage:
    """A stage of so many units."""

    index: int
    count: int

    def units(self):
        return ((self.index, i) for i in range(self.count))


class FakeJob:
    """A raster of so many windows and merges, which may fail in one of its tasks."""

    def __init__(
        self,
        name,
        windows=3,
        merges=(),
        fails=None,
        error=None,
        folder=None,
        *,
        complete=False,
        tolerant=False,
    ):
        self.name = name
        self.fitted_elsewhere = False
        self.smoothing = None
        self.complete = complete
        self.stages = [FakeStage(0, windows), *(FakeStage(i, n) for i, n in enumerate(merges, 1))]
        self._windows = windows
        self.fails = fails
        self.error = error or RasterError(name, "damaged")
        self.folder = folder or Path("/nonexistent") / name
        self.view = SimpleNamespace(path=name, tolerant=tolerant, raster=SimpleNamespace(members=()))

    def after(self, _):
        return None

    def windows(self):
        return iter(range(self._windows))


class FakeLedger:
    """Remembers what was recorded."""

    def __init__(self):
        self.units = []

    def add(self, stage, unit, _):
        self.units.append((stage, unit))

    def done(self, _stage, _unit):
        return None


class FakeAssembly:
    """Knows of nothing that was assembled before."""

    known = None
    seams = Seams()

    def sound(self, _):
        return False

    def begin(self, _):
        pass

    def add(self, *_):
        pass


class FakeWorkspace:
    """A workspace without files, but for the folder to remove."""

    made: ClassVar = {}

    def __init__(self, job):
        self.job = job
        self.ledger = FakeLedger()
        self.assembly = FakeAssembly()
        self.complete = job.complete
        self.closed = False
        self.made[job.name] = self

    def recorded(self, _, stage=0):
        return {}

    def add(self, stage, written):
        for unit, what in written.items():
            self.ledger.add(stage, unit, what)

    def close(self):
        self.closed = True

    def remove(self):
        self.close()
        shutil.rmtree(self.job.folder, ignore_errors=True)


def made(name, by):
    """A record that says only this."""
    return RasterRecord.model_construct(name=name, source=by)


class Record(schedule.BatchObserver):
    """What was done, in order; the fake tasks and callbacks that the coordinator gets."""

    def __init__(self, monkeypatch):
        self.events = []
        self.lock = threading.Lock()
        labelling, assembling, publishing = raster_run.labelling, raster_run.assembling, raster_run.publishing
        monkeypatch.setattr(labelling, "label_window", lambda job, w, _: self._task(job, "label", w))
        monkeypatch.setattr(assembling, "merge_unit", lambda job, _i, unit, _: self._task(job, "merge", unit))
        monkeypatch.setattr(assembling, "assemble", lambda job: self._task(job, "assemble", None))
        monkeypatch.setattr(
            assembling, "checks", lambda job: [(s.index, i) for s in job.stages for i in range(2)]
        )
        monkeypatch.setattr(assembling, "check", lambda job, stage, w: self._task(job, "check", (stage, w)))
        monkeypatch.setattr(publishing, "finish", lambda job, record, *_: self._task(job, "finish", record))
        monkeypatch.setattr(publishing, "publish", lambda job: self._task(job, "publish", None))
        monkeypatch.setattr(raster_run, "Workspace", FakeWorkspace)

    def _task(self, job, kind, what):
        with self.lock:
            self.events.append((job.name, kind, what))
        if job.fails in ((kind, what), kind):
            raise job.error
        if kind in ("finish", "publish"):
            return made(job.name, by=kind)
        if kind == "assemble":
            return Assembled([1] * 256, {})
        if kind == "check":
            return Seams(1, 1, 1, 1)
        if kind == "merge":
            return UnitsDone(what[0], {what: None})
        return UnitsDone(0, {(0, what): None}, 1, HUNDRED, 0, Effort(1.0, 0.5, 0.25, 0.125))

    def drive(self, jobs, pool):
        return list(self.outcomes(jobs, pool))

    def outcomes(self, jobs, pool):
        return schedule.drive(
            jobs, pool, lambda tally: {"chunks": tally.chunks_done, "pixels": tally.pixels_done}, self
        )

    def advanced(self, tally, _):
        self.events.append((tally.job.name, "advanced", tally.chunks_done))

    def started(self, job):
        self.events.append((job.name, "started", None))

    def warned(self, message):
        self.events.append((None, "warning", message))

    def kinds(self, name, *wanted):
        return [kind for who, kind, _ in self.events if who == name and (not wanted or kind in wanted)]


@pytest.fixture
def record(monkeypatch):
    return Record(monkeypatch)


class AtOnce:
    """An executor that does each task when it is submitted, and counts those not yet taken back."""

    def __init__(self):
        self.futures = []
        self.most = 0

    def submit(self, function, *arguments):
        future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:  # noqa: BLE001  (as an executor does)
            future.set_exception(error)
        self.futures.append(future)
        return future


def at_once(count=2):
    return Pool(AtOnce(), count)


def test_a_raster_is_labelled_then_merged_stage_by_stage_then_finished(record):
    (outcome,) = record.drive([FakeJob("a", 4, (2, 1))], at_once())
    assert record.kinds("a", "label", "merge", "finish") == ["label"] * 4 + ["merge"] * 3 + ["finish"]
    assert [w for _, kind, w in record.events if kind == "merge"] == [(1, 0), (1, 1), (2, 0)]
    assert outcome.error is None
    assert outcome.record == made("a", by="publish")
    assert sorted(FakeWorkspace.made["a"].ledger.units) == [
        *((0, (0, i)) for i in range(4)), (1, (1, 0)), (1, (1, 1)), (2, (2, 0)),
    ]  # fmt: skip


def test_a_raster_whose_files_are_whole_is_only_moved(record):
    (outcome,) = record.drive([FakeJob("a", 4, (2, 1), complete=True)], at_once())
    assert record.kinds("a", "label", "merge", "finish", "publish") == ["publish"]
    assert outcome.record == made("a", by="publish")


def test_the_record_is_made_when_all_chunks_are_counted(record):
    (outcome,) = record.drive([FakeJob("a", 5)], at_once())
    assert [w for _, kind, w in record.events if kind == "finish"] == [{"chunks": 5, "pixels": 500}]
    tally = outcome.tally
    assert (tally.chunks_done, tally.pixels_done) == (5, 500)
    assert tally.effort == Effort(5.0, 2.5, 1.25, 0.625)
    assert [n for _, kind, n in record.events if kind == "advanced"] == [1, 2, 3, 4, 5]


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.lists(st.integers(1, 3), max_size=2)), max_size=5),
    st.integers(1, 4),
)
def test_no_phase_begins_before_the_one_before_has_ended(shapes, count):
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(count) as executor:
        record = Record(patch)
        jobs = [FakeJob(f"r{i}", w, m) for i, (w, m) in enumerate(shapes)]
        outcomes = record.drive(jobs, Pool(executor, count))
        assert {o.tally.job.name for o in outcomes} == {j.name for j in jobs}
        for job in jobs:
            tasks = record.kinds(job.name, "label", "merge", "finish")
            merges = sum(s.count for s in job.stages[1:])
            assert tasks == ["label"] * len(list(job.windows())) + ["merge"] * merges + ["finish"]
            stages = [w[0] for who, kind, w in record.events if who == job.name and kind == "merge"]
            assert stages == sorted(stages)


@pytest.mark.parametrize("fails", [("label", 0), ("label", 1), ("label", 2), ("merge", (1, 0)), "finish"])
def test_a_raster_that_fails_drops_its_own_tasks_and_the_others_go_on(record, fails):
    jobs = [FakeJob("a", 3), FakeJob("b", 3, (1,), fails=fails), FakeJob("c", 3, (1,))]
    outcomes = {o.tally.job.name: o for o in record.drive(jobs, at_once(1))}
    assert {n: o.error is None for n, o in outcomes.items()} == {"a": True, "b": False, "c": True}
    assert outcomes["b"].record is None
    assert str(outcomes["b"].error) == "b: damaged"
    assert record.kinds("c", "label", "finish") == ["label"] * 3 + ["finish"]
    if fails != "finish":
        assert "finish" not in record.kinds("b")


def test_a_raster_that_fails_early_does_not_do_the_rest_of_its_windows(record):
    (outcome,) = record.drive([FakeJob("a", 1000, fails=("label", 0))], at_once())
    assert outcome.error is not None
    assert len(record.kinds("a", "label")) < 10


@pytest.mark.parametrize("error", [KeyError("bug"), MemoryError(), OSError(errno.EMFILE, "too many files")])
def test_whatever_a_task_raises_is_its_raster_s_failure(record, error):
    bad, good = record.drive([FakeJob("a", 2, fails="label", error=error), FakeJob("b", 2)], at_once())
    assert bad.error is error
    assert good.error is None


@pytest.mark.parametrize("fails", [("label", 1), "finish"])
def test_a_disk_that_is_full_ends_the_run(record, fails):
    jobs = [FakeJob("a", 3, fails=fails, error=StorageError("full")), *(FakeJob(f"r{i}") for i in range(50))]
    outcomes = []
    with pytest.raises(StorageError, match="full"):
        outcomes += record.outcomes(iter(jobs), at_once(1))
    begun = {name for name, kind, _ in record.events if kind == "started"}
    assert len(begun) < 10


def test_work_in_progress_stays_when_the_disk_is_full(record, tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    job = FakeJob("a", 3, fails=("label", 2), error=StorageError("full"), folder=folder)
    with pytest.raises(StorageError):
        record.drive([job], at_once(1))
    assert folder.exists()
    assert FakeWorkspace.made["a"].closed


@pytest.fixture
def no_delay(monkeypatch):
    monkeypatch.setattr(raster_run, "_LOST_TWICE_S", (0.0, 0.0))


@pytest.mark.parametrize("losses", [1, 2])
def test_a_task_that_took_its_worker_with_it_is_done_again(record, monkeypatch, no_delay, losses):
    tried = []

    def label(job, window, _):
        tried.append(window)
        if window == 1 and tried.count(1) <= losses:
            raise WorkerLostError
        return UnitsDone(0, {(0, window): None}, 1, HUNDRED)

    monkeypatch.setattr(raster_run.labelling, "label_window", label)
    (outcome,) = record.drive([FakeJob("a", 3, (1,))], at_once(1))
    assert outcome.error is None
    assert outcome.tally.chunks_done == 3
    assert tried.count(1) == losses + 1


def test_a_task_that_kills_worker_after_worker_fails_its_raster(record, no_delay):
    bad, good = record.drive(
        [FakeJob("a", 3, fails="label", error=WorkerLostError()), FakeJob("b")], at_once(1)
    )
    assert "took its worker with it 3 times" in str(bad.error)
    assert len(record.kinds("a", "label")) <= 9
    assert good.error is None


def test_a_chunk_that_kills_worker_after_worker_becomes_nodata_where_that_is_asked_for(
    record, monkeypatch, no_delay
):
    blank = []

    def label(_job, window, _):
        if window == 1:
            raise WorkerLostError
        return UnitsDone(0, {(0, window): None}, 1, HUNDRED)

    def blanked(_job, window, reason):
        blank.append((window, reason))
        return UnitsDone(0, {(0, window): None}, 1, HUNDRED, 1)

    monkeypatch.setattr(raster_run.labelling, "label_window", label)
    monkeypatch.setattr(raster_run.labelling, "blank_window", blanked)
    (outcome,) = record.drive([FakeJob("a", 3, tolerant=True)], at_once(1))
    assert outcome.error is None
    assert outcome.tally.chunks_done == 3
    assert [w for w, _ in blank] == [1]
    assert "took its worker with it 3 times" in blank[0][1]


def test_an_end_that_is_asked_for_waits_for_what_is_under_way(record, monkeypatch):
    asked, begun, release = threading.Event(), threading.Event(), threading.Event()
    monkeypatch.setattr(schedule.signals, "requested", asked.is_set)

    def label(_job, window, _):
        begun.set()
        assert release.wait(HANG_S)
        return UnitsDone(0, {(0, window): None}, 1, HUNDRED)

    def ask():
        assert begun.wait(HANG_S)
        asked.set()
        release.set()

    monkeypatch.setattr(raster_run.labelling, "label_window", label)
    threading.Thread(target=ask).start()
    with ThreadPoolExecutor(2) as executor, pytest.raises(KeyboardInterrupt):
        record.drive([FakeJob("a", 1000)], Pool(executor, 2))
    assert 1 <= len(FakeWorkspace.made["a"].ledger.units) < 10


def test_an_end_that_is_asked_for_does_not_wait_for_ever(record, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(schedule.signals, "GRACE_S", 0.1)
    monkeypatch.setattr(raster_run.labelling, "label_window", lambda *_: release.wait(HANG_S))
    asked = iter([False, False, True])
    monkeypatch.setattr(schedule.signals, "requested", lambda: next(asked))
    with ThreadPoolExecutor(2) as executor:
        with pytest.raises(KeyboardInterrupt):
            record.drive([FakeJob("a", 1000)], Pool(executor, 2))
        release.set()


@pytest.mark.parametrize("count", [1, 3])
def test_no_more_tasks_are_under_way_than_keep_the_workers_busy(record, count):
    most, lock, under_way = 0, threading.Lock(), 0

    class Counting(ThreadPoolExecutor):
        def submit(self, function, *arguments):
            nonlocal under_way, most
            with lock:
                under_way += 1
                most = max(most, under_way)
            future = super().submit(function, *arguments)
            future.add_done_callback(done)
            return future

    def done(_):
        nonlocal under_way
        with lock:
            under_way -= 1

    with Counting(count) as executor:
        record.drive([FakeJob(f"r{i}", 20, (2,)) for i in range(5)], Pool(executor, count))
    assert 1 <= most <= 2 * count


def test_a_raster_is_begun_only_when_those_before_leave_workers_idle(record):
    taken = []

    def jobs():
        for i in range(50):
            taken.append(i)
            yield FakeJob(f"r{i}", 6)

    ahead = 0
    for number, _ in enumerate(record.outcomes(jobs(), at_once(1)), 1):
        ahead = max(ahead, len(taken) - number)
    assert number == 50
    assert ahead <= 3


def test_the_last_tasks_of_one_raster_overlap_with_the_first_of_the_next(record):
    release = threading.Event()

    def label(job, _window, _recorded):
        if job.name == "a":
            assert release.wait(HANG_S)  # until the other one has begun
        else:
            release.set()
        return UnitsDone(0, {}, 1, HUNDRED)

    raster_run.labelling.label_window = label  # the fixture puts it back
    with ThreadPoolExecutor(2) as executor:
        outcomes = record.drive([FakeJob("a", 1), FakeJob("b", 1)], Pool(executor, 2))
    assert [o.error for o in outcomes] == [None, None]


@pytest.mark.parametrize("fails", [None, ("label", 1)])
def test_the_folder_of_work_in_progress_goes_with_its_raster(record, tmp_path, fails):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "part").touch()
    record.drive([FakeJob("a", 2, fails=fails, folder=folder)], at_once())
    assert not folder.exists()


def test_an_error_while_a_raster_is_begun_comes_out(record):
    def jobs():
        yield FakeJob("a")
        raise StorageError("no room for a codebook")

    with pytest.raises(StorageError, match="no room for a codebook"):
        record.drive(jobs(), at_once())


def test_no_rasters_are_no_work(record):
    assert record.drive([], at_once()) == []


def test_a_task_that_hangs_is_warned_of_or_its_worker_replaced(record, monkeypatch):
    monkeypatch.setattr(schedule, "_HUNG_S", 0.2)
    monkeypatch.setattr(schedule, "_POLL_S", 0.05)
    release = threading.Event()

    def label(_job, window, _):
        assert release.wait(HANG_S)
        return UnitsDone(0, {(0, window): None}, 1, HUNDRED)

    class Waiting(schedule.BatchObserver):
        def warned(self, message):
            record.warned(message)
            # warned of once: the rest may take as long as it likes
            monkeypatch.setattr(schedule, "_HUNG_S", HANG_S)
            release.set()

    monkeypatch.setattr(raster_run.labelling, "label_window", label)
    with ThreadPoolExecutor(2) as executor:
        jobs = [FakeJob("a", 3)]
        outcomes = list(schedule.drive(jobs, Pool(executor, 2), lambda _: {}, Waiting()))
    assert outcomes[0].error is None
    (warning,) = (m for _, kind, m in record.events if kind == "warning")
    assert warning.startswith("a: a task has not ended for")


@pytest.mark.parametrize("replaced", [False, True])
def test_fewer_tasks_are_under_way_while_memory_is_short(monkeypatch, replaced):
    used, now = 100, 0.0
    monkeypatch.setattr(memory, "memory_in_use", lambda: used)
    monkeypatch.setattr(throttle.time, "monotonic", lambda: now)
    measure = throttle.Throttle(4, 1000)
    assert measure.room(0) == 8
    used, rooms = 2000, []
    for _ in range(10):
        now += 1
        rooms.append(measure.room(8))
    assert rooms == [7, 6, 5, 4, 3, 2, 1, 1, 1, 1]
    used = 10
    now += 1
    assert measure.room(1) == 2
    if replaced:
        measure.worker_lost()
        assert measure.room(1) == 1


def test_without_a_limit_most_of_what_is_free_may_be_taken():
    free = memory.psutil.virtual_memory().available
    assert 0 < memory.available_memory() <= free


def test_the_coordinator_never_waits_for_nothing(record, monkeypatch):
    usual, waited = schedule.finished, []

    def heard(futures, timeout_s):
        waited.append(len(futures))
        return usual(futures, timeout_s)

    monkeypatch.setattr(schedule, "finished", heard)
    assert len(record.drive([FakeJob("a", 4, (2, 1)), FakeJob("b", 2, (1,))], at_once())) == 2
    assert 0 not in waited


def test_a_look_at_limits_that_kills_its_worker_is_left_out():
    run = RasterRun.__new__(RasterRun)
    run.error, run._again = None, []
    for losses in range(4):
        run._retry_lost(Task(TaskKind.LIMITS, print, (None, None, 512), print, losses=losses))
    assert (run.error, run._again) == (None, [])
