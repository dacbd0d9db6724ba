"""A raster under way: its tasks, phase by phase, and how far it is.

A phase begins when the one before is over: look (only where an earlier run assembled the labels), label,
smooth (if asked for), merge, assemble, check, finish, publish. What an earlier run assembled and found sound
is taken over: its units are not even read, for nothing is made of them any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

from engine.grid import Window
from pipeline.check.seams import Seams
from pipeline.durable.files import with_retries
from pipeline.durable.ledger import RAW_STAGE
from pipeline.errors import DamageError, WorkerLostError
from pipeline.fitting.limits import share_outside
from pipeline.out.record import Provenance, RasterRecord
from pipeline.process import startup
from pipeline.running.assembly import Assembly
from pipeline.running.tally import Tally
from pipeline.running.task import Phase, Task, TaskKind
from pipeline.running.workspace import Workspace
from pipeline.tasks import assembling, labelling, publishing, smoothing
from pipeline.tasks.job import Job
from pipeline.tasks.units import UnitsDone

_LOST_TWICE_S = (0.5, 2.0)


class RasterRun:
    """A raster under way.

    Parameters
    ----------
    job
        The raster's job; its workspace is opened.
    record
        Returns what the record says before the labels are finished; called when all chunks are counted.

    Raises
    ------
    StorageError
        If the workspace cannot be written.
    """

    def __init__(self, job: Job, record: Callable[[Tally], Provenance]) -> None:
        self.tally = Tally(job)
        self.under_way = 0
        self.error: BaseException | None = None
        self.record: RasterRecord | None = None
        self.workspace = with_retries(Workspace, job)
        self._job = job
        self._make_record = record
        self._again: list[Task] = []
        self._as_known = True
        self._assembled: assembling.Assembled | None = None
        self._seams = Seams()
        self._phase: Phase | None = self._begin()

    def _begin(self) -> Phase:
        if self.workspace.complete:
            return self._publish()
        if (known := self.workspace.assembly.known) is None:
            return self._label()
        if known.style != self._job.codebook.style_hash:  # assembled before its colours were changed
            with_retries(self.workspace.assembly.forget)
            return self._label()
        return self._look(known)

    def _look(self, known: assembling.Assembled) -> Phase:
        """Verify what an earlier run assembled, while the windows that it did not check are labelled."""
        unneeded = _unneeded(self._job, self.workspace.assembly)
        needed = (w for w in self._job.windows() if not unneeded(w))

        def then() -> Phase:
            # where a unit was made again, all is assembled again
            if self._as_known and self.workspace.assembly.known is not None:
                self._assembled = known
                self.tally.all_done()
                return self._check()
            return Phase(self._label_tasks(filter(unneeded, self._job.windows())), self._smooth)

        tasks = chain(self._limits(), self._verifications(known), self._label_tasks(needed))
        return Phase(tasks, partial(self._smooth, then))

    def _verifications(self, known: assembling.Assembled) -> Iterator[Task]:
        """Tasks that verify the assembled labels, and the units of later stages."""
        yield Task(TaskKind.VERIFY, assembling.is_there, (self._job, known), self._keep_known)
        startup.load_compiled()  # for the checks, while that is under way
        for stage in self._job.stages[1:]:
            for unit in stage.units():
                digest = self.workspace.ledger.done(stage.index, unit)
                arguments = (self._job, stage.index, unit, digest)
                yield Task(TaskKind.VERIFY, assembling.is_intact, arguments, self._keep_known)

    def _label(self) -> Phase:
        tasks = chain(self._limits(), self._label_tasks(self._job.windows()))
        return Phase(tasks, self._smooth)

    def _limits(self) -> Iterator[Task]:
        job = self._job
        if job.fitted_elsewhere and job.codebook.scaling is not None:
            arguments = (job.view, job.codebook, job.kernel)
            yield Task(TaskKind.LIMITS, share_outside, arguments, self._keep_limits)

    def _label_tasks(self, windows: Iterable[Window]) -> Iterator[Task]:
        raw = self._job.smoothing is not None
        function = smoothing.label_raw if raw else labelling.label_window
        for window in windows:
            arguments = (self._job, window, self.workspace.recorded(window, RAW_STAGE if raw else 0))
            yield Task(TaskKind.LABEL, function, arguments, self._keep_chunks)

    def _smooth(self, then: Callable[[], Phase] | None = None) -> Phase:
        """Smooth the labels, if that is to be done, when those of all chunks are there."""
        then = then or partial(self._merge, 1)
        if self._job.smoothing is None:
            return then()
        tasks = (
            Task(
                TaskKind.SMOOTH,
                smoothing.smooth_window,
                (self._job, window, self.workspace.recorded(window)),
                self._keep_smoothed,
            )
            for window in self._job.windows()
        )
        return Phase(tasks, then)

    def _merge(self, index: int) -> Phase:
        """Make the units of a stage of the pyramid, then those of the next one."""
        if index == len(self._job.stages):
            return self._assemble()
        stage, ledger = self._job.stages[index], self.workspace.ledger
        tasks = (
            Task(
                TaskKind.MERGE,
                assembling.merge_unit,
                (self._job, index, unit, ledger.done(index, unit)),
                self._keep_units,
            )
            for unit in stage.units()
        )
        return Phase(tasks, partial(self._merge, index + 1))

    def _assemble(self) -> Phase:
        task = Task(TaskKind.ASSEMBLE, assembling.assemble, (self._job,), self._keep_assembled)
        return Phase(iter([task]), self._check)

    def _check(self) -> Phase:
        """Compare the assembled labels with what was labelled, but for windows found sound already."""
        self._seams = self.workspace.assembly.seams
        tasks = (
            Task(TaskKind.CHECK, assembling.check, (self._job, *check), partial(self._keep_sound, number))
            for number, check in enumerate(assembling.checks(self._job))
            if not self.workspace.assembly.sound(number)
        )
        return Phase(tasks, self._finish)

    def _finish(self) -> Phase:
        arguments = (self._job, self._make_record(self.tally), self._assembled, self._seams)
        task = Task(TaskKind.FINISH, publishing.finish, arguments, self._keep_record)
        return Phase(iter([task]), self._publish)

    def _publish(self) -> Phase:
        task = Task(TaskKind.PUBLISH, publishing.publish, (self._job,), self._keep_record)
        return Phase(iter([task]), None)

    def next_task(self) -> Task | None:
        """Return the next task that may start now, or None."""
        while self._phase is not None and self.error is None:
            now = time.monotonic()
            for waiting in self._again:
                if waiting.not_before <= now:
                    self._again.remove(waiting)
                    return waiting
            if (task := next(self._phase.tasks, None)) is not None:
                return task
            if self.under_way or self._again:
                return None
            self._phase = None if self._phase.then is None else self._phase.then()
        return None

    @property
    def waits(self) -> bool:
        """True when tasks wait for another try."""
        return bool(self._again)

    @property
    def over(self) -> bool:
        """True when nothing is left to do or to wait for."""
        return self.under_way == 0 and (self._phase is None or self.error is not None)

    def take(self, task: Task, future: Future[Any]) -> UnitsDone | None:
        """Keep the result of a task that ended; returns what became durable of the chunks."""
        self.under_way -= 1
        try:
            return task.keep(future.result())
        except CancelledError:
            pass
        except WorkerLostError:
            self._retry_lost(task)
        except Exception as error:  # noqa: BLE001  (whatever it is, it is this raster's failure)
            self.error = self.error or error
        return None

    def _keep_chunks(self, done: UnitsDone) -> UnitsDone:
        self._keep_units(done)
        self.tally.add(done)
        return done

    def _keep_smoothed(self, done: UnitsDone) -> None:
        self._keep_units(done)
        self.tally.effort += done.effort

    def _keep_limits(self, share: float | None) -> None:
        self.tally.outside_limits = share

    def _keep_units(self, done: UnitsDone) -> None:
        self.workspace.add(done.stage, done.digests)

    def _keep_known(self, as_recorded: bool) -> None:  # noqa: FBT001  (a task's result)
        self._as_known = self._as_known and as_recorded

    def _keep_assembled(self, assembled: assembling.Assembled) -> None:
        self._assembled = assembled
        with_retries(self.workspace.assembly.begin, assembled)

    def _keep_sound(self, number: int, seams: Seams) -> None:
        self._seams += seams
        with_retries(self.workspace.assembly.add, number, seams)

    def _keep_record(self, record: RasterRecord) -> None:
        self.record = record

    def _retry_lost(self, task: Task) -> None:
        """Do a task again that took its worker with it: in smaller pieces, and not without end."""
        if task.kind is TaskKind.LIMITS:
            return  # what it may hint at is worth no worker
        if task.losses == len(_LOST_TWICE_S):
            reason = (
                f"{task.function.__name__} took its worker with it {task.losses + 1} times "
                f"{task.arguments[1:2]}; give it more memory, or a smaller --chunk-size"
            )
            if self._job.view.tolerant and task.kind is TaskKind.LABEL:
                arguments = (self._job, task.arguments[1], reason)
                blank = labelling.blank_window if self._job.smoothing is None else smoothing.blank_raw
                self._again.append(replace(task, function=blank, arguments=arguments))
            else:
                self.error = self.error or DamageError(self._job.view.path, reason)
            return
        at = time.monotonic() + _LOST_TWICE_S[task.losses]
        for arguments in labelling.smaller(*task.arguments):
            self._again.append(replace(task, arguments=arguments, losses=task.losses + 1, not_before=at))


def _unneeded(job: Job, assembly: Assembly) -> Callable[[Window], bool]:
    """Return a predicate: True for windows whose assembled labels were checked, so that no unit is needed.

    Nothing is compared with the units of windows that were found sound. Notes of what is bad are read at the
    end, and are verified with their units. What is smoothed needs the raw units around it too.
    """
    sound, all_needed = assembly.found(), job.view.tolerant or job.smoothing is not None
    return lambda window: not all_needed and all(map(sound, assembling.checks_of(job, window)))
