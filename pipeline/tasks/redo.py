"""Doing a part of a finished raster again: which chunks that takes, and the labels of all the others.

Where only the colours or names of classes are others, that is no chunk at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.grid import Window, tiles
from pipeline.durable.checksums import checksum
from pipeline.errors import RasterError
from pipeline.out.bad_map import bad_of
from pipeline.out.outputs import Outputs
from pipeline.out.record import RasterRecord
from pipeline.source.opening import open_any
from pipeline.source.raster import Raster
from pipeline.source.reading import BadBlock
from pipeline.tasks.job import Job, Redo
from pipeline.workers.pool import Pool

_WINDOWS = 24


def redo_of(job: Job) -> Redo | None:
    """What of a job's finished labels can be kept; None where all has to be made anew.

    They are kept only if they and the map of what is bad in them are what the record says, and were made
    with the job's codebook.
    """
    place = Outputs(job.out, job.name, job.sink)
    try:
        if not _are_sound(job, (place.labels, place.bad)):
            return None
        again = affected(bad_of(place.bad), job.view.region, job.chunk_px, job.halo_px)
    except (OSError, ValueError, RasterError):
        return None
    return Redo(place.labels, frozenset(job.unit(chunk) for chunk in again))


def restyle_of(job: Job) -> Job:
    """The same job with all of its finished labels kept, if they are what their record says."""
    place = Outputs(job.out, job.name, job.sink)
    try:
        sound = _are_sound(job, (place.labels, *([place.bad] if place.bad.exists() else [])))
    except (OSError, ValueError):
        return job
    return replace(job, redo=Redo(place.labels, frozenset())) if sound else job


def _are_sound(job: Job, paths: Iterable[Path]) -> bool:
    """Whether finished files are what their record says, and were made as the job would make them."""
    record = RasterRecord.read(Outputs(job.out, job.name, job.sink).json)
    if record.codebook_hash != job.codebook.content_hash or record.smoothing != job.smoothing:
        return False
    return all(checksum(path) == record.checksums.get(path.name) for path in paths)


def kept_bad(job: Job) -> list[BadBlock]:
    """What is bad in the finished labels of a job."""
    path = Outputs(job.out, job.name, job.sink).bad
    return list(bad_of(path)) if path.exists() else []


def affected(bad: Iterable[BadBlock], region: Window, chunk_px: int, halo_px: int) -> list[Window]:
    """The chunks whose labels depend on bad blocks.

    Parameters
    ----------
    bad
        In absolute pixels.
    region
        The part of the raster that has labels, absolute; chunks are counted from its corner.
    chunk_px
        Side of a chunk.
    halo_px
        Pixels beyond a chunk that its labels depend on. A block that could not be decoded reaches that
        far; a chunk that could not be labelled reaches no other.

    Returns
    -------
    list of Window
        In pixels of the region, row by row.
    """
    found: set[tuple[int, int]] = set()
    for block in bad:
        px = halo_px if block.kind == "source block" else 0
        rows = _reached(
            block.window.row - px, block.window.row_end + px, region.row, region.row_end, chunk_px
        )
        cols = _reached(
            block.window.col - px, block.window.col_end + px, region.col, region.col_end, chunk_px
        )
        found.update((row, col) for row in rows for col in cols)
    return [
        Window(row, col, min(chunk_px, region.height - row), min(chunk_px, region.width - col))
        for row, col in sorted(found)
    ]


def _reached(start: int, end: int, first: int, last: int, side: int) -> range:
    """Where the chunks begin, counted from `first`, that an interval touches between `first` and `last`."""
    start, end = max(start, first) - first, min(end, last) - first
    return range(start // side * side, end, side) if start < end else range(0)


def open_labels(path: Path, region: Window) -> Raster:
    """The finished labels of a region.

    Parameters
    ----------
    path
        The COG or the Zarr store itself: GDAL reads a VRT of a damaged store as zeros.
    region
        What they are labels of.

    Raises
    ------
    RasterError
        If it cannot be opened, or holds something else.
    """
    labels = open_any(path)
    if (labels.height, labels.width) != (region.height, region.width) or labels.dtype != "uint8":
        raise RasterError(str(path), "is not what the record says; run again with --overwrite")
    return labels


def labels_of(labels: Raster, window: Window) -> npt.NDArray[np.uint8]:
    """The labels of a window, in pixels of the region, 255 where there is none.

    Raises
    ------
    RasterError
        If they cannot be read.
    """
    return np.ascontiguousarray(labels.read(window)[0][0])


def retry_of(job: Job, pool: Pool, warn: Callable[[str], None]) -> Job:
    """The same job, of which only bad chunks are done again if its finished labels can be kept.

    Parameters
    ----------
    job
        The raster's job.
    pool
        Computes windows again.
    warn
        Hears why labels are not kept.
    """
    return replace(job, redo=_kept(job, pool, warn))


def _kept(job: Job, pool: Pool, warn: Callable[[str], None]) -> Redo | None:
    """What can be kept of a job's finished labels; None where all of them have to be computed again.

    If the input has another fingerprint than that of the labels, some windows of what would be kept are
    computed again first. If one differs, or none can be compared, nothing is kept.
    """
    redo = redo_of(job)
    place = Outputs(job.out, job.name, job.sink)
    if redo is None or RasterRecord.read(place.json).input.fingerprint == job.fingerprint:
        return redo
    from pipeline.check.recomputed import Recipe, differences

    region = job.view.region
    again = tuple(
        Window(chunk.row + region.row, chunk.col + region.col, chunk.height, chunk.width)
        for chunk in tiles(Window(0, 0, region.height, region.width), job.chunk_px)
        if job.unit(chunk) in redo.units
    )
    recipe = Recipe(
        labels=job.out / job.sink.raster,
        view=job.view,
        kernel=job.kernel,
        codebook=job.codebook,
        chunk_px=job.chunk_px,
        smoothing=job.smoothing,
        unlabelled=again,
    )
    try:
        compared, wrong = differences(recipe, _WINDOWS, f"{job.name} {job.fingerprint}", pool)
    except RasterError:
        return redo  # what cannot be read is told of when it is labelled
    if not wrong and compared:
        return redo
    if wrong:
        warn(f"{wrong[0]}; the input is another one now, and all of its labels are made anew")
    return None
