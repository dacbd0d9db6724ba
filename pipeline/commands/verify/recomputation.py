"""Whether a sample of a raster's labels is what its input gives."""

from __future__ import annotations

from dataclasses import replace

from engine.grid import Window
from pipeline.check.recomputed import Recipe, differences
from pipeline.commands.verify.damage import Finished
from pipeline.commands.verify.raster_report import RasterReport
from pipeline.commands.verify.reopened import Reopened
from pipeline.config import RunConfig
from pipeline.errors import TilewrightError, one_line
from pipeline.kernels import kernel_for_run
from pipeline.out.bad_map import bad_of
from pipeline.out.outputs import Outputs
from pipeline.running.inputs import Input
from pipeline.versions import versions
from pipeline.workers.pool import Pool


def recompute(
    finished: Finished,
    region: Window,
    reopened: Reopened,
    report: RasterReport,
    config: RunConfig,
    sample: int,
    pool: Pool,
) -> None:
    """Label a sample again; an input that is gone or another one now proves nothing, and is noted.

    Parameters
    ----------
    finished, region
        The raster, and the part of it that has labels.
    reopened
        The inputs.
    report
        What is wrong and what is to be noted is added to it.
    config
        The run's.
    sample
        Number of windows.
    pool
        Labels.
    """
    record = finished.record
    opened = reopened.inputs.get(finished.state.source)
    if opened is None:
        report.unproved = True
        report.notes.append(
            f"nothing recomputed, for the input is not there ({reopened.missing(finished.state.source)})"
        )
    elif opened.fingerprint != record.input.fingerprint:
        report.unproved = True
        report.notes.append(f"nothing recomputed, for the input has changed since ({finished.state.source})")
    elif opened.view.region != region:
        report.wrong.append(f"{finished.outputs.json}: its region is not that of {finished.state.source}")
    else:
        try:
            _compare(finished, opened, report, config, sample, pool)
        except TilewrightError as error:
            report.unproved = True
            report.notes.append(f"nothing recomputed ({one_line(error)})")


def _compare(
    finished: Finished, opened: Input, report: RasterReport, config: RunConfig, sample: int, pool: Pool
) -> None:
    record, codebook = finished.record, finished.codebook
    recipe = Recipe(
        labels=finished.labels,
        # as it was for these labels, whatever a later run was asked for
        view=replace(opened.view, tolerant=record.parameters.get("on_bad_chunk") == "nodata"),
        kernel=kernel_for_run(config, codebook),
        codebook=codebook,
        chunk_px=int(record.parameters["chunk_size"]),
        smoothing=record.smoothing,
        unlabelled=_unlabelled(finished.outputs),
    )
    seed = f"{config.seed} {report.name} {opened.fingerprint}"
    report.recomputed, wrong = differences(recipe, sample, seed, pool)
    if wrong and record.versions != versions():
        # labels are promised to be equal under one set of versions alone
        report.notes.append(f"made with other versions of libraries, and differs: {wrong[0]}")
    else:
        report.wrong += wrong


def _unlabelled(outputs: Outputs) -> tuple[Window, ...]:
    """The chunks of a raster that killed their workers: nobody labels them again."""
    bad = bad_of(outputs.bad) if outputs.bad.exists() else []
    return tuple(block.window for block in bad if block.kind == "chunk")
