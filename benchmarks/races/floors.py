"""The floors of a K-Means run: what decoding, assigning and encoding take by themselves.

`python -m benchmarks.races.floors WHAT RASTER` does one of them to all pixels on two threads, with everything
that it needs at hand: the file in the system's cache, pixels or labels in memory. No run can be faster than
these together, as long as it reads, computes and writes what they do.
"""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import clock
from benchmarks.clock import Work

_WINDOW_PX = 2048
_RESIDENT = 16  # windows that are held in memory: kernels do not care how many there are


def decode(source: Path, threads: int) -> Work:
    """Every pixel of the raster, by GDAL, into memory that is used again."""
    # a window's tiles are all that is worth keeping: a larger cache costs time (it grows page by page)
    os.environ["GDAL_CACHEMAX"] = "64"
    import rasterio

    from engine.grid import Window, tiles

    with rasterio.open(source) as dataset:
        bounds, bands = Window(0, 0, dataset.height, dataset.width), dataset.count
    local = threading.local()

    def read(window: Window) -> None:
        if not hasattr(local, "dataset"):
            local.dataset = rasterio.open(source)
            local.pixels = np.empty((bands, _WINDOW_PX, _WINDOW_PX), np.uint8)
        part = rasterio.windows.Window(window.col, window.row, window.width, window.height)
        local.dataset.read(window=part, out=local.pixels[:, : window.height, : window.width])

    return clock.repeated(
        lambda: clock.on_threads(read, tiles(bounds, _WINDOW_PX), threads), bounds.height * bounds.width
    )


def assign(source: Path, threads: int, segments: int, resolution: int) -> Work:
    """Labels of windows in memory, by the kernel of a run."""
    from itertools import islice

    from engine.grid import tiles
    from engine.kernel import Patch
    from pipeline.api.fitting import fit
    from pipeline.kernels import kernel_from_options
    from pipeline.source.gdal.raster import open_header

    raster, kernel = open_header(source), kernel_from_options("kmeans", resolution)
    codebook = fit([str(source)], segments=segments, resolution=resolution)
    patches = [
        Patch(*raster.read(window), window, window, raster.bounds)
        for window in islice(tiles(raster.bounds, _WINDOW_PX), _RESIDENT)
    ]
    return clock.repeated(
        lambda: clock.on_threads(lambda patch: kernel.labels(patch, codebook), patches, threads),
        sum(patch.core.pixels for patch in patches),
    )


def encode(labels: Path, threads: int) -> Work:
    """The tiles of all levels from labels in memory, as they stand in a COG; nothing is written."""
    pixels = resident(labels)
    return clock.repeated(lambda: _encode(pixels, threads), pixels.size)


def _encode(labels: npt.NDArray[np.uint8], threads: int) -> None:
    from pipeline.sinks.cog import encode_tile
    from pipeline.sinks.pyramid import Stage, cut_tiles, stages, unit_pyramid

    plan = stages(*labels.shape, _WINDOW_PX)
    remnants: dict[tuple[int, int], Any] = {}

    def unit_of(stage: Stage, level: npt.NDArray[np.uint8]) -> Callable[[tuple[int, int]], None]:
        def write(unit: tuple[int, int]) -> None:
            part = np.ascontiguousarray(level[stage.window(unit).slices()])
            pyramid = unit_pyramid(stage, unit, part)
            for lines in map(cut_tiles, pyramid.levels):
                for line in lines:
                    for tile in line:
                        encode_tile(tile)
            remnants[unit] = pyramid.remnant

        return write

    level = labels
    for stage, above in pairwise([*plan, None]):
        clock.on_threads(unit_of(stage, level), stage.units(), threads)
        if above is not None:
            level = np.block([[remnants[i, j] for j in range(stage.cols)] for i in range(stage.rows)])
            remnants.clear()


def resident(labels: Path) -> npt.NDArray[np.uint8]:
    """Labels of a file, in memory."""
    import rasterio

    with rasterio.open(labels) as dataset:
        pixels: npt.NDArray[np.uint8] = dataset.read(1)
    return pixels


def main() -> None:
    """Parse the command line, measure, tell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.races.floors", description=__doc__)
    parser.add_argument("what", choices=["decode", "assign", "encode"])
    parser.add_argument("raster", type=Path, help="an RGB raster; for encode, labels")
    parser.add_argument("--segments", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    if given.what == "decode":
        work = decode(given.raster, given.threads)
    elif given.what == "assign":
        work = assign(given.raster, given.threads, given.segments, given.resolution)
    else:
        work = encode(given.raster, given.threads)
    clock.tell(work)


if __name__ == "__main__":
    main()
