"""`plan`: what a run would do, before it does it; measured on parts of the rasters themselves."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from engine.codebook import Codebook
from engine.kernel import Kernel
from pipeline.commands.plan.calibration import Calibration, calibrate, work_of
from pipeline.commands.plan.forecast import ASSEMBLE, FINISH, LABEL, Forecast, Times, Work, forecast
from pipeline.commands.plan.measured_parts import Grid
from pipeline.commands.plan.trial_fit import Fits, trial_fits
from pipeline.config import RunConfig
from pipeline.cost import disk
from pipeline.cost.budget import Setting, Spent, budget
from pipeline.cost.text import bytes_text
from pipeline.cost.timing import Effort
from pipeline.fitting.codebook import check_alike
from pipeline.graph.loading import graph_beside
from pipeline.kernels import as_fitted, device_of, kernel_for, load_codebook
from pipeline.process import signals, startup
from pipeline.process.memory import Footprint
from pipeline.running.inputs import Input, open_inputs
from pipeline.source.gdal.remote import is_remote
from pipeline.source.gdal.setup import configure
from pipeline.tasks.job import Job, job_of
from pipeline.workers import pool as workers

# what a window's task holds beside its pixels, in bytes a pixel: labels, their tiles, encoded parts
_LABEL_BYTES = 4


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Parameters
    ----------
    rasters, pixels, chunks, tasks
        How much there is.
    halo_px
        Pixels read beyond each window.
    workers
        How many, and what kind.
    seconds
        Estimate of the whole run, from parts that were measured.
    seconds_low, seconds_high
        Between these it is, nineteen times of twenty, as far as windows differ from each other.
    peak_bytes
        Estimate of the memory of all processes at their peak.
    output_bytes
        Estimate of what the outputs take on disk.
    working_bytes
        Estimate of what the run takes there on top while it works.
    budget
        What the time will go to, as a run reports it.
    """

    rasters: int
    pixels: int
    chunks: int
    tasks: int
    halo_px: int
    workers: str
    seconds: float
    seconds_low: float
    seconds_high: float
    peak_bytes: int
    output_bytes: int
    working_bytes: int
    budget: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """As one JSON object."""
        rounded = {name: round(getattr(self, name), 2) for name in ("seconds", "seconds_low", "seconds_high")}
        return {**asdict(self), **rounded}

    def text(self) -> str:
        """As lines for people."""
        return (
            f"rasters  {self.rasters}, {self.pixels / 1e6:.1f} Mpx\n"
            f"chunks   {self.chunks} in {self.tasks} tasks, halo {self.halo_px} px\n"
            f"workers  {self.workers}\n"
            f"memory   about {self.peak_bytes / 2**20:.0f} MiB at the peak\n"
            f"disk     about {bytes_text(self.output_bytes)}, and {bytes_text(self.working_bytes)} more "
            "while it works\n"
            f"time     about {_seconds(self.seconds)} s ({_seconds(self.seconds_low)} to "
            f"{_seconds(self.seconds_high)} s, from parts measured just now)\n"
            f"bound    {self.budget['verdict']}"
        )


def _seconds(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def plan(config: RunConfig) -> Plan:
    """Plan a run: open the rasters, fit, segment parts of them in a folder that is deleted, and scale up.

    Raises
    ------
    UsageError
        As `run` would.
    RasterError
        If no source can be opened, or nothing of any can be segmented.
    """
    clock = _Clock()
    staff = workers.parse(config.workers)
    with Footprint() as footprint, _scratch(config.out) as folder:
        with workers.open_pool(staff, dashboard=config.dashboard, initializer=configure) as pool:
            saved = load_codebook(config.codebook) if config.codebook else None
            kernel = kernel_for(config, saved)
            opened = open_inputs(config, pool, kernel.cell_px, saved.bands if saved else None)
            inputs = opened.inputs
            if not inputs:
                raise opened.failures[0][1]
            clock.opened()
            if saved is None and config.codebook_scope == "batch":
                check_alike([i.view for i in inputs])
            fits = _fits(config, kernel, inputs, saved, pool)
            jobs = [_job(config, one, kernel, codebook, folder, pool) for one, codebook in fits.inputs]
            clock.begun()
            measured = calibrate(jobs, pool, config.memory_limit)
            if not measured.taken:
                raise measured.error or opened.failures[0][1]
            clock.mapped()
        clock.closed()
    # where each raster has its own codebook, some stand for all
    every = [_job(config, one, kernel, fits.inputs[0][1], folder, pool) for one in inputs]
    refits = len(inputs) - 1 if saved is None and config.codebook_scope == "raster" else 0
    times = Times(
        start_s=clock.start_s - fits.spent_s + fits.first_s,
        end_s=clock.end_s,
        raster_s=measured.raster_s,
        fit_s=fits.each_s,
        fits=refits,
    )
    work = work_of(every, pool)
    found = forecast(work, measured.rates, times)
    need = disk.estimate(
        (disk.Extent(job.view.region.pixels, job.chunks) for job in every),
        fits.inputs[0][1].segments,
        kernel.stride_px,
        config.format,
    )
    return Plan(
        rasters=len(inputs),
        pixels=sum(job.view.region.pixels for job in every),
        chunks=sum(job.chunks for job in every),
        tasks=sum(phase.tasks for phases in work.rasters for phase in phases),
        halo_px=kernel.halo_px,
        workers=f"{staff.count} {staff.kind}",
        seconds=found.seconds,
        seconds_low=found.low,
        seconds_high=found.high,
        peak_bytes=footprint.peak_bytes + _beyond(every, measured, staff.count),
        output_bytes=need.output_bytes,
        working_bytes=need.working_bytes,
        budget=budget(
            _spent(found, work, measured, times, fits, clock),
            Setting(
                workers=staff.count,
                cores=workers.usable_cores(),
                rasters=len(inputs),
                windows=work.labelling()[0],
                method=config.method,
                resolution=None if config.model else config.resolution,
                device=device_of(kernel),
                chunk_px=config.chunk_size,
                remote=any(is_remote(f) for s in opened.sources for f in s.files),
                refitted=saved is None,
            ),
        ),
    )


class _Clock:
    """How long a plan takes for what a run does too, from the beginning of the process where that is ours."""

    def __init__(self) -> None:
        self._before = startup.age_s()
        self._start = time.perf_counter()
        self.open_s = self.start_s = self.end_s = 0.0

    @property
    def before_s(self) -> float:
        """Seconds before the plan began."""
        return self._before

    def _now(self) -> float:
        return time.perf_counter() - self._start

    def opened(self) -> None:
        """The rasters are open."""
        self.open_s = self._now()

    def begun(self) -> None:
        """The first part may be segmented."""
        self.start_s = self._before + self._now()

    def mapped(self) -> None:
        """The last part is done."""
        self._mapped = self._now()

    def closed(self) -> None:
        """The workers have ended."""
        self.end_s = self._now() - self._mapped


@contextlib.contextmanager
def _scratch(out: str | None) -> Iterator[Path]:
    """A folder that goes with the block, on the disk that OUT will be on, and never in OUT."""
    folder = Path(tempfile.mkdtemp(prefix="tilewright-plan-", dir=_beside(out)))
    remove = partial(shutil.rmtree, folder, ignore_errors=True)
    # again when all threads have ended: one that was interrupted may write till then
    atexit.register(remove)
    try:
        yield folder
    finally:
        with signals.interrupts_held():
            remove()
        if not folder.exists():
            atexit.unregister(remove)


def _beside(out: str | None) -> Path | None:
    """The nearest folder above OUT, if that is on a disk of its own; None for the usual place."""
    if out is None:
        return None
    place = next(p for p in Path(os.path.abspath(out)).parents if p.exists())
    same = place.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev
    return None if same or not os.access(place, os.W_OK) else place


def _fits(
    config: RunConfig, kernel: Kernel, inputs: Sequence[Input], saved: Codebook | None, pool: workers.Pool
) -> Fits:
    """Fits, while the chunk graph is imported beside them as in a run."""
    with graph_beside():
        return trial_fits(config, kernel, inputs, saved, pool)


def _job(
    config: RunConfig, one: Input, kernel: Kernel, codebook: Codebook, folder: Path, pool: workers.Pool
) -> Job:
    job = job_of(config, one.source.name, one.view, as_fitted(kernel, codebook), codebook, folder)
    return replace(job, threads=pool.threads)


def _beyond(jobs: Sequence[Job], measured: Calibration, count: int) -> int:
    """Bytes that the windows under way take beyond those of the largest that was measured."""
    grids = ((Grid.of(job), job) for job in jobs)
    return max(
        max(0, min(grid.pixels, job.view.region.pixels) - measured.largest_px)
        * (2 * job.view.raster.pixel_bytes + _LABEL_BYTES)
        * min(count, grid.count)
        for grid, job in grids
    )


def _spent(
    found: Forecast, work: Work, measured: Calibration, times: Times, fits: Fits, clock: _Clock
) -> Spent:
    """What the run will report of its time."""
    rates = measured.rates
    tasks_, pixels = work.labelling()
    labelling = rates.lines[LABEL].of(pixels, tasks_)
    effort = Effort(*(labelling * share for share in rates.parts))
    fit_s = fits.first_s + times.fit_s * times.fits
    single = [p for phases in work.rasters for p in phases if p.kind in (ASSEMBLE, FINISH)]
    return Spent(
        wall_s=found.seconds - clock.before_s,
        open_s=clock.open_s,
        fit_s=fit_s,
        setup_s=max(0.0, times.start_s - clock.before_s - clock.open_s - fits.first_s),
        effort=effort,
        assemble_s=rates.seconds(single),
    )
