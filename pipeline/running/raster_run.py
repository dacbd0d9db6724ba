"""A raster under way: its tasks, phase by phase, and how far it is.

A phase begins when the one before is over. What an earlier run assembled and found sound is taken over: its
units are then not even read, for nothing is made of them any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from itertools import chain
from typing import Any

from engine.grid import Window
from pipeline.check.seams import Seams
from pipeline.durable.files import patiently
from pipeline.errors import DamageError
from pipeline.out.record import Provenance, RasterRecord
from pipeline.process import startup
from pipeline.running.assembly import Assembly
from pipeline.running.tally import Tally
from pipeline.running.workspace import Workspace
from pipeline.sinks.pyramid import Stage
from pipeline.tasks import assembling, labelling, publishing
from pipeline.tasks.job import Job
from pipeline.tasks.units import UnitsDone
from pipeline.workers.pool import is_lost

_LOST_TWICE_S = (0.5, 2.0)


@dataclass(frozen=True)
class Task:
    """A call for a worker, its number among its kind, and how often it took its worker with it."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    number: int = 0
    losses: int = 0
    not_before: float = 0.0


class RasterRun:
    """A raster under way: its phases, of which each waits for the one before."""

    def __init__(self, job: Job, record: Callable[[Tally], Provenance]) -> None:
        self.tally = Tally(job)
        self.under_way = 0
        self.error: BaseException | None = None
        self.record: RasterRecord | None = None
        self.workspace = patiently(Workspace, job)
        self._again: list[Task] = []
        self._as_known = False
        self._assembled: assembling.Assembled | None = None
        self._seams = Seams()
        self._phases = self._plan(job, record)
        self._tasks: Iterator[Task] | None = next(self._phases)

    def _plan(self, job: Job, record: Callable[[Tally], Provenance]) -> Iterator[Iterator[Task]]:
        assembly = self.workspace.assembly
        if not self.workspace.complete:
            todo: Iterable[Window] = job.windows()
            if (known := assembly.known) is not None:
                unneeded = _unneeded(job, assembly)
                self._as_known = True
                needed = (w for w in job.windows() if not unneeded(w))
                yield chain(self._of_known(job, known), self._label(job, needed))
                # of a unit that was made anew all is assembled anew
                self._as_known = self._as_known and assembly.known is not None
                todo = filter(unneeded, job.windows())
            if self._as_known:
                self._assembled = known
                self.tally.all_done()
            else:
                yield self._label(job, todo)
                for stage in job.stages[1:]:
                    yield self._merge(job, stage)
                yield iter([Task(assembling.assemble, (job,))])
            self._seams = assembly.seams
            checks = enumerate(assembling.checks(job))
            yield (Task(assembling.check, (job, *what), i) for i, what in checks if not assembly.sound(i))
            yield iter([Task(publishing.finish, (job, record(self.tally), self._assembled, self._seams))])
        yield iter([Task(publishing.publish, (job,))])

    def _of_known(self, job: Job, known: assembling.Assembled) -> Iterator[Task]:
        """Tasks that tell whether the assembled labels, and the units of later stages, are as they were."""
        yield Task(assembling.is_there, (job, known))
        startup.load_compiled()  # for the checks, while that is under way
        for stage in job.stages[1:]:
            for unit in stage.units():
                written = self.workspace.ledger.done(stage.index, unit)
                yield Task(assembling.is_intact, (job, stage.index, unit, written))

    def _label(self, job: Job, windows: Iterable[Window]) -> Iterator[Task]:
        return (Task(labelling.label_window, (job, w, self.workspace.recorded(w))) for w in windows)

    def _merge(self, job: Job, stage: Stage) -> Iterator[Task]:
        for unit in stage.units():
            written = self.workspace.ledger.done(stage.index, unit)
            yield Task(assembling.merge_unit, (job, stage.index, unit, written))

    def next_task(self) -> Task | None:
        """The next task that may start now, or None."""
        while self._tasks is not None and self.error is None:
            now = time.monotonic()
            for waiting in self._again:
                if waiting.not_before <= now:
                    self._again.remove(waiting)
                    return waiting
            if (task := next(self._tasks, None)) is not None:
                return task
            if self.under_way or self._again:
                return None
            self._tasks = next(self._phases, None)
        return None

    @property
    def waits(self) -> bool:
        """True when tasks wait for another try."""
        return bool(self._again)

    @property
    def over(self) -> bool:
        """True when nothing is left to do or to wait for."""
        return self.under_way == 0 and (self._tasks is None or self.error is not None)

    def take(self, task: Task, future: Future[Any]) -> UnitsDone | None:
        """Count a finished task; gives what became durable of the chunks."""
        self.under_way -= 1
        try:
            result = future.result()
            self._keep(task, result)
        except CancelledError:
            return None
        except Exception as error:  # noqa: BLE001  (whatever it is, it is this raster's failure)
            if is_lost(error):
                self._lost(task)
            else:
                self.error = self.error or error
            return None
        if isinstance(result, UnitsDone) and result.stage == 0:
            self.tally.add(result)
            return result
        if isinstance(result, RasterRecord):
            self.record = result
        return None

    def _keep(self, task: Task, result: Any) -> None:
        """Keep what a task found, so that another run need not do it again."""
        if isinstance(result, UnitsDone):
            self.workspace.add(result.stage, result.written)
        elif isinstance(result, bool):
            self._as_known = self._as_known and result
        elif isinstance(result, assembling.Assembled):
            self._assembled = result
            patiently(self.workspace.assembly.begin, result)
        elif isinstance(result, Seams):
            self._seams += result
            patiently(self.workspace.assembly.add, task.number, result)

    def _lost(self, task: Task) -> None:
        """Have a task done again that took its worker with it: in smaller pieces, and not for ever."""
        job = self.tally.job
        if task.losses == len(_LOST_TWICE_S):
            reason = (
                f"{task.function.__name__} took its worker with it {task.losses + 1} times "
                f"{task.arguments[1:2]}; give it more memory, or a smaller --chunk-size"
            )
            if job.view.tolerant and task.function is labelling.label_window:
                self._again.append(Task(labelling.blank_window, (job, task.arguments[1], reason)))
            else:
                self.error = self.error or DamageError(job.view.path, reason)
            return
        at = time.monotonic() + _LOST_TWICE_S[task.losses]
        for arguments in labelling.smaller(*task.arguments):
            self._again.append(Task(task.function, arguments, task.number, task.losses + 1, at))


def _unneeded(job: Job, assembly: Assembly) -> Callable[[Window], bool]:
    """Tells of which windows no unit is needed while the assembled labels are as they were.

    Nothing is compared with the units of windows that were found sound. Notes of what is bad are read at the
    end, and are looked at with their units.
    """
    sound = assembly.found()
    return lambda window: not job.view.tolerant and all(map(sound, assembling.checks_of(job, window)))
