"""`plan`: what a run would do, before it does it; measured on a window of the rasters themselves."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from engine.codebook import Codebook
from engine.grid import Window
from engine.kernel import Kernel
from pipeline import space, tasks, workers
from pipeline.config import RunConfig
from pipeline.errors import RasterError
from pipeline.fitting import check_alike, fit_codebook
from pipeline.inputs import open_inputs, sampled
from pipeline.job import Job
from pipeline.kernels import kernel_for, load_codebook
from pipeline.running import job_of
from pipeline.units import bytes_text
from pipeline.view import View

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
        Estimate of the whole run, from a measured window.
    peak_bytes
        Estimate of the memory of all processes at their peak.
    output_bytes
        Estimate of what the outputs take on disk.
    working_bytes
        Estimate of what the run takes there on top while it works.
    """

    rasters: int
    pixels: int
    chunks: int
    tasks: int
    halo_px: int
    workers: str
    seconds: float
    peak_bytes: int
    output_bytes: int
    working_bytes: int

    def as_json(self) -> dict[str, Any]:
        """As one JSON object."""
        return {**asdict(self), "seconds": round(self.seconds, 2)}

    def text(self) -> str:
        """As lines for people."""
        return (
            f"rasters  {self.rasters}, {self.pixels / 1e6:.1f} Mpx\n"
            f"chunks   {self.chunks} in {self.tasks} tasks, halo {self.halo_px} px\n"
            f"workers  {self.workers}\n"
            f"memory   about {self.peak_bytes / 2**20:.0f} MiB at the peak\n"
            f"disk     about {bytes_text(self.output_bytes)}, and {bytes_text(self.working_bytes)} more "
            "while it works\n"
            f"time     about {self.seconds:.0f} s (from a window measured just now)"
        )


def plan(config: RunConfig) -> Plan:
    """Plan a run: open the headers, measure one window, and scale up.

    Raises
    ------
    UsageError
        As `run` would.
    RasterError
        If no source can be opened.
    """
    start = time.perf_counter()
    staff = workers.parse(config.workers)
    saved = load_codebook(config.codebook) if config.codebook else None
    kernel = kernel_for(config, saved)
    with workers.open_pool(workers.Workers("threads", staff.count)) as pool:
        opened = open_inputs(config, pool, kernel.cell_px, saved.bands if saved else None)
        inputs = opened.inputs
        if not inputs:
            raise opened.failures[0][1]
        if saved is None and config.codebook_scope == "batch":
            check_alike([i.view for i in inputs])
        codebook = saved or _codebook(config, kernel, sampled(inputs), pool)
    set_up = time.perf_counter() - start
    with tempfile.TemporaryDirectory(prefix="tilewright-plan-") as folder:
        jobs = [job_of(config, i.source.name, i.view, kernel, codebook, Path(folder)) for i in inputs]
        window_pixels, window_s = _measure(jobs[0])
    pixels = sum(i.view.region.pixels for i in inputs)
    tasks = sum(_count(j) + 1 + sum(s.rows * s.cols for s in j.stages[1:]) for j in jobs)
    parallel = min(staff.count, tasks)
    need = space.estimate(
        (space.Extent(j.view.region.pixels, j.chunks) for j in jobs),
        codebook.segments,
        kernel.stride_px,
        config.format,
    )
    return Plan(
        rasters=len(inputs),
        pixels=pixels,
        chunks=sum(j.chunks for j in jobs),
        tasks=tasks,
        halo_px=kernel.halo_px,
        workers=f"{staff.count} {staff.kind}",
        seconds=set_up + window_s / window_pixels * pixels / parallel,
        peak_bytes=_peak_bytes(jobs, staff),
        output_bytes=need.output_bytes,
        working_bytes=need.working_bytes,
    )


def _codebook(config: RunConfig, kernel: Kernel, views: Sequence[View], pool: workers.Pool) -> Codebook:
    """A codebook like the one that would be used, fitted by sample on the first raster that allows it."""
    *others, last = views
    for view in others:
        with contextlib.suppress(RasterError):
            return _fitted(config, kernel, view, pool)
    return _fitted(config, kernel, last, pool)


def _fitted(config: RunConfig, kernel: Kernel, view: View, pool: workers.Pool) -> Codebook:
    return fit_codebook(
        [view],
        kernel,
        config.segments,
        seed=config.seed,
        method="sample",
        scale=config.scale,
        pool=pool,
    )


def _count(job: Job) -> int:
    """Number of a raster's windows."""
    return sum(1 for _ in job.windows())


def _measure(job: Job) -> tuple[int, float]:
    """Pixels and seconds of a window in the middle of a raster, done twice: the first warms up."""
    window: Window = next(islice(job.windows(), _count(job) // 2, None))
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        tasks.label_window(job, window, {})
        seconds = time.perf_counter() - start
    shutil.rmtree(job.folder, ignore_errors=True)
    return window.pixels, seconds


def _peak_bytes(jobs: Sequence[Job], staff: workers.Workers) -> int:
    """Memory of this process now (all is loaded), and of the windows that are under way at a time."""
    window = max(
        w.pixels * (2 * j.view.raster.pixel_bytes + _LABEL_BYTES)
        for j in jobs
        for w in islice(j.windows(), 1)
    )
    base = psutil.Process().memory_info().rss
    processes = staff.count if staff.kind == "processes" else 1
    return int(base) * processes + window * staff.count
