"""Measures what the tasks of a run take, by doing parts of it: the same tasks, workers and phases.

Parts of the rasters are segmented as small rasters of their own, in a folder that is deleted. As many are
under way at a time as in the run, for two threads on two cores are not twice as fast as one. The first
parts are small, for nobody knows yet how slow it goes.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import astuple, dataclass
from functools import partial
from typing import Any

from engine import jit
from engine.grid import Window
from pipeline.commands.plan.forecast import Phase, Rates, Taken, Work
from pipeline.commands.plan.measured_parts import Grid, Samples
from pipeline.config import RunConfig
from pipeline.running import schedule
from pipeline.running.provenance import provenance
from pipeline.running.task import Task, TaskKind
from pipeline.tasks import assembling
from pipeline.tasks.job import Job
from pipeline.tasks.units import UnitsDone
from pipeline.workers.pool import Pool

LIMIT_S = 10.0
"""Seconds after which no further part is begun."""

_LEAST_S = 2.0
_PART_S = 0.75
_STEADY = 0.02
_GROWTH = 4


@dataclass(frozen=True)
class Calibration:
    """What was measured.

    Parameters
    ----------
    taken
        Tasks, in the order in which they ended.
    wall_s
        From the first to the last.
    work
        What was to be done of the parts that were segmented.
    largest_px
        Pixels of the largest labelling task.
    error
        What the first part failed with that did, or None.
    """

    taken: list[Taken]
    wall_s: float
    work: Work
    largest_px: int
    error: BaseException | None

    @property
    def rates(self) -> Rates:
        """What tasks take."""
        return Rates.of(self.taken)

    @property
    def raster_s(self) -> float:
        """What a raster takes beside its tasks, while workers wait."""
        rates = self.rates
        return max(0.0, self.wall_s - rates.cold_s - self.work.span_s(rates)) / len(self.work.rasters)


def phases(job: Job) -> list[Phase]:
    """What there is to do of a raster, by phases that wait for each other."""
    pixels = job.view.region.pixels
    checks = [window.pixels for _, window in assembling.checks(job)]
    return [
        Phase(TaskKind.LABEL, Grid.of(job).count, pixels),
        *([] if job.smoothing is None else [Phase(TaskKind.SMOOTH, Grid.of(job).count, pixels)]),
        *(Phase(TaskKind.MERGE, s.rows * s.cols, s.height * s.width) for s in job.stages[1:]),
        Phase(TaskKind.ASSEMBLE, 1, pixels),
        Phase(TaskKind.CHECK, len(checks), sum(checks)),
        Phase(TaskKind.FINISH, 1, pixels),
        Phase(TaskKind.PUBLISH, 1, pixels),
    ]


def work_of(jobs: Iterable[Job], pool: Pool) -> Work:
    """What there is to do of some rasters by some workers."""
    jobs = list(jobs)
    return Work([phases(job) for job in jobs], pool.count, shares_threads(jobs[0], pool))


def shares_threads(job: Job, pool: Pool) -> bool:
    """Whether windows under way at a time share the threads of their process."""
    return job.kernel.costly and pool.threads > 1


def calibrate(jobs: Sequence[Job], pool: Pool, memory_limit: int | None) -> Calibration:
    """Measure parts of rasters until the figures are steady, all was measured, or `LIMIT_S` are over.

    Parameters
    ----------
    jobs
        The rasters; their `out` is a folder for what is made on the way.
    pool
        The workers.
    memory_limit
        As in the run.
    """
    stopwatch = _Stopwatch(pool, shared=shares_threads(jobs[0], pool))
    parts = _Parts(Samples(jobs), jobs[0].kernel.cell_px, stopwatch, pool.count)
    start, error = jit.clock_s(), None
    observer = schedule.BatchObserver()
    for outcome in schedule.drive(
        parts.begun(),
        pool,
        lambda tally: provenance(tally, RunConfig()),
        observer,
        memory_limit,
        stopwatch.submit,
    ):
        error = error or outcome.error
    wall_s = jit.clock_s() - start
    largest = max((task.pixels for task in stopwatch.taken if task.kind is TaskKind.LABEL), default=0)
    return Calibration(stopwatch.taken, wall_s, work_of(parts.jobs, pool), largest, error)


class _Parts:
    """The parts to measure, one after the other, of a size that suits what is known by then."""

    def __init__(self, samples: Samples, cell_px: int, stopwatch: _Stopwatch, workers: int) -> None:
        self._samples = samples
        self._stopwatch = stopwatch
        self._workers = workers
        self._cell = cell_px**2
        self._largest = self._cell
        self.jobs: list[Job] = []

    def begun(self) -> Iterator[Job]:
        """Parts, taken when workers are free."""
        start = time.perf_counter()
        while self._samples.left:
            spent = time.perf_counter() - start
            rates = Rates.of(self._stopwatch.so_far())
            if self.jobs and (spent > LIMIT_S or (spent > _LEAST_S and self._steady(rates))):
                return
            part = self._samples.next(self._pixels(rates))
            self._largest = max(self._largest, part.view.region.pixels)
            self.jobs.append(part)
            yield part

    def _pixels(self, rates: Rates) -> int:
        if TaskKind.LABEL not in rates.lines:
            return self._cell
        pace = rates.lines[TaskKind.LABEL]
        affordable = (_PART_S * self._workers - pace.each) / max(pace.per_pixel, 1e-12)
        return max(self._cell, int(min(affordable, _GROWTH * self._largest)))

    def _steady(self, rates: Rates) -> bool:
        return rates.measured >= 4 * self._workers and rates.spread / rates.measured**0.5 < _STEADY


@dataclass(frozen=True)
class _Timed:
    """A task's result, who did it, and how long it took there."""

    result: Any
    worker: tuple[int, int]
    seconds: float


def _timed(function: Callable[..., Any], arguments: tuple[Any, ...]) -> _Timed:
    start = jit.clock_s()
    result = function(*arguments)
    return _Timed(result, (os.getpid(), threading.get_ident()), max(0.0, jit.clock_s() - start))


class _Stopwatch:
    """Gives tasks to workers and keeps what they took there.

    Parameters
    ----------
    pool
        The workers.
    shared
        Whether windows under way at a time share the threads of their process.
    """

    def __init__(self, pool: Pool, *, shared: bool) -> None:
        self._pool = pool
        self._shared = shared
        self._lock = threading.Lock()
        self.taken: list[Taken] = []

    def so_far(self) -> list[Taken]:
        """Return what tasks took that have ended."""
        with self._lock:
            return list(self.taken)

    def submit(self, task: Task) -> Future[Any]:
        """Have a task done and timed."""
        outer: Future[Any] = Future()
        inner = self._pool.submit(_timed, task.function, task.arguments)
        inner.add_done_callback(partial(self._pass_on, outer, task))
        return outer

    def _pass_on(self, outer: Future[Any], task: Task, inner: Future[_Timed]) -> None:
        if inner.cancelled():
            outer.cancel()
        if not outer.set_running_or_notify_cancel():
            return
        if (error := inner.exception()) is not None:
            outer.set_exception(error)
            return
        self._add(task, inner.result())
        outer.set_result(inner.result().result)

    def _add(self, task: Task, timed: _Timed) -> None:
        if task.kind is TaskKind.LIMITS:
            return  # of as long as a few cells take, whatever the raster
        job, result = task.arguments[0], timed.result
        window = next((a for a in task.arguments[1:] if isinstance(a, Window)), job.view.region)
        seconds, parts = timed.seconds, (0.0, 0.0, 0.0, 0.0)
        if isinstance(result, UnitsDone):
            parts = astuple(result.effort)
            # windows that share their threads last as long as each other; what was done for each is known
            seconds = sum(parts) if self._shared and task.kind is TaskKind.LABEL else seconds
        with self._lock:
            self.taken.append(Taken(task.kind, timed.worker, window.pixels, seconds, parts))
