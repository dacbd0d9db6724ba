"""From what the schedule reports of its rasters to the events and the figures of a run."""

from __future__ import annotations

from pipeline.config import RunConfig
from pipeline.durable.ledger import RAW_STAGE
from pipeline.events.kinds import RasterStarted, Warned, WindowDone, Working
from pipeline.events.observer import Observer
from pipeline.fitting.limits import MOST
from pipeline.out.record import Provenance
from pipeline.running.pace import Pace
from pipeline.running.provenance import provenance
from pipeline.running.schedule import BatchObserver, Outcome
from pipeline.running.spending import Spending
from pipeline.running.tally import Tally
from pipeline.tasks.job import Job
from pipeline.tasks.units import UnitsDone


class Relay(BatchObserver):
    """Hears the schedule, tells the observer of the run, and counts pace and seconds.

    Parameters
    ----------
    config, observer, spending
        The run's.
    pixels
        Of all rasters that are to be done.
    """

    def __init__(self, config: RunConfig, observer: Observer, spending: Spending, pixels: int) -> None:
        self._config = config
        self._observer = observer
        self._spending = spending
        self._pace = Pace(pixels)
        self._warned: set[str] = set()

    def record(self, tally: Tally) -> Provenance:
        """What the record of a raster says before its labels are finished."""
        return provenance(tally, self._config)

    def started(self, job: Job) -> None:
        """A raster begins."""
        self._spending.raster_started()
        self._observer.event(RasterStarted(job.name, job.chunks, job.chunk_px, job.view.region.pixels))

    def advanced(self, tally: Tally, done: UnitsDone) -> None:
        """Chunks of a raster became durable."""
        if (window := done.window) is not None:
            self._observer.event(
                WindowDone(
                    raster=tally.job.name,
                    stage=0 if done.stage == RAW_STAGE else done.stage,
                    row=window.row,
                    col=window.col,
                    height=window.height,
                    width=window.width,
                    chunks=done.chunks,
                    bad_chunks=done.bad_chunks,
                    **done.effort.rounded(4),
                )
            )
        self._observer.event(self._pace.advanced(tally))
        self._warn_of_limits(tally)
        if tally.job.smoothing is not None and tally.chunks_done >= tally.job.chunks:
            self._observer.event(Working(f"{tally.job.name}: smoothing"))

    def warned(self, message: str) -> None:
        """Something goes on that people have to know of."""
        self._observer.event(Warned(message))

    def ended(self, outcome: Outcome) -> None:
        """A raster is over."""
        self._spending.raster_ended(outcome)
        self._pace.ended(outcome.tally)
        self._warn_of_limits(outcome.tally)

    def _warn_of_limits(self, tally: Tally) -> None:
        """Say it once, as soon as it is known."""
        path, share = tally.job.view.path, tally.outside_limits or 0
        if share > MOST and path not in self._warned:
            self._warned.add(path)
            self.warned(
                f"{path}: {share:.0%} of its pixels lie outside the limits that the codebook was fitted on; "
                "if its units or scaling are others, fit a codebook on such rasters"
            )
