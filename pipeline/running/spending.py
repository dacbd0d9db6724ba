"""What the time of a run goes to, measured while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipeline.cost.time_shares import Setting, Spent, time_shares
from pipeline.process import startup
from pipeline.running.schedule import Outcome


class Spending:
    """The clock of a run: it measures from the beginning of our own process, elsewhere from its making on."""

    def __init__(self) -> None:
        before_s = startup.age_s()
        self._start = time.monotonic() - before_s
        self._spent = Spent(startup_s=before_s)
        self.windows = 0

    @property
    def seconds(self) -> float:
        """Seconds of the run so far."""
        return time.monotonic() - self._start

    def opened(self) -> None:
        """The rasters are open."""
        self._spent.open_s = self.seconds - self._spent.startup_s

    @contextmanager
    def fit(self) -> Iterator[None]:
        """Count the block's seconds as those of a fit."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._spent.fit_s += time.monotonic() - start

    def raster_started(self) -> None:
        """A raster begins; what came before the first, without its fit, is the set-up."""
        if not self._spent.setup_s:
            self._spent.setup_s = self.seconds - self._spent.start_s

    def raster_ended(self, outcome: Outcome) -> None:
        """Count what a raster took."""
        self.windows += outcome.tally.windows
        self._spent.add(outcome.tally.effort, outcome.record.assemble_s if outcome.record else 0.0)

    def time_shares(self, seconds: float, setting: Setting) -> dict[str, Any]:
        """Shares of the time of a run that took some `seconds`."""
        if not self._spent.setup_s:  # no raster was begun
            self._spent.setup_s = seconds - self._spent.start_s
        self._spent.wall_s = seconds
        return time_shares(self._spent, setting)
