"""The map of a run by itself: from a frozen codebook to the finished file, with any kernel.

`python -m benchmarks.parts.mapping RASTER OUT --halo PX` maps by K-Means that says it needs a halo. It gives
the same labels with and without, so that what the time differs by is what a halo costs. `--model` maps by a
network: what its loading, probing and fit take is not part of it, which workers do not share.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks import clock
from engine.block_kmeans import BlockKMeans
from engine.codebook import Codebook
from engine.grid import chunk_side
from engine.kernel import Kernel, Labels, Patch
from pipeline.config import RunConfig
from pipeline.running import schedule
from pipeline.running.provenance import provenance
from pipeline.sinks.sink import sink_of
from pipeline.source.view import View
from pipeline.tasks.job import Job
from pipeline.workers.pool import Pool

_CHUNK_PX = 2048


@dataclass(frozen=True)
class Haloed:
    """A kernel that is given more pixels than it looks at.

    Parameters
    ----------
    kernel
        Does the work.
    halo_px
        Pixels beyond a core that it asks for.
    """

    kernel: BlockKMeans
    halo_px: int

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # pickling asks before there are fields
            raise AttributeError(name)
        return getattr(self.kernel, name)

    def labels(self, patch: Patch, codebook: Codebook) -> Labels:
        """Labels of the core."""
        return self.kernel.labels(patch, codebook)


def drive(job: Job, workers: int, observer: schedule.BatchObserver | None = None) -> None:
    """Do a job as a run does, on threads; what fails is raised."""
    with ThreadPoolExecutor(workers) as executor:
        outcomes = schedule.drive(
            [job],
            Pool(executor, workers, workers),
            record=lambda tally: provenance(tally, RunConfig()),
            observer=observer or schedule.BatchObserver(),
        )
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error


def with_halo(source: Path, segments: int, halo_px: int) -> tuple[Kernel, Codebook]:
    """K-Means that is told to need a halo, and its codebook of a raster."""
    from pipeline.api.fitting import fit

    kernel = Haloed(BlockKMeans(1), halo_px)
    assert isinstance(kernel, Kernel)
    return kernel, fit([str(source)], segments=segments, resolution=1)


def with_network(source: Path, segments: int, model: str) -> tuple[Kernel, Codebook]:
    """The kernel of a network in the form of a run, and its codebook of a raster."""
    from pipeline.api.fitting import fit
    from pipeline.kernels import kernel_from_codebook

    codebook = fit([str(source)], segments=segments, method="cnn", model=model, device="cpu")
    return kernel_from_codebook(codebook, device="cpu"), codebook


def measure(source: Path, out: Path, kernel: Kernel, codebook: Codebook, workers: int) -> clock.Work:
    """Work of a map into a folder."""
    from pipeline.source.gdal.raster import open_header

    raster = open_header(source)
    folders = (out / str(number) for number in count())

    def run() -> None:
        sink = sink_of("labels.tif")
        view = View.whole(raster)
        side = chunk_side(_CHUNK_PX, kernel.cell_px)
        drive(Job("labels", view, kernel, codebook, side, next(folders), sink, threads=workers), workers)

    return clock.best(run, raster.bounds.pixels)


def main() -> None:
    """Parse the command line, measure, tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parts.mapping", description=__doc__)
    parser.add_argument("raster", type=Path)
    parser.add_argument("out", type=Path, help="an empty folder: each time makes one in it")
    parser.add_argument("--halo", type=int, default=0, help="of K-Means")
    parser.add_argument("--model", help="a network instead")
    parser.add_argument("--segments", type=int, default=8)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    if given.model:
        chosen = with_network(given.raster, given.segments, given.model)
    else:
        chosen = with_halo(given.raster, given.segments, given.halo)
    clock.tell(measure(given.raster, given.out, *chosen, given.workers))


if __name__ == "__main__":
    main()
