"""How fast a batch goes and how long it will take yet."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from pipeline.cost.timing import Effort
from pipeline.events.kinds import RasterAdvanced
from pipeline.tasks.job import Job
from pipeline.tasks.units import UnitsDone


class Pace:
    """Pixels done of a batch, and made by this run: what an earlier one left is done in no time.

    Parameters
    ----------
    pixels
        Of all rasters that are to be done.
    """

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._done = 0
        self._made = 0
        self._start = time.monotonic()
        self._so_far: dict[str, tuple[int, int]] = {}

    def advanced(self, tally: Tally) -> RasterAdvanced:
        """Count what a raster has got on; returns the event that says so."""
        name, region = tally.job.name, tally.job.view.region
        done, made = self._so_far.get(name, (0, 0))
        self._done += tally.pixels_done - done
        self._made += tally.pixels_made - made
        self._so_far[name] = tally.pixels_done, tally.pixels_made
        now = time.monotonic()
        rate = max(1, tally.pixels_made) / max(1e-6, now - tally.started)
        batch_rate = max(1, self._made) / max(1e-6, now - self._start)
        return RasterAdvanced(
            raster=name,
            chunks_done=tally.chunks_done,
            chunks=tally.job.chunks,
            mpx_per_s=round(rate / 1e6, 2),
            eta_s=round((region.pixels - tally.pixels_done) / rate, 1),
            batch_done=self._done,
            batch_pixels=self._pixels,
            batch_eta_s=round((self._pixels - self._done) / batch_rate, 1),
        )

    def ended(self, tally: Tally) -> None:
        """A raster is over: what was not counted of it will not be waited for."""
        done, _ = self._so_far.pop(tally.job.name, (0, 0))
        self._pixels -= tally.job.view.region.pixels - done


@dataclass
class Tally:
    """How far one raster is.

    Parameters
    ----------
    job
        The raster's job.
    chunks_done, pixels_done
        What is durable.
    pixels_made
        Of these, what this run made.
    windows
        Tasks of labelling done.
    effort
        Seconds of work of all workers.
    """

    job: Job
    chunks_done: int = 0
    pixels_done: int = 0
    pixels_made: int = 0
    windows: int = 0
    effort: Effort = field(default_factory=Effort)
    started: float = field(default_factory=time.monotonic)

    def add(self, done: UnitsDone) -> None:
        """Count a window."""
        self.chunks_done += done.chunks
        self.pixels_done += done.pixels
        self.pixels_made += done.pixels if done.written else 0
        self.windows += 1
        self.effort += done.effort

    def all_done(self) -> None:
        """Count all chunks as durable."""
        self.chunks_done, self.pixels_done = self.job.chunks, self.job.view.region.pixels
