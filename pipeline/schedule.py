"""The coordinator: a sliding window of tasks over a batch, never a graph of the whole.

Rasters go in order. Those under way keep the workers busy together, so that the last tasks of one
overlap with the first of the next. A raster that fails drops its own tasks; the others go on.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Any

from pipeline import job as work
from pipeline.errors import StorageError
from pipeline.job import Job, WindowDone
from pipeline.workers import Pool, finished

Task = tuple[Callable[..., Any], tuple[Any, ...]]


@dataclass
class Tally:
    """How far one raster is.

    Parameters
    ----------
    job
        The raster's job.
    chunks_done, pixels_done
        What is durable.
    windows
        Tasks of labelling done.
    read_s, label_s, encode_s, write_s
        Seconds of work of all workers.
    """

    job: Job
    chunks_done: int = 0
    pixels_done: int = 0
    windows: int = 0
    read_s: float = 0.0
    label_s: float = 0.0
    encode_s: float = 0.0
    write_s: float = 0.0
    started: float = field(default_factory=time.monotonic)

    def add(self, done: WindowDone) -> None:
        """Count a window."""
        self.chunks_done += done.chunks
        self.pixels_done += done.pixels
        self.windows += 1
        self.read_s += done.read_s
        self.label_s += done.label_s
        self.encode_s += done.encode_s
        self.write_s += done.write_s


class _Running:
    """A raster under way: its phases, of which each waits for the one before."""

    def __init__(self, job: Job, record: Callable[[Tally], dict[str, Any]]) -> None:
        self.tally = Tally(job)
        self.under_way = 0
        self.error: BaseException | None = None
        self.record: dict[str, Any] | None = None
        self._phases = self._plan(job, record)
        self._tasks: Iterator[Task] | None = next(self._phases)

    def _plan(self, job: Job, record: Callable[[Tally], dict[str, Any]]) -> Iterator[Iterator[Task]]:
        yield ((work.label_window, (job, w)) for w in job.windows())
        for stage in job.stages[1:]:
            yield ((work.merge_unit, (job, stage.index, unit)) for unit in stage.units())
        yield iter([(work.finish, (job, record(self.tally)))])

    def next_task(self) -> Task | None:
        """The next task that may start now, or None."""
        while self._tasks is not None and self.error is None:
            task = next(self._tasks, None)
            if task is not None:
                return task
            if self.under_way:
                return None
            self._tasks = next(self._phases, None)
        return None

    @property
    def over(self) -> bool:
        """True when nothing is left to do or to wait for."""
        return self.under_way == 0 and (self._tasks is None or self.error is not None)

    def take(self, future: Future[Any]) -> bool:
        """Count a finished task; True if it made chunks durable."""
        self.under_way -= 1
        try:
            result = future.result()
        except CancelledError:
            return False
        except Exception as error:  # noqa: BLE001  (whatever it is, it is this raster's failure)
            self.error = self.error or error
            return False
        if isinstance(result, WindowDone):
            self.tally.add(result)
            return True
        if isinstance(result, dict):
            self.record = result
        return False


@dataclass(frozen=True)
class Outcome:
    """How a raster ended: with its record, or with an error."""

    tally: Tally
    record: dict[str, Any] | None
    error: BaseException | None


def drive(
    jobs: Iterable[Job],
    pool: Pool,
    record: Callable[[Tally], dict[str, Any]],
    advanced: Callable[[Tally], None],
    started: Callable[[Job], None],
) -> Iterator[Outcome]:
    """Run jobs on workers; gives each raster's outcome as it ends.

    Parameters
    ----------
    jobs
        Rasters in order; taken as they are begun.
    pool
        The workers.
    record
        Makes the record of a raster from its tally.
    advanced, started
        Hear of chunks that became durable, and of rasters that begin.

    Raises
    ------
    StorageError
        When OUT cannot be written any more; tasks under way are waited for first.
    """
    batch = _Batch(iter(jobs), record, started)
    under_way: dict[Future[Any], _Running] = {}
    try:
        while True:
            while len(under_way) < 2 * pool.count and (task := batch.next_task()) is not None:
                (function, arguments), owner = task
                under_way[pool.submit(function, *arguments)] = owner
                owner.under_way += 1
            for future in finished(under_way):
                owner = under_way.pop(future)
                if owner.take(future):
                    advanced(owner.tally)
            for one in batch.ended():
                shutil.rmtree(one.tally.job.folder, ignore_errors=True)
                yield Outcome(one.tally, one.record, one.error)
                if isinstance(one.error, StorageError):
                    raise one.error
            if not under_way and batch.empty:
                return
    finally:
        for future in under_way:
            future.cancel()


class _Batch:
    """The rasters under way, and those to come."""

    def __init__(
        self, jobs: Iterator[Job], record: Callable[[Tally], dict[str, Any]], started: Callable[[Job], None]
    ) -> None:
        self._jobs = jobs
        self._record = record
        self._started = started
        self._running: list[_Running] = []
        self._exhausted = False

    @property
    def empty(self) -> bool:
        """True when no raster is under way or to come."""
        return self._exhausted and not self._running

    def next_task(self) -> tuple[Task, _Running] | None:
        """The next task of the first raster that has one; begins another where none has."""
        for one in self._running:
            if (task := one.next_task()) is not None:
                return task, one
        while (job := next(self._jobs, None)) is not None:
            self._started(job)
            self._running.append(_Running(job, self._record))
            if (task := self._running[-1].next_task()) is not None:
                return task, self._running[-1]
        self._exhausted = True
        return None

    def ended(self) -> list[_Running]:
        """The rasters that are over, which are under way no more."""
        over = [one for one in self._running if one.over]
        self._running = [one for one in self._running if not one.over]
        return over
