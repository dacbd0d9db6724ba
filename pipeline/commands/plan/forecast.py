"""From tasks that were measured to the time of a whole run: arithmetic, without clocks or files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.running.task import TaskKind

_SINGLE = (TaskKind.ASSEMBLE, TaskKind.FINISH, TaskKind.PUBLISH)
"""Of these a raster has one, for which its other phases wait."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a task took.

    Parameters
    ----------
    kind
        What it did.
    worker
        Who did it.
    pixels
        Pixels that it was about.
    seconds
        How long it kept its worker.
    parts
        Of labelling: seconds of reading, labelling, encoding and writing.
    """

    kind: TaskKind
    worker: tuple[int, int]
    pixels: int
    seconds: float
    parts: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Line:
    """Seconds of a task by its pixels: so much each, and so much a pixel; neither is negative."""

    each: float = 0.0
    per_pixel: float = 0.0

    @classmethod
    def through(cls, points: Sequence[tuple[int, float]], *, single: bool = False) -> Line:
        """The line of least squares through (pixels, seconds).

        Of one size alone nobody can tell what is of each: nothing, or all for what a raster has a `single`
        one of, most of which is opening and syncing files.
        """
        x, y = (sum(values) / len(points) for values in zip(*points, strict=True))
        variance = sum((px - x) ** 2 for px, _ in points)
        slope = sum((px - x) * (s - y) for px, s in points) / variance if variance else 0.0
        if single and not variance:
            return cls(y, 0.0)
        if not variance or y < slope * x:
            return cls(0.0, sum(px * s for px, s in points) / max(1, sum(px * px for px, _ in points)))
        return cls(y, 0.0) if slope < 0 else cls(y - slope * x, slope)

    def of(self, pixels: float, tasks: int = 1) -> float:
        """Seconds of some tasks that are about so many pixels together."""
        return tasks * self.each + pixels * self.per_pixel


@dataclass(frozen=True, slots=True)
class Phase:
    """Tasks of a raster that may be done side by side: of which kind, how many, pixels of all of them."""

    kind: TaskKind
    tasks: int
    pixels: int


@dataclass(frozen=True)
class Rates:
    """What tasks take, of those that were measured.

    Parameters
    ----------
    lines
        Of each kind, once its worker has done one.
    cold_s
        What the first ones take longer, together.
    parts
        Of a second of labelling: seconds of reading, labelling, encoding and writing.
    spread
        Standard deviation of a labelling task from its line, as a share.
    measured
        Labelling tasks behind that.
    """

    lines: Mapping[TaskKind, Line]
    cold_s: float = 0.0
    parts: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    spread: float = 0.0
    measured: int = 0

    @classmethod
    def of(cls, taken: Iterable[Taken]) -> Rates:
        """The rates of tasks in the order in which they ended."""
        cold: dict[TaskKind, list[Taken]] = {}
        warm: dict[TaskKind, list[Taken]] = {}
        seen: set[tuple[TaskKind, object]] = set()
        for one in taken:
            key = one.kind, None if one.kind in _SINGLE else one.worker
            (warm if key in seen else cold).setdefault(one.kind, []).append(one)
            seen.add(key)
        lines = {
            kind: Line.through(
                [(t.pixels, t.seconds) for t in warm.get(kind) or first], single=kind in _SINGLE
            )
            for kind, first in cold.items()
        }
        cold_s = sum(
            max(0.0, sum(t.seconds - lines[kind].of(t.pixels) for t in first) / len(first))
            for kind, first in cold.items()
        )
        labelled = warm.get(TaskKind.LABEL) or cold.get(TaskKind.LABEL, [])
        whole = sum(t.seconds for t in labelled) or 1.0
        read, label, encode, write = (sum(t.parts[i] for t in labelled) / whole for i in range(4))
        if TaskKind.LABEL in lines:
            # a unit of a later stage is put together, encoded and written as a chunk is
            last = TaskKind.SMOOTH if TaskKind.SMOOTH in lines else TaskKind.LABEL
            tasks = warm.get(last) or cold[last]
            share = sum(sum(t.parts[2:]) for t in tasks) / (sum(t.seconds for t in tasks) or 1.0)
            lines[TaskKind.MERGE] = Line(lines[last].each * share, lines[last].per_pixel * share)
        return cls(
            lines,
            cold_s,
            (read, label, encode, write),
            _spread(labelled, lines.get(TaskKind.LABEL)),
            len(labelled),
        )

    def seconds(self, phases: Iterable[Phase]) -> float:
        """Seconds of work of some phases."""
        return sum(self.lines.get(p.kind, Line()).of(p.pixels, p.tasks) for p in phases)


def _spread(tasks: Sequence[Taken], line: Line | None) -> float:
    """How far tasks are from their line, by their pixels: a small one that is off means little."""
    if line is None or len(tasks) < 2:
        return 0.0
    pixels = sum(t.pixels for t in tasks)
    square = sum(t.pixels * (t.seconds / line.of(t.pixels) - 1) ** 2 for t in tasks if line.of(t.pixels) > 0)
    return math.sqrt(square / pixels * len(tasks) / (len(tasks) - 1))


@dataclass(frozen=True)
class Work:
    """What a run has to do.

    Parameters
    ----------
    rasters
        Phases of each raster, in order.
    workers
        Tasks at a time.
    shared
        Whether the tasks of labelling share the threads, so that the last keeps all of them busy.
    """

    rasters: Sequence[Sequence[Phase]]
    workers: int
    shared: bool = False

    def span_s(self, rates: Rates) -> float:
        """Seconds from the first task to the last: what there is to do, or what waits for each other."""
        together = sum(rates.seconds(phases) for phases in self.rasters) / self.workers
        return max([together, *(sum(self._phase_s(p, rates) for p in phases) for phases in self.rasters)])

    def _phase_s(self, phase: Phase, rates: Rates) -> float:
        seconds = rates.seconds([phase])
        if self.shared and phase.kind == TaskKind.LABEL:
            return seconds / self.workers
        rounds = -(-phase.tasks // self.workers)
        return seconds / max(1, phase.tasks) * rounds

    def labelling(self) -> tuple[int, int]:
        """Tasks of labelling, and their pixels."""
        found = [p for phases in self.rasters for p in phases if p.kind == TaskKind.LABEL]
        return sum(p.tasks for p in found), sum(p.pixels for p in found)


@dataclass(frozen=True)
class Times:
    """Seconds of a run that tasks do not tell, as they were measured.

    Parameters
    ----------
    start_s
        From the beginning of the process to the first task.
    end_s
        From the last task to the end.
    raster_s
        For each raster, of the coordinator's.
    fit_s
        Of each fit that comes after the first task.
    fits
        How many.
    """

    start_s: float
    end_s: float = 0.0
    raster_s: float = 0.0
    fit_s: float = 0.0
    fits: int = 0


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds of a run, and the bounds that nineteen of twenty keep, as far as windows differ."""

    seconds: float
    low: float
    high: float


def forecast(work: Work, rates: Rates, times: Times) -> Forecast:
    """What a run will take."""
    span = work.span_s(rates)
    fixed = times.start_s + times.end_s + rates.cold_s
    fixed += times.raster_s * len(work.rasters) + times.fit_s * times.fits
    tasks, pixels = work.labelling()
    labelling = rates.lines.get(TaskKind.LABEL, Line()).of(pixels, tasks) / work.workers
    # the mean of what was measured is off, and so is the mean of what is to come
    off = 2 * rates.spread * math.sqrt(1 / max(1, rates.measured) + 1 / max(1, tasks)) * labelling
    return Forecast(fixed + span, fixed + max(0.0, span - off), fixed + span + off)
