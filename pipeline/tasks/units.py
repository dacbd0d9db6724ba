"""Units of the pyramid's stages: made durable by tasks that may be done twice."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from engine.grid import Window
from engine.kernel import Labels
from pipeline.cost.timing import Effort
from pipeline.durable.checksums import Beside, FileDigest
from pipeline.durable.files import storage_error, with_retries
from pipeline.durable.ledger import Unit
from pipeline.sinks import parts
from pipeline.tasks.job import Job

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class UnitsDone:
    """What a task reports of units that are durable.

    Parameters
    ----------
    stage
        Their stage.
    digests
        Of those that were made now, for the ledger.
    chunks
        Of the first stage: how many are done.
    window
        Of the first stage: what was labelled, in pixels of the region.
    bad_chunks
        Chunks of which something could not be read or labelled.
    effort
        Seconds of work.
    """

    stage: int
    digests: dict[Unit, FileDigest]
    chunks: int = 0
    window: Window | None = None
    bad_chunks: int = 0
    effort: Effort = field(default_factory=Effort)

    @property
    def pixels(self) -> int:
        """Pixels labelled."""
        return 0 if self.window is None else self.window.pixels


def retried(task: Callable[..., T]) -> Callable[..., T]:
    """A task that is done again if storage stumbles: its work is the same the second time.

    What still fails then is the workspace, for errors of an input come as its own.
    """

    @functools.wraps(task)
    def retried(job: Job, *arguments: Any) -> T:
        try:
            return with_retries(task, job, *arguments)
        except OSError as error:
            raise storage_error(job.folder, error) from error

    return retried


def write_unit(job: Job, index: int, unit: Unit, labels: Labels, beside: Sequence[Beside] = ()) -> FileDigest:
    """Make a unit of a stage durable, with what is kept beside its labels."""
    return job.sink.write_unit(job.folder, job.stages[index], unit, labels, beside)


def intact(job: Job, stage: int, unit: Unit, digest: FileDigest | None) -> bool:
    """Return True if a unit is on disk as the ledger recorded it."""
    return digest is not None and parts.intact(job.folder, job.stages[stage], unit, digest)
