"""The `plan` command: forecasts a run from measurements on parts of its rasters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine import jit
from engine.codebook import Codebook
from engine.kernel import Kernel
from pipeline.commands.plan.calibration import Calibration, calibrate, work_of
from pipeline.commands.plan.forecast import Forecast, Times, Work, forecast
from pipeline.commands.plan.memory import peak_bytes
from pipeline.commands.plan.scratch import scratch
from pipeline.commands.plan.trial_fit import Fits, trial_fits
from pipeline.config import RunConfig
from pipeline.cost import disk
from pipeline.cost.readable import bytes_text
from pipeline.cost.time_shares import Setting, Spent, time_shares
from pipeline.cost.timing import Effort
from pipeline.errors import NoRasterError, printable
from pipeline.events.kinds import Compiling, Working
from pipeline.events.observer import Observer, Opening
from pipeline.fitting.codebook import check_alike
from pipeline.fitting.mean_colours import refuse_natural
from pipeline.graph.preloading import graph_beside
from pipeline.kernels import in_fitted_form, kernel_for_run, labels_of, load_codebook
from pipeline.legend.palette import Palette
from pipeline.process import startup
from pipeline.process.memory import Footprint
from pipeline.running.inputs import Input, Opened, open_inputs
from pipeline.running.task import TaskKind
from pipeline.source.gdal.remote import is_remote
from pipeline.source.gdal.setup import configure
from pipeline.tasks.job import Job, job_of
from pipeline.workers import pool as workers

_MOST_LISTED = 20


@dataclass(frozen=True)
class Plan:
    """Forecast of a run.

    Parameters
    ----------
    rasters, pixels, chunks, tasks
        Their numbers.
    halo_px
        Pixels read beyond each window.
    workers
        Number and kind of the workers.
    seconds
        Estimated duration of the whole run, from measured parts.
    seconds_low, seconds_high
        95 % interval of `seconds`, as far as windows differ from each other.
    peak_bytes
        Estimated peak memory of all processes.
    output_bytes
        Estimated disk space of the outputs.
    working_bytes
        Estimated temporary disk space in addition, during the run.
    budget
        Forecast of where the time will go, in the form in which a run reports it.
    failures
        Why rasters cannot be opened, by their names: the run would fail with these alone.
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
    failures: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """The plan as one JSON object."""
        rounded = {name: round(getattr(self, name), 2) for name in ("seconds", "seconds_low", "seconds_high")}
        return {**asdict(self), **rounded}

    def text(self) -> str:
        """The plan as lines for people."""
        failed = [
            f"\nfailed   {printable(error)}"
            for _, error in zip(range(_MOST_LISTED), self.failures.values(), strict=False)
        ]
        if (more := len(self.failures) - _MOST_LISTED) > 0:
            failed.append(f"\n         and {more} more")
        return (
            f"rasters  {self.rasters}, {self.pixels / 1e6:.1f} Mpx\n"
            f"chunks   {self.chunks} in {self.tasks} tasks, halo {self.halo_px} px\n"
            f"workers  {self.workers}\n"
            f"memory   about {self.peak_bytes / 2**20:.0f} MiB at the peak\n"
            f"disk     about {bytes_text(self.output_bytes)}, and {bytes_text(self.working_bytes)} more "
            "while it works\n"
            f"time     about {_seconds(self.seconds)} s ({_seconds(self.seconds_low)} to "
            f"{_seconds(self.seconds_high)} s, from parts measured just now)\n"
            f"bound    {self.budget['verdict']}{''.join(failed)}"
        )


def _seconds(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def plan(config: RunConfig, observer: Observer | None = None) -> Plan:
    """Plan a run: open the rasters, fit, segment parts of them in a temporary folder, and scale up.

    Parameters
    ----------
    config
        As of the run.
    observer
        Hears how far it is.

    Raises
    ------
    UsageError
        As `run` would.
    RasterError
        If no source can be opened, or no part of any can be segmented.
    """
    observer = observer or Observer()
    with jit.watched(lambda kept: observer.event(Compiling(kept))):
        measured = _measure(config, observer)
    jobs, staff, fits, kernel = measured.jobs, measured.staff, measured.fits, measured.kernel
    work = work_of(jobs, measured.pool)
    times = _times(config, measured)
    duration = forecast(work, measured.calibration.rates, times)
    need = disk.estimate(
        (disk.Extent(job.view.region.pixels, job.chunks) for job in jobs),
        fits.inputs[0][1].segments,
        kernel.stride_px,
        config.format,
        smoothed=config.smooth is not None,
    )
    return Plan(
        rasters=len(jobs),
        pixels=sum(job.view.region.pixels for job in jobs),
        chunks=sum(job.chunks for job in jobs),
        tasks=sum(phase.tasks for phases in work.rasters for phase in phases),
        halo_px=max(job.halo_px for job in jobs),
        workers=f"{staff.count} {staff.kind}",
        seconds=duration.seconds,
        seconds_low=duration.low,
        seconds_high=duration.high,
        peak_bytes=peak_bytes(measured.footprint, jobs, measured.calibration, staff.count),
        output_bytes=need.output_bytes,
        working_bytes=need.working_bytes,
        budget=time_shares(_spent(duration, work, measured, times), _setting(config, measured, work)),
        failures={
            source.name: str(error)
            for source, error in measured.opened.failures
            if not isinstance(error, NoRasterError)
        },
    )


@dataclass(frozen=True)
class _Measured:
    """What a plan measured on parts of the rasters, and the jobs of the whole rasters."""

    staff: workers.Workers
    pool: workers.Pool
    kernel: Kernel
    opened: Opened
    fits: Fits
    refitted: bool
    jobs: list[Job]
    calibration: Calibration
    footprint: Footprint
    clock: _Clock


def _measure(config: RunConfig, observer: Observer) -> _Measured:
    """Open the rasters, fit, and segment parts of them."""
    clock = _Clock()
    staff = workers.parse(config.workers)
    observer.event(Working("starting the workers"))
    with Footprint() as footprint, scratch(config.out) as folder:
        with workers.open_pool(staff, dashboard=config.dashboard, initializer=configure) as pool:
            observer.event(Working("opening the rasters"))
            saved = load_codebook(config.codebook) if config.codebook else None
            kernel = kernel_for_run(config, saved)
            palette = Palette.of(config.palette, labels_of(config, kernel, saved))
            opened = open_inputs(config, pool, kernel.cell_px, saved, Opening(observer))
            if not opened.inputs:
                raise opened.failures[0][1]
            clock.opened()
            if saved is None:
                views = [raster.view for raster in opened.inputs]
                refuse_natural(palette, views, each=config.codebook_scope == "raster")
            if saved is None and config.codebook_scope == "batch":
                check_alike([i.view for i in opened.inputs])
            observer.event(Working("fitting a codebook"))
            fits = _fits(config, kernel, opened.inputs, saved, pool)
            fitted_jobs = [
                _job(config, raster, kernel, codebook, folder, pool) for raster, codebook in fits.inputs
            ]
            clock.begun()
            observer.event(Working("segmenting parts of the rasters to measure them"))
            calibration = calibrate(fitted_jobs, pool, config.memory_limit)
            if not calibration.taken:
                raise calibration.error or opened.failures[0][1]
            clock.mapped()
            observer.event(Working("ending the workers"))
        clock.closed()
    # where each raster has its own codebook, one codebook stands for all of them here
    codebook = fits.inputs[0][1]
    jobs = [_job(config, raster, kernel, codebook, folder, pool) for raster in opened.inputs]
    return _Measured(staff, pool, kernel, opened, fits, saved is None, jobs, calibration, footprint, clock)


def _times(config: RunConfig, measured: _Measured) -> Times:
    """Times of the run that do not depend on its windows."""
    clock, fits = measured.clock, measured.fits
    each_refitted = measured.refitted and config.codebook_scope == "raster"
    return Times(
        start_s=clock.start_s - fits.spent_s + fits.first_s,
        end_s=clock.end_s,
        raster_s=measured.calibration.raster_s,
        fit_s=fits.each_s,
        fits=len(measured.jobs) - 1 if each_refitted else 0,
    )


def _setting(config: RunConfig, measured: _Measured, work: Work) -> Setting:
    return Setting(
        workers=measured.staff.count,
        cores=workers.usable_cores(),
        rasters=len(measured.jobs),
        windows=work.labelling()[0],
        method=str(measured.kernel.identity["name"]),
        resolution=None if config.model or not measured.refitted else config.resolution,
        device=measured.kernel.device,
        chunk_px=config.chunk_size,
        remote=any(is_remote(f) for s in measured.opened.sources for f in s.files),
        refitted=measured.refitted,
    )


class _Clock:
    """Times of what a plan does as a run does, from the start of the process if that is our own."""

    def __init__(self) -> None:
        self._before = startup.age_s()
        self._start = jit.clock_s()
        self.open_s = self.start_s = self.end_s = 0.0

    @property
    def before_s(self) -> float:
        """Seconds of the process before the plan."""
        return self._before

    def _now(self) -> float:
        return jit.clock_s() - self._start

    def opened(self) -> None:
        """Record that the rasters are open."""
        self.open_s = self._now()

    def begun(self) -> None:
        """Record that the first part can be segmented."""
        self.start_s = self._before + self._now()

    def mapped(self) -> None:
        """Record that the last part is done."""
        self._mapped = self._now()

    def closed(self) -> None:
        """Record that the workers have ended."""
        self.end_s = self._now() - self._mapped


def _fits(
    config: RunConfig, kernel: Kernel, inputs: Sequence[Input], saved: Codebook | None, pool: workers.Pool
) -> Fits:
    """Fits, while another thread imports the chunk graph, as in a run."""
    with graph_beside():
        return trial_fits(config, kernel, inputs, saved, pool)


def _job(
    config: RunConfig, raster: Input, kernel: Kernel, codebook: Codebook, folder: Path, pool: workers.Pool
) -> Job:
    kernel = in_fitted_form(kernel, codebook)
    return job_of(config, raster.source.name, raster.view, kernel, codebook, folder, threads=pool.threads)


def _spent(duration: Forecast, work: Work, measured: _Measured, times: Times) -> Spent:
    """Forecast of the times that the run will report."""
    rates, clock, fits = measured.calibration.rates, measured.clock, measured.fits
    windows, pixels = work.labelling()
    labelling = rates.lines[TaskKind.LABEL].of(pixels, windows)
    effort = Effort(*(labelling * share for share in rates.parts))
    fit_s = fits.first_s + times.fit_s * times.fits
    joining = [p for phases in work.rasters for p in phases if p.kind in (TaskKind.ASSEMBLE, TaskKind.FINISH)]
    return Spent(
        wall_s=duration.seconds,
        open_s=clock.open_s,
        fit_s=fit_s,
        setup_s=max(0.0, times.start_s - clock.before_s - clock.open_s - fits.first_s),
        effort=effort,
        assemble_s=rates.seconds(joining),
        startup_s=clock.before_s,
    )
