"""Tasks of a raster as the coordinator sees them: calls for workers, in phases that wait for each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from pipeline.tasks.units import UnitsDone


class TaskKind(Enum):
    """What a task does of a raster."""

    VERIFY = auto()
    """Verify that something an earlier run made is as recorded."""
    LIMITS = auto()
    """Compare pixels with the limits of a codebook that was fitted on other rasters."""
    LABEL = auto()
    """Label a window and make its chunks durable."""
    SMOOTH = auto()
    """Make the chunks of a window durable from raw labels, smoothed."""
    MERGE = auto()
    """Make a unit of a later stage of the pyramid."""
    ASSEMBLE = auto()
    """Assemble the labels."""
    CHECK = auto()
    """Compare a window of the assembled labels with what was labelled."""
    FINISH = auto()
    """Write style, quicklook and record."""
    PUBLISH = auto()
    """Move the finished files into OUT."""


@dataclass(frozen=True)
class Task:
    """A call for a worker, and what the coordinator does with its result.

    Parameters
    ----------
    kind
        What it does.
    function, arguments
        The call.
    keep
        Takes the result on the coordinator and records it, so that another run need not do it again.
        Returns what became durable of the chunks, or None.
    losses
        How often it took its worker with it.
    not_before
        `time.monotonic` before which it is not tried again.
    """

    kind: TaskKind
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keep: Callable[[Any], UnitsDone | None]
    losses: int = 0
    not_before: float = 0.0


@dataclass(frozen=True)
class Phase:
    """Tasks that may be done side by side.

    Parameters
    ----------
    tasks
        Drawn one by one: there may be millions.
    then
        Called when all of them are done; returns the next phase. None after the last.
    """

    tasks: Iterator[Task]
    then: Callable[[], Phase] | None
