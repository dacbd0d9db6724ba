"""One raster's work: what there is to do, and the tasks that workers do of it.

A task is a plain function of small values. It may run in any process and twice: what it makes is
durable under its own name and the same bytes each time. Pixels never pass through the coordinator.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.codebook import Codebook
from engine.grid import Window, tiles
from engine.kernel import Kernel
from pipeline import durable, style
from pipeline.checking import checksum
from pipeline.errors import RasterError
from pipeline.fitting import NO_VALID_PIXEL
from pipeline.sinks import parts
from pipeline.sinks.meaning import Labelled
from pipeline.sinks.pyramid import Stage, stages
from pipeline.sinks.sink import Sink
from pipeline.view import View
from pipeline.workers import cell_threads

# a task of about this side: small chunks go together, so that the coordinator's cost stays small
_WINDOW_PX = 2048
_BLOCK_BYTES = 64 << 20
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
    """

    name: str
    view: View
    kernel: Kernel
    codebook: Codebook
    chunk_px: int
    out: Path
    sink: Sink
    threads: int = 1

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

    def windows(self) -> list[Window]:
        """What one task does each, in pixels of the region: a chunk, or a few small ones."""
        region = Window(0, 0, self.view.region.height, self.view.region.width)
        return list(tiles(region, max(1, _WINDOW_PX // self.chunk_px) * self.chunk_px))


@dataclass(frozen=True, slots=True)
class WindowDone:
    """What a window's task reports: chunks and pixels done, seconds of labelling and of encoding."""

    chunks: int
    pixels: int
    label_s: float
    encode_s: float


def label_window(job: Job, window: Window) -> WindowDone:
    """Label a window and make each of its chunks durable."""
    # Dask's modules import each other: two threads that do it at once may see one of them half made
    with _importing:
        from dask.local import get_sync
        from dask.threaded import get as get_threaded

        from pipeline import graph

    start = time.perf_counter()
    place = Window(
        window.row + job.view.region.row, window.col + job.view.region.col, window.height, window.width
    )
    shared = job.kernel.costly and job.threads > 1
    side = job.kernel.cell_px if shared else _block_px(job)
    lazy = graph.label_window(job.view, job.kernel, job.codebook, place, side)
    if shared:
        labels = lazy.compute(scheduler=get_threaded, pool=cell_threads(job.threads))
    else:
        # a function and not its name: a name has Dask import all of distributed first
        labels = lazy.compute(scheduler=get_sync)
    labelled = time.perf_counter()
    stage = job.stages[0]
    chunks = list(tiles(window, job.chunk_px))
    for chunk in chunks:
        unit = chunk.row // job.chunk_px, chunk.col // job.chunk_px
        job.sink.write_unit(job.folder, stage, unit, np.ascontiguousarray(labels[chunk.slices(window)]))
    return WindowDone(len(chunks), window.pixels, labelled - start, time.perf_counter() - labelled)


def _block_px(job: Job) -> int:
    """Side of the pieces that a window is labelled in: smaller for many bands or wide dtypes."""
    side = job.chunk_px
    while side % (2 * job.kernel.cell_px) == 0 and side * side * job.view.raster.pixel_bytes > _BLOCK_BYTES:
        side //= 2
    return side


def merge_unit(job: Job, index: int, unit: tuple[int, int]) -> None:
    """Make one unit of a later stage durable, from the remnants of the stage below."""
    below, stage = job.stages[index - 1 : index + 1]
    labels = parts.merged_remnants(job.folder, stage, unit, below)
    job.sink.write_unit(job.folder, stage, unit, labels)


def finish(job: Job, record: dict[str, Any]) -> dict[str, Any]:
    """Assemble the labels, write what goes with them, move all into place; gives the raster's record.

    Raises
    ------
    RasterError
        If no pixel got a label: then nothing appears in OUT.
    """
    start = time.perf_counter()
    meaning = Labelled.of(job.codebook, job.view.georeference)
    histogram = job.sink.assemble(job.folder, job.stages, meaning)
    if histogram[:255].sum() == 0:
        raise RasterError(job.view.path, NO_VALID_PIXEL)
    place = Outputs(job.out, job.name, job.sink)
    durable.write_bytes(place.png, style.quicklook(job.folder / job.sink.raster, meaning.style))
    durable.write_bytes(place.qml, style.qml(meaning.style).encode())
    # the labels take their name last of what a map shows; the record then says that all is there
    for name in job.sink.files:
        durable.move(job.folder / name, job.out / name)
    record = {
        **record,
        "files": list(job.sink.files),
        "checksums": {f.name: checksum(f) for f in place.all() if f != place.json and f.exists()},
        "labels": {str(i): int(histogram[i]) for i in range(job.codebook.segments)},
        "nodata_pixels": int(histogram[255]),
        "finish_s": round(time.perf_counter() - start, 3),
    }
    durable.write_json(place.json, record)
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
