"""What the coordinator costs: the real one, with tasks that do nothing.

Everything on the way of a chunk is as in a run: the plan of windows and units, the sliding window of
tasks, the threads, the tally, the ledger with its syncs, the workspace. Only the tasks say at once that
they are done, so that all time is the coordinator's, and all memory that grows with the raster too.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil

from benchmarks import data
from benchmarks.parts.mapping import drive
from engine.block_kmeans import BlockKMeans
from engine.codebook import Codebook
from engine.grid import Window, tiles
from pipeline.check.seams import Seams
from pipeline.durable.checksums import DIGEST_BYTES, FileDigest
from pipeline.durable.ledger import Unit
from pipeline.grid.georeference import Georeference
from pipeline.running import raster_run, schedule
from pipeline.running.tally import Tally
from pipeline.sinks.sink import sink_of
from pipeline.source.raster import SingleRaster, Stack
from pipeline.source.reading import ReadContext
from pipeline.source.view import View
from pipeline.tasks import assembling, labelling, publishing
from pipeline.tasks.assembling import Assembled
from pipeline.tasks.job import Job
from pipeline.tasks.units import UnitsDone

CHUNKS = 100_000
_CHUNK_PX = 2048
_WORKERS = 2
_LOOKS = 10


@dataclass(frozen=True)
class Coordination:
    """What a simulated run cost.

    Parameters
    ----------
    chunks
        Chunks of the raster.
    seconds
        Of the whole run.
    memory
        Resident bytes of the process at every tenth of the chunks, the first before any.
    ledger_bytes
        Size of the ledger at the end.
    resume_s
        Until a run that has every chunk in its ledger has gone through all of them again.
    """

    chunks: int
    seconds: float
    memory: tuple[int, ...]
    ledger_bytes: int
    resume_s: float


class _Endless(SingleRaster):
    """A raster of any size without pixels."""

    def reopened(self) -> _Endless:
        """Itself: it has no file."""
        return self

    def read_masked(self, window: Window, context: ReadContext) -> Stack:
        """Nothing: no task reads it."""
        raise NotImplementedError


def measure(chunks: int) -> Coordination:
    """Coordinate a square raster of about so many chunks, then take it up when all are done."""
    side = max(1, round(chunks**0.5))
    data.WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=data.WORK) as folder, _tasks_that_do_nothing():
        job = _job(side * _CHUNK_PX, Path(folder))
        looks = _Looks(side * side)
        start = time.perf_counter()
        drive(job, _WORKERS, looks)
        seconds = time.perf_counter() - start
        ledger = (job.folder / "ledger").stat().st_size
        start = time.perf_counter()
        drive(job, _WORKERS, looks)
        resume_s = time.perf_counter() - start
    return Coordination(side * side, seconds, tuple(looks.memory), ledger, resume_s)


class _Looks(schedule.BatchObserver):
    """Looks at the memory now and then."""

    def __init__(self, chunks: int) -> None:
        self._every = max(1, chunks // _LOOKS)
        self._process = psutil.Process()
        self.memory = [self._process.memory_info().rss]

    def advanced(self, tally: Tally, done: UnitsDone) -> None:  # noqa: ARG002  (as the coordinator calls it)
        """Look, if it is time."""
        if tally.chunks_done % self._every == 0 and len(self.memory) <= _LOOKS:
            self.memory.append(self._process.memory_info().rss)


def _job(side_px: int, out: Path) -> Job:
    raster = _Endless(
        path="endless",
        width=side_px,
        height=side_px,
        bands=(1,),
        band_names=("band 1",),
        dtype="uint8",
        nodata=(None,),
        block_shape=(512, 512),
        georeference=Georeference(None, None, (), "Area"),
    )
    kernel = BlockKMeans(1)
    codebook = Codebook(np.eye(2, 1, dtype=np.float32), kernel.identity, (1,), "uint8", np.zeros(1))
    return Job("endless", View.whole(raster), kernel, codebook, _CHUNK_PX, out, sink_of("endless.tif"))


@contextmanager
def _tasks_that_do_nothing() -> Iterator[None]:
    """Tasks that report what real ones do, and a workspace that stays for the second time."""
    with (
        mock.patch.object(labelling, "label_window", _label),
        mock.patch.multiple(assembling, merge_unit=_merge, assemble=_assembled, check=_seams),
        mock.patch.multiple(publishing, finish=_record, publish=_record),
        mock.patch.object(raster_run.Workspace, "remove", raster_run.Workspace.close),
    ):
        yield


def _label(job: Job, window: Window, recorded: Mapping[Unit, FileDigest]) -> UnitsDone:
    units = [job.unit(chunk) for chunk in tiles(window, job.chunk_px)]
    written = {unit: _written(0, unit) for unit in units if unit not in recorded}
    return UnitsDone(0, written, len(units), window)


def _merge(_job: Job, index: int, unit: Unit, recorded: FileDigest | None) -> UnitsDone:
    return UnitsDone(index, {} if recorded else {unit: _written(index, unit)})


def _assembled(_job: Job) -> Assembled:
    return Assembled([0] * 256, {})


def _seams(_job: Job, _index: int, _window: Window) -> Seams:
    return Seams()


def _record(*_: Any) -> dict[str, Any]:
    return {}


def _written(stage: int, unit: Unit) -> FileDigest:
    digest = hashlib.blake2b(repr((stage, unit)).encode(), digest_size=DIGEST_BYTES).digest()
    return FileDigest(1 << 16, digest)
