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
from pipeline.running.raster_run import RasterRun
from pipeline.running.tally import Tally
from pipeline.running.task import Task
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


class BatchObserver:
    """Learns how a batch gets on; each method does nothing unless it is overridden."""

    def started(self, job: Job) -> None:
        """A raster is begun."""

    def advanced(self, tally: Tally, done: UnitsDone) -> None:
        """Chunks of a raster became durable."""

    def warned(self, message: str) -> None:
        """Something is wrong that does not end the run."""


Submit = Callable[[Task], Future[Any]]


def drive(
    jobs: Iterable[Job],
    pool: Pool,
    record: Callable[[Tally], Provenance],
    observer: BatchObserver,
    memory_limit: int | None = None,
    submit: Submit | None = None,
) -> Iterator[Outcome]:
    """Run jobs on workers; returns an iterator over the rasters' outcomes, as they end.

    Parameters
    ----------
    jobs
        Rasters in order; taken as they are begun.
    pool
        The workers.
    record
        Returns what the record of a raster says before its labels are finished, from its tally.
    observer
        Learns how it goes.
    memory_limit
        Bytes that all processes may hold before fewer tasks are begun; None for most of the machine's.
    submit
        Gives a task to the workers, to measure it on the way; the pool's own way if None.

    Raises
    ------
    StorageError
        When OUT cannot be written any more.
    KeyboardInterrupt
        When an end was asked for (`process.signals`): what is under way is finished first, for a while.
    """
    batch = _Batch(iter(jobs), record, observer)
    flight = _Flight(batch, pool, Throttle(pool.count, memory_limit), observer, submit or _submit_to(pool))
    try:
        while True:
            if signals.requested():
                flight.finish()
                raise KeyboardInterrupt
            flight.fill()
            # only with no task to give is a raster known to be over; then there is nothing to wait for
            for raster in batch.ended():
                yield _outcome(raster)
            if flight.empty and batch.empty:
                return
            flight.wait()
    finally:
        flight.cancel()
        batch.close()


def _submit_to(pool: Pool) -> Submit:
    return lambda task: pool.submit(task.function, *task.arguments)


def _outcome(raster: RasterRun) -> Outcome:
    """The outcome of a raster that is over; its work stays where storage failed or its input is away."""
    if isinstance(raster.error, StorageError):
        raster.workspace.close()
        raise raster.error
    if raster.error is not None and _is_away(raster.tally.job, raster.error):
        raster.workspace.close()
    else:
        raster.workspace.remove()
    return Outcome(raster.tally, raster.record, raster.error)


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
        observer: BatchObserver,
        submit: Submit,
    ) -> None:
        self._batch = batch
        self._pool = pool
        self._throttle = throttle
        self._observer = observer
        self._submit = submit
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
            and (next_task := self._batch.next_task()) is not None
        ):
            task, owner = next_task
            future = self._submit(task)
            self._tasks[future] = owner, task, time.monotonic()
            owner.under_way += 1

    def wait(self) -> None:
        """Wait for some task to end, or a moment."""
        for future in finished(self._tasks, _POLL_S):
            owner, task, since = self._tasks.pop(future)
            self._ended = time.monotonic()
            self._longest = max(self._longest, self._ended - since)
            if (done := owner.take(task, future)) is not None:
                self._observer.advanced(owner.tally, done)
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
        self._observer.warned(
            f"{path}: a task has not ended for {now - since:.0f} s; does its storage respond? {done}"
        )

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
        observer: BatchObserver,
    ) -> None:
        self._jobs = jobs
        self._record = record
        self._observer = observer
        self._running: list[RasterRun] = []
        self._exhausted = False

    @property
    def empty(self) -> bool:
        """True when no raster is under way or to come."""
        return self._exhausted and not self._running

    def close(self) -> None:
        """End work; what is durable stays in the workspaces."""
        for raster in self._running:
            raster.workspace.close()

    def next_task(self) -> tuple[Task, RasterRun] | None:
        """Return the next task of the first raster that has one; begins another raster where none has."""
        for raster in self._running:
            if (task := raster.next_task()) is not None:
                return task, raster
        while (job := next(self._jobs, None)) is not None:
            self._observer.started(job)
            self._running.append(RasterRun(job, self._record))
            if (task := self._running[-1].next_task()) is not None:
                return task, self._running[-1]
        self._exhausted = True
        return None

    def ended(self) -> list[RasterRun]:
        """Return the rasters that are over, and take them off those under way."""
        over = [raster for raster in self._running if raster.over]
        self._running = [raster for raster in self._running if not raster.over]
        return [raster for raster in over if not self._restarted(raster)]

    def _restarted(self, raster: RasterRun) -> bool:
        """Begin a raster again on its fallback if its device failed; returns True if so."""
        if (job := raster.tally.job.after(raster.error)) is None:
            return False
        self._observer.warned(
            f"{job.view.path}: begun anew on the CPU, for its device failed ({job.device_failure})"
        )
        raster.workspace.remove()
        self._running.append(RasterRun(job, self._record))
        return True
