"""Labelling: a window's chunks, read, labelled, encoded and made durable."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from engine.grid import Window, tiles
from engine.kernel import NODATA, Labels
from pipeline import out_names
from pipeline.cost import timing
from pipeline.durable.checksums import Beside, FileDigest
from pipeline.durable.files import MOVES_OPEN_FILES, write_bytes
from pipeline.durable.ledger import Unit
from pipeline.graph.preloading import load_graph
from pipeline.source import bad_blocks
from pipeline.source.gdal import handles
from pipeline.source.reading import BadBlock
from pipeline.tasks import redo, units
from pipeline.tasks.job import Job
from pipeline.tasks.units import UnitsDone, intact, retried
from pipeline.workers.threads import cell_threads

_BLOCK_BYTES = 64 << 20


_BLOCKS_A_THREAD = 16


@retried
def label_window(job: Job, window: Window, recorded: Mapping[Unit, FileDigest]) -> UnitsDone:
    """Label a window and make each of its chunks durable, but for those that are so already."""
    chunks = list(tiles(window, job.chunk_px))
    todo = [c for c in chunks if not intact(job, 0, job.unit(c), recorded.get(job.unit(c)))]
    digests: dict[Unit, FileDigest] = {}
    encode_s, bad_chunks = 0.0, 0
    with timing.task() as watch:
        # a window's chunks were done together or not at all, except where a file was altered since
        for part in [window] if len(todo) == len(chunks) and job.redo is None else todo:
            labels, bad = _labels(job, part)
            labelled = time.perf_counter()
            for chunk in tiles(part, job.chunk_px):
                notes = _note_bad(job, chunk, bad)
                bad_chunks += bool(notes)
                mine = np.ascontiguousarray(labels[chunk.slices(part)])
                digests[job.unit(chunk)] = units.write_unit(job, 0, job.unit(chunk), mine, notes)
            encode_s += time.perf_counter() - labelled
    return UnitsDone(
        0,
        digests,
        chunks=len(chunks),
        window=window,
        bad_chunks=bad_chunks,
        effort=timing.effort_of(watch, encode_s),
    )


@retried
def blank_window(job: Job, window: Window, reason: str) -> UnitsDone:
    """Make the chunks of a window durable as nodata: they could not be labelled."""
    digests: dict[Unit, FileDigest] = {}
    for chunk in tiles(window, job.chunk_px):
        notes = _note_bad(job, chunk, [BadBlock(in_raster(job, chunk), job.view.path, reason, "chunk")])
        nothing = np.full((chunk.height, chunk.width), NODATA, np.uint8)
        digests[job.unit(chunk)] = units.write_unit(job, 0, job.unit(chunk), nothing, notes)
    return UnitsDone(0, digests, len(digests), window, len(digests))


def _note_bad(job: Job, chunk: Window, bad: list[BadBlock]) -> list[Beside]:
    """Keep what of a chunk is bad, before the chunk itself; gives the file of it, if there is such."""
    return keep_notes(job, chunk, bad_blocks.of_chunk(bad, in_raster(job, chunk)))


def keep_notes(job: Job, chunk: Window, notes: list[dict[str, Any]]) -> list[Beside]:
    """Keep notes of what of a chunk is bad, before the chunk itself; gives their file, if there are any."""
    row, col = job.unit(chunk)
    name = f"{out_names.BAD}/{row:05d}_{col:05d}.json"
    path = job.folder / name
    if notes:
        data = json.dumps(notes, indent=1).encode()
        path.parent.mkdir(exist_ok=True)
        write_bytes(path, data)
        return [(name, data)]
    path.unlink(missing_ok=True)  # of an earlier try that read worse
    return []


def in_raster(job: Job, window: Window) -> Window:
    """A window of the region in pixels of the raster."""
    region = job.view.region
    return Window(window.row + region.row, window.col + region.col, window.height, window.width)


def _labels(job: Job, window: Window) -> tuple[Labels, list[BadBlock]]:
    """Labels of a window of the region, and what in it could not be read."""
    if job.redo is not None and job.unit(window) not in job.redo.units:
        return kept_labels(job, window)
    return graph_labels(job, window)


def kept_labels(job: Job, window: Window) -> tuple[Labels, list[BadBlock]]:
    """Labels of a window of the region from those that are finished, and what is bad in them."""
    if job.redo is None:
        raise ValueError(f"{job.name} keeps no labels")
    labels = redo.labels_of(redo.open_labels(job.redo.labels, job.view.region), window)
    if not MOVES_OPEN_FILES:
        handles.forget(str(job.redo.labels))  # `publish` replaces it
    return labels, redo.kept_bad(job)


def graph_labels(job: Job, window: Window) -> tuple[Labels, list[BadBlock]]:
    """Labels of a window from the chunk graph, and what in it could not be read."""
    load_graph()
    from dask.local import get_sync
    from dask.threaded import get as get_threaded

    from pipeline.graph import label_graph as graph

    shared = job.kernel.costly and job.threads > 1
    side = _dask_block_px(job, shared=shared)
    bad: list[BadBlock] = []
    raster = job.view.raster
    by_rows = raster.block_shape[1] > side and side * window.width * raster.pixel_bytes <= _BLOCK_BYTES
    lazy = graph.label_window(
        job.view, job.kernel, job.codebook, in_raster(job, window), side, bad, by_rows=by_rows
    )
    if shared:
        labels = np.asarray(lazy.compute(scheduler=get_threaded, pool=cell_threads(job.threads)))
    else:
        # a function and not its name: a name has Dask import all of distributed first
        labels = np.asarray(lazy.compute(scheduler=get_sync))
    return labels, bad


def smaller(job: Job, *what: Any) -> list[tuple[Any, ...]]:
    """The arguments of a task that was too much for its worker: of a window, those of each of its chunks."""
    if what and isinstance(what[0], Window):
        window, recorded = what
        return [(job, chunk, recorded) for chunk in tiles(window, job.chunk_px)]
    return [(job, *what)]


def _dask_block_px(job: Job, *, shared: bool) -> int:
    """Side of the pieces that a window is labelled in: smaller for many bands or wide dtypes.

    Those that threads share are so many that all threads end at about the same time.
    """
    side, cell = (job.kernel.window_px if shared else job.chunk_px), job.kernel.cell_px
    fewest = _BLOCKS_A_THREAD * job.threads if shared else 0
    while side % (2 * cell) == 0 and (
        side * side * job.view.raster.pixel_bytes > _BLOCK_BYTES
        or job.view.region.pixels < fewest * side * side
    ):
        side //= 2
    return side
