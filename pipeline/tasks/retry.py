"""What a retry of bad chunks may keep: the input was fetched again, and may be another one by now."""

from __future__ import annotations

from collections.abc import Callable

from engine.grid import Window, tiles
from pipeline.durable.bounded_json import read_object
from pipeline.errors import RasterError
from pipeline.tasks.job import Job, Outputs, Redo
from pipeline.tasks.redo import redo_of
from pipeline.workers.pool import Pool

_WINDOWS = 24


def kept(job: Job, pool: Pool, warn: Callable[[str], None]) -> Redo | None:
    """What can be kept of a job's finished labels; None where all is made anew.

    Of an input that has another fingerprint than that of the labels, some windows of what would be kept are
    made anew first. If one differs, or none can be compared, nothing is kept.

    Parameters
    ----------
    job
        The raster's job.
    pool
        Makes the windows.
    warn
        Hears why labels are not kept.
    """
    redo = redo_of(job)
    place = Outputs(job.out, job.name, job.sink)
    if redo is None or read_object(place.json)["input"]["fingerprint"] == job.fingerprint:
        return redo
    from pipeline.check.recomputed import Recipe, differences

    region = job.view.region
    again = tuple(
        Window(chunk.row + region.row, chunk.col + region.col, chunk.height, chunk.width)
        for chunk in tiles(Window(0, 0, region.height, region.width), job.chunk_px)
        if job.unit(chunk) in redo.units
    )
    recipe = Recipe(job.out / job.sink.raster, job.view, job.kernel, job.codebook, job.chunk_px, again)
    try:
        compared, wrong = differences(recipe, _WINDOWS, f"{job.name} {job.fingerprint}", pool)
    except RasterError:
        return redo  # what cannot be read is told of when it is labelled
    if not wrong and compared:
        return redo
    if wrong:
        warn(f"{wrong[0]}; the input is another one now, and all of its labels are made anew")
    return None
