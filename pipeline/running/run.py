"""A run: sources in, label files out. What `python -m pipeline run` does."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from engine.codebook import Codebook
from engine.grid import chunk_side
from engine.kernel import Kernel
from pipeline.config import RunConfig
from pipeline.cost import disk
from pipeline.cost.budget import Setting, Spent, budget
from pipeline.durable.files import patiently, remove
from pipeline.errors import (
    NO_VALID_PIXEL,
    AlteredError,
    DamageError,
    NoRasterError,
    RasterError,
    TilewrightError,
    UsageError,
    one_line,
    printable,
)
from pipeline.events.journal import Journal
from pipeline.events.progress import Progress, Silent
from pipeline.fitting.codebook import check_alike
from pipeline.kernels import as_fitted, kernel_for, load_codebook, mismatch, on_cpu
from pipeline.out.record import Provenance
from pipeline.out.run_folder import RunFolder
from pipeline.running import schedule
from pipeline.running.codebooks import Codebooks
from pipeline.running.inputs import Input, Opened, open_inputs
from pipeline.running.record import provenance
from pipeline.running.report import Report
from pipeline.running.tally import Pace, Tally
from pipeline.source.arguments import Source
from pipeline.source.gdal.remote import is_remote
from pipeline.source.gdal.setup import configure
from pipeline.tasks.job import Job, job_of
from pipeline.tasks.redo import kept
from pipeline.tasks.units import UnitsDone
from pipeline.versions import versions
from pipeline.workers import pool as workers

_OPENING_EVERY_S = 1.0


def run(config: RunConfig, progress: Progress | None = None, *, retry_bad: bool = False) -> Report:
    """Segment the sources of a configuration into its OUT.

    Parameters
    ----------
    config
        What to do; `sources` and `out` are set.
    progress
        Hears of events (default: failures only).
    retry_bad
        Do only the chunks again of which an earlier run could not read or label something.

    Returns
    -------
    Report
        What was done; rasters that failed are in it, they raise nothing.

    Raises
    ------
    UsageError
        If the request cannot be carried out; nothing was done then.
    StorageError
        If OUT cannot be written any more.
    """
    if not config.out:
        raise UsageError("no -o OUT given; name a folder for the outputs")
    progress = progress or Silent()
    start = time.monotonic()
    with workers.open_pool(
        workers.parse(config.workers), dashboard=config.dashboard, initializer=configure
    ) as pool:
        named = load_codebook(config.codebook) if config.codebook else None
        bands = named.bands if named else None
        kernel = kernel_for(config, named)
        opened = open_inputs(config, pool, kernel.cell_px, bands, _Opening(progress))
        # the folder comes last: with --overwrite it deletes, which has to be right by then
        folder = RunFolder(config, opened.sources, opened.area)
        spent = Spent(open_s=time.monotonic() - start)
        try:
            with Journal(progress, folder.path) as journal:
                one = _Run(config, opened, named, kernel, folder, pool, journal, spent, retry_bad=retry_bad)
                report = one.go()
        except BaseException:
            folder.release()
            raise
        folder.close()
        return report


class _Opening:
    """Says now and then how far the opening of many files is."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if (now := time.monotonic()) - self._last >= _OPENING_EVERY_S:
            self._last = now
            self._progress.event("open", done=done, total=total)


class _Run(schedule.BatchObserver):
    """One run's state: who is done, who failed, how fast it goes."""

    def __init__(
        self,
        config: RunConfig,
        opened: Opened,
        named: Codebook | None,
        kernel: Kernel,
        folder: RunFolder,
        pool: workers.Pool,
        progress: Progress,
        spent: Spent,
        *,
        retry_bad: bool,
    ) -> None:
        self._retry_bad = retry_bad
        self._spent = spent
        self._windows = 0
        self._config = config
        self._opened = opened
        self._named = named
        self._kernel = kernel
        self._folder = folder
        self._pool = pool
        self._progress = progress
        self._report = Report()
        self._start = time.monotonic()
        self._codebooks = Codebooks(config, folder, pool, progress, spent, self._fail)
        self._inputs: dict[str, Input] = {}
        self._altered = False

    def go(self) -> Report:
        """Do all of it."""
        self._progress.event(
            "start",
            rasters=len(self._opened.sources),
            workers=self._pool.count,
            dashboard=self._pool.dashboard,
        )
        self._work()
        self._progress.event(
            "end",
            **self._report.counts,
            seconds=self._report.seconds,
            mpx_per_s=self._report.mpx_per_s,
            budget=self._budget(),
        )
        return self._report

    def _work(self) -> None:
        saved = self._codebooks.saved(self._named)
        if saved is not self._named:  # a network takes a while to load and to try
            self._kernel = kernel_for(self._config, saved)
        inputs = self._fitting(saved)
        if self._config.codebook_scope == "batch" and saved is None and inputs:
            check_alike([i.view for i in inputs])
        todo = [i for i in inputs if not self._skip(i, saved)]
        if not todo and len(inputs) == len(self._opened.sources):
            self._folder.keep_choices()
        self._inputs = {i.source.name: i for i in todo}
        self._pace = Pace(sum(i.view.region.pixels for i in todo))
        config, sizes = self._config, [self._size(one) for one in todo]
        extents = [disk.Extent(size["pixels"], size["chunks"]) for size in sizes]
        need = disk.estimate(extents, config.segments, self._kernel.stride_px, config.format)
        disk.check(self._folder.path, need)
        for one, size in zip(todo, sizes, strict=True):
            self._folder.note(one.source, "waiting", fingerprint=one.fingerprint, **size)
        self._folder.save({})
        try:
            for outcome in schedule.drive(
                self._jobs(todo, inputs, saved),
                self._pool,
                self._record,
                self,
                self._config.memory_limit,
            ):
                self._end(outcome)
                self._folder.save_now_and_then()
                self._folder.lock.check()
            if self._altered and not any(s.state == "done" for s in self._folder.states.values()):
                # it was fitted on what is there no more, and nothing has been made with it
                patiently(remove, self._folder.codebook)
        finally:
            self._report.seconds = time.monotonic() - self._start
            self._folder.save(self._summary())

    def _fitting(self, saved: Codebook | None) -> list[Input]:
        """The rasters that can be done; those that cannot be opened or do not fit the codebook fail here."""
        wanted = None if saved is None else saved.content_hash
        for source, error in self._opened.failures:
            if isinstance(error, NoRasterError):
                self._pass_over(source, error.reason)
            elif (used := self._folder.former.done_with(source, None, wanted)) is not None:
                self._keep(source, error, used)
            else:
                self._fail(source, error)
        inputs = []
        for one in self._opened.inputs:
            if saved and (problem := mismatch(len(one.view.bands), one.view.dtype, saved)):
                self._fail(one.source, RasterError(one.source.path, problem))
            else:
                inputs.append(one)
        return inputs

    def _pass_over(self, source: Source, reason: str) -> None:
        self._report.skipped.append(source.name)
        self._folder.note(source, "skipped", reason=reason)
        self._progress.event("skipped", raster=source.name, reason=reason)

    def _keep(self, source: Source, error: RasterError, used: str) -> None:
        """Leave a raster as it was done before, though its input cannot be opened any more."""
        output = self._folder.outputs(source).labels
        former = self._folder.states.get(source.name)
        size = {} if former is None else {"chunks": former.chunks, "pixels": former.pixels}
        self._folder.note(source, "done", output=output.name, codebook_hash=used, **size)
        message = f"{one_line(error)}; {output}, which was made of it before, stays as it is"
        self._report.failed[source.name] = message
        self._progress.event("failed", raster=source.name, error=message)

    def _skip(self, one: Input, saved: Codebook | None) -> bool:
        wanted = None if saved is None else saved.content_hash
        # what is to be made good may have been fetched again
        mark = None if self._retry_bad else one.fingerprint
        used = self._folder.former.done_with(one.source, mark, wanted)
        if used is None and not self._retry_bad:
            self._folder.former.refuse_changed(one.source, one.fingerprint)
        if used is None or (self._retry_bad and self._folder.outputs(one.source).bad.exists()):
            return False
        output = self._folder.outputs(one.source).labels
        self._folder.note(one.source, "done", output=output.name, codebook_hash=used, **self._size(one))
        self._report.skipped.append(one.source.name)
        self._progress.event("skipped", raster=one.source.name, reason="done already")
        return True

    def _jobs(self, todo: Sequence[Input], inputs: Sequence[Input], saved: Codebook | None) -> Iterator[Job]:
        """Each raster's job, fitted when it is its turn where every raster has its own codebook."""
        if saved is not None:
            self._codebooks.announce(saved, None)
            for one in todo:
                yield self._job(one, saved)
        elif self._config.codebook_scope == "batch":
            if todo and (codebook := self._codebooks.of_batch(list(inputs), self._kernel)) is not None:
                for one in todo:
                    if one.source.name not in self._report.failed:
                        yield self._job(one, codebook)
        else:
            for one in todo:
                if (codebook := self._codebooks.of_raster(one, self._kernel)) is not None:
                    yield self._job(one, codebook)

    def _job(self, one: Input, codebook: Codebook) -> Job:
        kernel = as_fitted(self._kernel, codebook)
        job = job_of(self._config, one.source.name, one.view, kernel, codebook, self._folder.path)
        job = replace(job, threads=self._pool.threads, fingerprint=one.fingerprint, stamp=one.mark.stamp)
        job = replace(job, fallback=on_cpu(kernel) if self._config.device_fallback else None)
        return replace(job, redo=kept(job, self._pool, self.warned) if self._retry_bad else None)

    def warned(self, message: str) -> None:
        """Report a warning."""
        self._progress.event("warning", message=message)

    def _size(self, one: Input) -> dict[str, int]:
        """Chunks and pixels of a raster, for `run.json`."""
        region, side = one.view.region, chunk_side(self._config.chunk_size, self._kernel.cell_px)
        return {"chunks": -(-region.height // side) * -(-region.width // side), "pixels": region.pixels}

    def started(self, job: Job) -> None:
        """Report that a raster is begun."""
        if not self._spent.setup_s:
            self._spent.setup_s = time.monotonic() - self._start - self._spent.fit_s
        self._progress.event(
            "raster",
            raster=job.name,
            chunks=job.chunks,
            chunk_px=job.chunk_px,
            pixels=job.view.region.pixels,
        )

    def advanced(self, tally: Tally, done: UnitsDone) -> None:
        """Report chunks that became durable."""
        if (window := done.window) is not None:
            self._progress.event(
                "window",
                raster=tally.job.name,
                stage=done.stage,
                row=window.row,
                col=window.col,
                height=window.height,
                width=window.width,
                chunks=done.chunks,
                bad_chunks=done.bad_chunks,
                **done.effort.rounded(4),
            )
        self._progress.event("progress", **self._pace.advanced(tally))

    def _record(self, tally: Tally) -> Provenance:
        return provenance(tally, self._config)

    def _end(self, outcome: schedule.Outcome) -> None:
        job = outcome.tally.job
        source = self._inputs[job.name].source
        self._windows += outcome.tally.windows
        self._spent.add(outcome.tally.effort, outcome.record.assemble_s if outcome.record else 0.0)
        self._pace.ended(outcome.tally)
        if outcome.error is not None:
            if self._inputs[job.name].whole and getattr(outcome.error, "reason", "") == NO_VALID_PIXEL:
                self._pass_over(source, NO_VALID_PIXEL)
                return
            self._altered = self._altered or isinstance(outcome.error, AlteredError)
            self._fail(source, outcome.error)
            if not self._folder.outputs(source).json.exists():  # what was done before keeps it
                patiently(remove, self._folder.outputs(source).codebook)
            return
        self._report.done.append(job.name)
        self._report.pixels += job.view.region.pixels
        output = self._folder.outputs(source).labels
        self._folder.note(
            source,
            "done",
            output=output.name,
            codebook_hash=job.codebook.content_hash,
            **self._size(self._inputs[job.name]),
        )
        seconds = time.monotonic() - outcome.tally.started
        self._progress.event("done", raster=job.name, output=str(output), seconds=round(seconds, 3))

    def _fail(self, source: Source, error: BaseException) -> None:
        if self._config.on_bad_chunk == "skip-raster" and isinstance(error, DamageError):
            self._pass_over(source, f"damaged: {error.reason}")
            return
        if self._config.debug and not isinstance(error, TilewrightError):
            raise error
        text = one_line(error)
        path = printable(source.path)
        message = text if text.startswith(path) else f"{path}: {text}"
        self._report.failed[source.name] = message
        self._folder.note(source, "failed", error=message)
        self._progress.event("failed", raster=source.name, error=message)

    def _summary(self) -> dict[str, Any]:
        return {
            "counts": self._report.counts,
            "seconds": round(self._report.seconds, 3),
            "mpx_per_s": self._report.mpx_per_s,
            "budget": self._budget(),
            "versions": versions(),
        }

    def _budget(self) -> dict[str, Any]:
        if not self._spent.setup_s:  # no raster was begun
            self._spent.setup_s = self._report.seconds - self._spent.fit_s
        self._spent.wall_s = self._spent.open_s + self._report.seconds
        config = self._config
        return budget(
            self._spent,
            Setting(
                workers=self._pool.count,
                cores=workers.usable_cores(),
                rasters=len(self._report.done),
                windows=self._windows,
                method=config.method,
                resolution=None if config.model else config.resolution,
                device=self._kernel.device,
                chunk_px=config.chunk_size,
                remote=any(is_remote(f) for s in self._opened.sources for f in s.files),
                refitted=config.codebook is None,
            ),
        )
