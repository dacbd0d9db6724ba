"""A run: sources in, label files out. What `python -m pipeline run` does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from engine import jit
from engine.codebook import Codebook
from engine.grid import chunk_side
from engine.kernel import Kernel
from pipeline.config import RunConfig
from pipeline.cost import disk
from pipeline.cost.time_shares import Setting
from pipeline.durable.files import remove, with_retries
from pipeline.errors import RasterError, UsageError
from pipeline.events.journal import Journal
from pipeline.events.kinds import Compiling, RunEnded, RunStarted, Warned, Working
from pipeline.events.observer import Observer, Opening
from pipeline.events.progress import Silent
from pipeline.fitting.codebook import check_alike
from pipeline.fitting.hints import bands_in_files
from pipeline.fitting.mean_colours import refuse_natural
from pipeline.kernels import (
    in_fitted_form,
    kernel_for_run,
    labels_of,
    load_codebook,
    mismatch,
    on_cpu,
)
from pipeline.legend.palette import Palette
from pipeline.out.kept_names import with_kept_names
from pipeline.out.previous_run import Request
from pipeline.out.record import RasterRecord
from pipeline.out.run_folder import RunFolder
from pipeline.running import schedule
from pipeline.running.codebooks import Codebooks, codebook_to_use
from pipeline.running.inputs import Input, Opened, open_inputs
from pipeline.running.outcomes import Outcomes, Report
from pipeline.running.relay import Relay
from pipeline.running.spending import Spending
from pipeline.source.bands.fitted import other_order
from pipeline.source.gdal.remote import is_remote
from pipeline.source.gdal.setup import configure
from pipeline.source.view import View
from pipeline.tasks.job import Job, job_of
from pipeline.tasks.redo import restyle_of, retry_of
from pipeline.versions import versions
from pipeline.workers import pool as workers


def run(config: RunConfig, observer: Observer | None = None, *, retry_bad: bool = False) -> Report:
    """Segment the sources of a configuration into its OUT.

    Parameters
    ----------
    config
        What to do; `sources` and `out` are set.
    observer
        Hears of events (default: shows failures and warnings).
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
    if retry_bad and "on_bad_chunk" not in config.asked:
        # what is done again was done so, whatever a later run into this OUT was asked for
        config = config.model_copy(update={"on_bad_chunk": "nodata"})
    if not config.out:
        raise UsageError("no -o OUT given; name a folder for the outputs")
    observer = observer or Silent()
    spending = Spending()
    with contextlib.ExitStack() as staff:
        staff.enter_context(jit.watched(lambda kept: observer.event(Compiling(kept))))
        observer.event(Working("starting the workers"))
        pool = staff.enter_context(
            workers.open_pool(
                workers.parse(config.workers), dashboard=config.dashboard, initializer=configure
            )
        )
        observer.event(Working("opening the rasters"))
        named = load_codebook(config.codebook) if config.codebook else None
        kernel = kernel_for_run(config, named)
        asked = "palette" in config.asked
        # what is only done again has the colours of its codebook in OUT
        palette = (
            Palette.of(config.palette, labels_of(config, kernel, named)) if asked or not retry_bad else None
        )
        opened = open_inputs(config, pool, kernel.cell_px, named, Opening(observer))
        if not (config.mosaic or config.overwrite):
            marks = {raster.source: raster.fingerprint for raster in opened.inputs}
            names = with_kept_names(Path(config.out), opened.sources, lambda source: marks.get(source, ""))
            opened = opened.renamed(names)
        if named is None:
            views = [raster.view for raster in opened.inputs]
            refuse_natural(palette, views, each=config.codebook_scope == "raster")
        # the folder comes last: with --overwrite it deletes, which has to be right by then
        folder = RunFolder(Request(config, opened.sources, opened.area))
        spending.opened()
        try:
            with Journal(observer, folder.path) as journal:
                journal.event(RunStarted(len(opened.sources), pool.count, pool.dashboard))
                saved = codebook_to_use(folder, named, palette, asked=asked)
                if named is None and saved is not None:  # a network takes a while to load and to try
                    kernel = kernel_for_run(config, saved)
                begun = _Run(
                    config,
                    opened,
                    saved,
                    kernel,
                    folder,
                    pool,
                    journal,
                    spending,
                    palette,
                    retry_bad=retry_bad,
                )
                report = begun.go(staff.close)
        except BaseException:
            folder.release()
            raise
        folder.close()
        return report


class _Run:
    """A run whose rasters are open: it chooses those to do, fits, and drives them through their tasks."""

    def __init__(
        self,
        config: RunConfig,
        opened: Opened,
        saved: Codebook | None,
        kernel: Kernel,
        folder: RunFolder,
        pool: workers.Pool,
        observer: Observer,
        spending: Spending,
        palette: Palette | None,
        *,
        retry_bad: bool,
    ) -> None:
        self._config = config
        self._opened = opened
        self._saved = saved
        self._kernel = kernel
        self._folder = folder
        self._pool = pool
        self._observer = observer
        self._spending = spending
        self._retry_bad = retry_bad
        # rasters that get the codebook of others, for it was there before them
        before = folder.previous_run.states
        self._added = {s.name for s in opened.sources if saved is not None and s.name not in before}
        chunk_px = chunk_side(config.chunk_size, kernel.cell_px)
        self._outcomes = Outcomes(config, folder, observer, chunk_px)
        # rasters that are done, but for the colours and names that their codebook has now
        self._restyled: set[str] = set()
        self._codebooks = Codebooks(config, folder, pool, observer, spending, self._outcomes, palette)

    def go(self, end_workers: Callable[[], None]) -> Report:
        """Do all of it, and say what it took: processes take seconds to end, which count."""
        report = self._outcomes.report
        rasters = self._usable()
        if self._saved is None and self._config.codebook_scope == "batch" and rasters:
            check_alike([raster.view for raster in rasters])
        todo = [raster for raster in rasters if not (self._skip_done(raster) or self._has_nothing(raster))]
        if not todo and len(rasters) == len(self._opened.sources):
            self._folder.keep_choices()
        self._warn_of_strangers(todo)
        if self._opened.choice:
            self._observer.event(Warned(self._opened.choice))
        if (hint := bands_in_files(self._config, [raster.view for raster in todo])) is not None:
            self._observer.event(hint)
        self._refuse_full_disk(todo)
        for raster in todo:
            self._outcomes.wait(raster)
        self._folder.save({})
        try:
            self._drive(todo, self._jobs(todo, rasters))
            if self._outcomes.altered and not any(s.state == "done" for s in self._folder.states.values()):
                # it was fitted on what is there no more, and nothing has been made with it
                with_retries(remove, self._folder.codebook)
            self._outcomes.settle()
            self._observer.event(Working("ending the workers"))
            end_workers()
        finally:
            report.seconds = self._spending.seconds
            self._folder.save(self._summary())
        self._observer.event(
            RunEnded(
                **report.counts,
                seconds=report.seconds,
                mpx_per_s=report.mpx_per_s,
                budget=self._time_shares(),
            )
        )
        return report

    def _warn_of_strangers(self, todo: Sequence[Input]) -> None:
        """Say that rasters get the codebook of others, of which none is among those of this run."""
        own = self._config.codebook is None
        if own and todo and self._added == {source.name for source in self._opened.sources}:
            self._observer.event(
                Warned(
                    f"{self._folder.path}: none of these rasters is of the run that stands there; they get "
                    "its codebook (--overwrite, or another OUT, fits one of theirs)"
                )
            )

    def _usable(self) -> list[Input]:
        """The rasters that can be done; those that cannot be opened or do not fit the codebook fail here."""
        for source, error in self._opened.failures:
            record = self._folder.previous_run.done(source, None, self._wanted_hash)
            self._outcomes.unopened(source, error, None if record is None else record.codebook_hash)
        rasters = []
        for raster in self._opened.inputs:
            view = raster.view
            if self._saved and (problem := self._problem(view, self._saved)):
                self._outcomes.fail(raster.source, RasterError(raster.source.path, problem))
            else:
                rasters.append(raster)
        return rasters

    def _problem(self, view: View, codebook: Codebook) -> str:
        """Why a raster cannot be labelled with the codebook that is there; "" if it can."""
        by_order = self._config.codebook_bands == "any" or not codebook.band_names
        other = (
            ""
            if by_order
            else other_order(view.all_names, [(name,) if name else () for name in codebook.band_names])
        )
        return other or mismatch(len(view.bands), view.dtype, codebook, physical=view.physical)

    @property
    def _wanted_hash(self) -> str | None:
        """Hash of the codebook that every raster has to be done with; None if a fit decides."""
        return None if self._saved is None else self._saved.content_hash

    def _skip_done(self, raster: Input) -> bool:
        """Whether a raster was done by an earlier run, and is skipped for that."""
        # what is to be made good may have been fetched again
        fingerprint = None if self._retry_bad else raster.fingerprint
        record = self._folder.previous_run.done(raster.source, fingerprint, self._wanted_hash)
        if record is None and not self._retry_bad:
            self._folder.previous_run.refuse_changed(raster.source, raster.fingerprint)
        if record is None or (self._retry_bad and self._folder.outputs(raster.source).bad.exists()):
            return False
        if not self._retry_bad and self._has_other_style(raster, record):
            self._restyled.add(raster.source.name)
            return False
        self._outcomes.skip_done(raster, record.codebook_hash)
        return True

    def _has_nothing(self, raster: Input) -> bool:
        return not self._retry_bad and self._outcomes.has_nothing(raster)

    def _has_other_style(self, raster: Input, record: RasterRecord) -> bool:
        """Whether finished labels have other colours or names of classes than their codebook has now."""
        codebook = self._saved
        if codebook is None and self._config.codebook_scope == "raster":
            codebook = self._codebooks.changed(raster.source)
        return codebook is not None and record.style != codebook.style_hash

    def _refuse_full_disk(self, todo: Sequence[Input]) -> None:
        sizes = [self._outcomes.size(raster) for raster in todo]
        extents = [disk.Extent(size["pixels"], size["chunks"]) for size in sizes]
        config = self._config
        labels = labels_of(config, self._kernel, self._saved)
        need = disk.estimate(
            extents, labels, self._kernel.stride_px, config.format, smoothed=config.smooth is not None
        )
        disk.check(self._folder.path, need)

    def _jobs(self, todo: Sequence[Input], rasters: Sequence[Input]) -> Iterator[Job]:
        """Each raster's job, fitted when it is its turn where every raster has its own codebook."""
        if (codebook := self._saved) is not None:
            self._codebooks.announce(codebook, None)
        elif self._config.codebook_scope == "batch":
            codebook = self._codebooks.of_batch(list(rasters), self._kernel) if todo else None
            if codebook is None:
                return
        for raster in todo:
            if self._outcomes.is_over(raster.source.name):
                continue  # in the fit of the batch
            own = codebook or self._codebooks.of_raster(raster, self._kernel)
            if own is not None:
                yield self._job(raster, own)

    def _job(self, raster: Input, codebook: Codebook) -> Job:
        kernel = in_fitted_form(self._kernel, codebook)
        job = job_of(
            self._config,
            raster.source.name,
            raster.view,
            kernel,
            codebook,
            self._folder.path,
            threads=self._pool.threads,
            fingerprint=raster.mark.fingerprint,
            stamp=raster.mark.stamp,
            fallback=on_cpu(kernel) if self._config.device_fallback else None,
            fitted_elsewhere=self._config.codebook is not None or raster.source.name in self._added,
        )
        return restyle_of(job) if raster.source.name in self._restyled else job

    def _drive(self, todo: Sequence[Input], jobs: Iterator[Job]) -> None:
        """Have all tasks done, and book what becomes of each raster."""
        rasters = {raster.source.name: raster for raster in todo}
        relay = Relay(
            self._config, self._observer, self._spending, sum(raster.view.region.pixels for raster in todo)
        )
        if self._retry_bad:
            jobs = (retry_of(job, self._pool, relay.warned) for job in jobs)
        for outcome in schedule.drive(
            jobs,
            self._pool,
            relay.record,
            relay,
            self._config.memory_limit,
        ):
            relay.ended(outcome)
            self._outcomes.end(rasters[outcome.tally.job.name], outcome)
            self._folder.save_now_and_then()
            self._folder.lock.check()

    def _summary(self) -> dict[str, Any]:
        report = self._outcomes.report
        return {
            "counts": report.counts,
            "seconds": round(report.seconds, 3),
            "mpx_per_s": report.mpx_per_s,
            "budget": self._time_shares(),
            "versions": versions(),
        }

    def _time_shares(self) -> dict[str, Any]:
        config, report = self._config, self._outcomes.report
        return self._spending.time_shares(
            report.seconds,
            Setting(
                workers=self._pool.count,
                cores=workers.usable_cores(),
                rasters=len(report.done),
                windows=self._spending.windows,
                method=str(self._kernel.identity["name"]),
                resolution=None if config.model or self._saved else config.resolution,
                device=self._kernel.device,
                chunk_px=config.chunk_size,
                remote=any(is_remote(f) for s in self._opened.sources for f in s.files),
                refitted=config.codebook is None,
            ),
        )
