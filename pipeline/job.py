"""One raster's work: what there is to do, and the tasks that workers do of it.

A task is a plain function of small values. It may run in any process and twice: what it makes is
durable under its own name and the same bytes each time. Pixels never pass through the coordinator.
"""

from __future__ import annotations

import functools
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from engine.codebook import Codebook
from engine.grid import Window, tiles
from engine.kernel import Kernel, Labels
from pipeline import durable, stopwatch, style
from pipeline.durable import patiently
from pipeline.errors import RasterError
from pipeline.fitting import NO_VALID_PIXEL
from pipeline.ledger import Unit
from pipeline.sinks import parts
from pipeline.sinks.meaning import Labelled
from pipeline.sinks.parts import Written
from pipeline.sinks.pyramid import Stage, stages
from pipeline.sinks.sink import Sink
from pipeline.versions import versions
from pipeline.view import View
from pipeline.workers import cell_threads
from pipeline.workspace import RECORD

# a task of about this side: small chunks go together, so that the coordinator's cost stays small
_WINDOW_PX = 2048
_BLOCK_BYTES = 64 << 20
T = TypeVar("T")
_importing = threading.Lock()


@dataclass(frozen=True)
class Job:
    """One raster to segment with one codebook.

    Parameters
    ----------
    name
        Name of the outputs.
    view
        The raster and which part of it.
    kernel, codebook
        What labels it, and the frozen centres.
    chunk_px
        Side of a chunk, a multiple of 512.
    out
        Folder of the outputs.
    sink
        What makes files of the labels.
    threads
        Threads of a worker's process that share the cells of costly windows.
    fingerprint
        Tells this state of the input from another.
    """

    name: str
    view: View
    kernel: Kernel
    codebook: Codebook
    chunk_px: int
    out: Path
    sink: Sink
    threads: int = 1
    fingerprint: str = ""

    @property
    def identity(self) -> dict[str, Any]:
        """What the bytes of its work in progress depend on, as JSON values."""
        region, area = self.view.region, self.view.area
        return {
            "input": self.fingerprint,
            "codebook": self.codebook.content_hash,
            "region": [region.row, region.col, region.height, region.width],
            "area": None if area is None else area.digest,
            "chunk_px": self.chunk_px,
            "sink": repr(self.sink),
            "versions": versions(),
        }

    @property
    def folder(self) -> Path:
        """Where work in progress lives."""
        return self.out / ".partial" / self.name

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of the pyramid; the units of the first are the chunks."""
        return stages(self.view.region.height, self.view.region.width, self.chunk_px)

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return self.stages[0].rows * self.stages[0].cols

    def unit(self, chunk: Window) -> Unit:
        """The unit that a chunk of the region is."""
        return chunk.row // self.chunk_px, chunk.col // self.chunk_px

    def windows(self) -> Iterator[Window]:
        """What one task does each, in pixels of the region: a chunk, or a few small ones. Never listed."""
        region = Window(0, 0, self.view.region.height, self.view.region.width)
        return tiles(region, max(1, _WINDOW_PX // self.chunk_px) * self.chunk_px)


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
    read_s, label_s, encode_s, write_s
        Seconds of each kind of work, summed over the threads that did it.
    """

    stage: int
    written: dict[Unit, Written]
    chunks: int = 0
    window: Window | None = None
    read_s: float = 0.0
    label_s: float = 0.0
    encode_s: float = 0.0
    write_s: float = 0.0

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
    # a chunk was done or not by a whole window, except where a file was altered since
    parts_of = [window] if len(todo) == len(chunks) else todo
    written: dict[Unit, Written] = {}
    encode_s = 0.0
    with stopwatch.task() as watch:
        for part in parts_of:
            labels = _labels(job, part)
            labelled = time.perf_counter()
            for chunk in tiles(part, job.chunk_px):
                mine = np.ascontiguousarray(labels[chunk.slices(part)])
                written[job.unit(chunk)] = write_unit(job, 0, job.unit(chunk), mine)
            encode_s += time.perf_counter() - labelled
    write_s = watch[stopwatch.WRITE]
    read_s, label_s = watch[stopwatch.READ], watch[stopwatch.LABEL]
    return UnitsDone(0, written, len(chunks), window, read_s, label_s, encode_s - write_s, write_s)


def write_unit(job: Job, index: int, unit: Unit, labels: Labels) -> Written:
    """Make a unit of a stage durable."""
    return job.sink.write_unit(job.folder, job.stages[index], unit, labels)


def _intact(job: Job, stage: int, unit: Unit, written: Written | None) -> bool:
    return written is not None and parts.intact(job.folder, job.stages[stage], unit, written)


def _labels(job: Job, window: Window) -> Labels:
    """Labels of a window of the region."""
    # Dask's modules import each other: two threads that do it at once may see one of them half made
    with _importing:
        from dask.local import get_sync
        from dask.threaded import get as get_threaded

        from pipeline import graph

    place = Window(
        window.row + job.view.region.row, window.col + job.view.region.col, window.height, window.width
    )
    shared = job.kernel.costly and job.threads > 1
    side = job.kernel.cell_px if shared else _block_px(job)
    lazy = graph.label_window(job.view, job.kernel, job.codebook, place, side)
    if shared:
        labels: Labels = lazy.compute(scheduler=get_threaded, pool=cell_threads(job.threads))
    else:
        # a function and not its name: a name has Dask import all of distributed first
        labels = lazy.compute(scheduler=get_sync)
    return labels


def smaller(job: Job, *what: Any) -> list[tuple[Any, ...]]:
    """The arguments of a task that was too much for its worker: of a window, those of each of its chunks."""
    if what and isinstance(what[0], Window):
        window, recorded = what
        return [(job, chunk, recorded) for chunk in tiles(window, job.chunk_px)]
    return [(job, *what)]


def _block_px(job: Job) -> int:
    """Side of the pieces that a window is labelled in: smaller for many bands or wide dtypes."""
    side = job.chunk_px
    while side % (2 * job.kernel.cell_px) == 0 and side * side * job.view.raster.pixel_bytes > _BLOCK_BYTES:
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
def finish(job: Job, record: dict[str, Any]) -> dict[str, Any]:
    """Assemble the labels and what goes with them, all in the workspace; gives the raster's record.

    Raises
    ------
    RasterError
        If no pixel got a label.
    """
    start = time.perf_counter()
    meaning = Labelled.of(job.codebook, job.view.georeference)
    histogram = job.sink.assemble(job.folder, job.stages, meaning)
    if histogram[:255].sum() == 0:
        raise RasterError(job.view.path, NO_VALID_PIXEL)
    place = Outputs(job.folder, job.name, job.sink)
    durable.write_bytes(place.png, style.quicklook(job.folder / job.sink.raster, meaning.style))
    durable.write_bytes(place.qml, style.qml(meaning.style).encode())
    # the labels take their name last of what a map shows
    files = [place.png.name, place.qml.name, *job.sink.files]
    record = {
        **record,
        "files": files,
        "labels": {str(i): int(histogram[i]) for i in range(job.codebook.segments)},
        "nodata_pixels": int(histogram[255]),
        "finish_s": round(time.perf_counter() - start, 3),
    }
    durable.write_json(job.folder / RECORD, record)
    return record


@_patient
def publish(job: Job) -> dict[str, Any]:
    """Move a raster's finished files into OUT, the record last; may be done again after it was cut short."""
    path = job.folder / RECORD
    record: dict[str, Any] = json.loads(path.read_text())
    for name in record["files"]:
        if (job.folder / name).exists():
            durable.move(job.folder / name, job.out / name)
    durable.move(path, Outputs(job.out, job.name, job.sink).json)
    return record


@dataclass(frozen=True, slots=True)
class Outputs:
    """Names of a raster's outputs in OUT."""

    out: Path
    name: str
    sink: Sink

    @property
    def labels(self) -> Path:
        """The labels: a file, or a Zarr store."""
        return self.out / self.sink.files[-1]

    @property
    def qml(self) -> Path:
        """QGIS style."""
        return self.out / f"{self.name}.qml"

    @property
    def png(self) -> Path:
        """Quicklook."""
        return self.out / f"{self.name}.png"

    @property
    def json(self) -> Path:
        """Record."""
        return self.out / f"{self.name}.json"

    @property
    def codebook(self) -> Path:
        """The raster's own codebook, where the scope is a raster."""
        return self.out / f"{self.name}.codebook.npz"

    def all(self) -> tuple[Path, ...]:
        """Every file or folder of the raster, the record last."""
        made = (self.out / name for name in self.sink.files)
        return *made, self.qml, self.png, self.codebook, self.json
