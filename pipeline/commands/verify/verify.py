"""`verify`: whether all that a finished OUT holds is whole, and is what its inputs give."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

from engine.codebook import Codebook
from engine.grid import Window
from pipeline import out_names
from pipeline.commands.verify.damage import Finished, check_labels, file_problems, style_notes
from pipeline.commands.verify.raster_report import RasterReport
from pipeline.commands.verify.recomputation import recompute
from pipeline.commands.verify.record_checks import (
    expected_labels,
    problems,
    read_record,
    recorded_codebook,
)
from pipeline.commands.verify.reopened import Reopened, reopen
from pipeline.durable import lock
from pipeline.errors import RasterError, TilewrightError, one_line
from pipeline.events.kinds import RasterAdvanced, RasterVerified, Working
from pipeline.events.observer import Observer, Opening
from pipeline.kernels import kernel_for_run
from pipeline.out.outputs import Outputs
from pipeline.out.run_file import DAMAGED, RasterState, run_of
from pipeline.workers.pool import Pool


class Verification:
    """A finished OUT that is verified raster by raster.

    Parameters
    ----------
    out
        The folder.
    sample
        Windows of each raster to label again from the input; 0 needs no inputs.
    pool
        Reads and labels.
    observer
        Hears of events.

    Raises
    ------
    UsageError
        If the folder holds no run.
    RasterError
        If its run.json is damaged.
    """

    def __init__(self, out: str | Path, sample: int, pool: Pool, observer: Observer) -> None:
        self._out = Path(out)
        self._sample = sample
        self._pool = pool
        self._observer = observer
        self._start = time.monotonic()
        self._run, self._config = run_of(self._out)

    def reports(self) -> Iterator[RasterReport]:
        """The report on each raster, in order."""
        for index, state in enumerate(self._run.rasters):
            report = RasterReport(state.name, state.state)
            try:
                self._look(report, state, index)
            except TilewrightError as error:
                report.wrong.append(one_line(error))
            self._observer.event(RasterVerified(state.name, report.ok))
            yield report

    def _look(self, report: RasterReport, state: RasterState, index: int) -> None:
        if state.state == "skipped":
            report.notes.append(state.reason or "")
            return
        if state.state != "done":
            what = f"failed in the run ({state.error})" if state.state == "failed" else "not done yet"
            todo = "wait for the run at work there" if lock.alive(self._out) else "run the same command again"
            report.wrong.append(f"{state.source}: {what}; {todo}")
            return
        self._observer.event(Working(f"{state.name}: comparing its files with their checksums"))
        finished = self._finished(state)
        outputs, record, codebook = finished.outputs, finished.record, finished.codebook
        report.wrong += problems(outputs.json, record, state, codebook, self._config)
        report.wrong += file_problems(finished)
        report.notes += style_notes(finished)
        if report.wrong:
            return  # what is altered need not be decoded to say so
        expected, region = expected_labels(outputs.json, record, codebook)
        right = check_labels(finished, expected, report, self._pool, self._advance(state.name, region, index))
        if self._sample and right:
            self._observer.event(Working(f"{state.name}: labelling some windows again"))
            recompute(finished, region, self._reopened, report, self._config, self._sample, self._pool)

    def _finished(self, state: RasterState) -> Finished:
        config = self._config
        try:
            outputs = Outputs.named(self._out, state.name, config.format, config.zarr_version)
        except ValueError as error:
            raise RasterError(str(self._out / out_names.RUN), f"{error}; {DAMAGED}") from None
        record = read_record(outputs.json)
        own = config.codebook_scope == "raster" and config.codebook is None
        codebook = recorded_codebook(outputs.codebook) if own else self._batch_codebook
        return Finished(state, outputs, record, codebook, own)

    @cached_property
    def _batch_codebook(self) -> Codebook:
        return recorded_codebook(self._out / out_names.CODEBOOK)

    @cached_property
    def _reopened(self) -> Reopened:
        config = self._config
        try:
            codebook = self._batch_codebook if config.codebook else None
            cell_px = kernel_for_run(config, codebook).cell_px
        except TilewrightError as error:
            return Reopened(reason=one_line(error))
        return reopen(config, self._run, self._pool, cell_px, codebook, Opening(self._observer))

    def _advance(self, name: str, region: Window, index: int) -> Callable[[int, int], None]:
        start = time.monotonic()

        def advance(done: int, total: int) -> None:
            now = time.monotonic()
            seconds, count = max(1e-6, now - start), len(self._run.rasters)
            rasters = index + done / total
            self._observer.event(
                RasterAdvanced(
                    raster=name,
                    chunks_done=done,
                    chunks=total,
                    mpx_per_s=round(region.pixels * done / total / seconds / 1e6, 2),
                    eta_s=round(seconds / done * (total - done), 1),
                    batch_done=round(rasters, 3),
                    batch_pixels=count,
                    batch_eta_s=round((now - self._start) / rasters * (count - rasters), 1),
                )
            )

        return advance
