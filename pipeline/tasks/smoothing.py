"""Smoothing: raw labels of chunks, kept for their neighbours, and what is made of them when all are there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from engine.grid import Window, tiles
from engine.kernel import NODATA, Labels
from engine.labels.smoothing import Smoothing
from pipeline.cost import timing
from pipeline.durable.checksums import FileDigest
from pipeline.durable.ledger import RAW_STAGE, Unit
from pipeline.source import bad_blocks
from pipeline.source.reading import BadBlock
from pipeline.tasks import labelling, raw_units, units
from pipeline.tasks.job import Job
from pipeline.tasks.units import UnitsDone, intact, retried


@retried
def label_raw(job: Job, window: Window, recorded: Mapping[Unit, FileDigest]) -> UnitsDone:
    """Label a window and keep each of its chunks, but for those that are kept already, or not needed."""
    chunks = list(tiles(window, job.chunk_px))
    needed = [c for c in chunks if _is_needed(job, job.unit(c))]
    todo = [c for c in needed if not raw_units.intact(job.folder, job.unit(c), recorded.get(job.unit(c)))]
    digests: dict[Unit, FileDigest] = {}
    encode_s, bad_chunks = 0.0, 0
    with timing.task() as watch:
        for part in [window] if len(todo) == len(chunks) else todo:
            around = with_margin(job, part)
            labels, bad = labelling.graph_labels(_everywhere(job), around)
            labelled = time.perf_counter()
            for chunk in tiles(part, job.chunk_px):
                mine = with_margin(job, chunk)
                notes = bad_blocks.of_chunk(bad, labelling.in_raster(job, chunk))
                bad_chunks += bool(notes)
                digests[job.unit(chunk)] = raw_units.write(
                    job.folder, job.unit(chunk), mine, labels[mine.slices(around)], notes
                )
            encode_s += time.perf_counter() - labelled
    return UnitsDone(
        RAW_STAGE,
        digests,
        chunks=len(chunks),
        window=window,
        bad_chunks=bad_chunks,
        effort=timing.effort_of(watch, encode_s),
    )


@retried
def blank_raw(job: Job, window: Window, reason: str) -> UnitsDone:
    """Keep the chunks of a window as nodata: they could not be labelled."""
    digests: dict[Unit, FileDigest] = {}
    for chunk in tiles(window, job.chunk_px):
        mine, place = with_margin(job, chunk), labelling.in_raster(job, chunk)
        notes = bad_blocks.to_json([BadBlock(place, job.view.path, reason, "chunk")])
        labels = raw_units.nothing(mine)
        digests[job.unit(chunk)] = raw_units.write(job.folder, job.unit(chunk), mine, labels, notes)
    return UnitsDone(RAW_STAGE, digests, len(digests), window, len(digests))


@retried
def smooth_window(job: Job, window: Window, recorded: Mapping[Unit, FileDigest]) -> UnitsDone:
    """Make the chunks of a window durable, smoothed, but for those that are so already."""
    digests: dict[Unit, FileDigest] = {}
    encode_s = 0.0
    chunks = list(tiles(window, job.chunk_px))
    todo = [c for c in chunks if not intact(job, 0, job.unit(c), recorded.get(job.unit(c)))]
    with timing.task() as watch:
        for part in [window] if len(todo) == len(chunks) and job.redo is None else todo:
            if job.redo is not None and job.unit(part) not in job.redo.units:
                labels, bad = labelling.kept_labels(job, part)
                notes = {job.unit(part): bad_blocks.of_chunk(bad, labelling.in_raster(job, part))}
            else:
                labels = _smoothed(job, part)
                inside = tiles(part, job.chunk_px)
                notes = {job.unit(c): raw_units.bad_of(job.folder, job.unit(c)) for c in inside}
            smoothed = time.perf_counter()
            for chunk in tiles(part, job.chunk_px):
                beside = labelling.keep_notes(job, chunk, notes[job.unit(chunk)])
                mine = np.ascontiguousarray(labels[chunk.slices(part)])
                digests[job.unit(chunk)] = units.write_unit(job, 0, job.unit(chunk), mine, beside)
            encode_s += time.perf_counter() - smoothed
    return UnitsDone(0, digests, window=window, effort=timing.effort_of(watch, encode_s))


def with_margin(job: Job, window: Window) -> Window:
    """A window of the region, with what beyond the region its smoothed labels depend on.

    Beyond the region there are whole cells, or blocks, as a kernel labels them.
    """
    region, around = job.view.region, job.around
    row, row_end, col, col_end = window.row, window.row_end, window.col, window.col_end
    if row == 0:
        row -= region.row - around.row
    if col == 0:
        col -= region.col - around.col
    if row_end == region.height:
        row_end += around.row_end - region.row_end
    if col_end == region.width:
        col_end += around.col_end - region.col_end
    return Window(row, col, row_end - row, col_end - col)


def _everywhere(job: Job) -> Job:
    """The same job without an area of interest: labels beyond it take part in those inside."""
    return replace(job, view=replace(job.view, area=None))


def _is_needed(job: Job, unit: Unit) -> bool:
    """Whether the raw labels of a chunk take part in those that are made."""
    if job.redo is None:
        return True
    steps = range(-(reach := -(-_of(job).halo_px // job.chunk_px)), reach + 1)
    return any((unit[0] + i, unit[1] + j) in job.redo.units for i in steps for j in steps)


def _smoothed(job: Job, window: Window) -> Labels:
    """Smoothed labels of a window of the region, nodata outside of the area of interest."""
    region, around, smoothing = job.view.region, job.around, _of(job)
    bounds = Window(around.row - region.row, around.col - region.col, around.height, around.width)
    outer = window.grow(smoothing.halo_px, bounds)
    labels = raw_units.nothing(outer)
    side, stage = job.chunk_px, job.stages[0]
    for row in range(max(0, outer.row // side), min(stage.rows, -(-outer.row_end // side))):
        for col in range(max(0, outer.col // side), min(stage.cols, -(-outer.col_end // side))):
            raw_units.read_into(labels, outer, job.folder, (row, col))
    with timing.measure(timing.LABEL):
        labels = smoothing.of_core(labels, outer, window)
    if (inside := job.view.inside(labelling.in_raster(job, window))) is not None:
        labels[~inside] = NODATA
    return labels


def _of(job: Job) -> Smoothing:
    if job.smoothing is None:
        raise ValueError(f"{job.name} is not to be smoothed")
    return job.smoothing
