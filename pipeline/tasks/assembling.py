"""Assembling: later stages of the pyramid, the whole file, and its comparison with what was written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from engine.grid import Window, tiles
from engine.kernel import NODATA
from pipeline.check.read_back import check_window
from pipeline.check.seams import Borders, Seams
from pipeline.durable import checksums
from pipeline.durable.checksums import FileDigest
from pipeline.durable.files import MOVES_OPEN_FILES
from pipeline.durable.ledger import Unit
from pipeline.errors import NoValidPixelError
from pipeline.process import startup
from pipeline.sinks import parts
from pipeline.sinks.label_info import LabelInfo
from pipeline.sinks.pyramid import Stage
from pipeline.source.gdal import handles
from pipeline.tasks import units
from pipeline.tasks.job import Job
from pipeline.tasks.units import UnitsDone, intact, retried

_CHECK_PX = 2048


@dataclass(frozen=True)
class Assembled:
    """Assembled labels.

    Parameters
    ----------
    histogram
        Pixels of each label, 256 counts.
    checksums
        SHA-256 of each of the sink's files, by name.
    seconds
        That it took this run; not a part of what they are.
    style
        `Codebook.style_hash` of the colours and names that are in the files.
    """

    histogram: list[int]
    checksums: dict[str, str]
    seconds: float = field(default=0.0, compare=False)
    style: str = ""


@retried
def merge_unit(job: Job, index: int, unit: Unit, recorded: FileDigest | None) -> UnitsDone:
    """Make a unit of a later stage durable, from the remnants of the stage below, unless it is so already."""
    if intact(job, index, unit, recorded):
        return UnitsDone(index, {})
    below, stage = job.stages[index - 1 : index + 1]
    labels = parts.merged_remnants(job.folder, stage, unit, below)
    return UnitsDone(index, {unit: units.write_unit(job, index, unit, labels)})


@retried
def assemble(job: Job) -> Assembled:
    """Assemble the labels in the workspace.

    Raises
    ------
    NoValidPixelError
        If no pixel got a label.
    """
    start = time.perf_counter()
    histogram = job.sink.assemble(job.folder, job.stages, LabelInfo.of(job.codebook, job.view.georeference))
    if histogram[:NODATA].sum() == 0:
        raise NoValidPixelError(job.view.path)
    sums = {name: checksums.checksum(job.folder / name) for name in job.sink.files}
    return Assembled([int(n) for n in histogram], sums, time.perf_counter() - start, job.codebook.style_hash)


@retried
def is_there(job: Job, known: Assembled) -> bool:
    """Whether the sink's files in the workspace are what is known of them."""
    places = {name: job.folder / name for name in job.sink.files}
    if known.checksums.keys() != places.keys() or not all(path.exists() for path in places.values()):
        return False
    return all(checksums.checksum(path) == known.checksums[name] for name, path in places.items())


@retried
def is_intact(job: Job, index: int, unit: Unit, recorded: FileDigest | None) -> bool:
    """Whether a unit of a stage is still what was recorded of it."""
    return intact(job, index, unit, recorded)


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


@retried
def check(job: Job, index: int, window: Window) -> Seams:
    """Compare a window of the assembled labels, at a stage's levels, with what was written of its units.

    Raises
    ------
    RasterError
        If they differ.
    """
    startup.load_compiled()
    stage = job.stages[index]
    in_window = [(w.row // stage.unit_px, w.col // stage.unit_px) for w in tiles(window, stage.unit_px)]
    expected = {u: parts.read_index(parts.part_path(job.folder, stage, u)).checksums for u in in_window}
    borders = Borders.of(job.kernel.cell_px, job.kernel.stride_px) if index == 0 else None
    path = job.folder / job.sink.raster
    try:
        return check_window(path, stage, window, expected, borders)
    finally:
        if not MOVES_OPEN_FILES:
            handles.forget(str(path))  # `publish` moves it
