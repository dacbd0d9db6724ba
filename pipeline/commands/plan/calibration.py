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
from dataclasses import astuple, dataclass, field
from functools import partial
from typing import Any

from engine.grid import Window
from pipeline.commands.plan.forecast import (
    ASSEMBLE,
    CHECK,
    FINISH,
    LABEL,
    MERGE,
    PUBLISH,
    Phase,
    Rates,
    Taken,
    Work,
)
from pipeline.commands.plan.measured_parts import Grid, Samples
from pipeline.config import RunConfig
from pipeline.out.record import Provenance
from pipeline.running import schedule
from pipeline.running.record import provenance
from pipeline.running.tally import Tally
from pipeline.tasks import assembling
from pipeline.tasks.job import Job
from pipeline.tasks.labelling import label_window
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
        Phase(LABEL, Grid.of(job).count, pixels),
        *(Phase(MERGE, s.rows * s.cols, s.height * s.width) for s in job.stages[1:]),
        Phase(ASSEMBLE, 1, pixels),
        Phase(CHECK, len(checks), sum(checks)),
        Phase(FINISH, 1, pixels),
        Phase(PUBLISH, 1, pixels),
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
    heard = _Heard(shared=shares_threads(jobs[0], pool))
    watching = _Watching(pool.executor, pool.count, pool.threads, pool.dashboard, heard=heard)
    parts = _Parts(Samples(jobs), jobs[0].kernel.cell_px, heard, pool.count)
    start, error = time.perf_counter(), None
    for outcome in schedule.drive(parts.begun(), watching, _trial, _ignore, _ignore, _ignore, memory_limit):
        error = error or outcome.error
    wall_s = time.perf_counter() - start
    largest = max((one.pixels for one in heard.taken if one.kind == LABEL), default=0)
    return Calibration(heard.taken, wall_s, work_of(parts.jobs, pool), largest, error)


def _trial(tally: Tally) -> Provenance:
    """What a record says that nobody keeps."""
    return provenance(tally, RunConfig())


def _ignore(*_: object) -> None:
    """Progress that nobody hears of."""


class _Parts:
    """The parts to measure, one after the other, of a size that suits what is known by then."""

    def __init__(self, samples: Samples, cell_px: int, heard: _Heard, workers: int) -> None:
        self._samples = samples
        self._heard = heard
        self._workers = workers
        self._cell = cell_px**2
        self._largest = self._cell
        self.jobs: list[Job] = []

    def begun(self) -> Iterator[Job]:
        """Parts, taken when workers are free."""
        start = time.perf_counter()
        while self._samples.left:
            spent = time.perf_counter() - start
            rates = Rates.of(self._heard.so_far())
            if self.jobs and (spent > LIMIT_S or (spent > _LEAST_S and self._steady(rates))):
                return
            part = self._samples.next(self._pixels(rates))
            self._largest = max(self._largest, part.view.region.pixels)
            self.jobs.append(part)
            yield part

    def _pixels(self, rates: Rates) -> int:
        if LABEL not in rates.lines:
            return self._cell
        pace = rates.lines[LABEL]
        affordable = (_PART_S * self._workers - pace.each) / max(pace.per_pixel, 1e-12)
        return max(self._cell, int(min(affordable, _GROWTH * self._largest)))

    def _steady(self, rates: Rates) -> bool:
        return rates.measured >= 4 * self._workers and rates.spread / rates.measured**0.5 < _STEADY


@dataclass
class _Heard:
    """What tasks took, as they end in whatever thread."""

    shared: bool
    taken: list[Taken] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def so_far(self) -> list[Taken]:
        """Those that ended."""
        with self._lock:
            return list(self.taken)

    def add(self, function: Callable[..., Any], arguments: tuple[Any, ...], ended: _Ended) -> None:
        """Note a task."""
        job, result = arguments[0], ended.result
        window = next((a for a in arguments[1:] if isinstance(a, Window)), job.view.region)
        seconds, parts = ended.seconds, (0.0, 0.0, 0.0, 0.0)
        if isinstance(result, UnitsDone):
            parts = astuple(result.effort)
            # windows that share their threads last as long as each other; what was done for each is known
            seconds = sum(parts) if self.shared and function is label_window else seconds
        with self._lock:
            self.taken.append(Taken(function.__name__, ended.worker, window.pixels, seconds, parts))


@dataclass(frozen=True)
class _Ended:
    """A task's result, who did it, and how long it took there."""

    result: Any
    worker: tuple[int, int]
    seconds: float


def _timed(function: Callable[..., Any], arguments: tuple[Any, ...]) -> _Ended:
    start = time.perf_counter()
    result = function(*arguments)
    return _Ended(result, (os.getpid(), threading.get_ident()), time.perf_counter() - start)


@dataclass(frozen=True)
class _Watching(Pool):
    """Workers whose tasks are timed where they are done."""

    heard: _Heard = field(kw_only=True)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Have a task done and timed."""
        outer: Future[Any] = Future()
        inner = self.executor.submit(_timed, function, arguments)
        inner.add_done_callback(partial(self._pass_on, outer, function, arguments))
        return outer

    def _pass_on(
        self,
        outer: Future[Any],
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        inner: Future[_Ended],
    ) -> None:
        if inner.cancelled():
            outer.cancel()
        if not outer.set_running_or_notify_cancel():
            return
        if (error := inner.exception()) is not None:
            outer.set_exception(error)
            return
        ended = inner.result()
        self.heard.add(function, arguments, ended)
        outer.set_result(ended.result)
