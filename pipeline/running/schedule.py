"""The coordinator: a sliding window of tasks over a batch, never a graph of the whole.

Rasters go in order. Those under way keep the workers busy together, so that the last tasks of one
overlap with the first of the next. A raster that fails drops its own tasks; the others go on. What a
task made durable is in the raster's ledger before anything is built on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DamageError, StorageError, UnreachableError
from pipeline.out.record import Provenance, RasterRecord
from pipeline.process import signals
from pipeline.running.raster_run import RasterRun, Task
from pipeline.running.tally import Tally
from pipeline.source.gdal.remote import is_remote
from pipeline.tasks.job import Job
from pipeline.tasks.units import UnitsDone
from pipeline.workers.pool import Pool, finished
from pipeline.workers.throttle import Throttle

_POLL_S = 0.25
_HUNG_S = 900.0
_HUNG_TIMES = 20.0


@dataclass(frozen=True)
class Outcome:
    """How a raster ended: with its record, or with an error."""

    tally: Tally
    record: RasterRecord | None
    error: BaseException | None


def drive(
    jobs: Iterable[Job],
    pool: Pool,
    record: Callable[[Tally], Provenance],
    advanced: Callable[[Tally, UnitsDone], None],
    started: Callable[[Job], None],
    warn: Callable[[str], None],
    memory_limit: int | None = None,
) -> Iterator[Outcome]:
    """Run jobs on workers; gives each raster's outcome as it ends.

    Parameters
    ----------
    jobs
        Rasters in order; taken as they are begun.
    pool
        The workers.
    record
        Returns what the record of a raster says before its labels are finished, from its tally.
    advanced, started
        Hear of chunks that became durable, and of rasters that begin.
    warn
        Hears of tasks that hang.
    memory_limit
        Bytes that all processes may hold before fewer tasks are begun; None for most of the machine's.

    Raises
    ------
    StorageError
        When OUT cannot be written any more.
    KeyboardInterrupt
        When an end was asked for (`process.signals`): what was under way is finished first, unless it takes long.
    """
    batch = _Batch(iter(jobs), record, started, warn)
    flight = _Flight(batch, pool, Throttle(pool.count, memory_limit), advanced, warn)
    try:
        while True:
            if signals.requested():
                flight.finish()
                raise KeyboardInterrupt
            flight.fill()
            # only with no task to give is a raster known to be over; then there is nothing to wait for
            for one in batch.ended():
                yield _ended(one)
            if flight.empty and batch.empty:
                return
            flight.wait()
    finally:
        flight.cancel()
        batch.close()


def _ended(one: RasterRun) -> Outcome:
    """The outcome of a raster that is over; its work stays where storage failed or its input is away."""
    if isinstance(one.error, StorageError):
        one.workspace.close()
        raise one.error
    if one.error is not None and _is_away(one.tally.job, one.error):
        one.workspace.close()
    else:
        one.workspace.remove()
    return Outcome(one.tally, one.record, one.error)


def _is_away(job: Job, error: BaseException) -> bool:
    """Whether a raster failed for its input cannot be had now, and may be back, as it was."""
    files = (Path(file) for one in job.view.raster.members for file in one.files if not is_remote(file))
    return isinstance(error, UnreachableError) or (
        isinstance(error, DamageError) and not all(file.exists() for file in files)
    )


class _Flight:
    """The tasks under way: a few for each worker, so that none waits for the coordinator."""

    def __init__(
        self,
        batch: _Batch,
        pool: Pool,
        throttle: Throttle,
        advanced: Callable[[Tally, UnitsDone], None],
        warn: Callable[[str], None],
    ) -> None:
        self._batch = batch
        self._pool = pool
        self._throttle = throttle
        self._advanced = advanced
        self._warn = warn
        self._tasks: dict[Future[Any], tuple[RasterRun, Task, float]] = {}
        self._longest = 0.0
        self._ended = time.monotonic()

    @property
    def empty(self) -> bool:
        """True when no task is under way."""
        return not self._tasks

    def fill(self) -> None:
        """Submit as many tasks as there is room and work for."""
        while (
            len(self._tasks) < self._throttle.room(len(self._tasks))
            and (found := self._batch.next_task()) is not None
        ):
            task, owner = found
            future = self._pool.submit(task.function, *task.arguments)
            self._tasks[future] = owner, task, time.monotonic()
            owner.under_way += 1

    def wait(self) -> None:
        """Wait for some task to end, or a moment."""
        for future in finished(self._tasks, _POLL_S):
            owner, task, since = self._tasks.pop(future)
            self._ended = time.monotonic()
            self._longest = max(self._longest, self._ended - since)
            if (done := owner.take(task, future)) is not None:
                self._advanced(owner.tally, done)
            elif task.losses == 0 and owner.waits:
                self._throttle.worker_lost()
        self._look_for_hung()

    def _look_for_hung(self) -> None:
        """Replace a worker that is at a task for far longer than any other took; warn where it cannot be."""
        limit = max(_HUNG_S, _HUNG_TIMES * self._longest)
        now = time.monotonic()
        if not self._tasks or now - self._ended < limit:
            return
        self._ended = now
        future, (owner, _, since) = next(iter(self._tasks.items()))
        path = owner.tally.job.view.path
        replaced = self._pool.replace_worker(future)
        done = "its worker is replaced" if replaced else "Ctrl-C stops, the same command goes on"
        self._warn(f"{path}: a task has not ended for {now - since:.0f} s; does its storage respond? {done}")

    def finish(self) -> None:
        """Let what workers are at come to its end, unless that takes long."""
        self.cancel()
        end = time.monotonic() + signals.GRACE_S
        while self._tasks and time.monotonic() < end:
            self.wait()

    def cancel(self) -> None:
        """Take back what no worker has begun."""
        for future in self._tasks:
            future.cancel()


class _Batch:
    """The rasters under way, and those to come."""

    def __init__(
        self,
        jobs: Iterator[Job],
        record: Callable[[Tally], Provenance],
        started: Callable[[Job], None],
        warn: Callable[[str], None],
    ) -> None:
        self._jobs = jobs
        self._record = record
        self._started = started
        self._warn = warn
        self._running: list[RasterRun] = []
        self._exhausted = False

    @property
    def empty(self) -> bool:
        """True when no raster is under way or to come."""
        return self._exhausted and not self._running

    def close(self) -> None:
        """End work; what is durable stays in the workspaces."""
        for one in self._running:
            one.workspace.close()

    def next_task(self) -> tuple[Task, RasterRun] | None:
        """The next task of the first raster that has one; begins another where none has."""
        for one in self._running:
            if (task := one.next_task()) is not None:
                return task, one
        while (job := next(self._jobs, None)) is not None:
            self._started(job)
            self._running.append(RasterRun(job, self._record))
            if (task := self._running[-1].next_task()) is not None:
                return task, self._running[-1]
        self._exhausted = True
        return None

    def ended(self) -> list[RasterRun]:
        """The rasters that are over, which are under way no more."""
        over = [one for one in self._running if one.over]
        self._running = [one for one in self._running if not one.over]
        return [one for one in over if not self._begun_anew(one)]

    def _begun_anew(self, one: RasterRun) -> bool:
        """Whether a raster whose device failed is under way again, on its fallback."""
        if (job := one.tally.job.after(one.error)) is None:
            return False
        self._warn(f"{job.view.path}: begun anew on the CPU, for its device failed ({job.device_failure})")
        one.workspace.remove()
        self._running.append(RasterRun(job, self._record))
        return True
