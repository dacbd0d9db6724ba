"""The tasks that workers do of a job.

A task is a plain function of small values. It may run in any process and twice: what it makes is
durable under its own name and the same bytes each time. Pixels never pass through the coordinator.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from engine.grid import Window, tiles
from engine.kernel import NODATA, Labels
from pipeline import (
    altered,
    bad_map,
    checking,
    damage,
    durable,
    handles,
    jsonfile,
    redo,
    startup,
    stopwatch,
    style,
)
from pipeline.assembly import Assembled
from pipeline.damage import BadBlock
from pipeline.durable import patiently
from pipeline.effort import Effort
from pipeline.errors import RasterError
from pipeline.fitting import NO_VALID_PIXEL
from pipeline.job import Job, Outputs
from pipeline.ledger import Unit
from pipeline.sealed import seal_file
from pipeline.seams import Borders, Seams
from pipeline.sinks import parts
from pipeline.sinks.meaning import Labelled
from pipeline.sinks.pyramid import Stage
from pipeline.sinks.sink import SUFFIXES, sink_of
from pipeline.sinks.written import Beside, Written
from pipeline.workers import cell_threads
from pipeline.workspace import RECORD

T = TypeVar("T")

_BLOCK_BYTES = 64 << 20
_BLOCKS_A_THREAD = 16
_CHECK_PX = 2048


@dataclass(frozen=True, slots=True)
class UnitsDone:
    """What a task reports of units that are durable.

    Parameters
    ----------
    stage
        Their stage.
    written
        Those that were made now, for the ledger.
    chunks
        Of the first stage: how many are done.
    window
        Of the first stage: what was labelled, in pixels of the region.
    bad_chunks
        Chunks of which something could not be read or labelled.
    effort
        Seconds of work.
    """

    stage: int
    written: dict[Unit, Written]
    chunks: int = 0
    window: Window | None = None
    bad_chunks: int = 0
    effort: Effort = field(default_factory=Effort)

    @property
    def pixels(self) -> int:
        """Pixels labelled."""
        return 0 if self.window is None else self.window.pixels


def _patient(task: Callable[..., T]) -> Callable[..., T]:
    """A task that is done again if storage stumbles: its work is the same the second time.

    What still fails then is the workspace, for errors of an input come as its own.
    """

    @functools.wraps(task)
    def patient(job: Job, *arguments: Any) -> T:
        try:
            return patiently(task, job, *arguments)
        except OSError as error:
            raise durable.storage_error(job.folder, error) from error

    return patient


@_patient
def label_window(job: Job, window: Window, recorded: Mapping[Unit, Written]) -> UnitsDone:
    """Label a window and make each of its chunks durable, but for those that are so already."""
    chunks = list(tiles(window, job.chunk_px))
    todo = [c for c in chunks if not _intact(job, 0, job.unit(c), recorded.get(job.unit(c)))]
    written: dict[Unit, Written] = {}
    encode_s, bad_chunks = 0.0, 0
    with stopwatch.task() as watch:
        # a window's chunks were done together or not at all, except where a file was altered since
        for part in [window] if len(todo) == len(chunks) and job.redo is None else todo:
            labels, bad = _labels(job, part)
            labelled = time.perf_counter()
            for chunk in tiles(part, job.chunk_px):
                notes = _note_bad(job, chunk, bad)
                bad_chunks += bool(notes)
                mine = np.ascontiguousarray(labels[chunk.slices(part)])
                written[job.unit(chunk)] = write_unit(job, 0, job.unit(chunk), mine, notes)
            encode_s += time.perf_counter() - labelled
    return UnitsDone(
        0,
        written,
        chunks=len(chunks),
        window=window,
        bad_chunks=bad_chunks,
        effort=Effort(
            read_s=watch[stopwatch.READ],
            label_s=watch[stopwatch.LABEL],
            encode_s=encode_s - watch[stopwatch.WRITE],
            write_s=watch[stopwatch.WRITE],
        ),
    )


@_patient
def blank_window(job: Job, window: Window, reason: str) -> UnitsDone:
    """Make the chunks of a window durable as nodata: they could not be labelled."""
    written: dict[Unit, Written] = {}
    for chunk in tiles(window, job.chunk_px):
        notes = _note_bad(job, chunk, [BadBlock(_absolute(job, chunk), job.view.path, reason, "chunk")])
        nothing = np.full((chunk.height, chunk.width), NODATA, np.uint8)
        written[job.unit(chunk)] = write_unit(job, 0, job.unit(chunk), nothing, notes)
    return UnitsDone(0, written, len(written), window, len(written))


def _note_bad(job: Job, chunk: Window, bad: list[BadBlock]) -> list[Beside]:
    """Keep what of a chunk is bad, before the chunk itself; gives the file of it, if there is such."""
    row, col = job.unit(chunk)
    name = f"bad/{row:05d}_{col:05d}.json"
    path = job.folder / name
    if found := damage.of_chunk(bad, _absolute(job, chunk)):
        data = json.dumps(found, indent=1).encode()
        path.parent.mkdir(exist_ok=True)
        durable.write_bytes(path, data)
        return [(name, data)]
    path.unlink(missing_ok=True)  # of an earlier try that read worse
    return []


def _bad_blocks(job: Job) -> Iterator[BadBlock]:
    for path in sorted((job.folder / "bad").glob("*.json")):
        yield from damage.from_json(jsonfile.read_list(path))


def _absolute(job: Job, window: Window) -> Window:
    """A window of the region in pixels of the raster."""
    region = job.view.region
    return Window(window.row + region.row, window.col + region.col, window.height, window.width)


def write_unit(job: Job, index: int, unit: Unit, labels: Labels, beside: Sequence[Beside] = ()) -> Written:
    """Make a unit of a stage durable, with what is kept beside its labels."""
    return job.sink.write_unit(job.folder, job.stages[index], unit, labels, beside)


def _intact(job: Job, stage: int, unit: Unit, written: Written | None) -> bool:
    return written is not None and parts.intact(job.folder, job.stages[stage], unit, written)


def _labels(job: Job, window: Window) -> tuple[Labels, list[BadBlock]]:
    """Labels of a window of the region, and what in it could not be read."""
    if job.redo is not None and job.unit(window) not in job.redo.units:
        return redo.labels_of(redo.open_labels(job.redo.labels, job.view.region), window), []
    return graph_labels(job, window)


def graph_labels(job: Job, window: Window) -> tuple[Labels, list[BadBlock]]:
    """Labels of a window from the chunk graph, and what in it could not be read."""
    startup.load_graph()
    from dask.local import get_sync
    from dask.threaded import get as get_threaded

    from pipeline import graph

    shared = job.kernel.costly and job.threads > 1
    side = _block_px(job, shared=shared)
    bad: list[BadBlock] = []
    raster = job.view.raster
    by_rows = raster.block_shape[1] > side and side * window.width * raster.pixel_bytes <= _BLOCK_BYTES
    lazy = graph.label_window(
        job.view, job.kernel, job.codebook, _absolute(job, window), side, bad, by_rows=by_rows
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


def _block_px(job: Job, *, shared: bool) -> int:
    """Side of the pieces that a window is labelled in: smaller for many bands or wide dtypes.

    Those that threads share are so many that all threads end at about the same time.
    """
    side, cell = (job.kernel.block_px if shared else job.chunk_px), job.kernel.cell_px
    fewest = _BLOCKS_A_THREAD * job.threads if shared else 0
    while side % (2 * cell) == 0 and (
        side * side * job.view.raster.pixel_bytes > _BLOCK_BYTES
        or job.view.region.pixels < fewest * side * side
    ):
        side //= 2
    return side


@_patient
def merge_unit(job: Job, index: int, unit: Unit, recorded: Written | None) -> UnitsDone:
    """Make a unit of a later stage durable, from the remnants of the stage below, unless it is so already."""
    if _intact(job, index, unit, recorded):
        return UnitsDone(index, {})
    below, stage = job.stages[index - 1 : index + 1]
    labels = parts.merged_remnants(job.folder, stage, unit, below)
    return UnitsDone(index, {unit: write_unit(job, index, unit, labels)})


@_patient
def assemble(job: Job) -> Assembled:
    """Assemble the labels in the workspace.

    Raises
    ------
    RasterError
        If no pixel got a label.
    """
    start = time.perf_counter()
    histogram = job.sink.assemble(job.folder, job.stages, Labelled.of(job.codebook, job.view.georeference))
    if histogram[:NODATA].sum() == 0:
        raise RasterError(job.view.path, NO_VALID_PIXEL)
    checksums = {name: checking.checksum(job.folder / name) for name in job.sink.files}
    return Assembled([int(n) for n in histogram], checksums, time.perf_counter() - start)


@_patient
def is_there(job: Job, known: Assembled) -> bool:
    """Whether the sink's files in the workspace are what is known of them."""
    places = {name: job.folder / name for name in job.sink.files}
    if known.checksums.keys() != places.keys() or not all(path.exists() for path in places.values()):
        return False
    return all(checking.checksum(path) == known.checksums[name] for name, path in places.items())


@_patient
def is_intact(job: Job, index: int, unit: Unit, recorded: Written | None) -> bool:
    """Whether a unit of a stage is still what was recorded of it."""
    return _intact(job, index, unit, recorded)


def checks(job: Job) -> Iterator[tuple[int, Window]]:
    """What `check` is to be called with, so that all of the assembled labels is checked; in a fixed order."""
    for stage in job.stages:
        for window in tiles(Window(0, 0, stage.height, stage.width), _check_side(stage)):
            yield stage.index, window


def checks_of(job: Job, window: Window) -> Iterator[int]:
    """The numbers, in their order, of the `checks` of full resolution in which a window's chunks are."""
    stage = job.stages[0]
    side = _check_side(stage)
    cols = -(-stage.width // side)
    for row in range(window.row // side, -(-(window.row + window.height) // side)):
        for col in range(window.col // side, -(-(window.col + window.width) // side)):
            yield row * cols + col


def _check_side(stage: Stage) -> int:
    return max(1, _CHECK_PX // stage.unit_px) * stage.unit_px


@_patient
def check(job: Job, index: int, window: Window) -> Seams:
    """Compare a window of the assembled labels, at a stage's levels, with what was written of its units.

    Raises
    ------
    RasterError
        If they differ.
    """
    startup.load_compiled()
    stage = job.stages[index]
    units = [(w.row // stage.unit_px, w.col // stage.unit_px) for w in tiles(window, stage.unit_px)]
    expected = {u: parts.read_index(parts.part_path(job.folder, stage, u)).checksums for u in units}
    borders = Borders.of(job.kernel.cell_px, job.kernel.stride_px) if index == 0 else None
    path = job.folder / job.sink.raster
    try:
        return checking.check_window(path, stage, window, expected, borders)
    finally:
        if not durable.MOVES_OPEN_FILES:
            handles.forget(str(path))  # `publish` moves it


@_patient
def finish(job: Job, record: dict[str, Any], assembled: Assembled, seams: Seams) -> dict[str, Any]:
    """Write what goes with the assembled labels, all in the workspace; gives the raster's record.

    Raises
    ------
    AlteredError
        If the input is another one than when the run began.
    """
    start = time.perf_counter()
    histogram = assembled.histogram
    meaning = Labelled.of(job.codebook, job.view.georeference)
    place = Outputs(job.folder, job.name, job.sink)
    durable.write_bytes(place.png, style.quicklook(job.folder / job.sink.raster, meaning.style))
    durable.write_bytes(place.qml, style.qml(meaning.style).encode())
    # the labels take their name last of what shows them; what is bad in them is known when they are there
    before, after = [place.png.name, place.qml.name], []
    if bad := list(_bad_blocks(job)):
        durable.write_json(place.bad, bad_map.geojson(bad, job.view.raster.georeference, job.name))
        after.append(place.bad.name)
    checksums = {name: checking.checksum(job.folder / name) for name in before + after}
    checksums |= assembled.checksums
    own = Outputs(job.out, job.name, job.sink).codebook
    if own.exists():
        checksums[own.name] = checking.checksum(own)
    record = {
        **record,
        "files": [*before, *job.sink.files, *after],
        "checksums": checksums,
        "labels": {str(i): histogram[i] for i in range(job.codebook.segments)},
        "nodata_pixels": histogram[NODATA],
        "bad_chunks": len(list((job.folder / "bad").glob("*.json"))),
        "seam_score": seams.score,
        "seam_score_error": seams.error,
        "assemble_s": round(assembled.seconds + time.perf_counter() - start, 3),
    }
    mark = altered.Mark(job.fingerprint, job.stamp)
    altered.refuse(job.view.raster, mark, tolerant=job.view.tolerant)
    durable.write_json(job.folder / RECORD, record)
    seal_file(job.folder / RECORD)
    return record


@_patient
def publish(job: Job) -> dict[str, Any]:
    """Move a raster's finished files into OUT, the record last; may be done again after it was cut short."""
    path = job.folder / RECORD
    record = jsonfile.read_object(path)
    place = Outputs(job.out, job.name, job.sink)
    for former in _in_other_formats(place):  # while the record that names them is there
        durable.remove(former)
    # labels that are half replaced do not pass for done with the record of the former ones
    if place.json.exists():
        place.json.unlink()
        durable.sync_folder(job.out)
    for name in record["files"]:
        if (job.folder / name).exists():
            durable.move(job.folder / name, job.out / name)
    if place.bad.name not in record["files"]:
        place.bad.unlink(missing_ok=True)  # of what has been made good since
    durable.move(path, place.json)
    return record


def _in_other_formats(place: Outputs) -> list[Path]:
    """Files of a raster's former labels that those of this sink do not replace by their names."""
    try:
        former = {str(name) for name in jsonfile.read_object(place.json)["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return []
    # a record is data: it may not name what is no output of this raster
    names = {name for suffix in SUFFIXES.values() for name in sink_of(place.name + suffix).files}
    return [place.out / name for name in sorted((names & former) - set(place.sink.files))]
