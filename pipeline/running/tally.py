"""How far a raster is."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from pipeline.cost.timing import Effort
from pipeline.tasks.job import Job
from pipeline.tasks.units import UnitsDone


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
    outside_limits
        Share of looked-at pixels outside the limits of the codebook; None where that was not looked at.
    """

    job: Job
    chunks_done: int = 0
    pixels_done: int = 0
    pixels_made: int = 0
    windows: int = 0
    effort: Effort = field(default_factory=Effort)
    outside_limits: float | None = None
    started: float = field(default_factory=time.monotonic)

    def add(self, done: UnitsDone) -> None:
        """Count a window."""
        self.chunks_done += done.chunks
        self.pixels_done += done.pixels
        self.pixels_made += done.pixels if done.digests else 0
        self.windows += 1
        self.effort += done.effort

    def all_done(self) -> None:
        """Count all chunks as durable."""
        self.chunks_done, self.pixels_done = self.job.chunks, self.job.view.region.pixels
