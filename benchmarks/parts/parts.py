"""The parts of a run, each alone on one thread, in the manner of asv.

A class holds the benchmarks of one part: `params` lists the values that `setup` and each `time_` method are
called with; `setup` also sets `pixels`, how many pixels one call handles. `suite.py` runs them.
"""

from __future__ import annotations

import tempfile
from itertools import cycle, pairwise
from pathlib import Path
from typing import ClassVar

from benchmarks import data
from benchmarks.races.contenders import SEGMENTS
from engine import block_loops
from engine.block_kmeans import BlockKMeans
from engine.codebook import Codebook
from engine.grid import CELL_PX, Window, tiles
from engine.kernel import Labels, Patch
from pipeline.api.fitting import fit
from pipeline.sinks import cog
from pipeline.sinks.label_info import LabelInfo
from pipeline.sinks.parts import merged_remnants
from pipeline.sinks.pyramid import halve, stages
from pipeline.source.gdal.raster import open_header
from pipeline.source.raster import Raster

SIZE_PX = 6144
"""Sides of the raster: more than GDAL's cache holds, so that reading decodes."""

_CHUNK_PX = 2048


class Part:
    """What all parts share: the raster, and chunks, labels and a codebook of it."""

    size_px: ClassVar[int] = SIZE_PX
    params: ClassVar[list[int]] = []
    pixels: int

    def raster(self) -> Raster:
        """Header of the benchmark raster."""
        return open_header(data.photo(self.size_px).path)

    def codebook(self, resolution: int) -> Codebook:
        """A codebook fitted on it."""
        return fit([self.raster().path], segments=SEGMENTS, resolution=resolution)

    def patch(self, window: Window | None = None) -> Patch:
        """A window of it, by default the first chunk."""
        raster = self.raster()
        window = window or next(tiles(raster.bounds, _CHUNK_PX))
        return Patch(*raster.read(window), window, window, raster.bounds)


class Reading(Part):
    """Decoding windows, with their validity."""

    params: ClassVar[list[int]] = [CELL_PX, _CHUNK_PX]

    def setup(self, side_px: int) -> None:
        """Windows that follow each other so that each has left GDAL's cache when its turn comes again."""
        self.source = self.raster()
        windows = list(tiles(self.source.bounds, side_px))
        self.pixels = windows[0].pixels
        self.windows = cycle([w for w in windows if w.pixels == self.pixels])

    def time_read(self, _side_px: int) -> None:
        """One window."""
        self.source.read(next(self.windows))


class Labelling(Part):
    """The kernel on a chunk in memory."""

    params: ClassVar[list[int]] = [1, 4]

    def setup(self, resolution: int) -> None:
        """A chunk and a codebook."""
        self.chunk, self.book, self.kernel = self.patch(), self.codebook(resolution), BlockKMeans(resolution)
        self.pixels = self.chunk.core.pixels

    def time_labels(self, _resolution: int) -> None:
        """Labels of the chunk."""
        self.kernel.labels(self.chunk, self.book)


class Averaging(Part):
    """Means of blocks."""

    params: ClassVar[list[int]] = [4, 16]

    def setup(self, _resolution: int) -> None:
        """A chunk."""
        self.chunk = self.patch()
        self.pixels = self.chunk.core.pixels

    def time_block_means(self, resolution: int) -> None:
        """Means of its blocks."""
        block_loops.block_means(self.chunk.pixels, self.chunk.valid, 0, 0, resolution)


class Storing(Part):
    """Labels of a chunk on their way into a file."""

    def setup(self) -> None:
        """Labels, whole and cut into tiles."""
        chunk = self.patch()
        self.labels = BlockKMeans(1).labels(chunk, self.codebook(1))
        self.tiles: list[Labels] = [self.labels[tile.slices()] for tile in tiles(chunk.core, CELL_PX)]
        self.pixels = chunk.core.pixels

    def time_encode_tiles(self) -> None:
        """The tiles of full resolution."""
        for tile in self.tiles:
            cog.encode_tile(tile)

    def time_halve(self) -> None:
        """The first overview."""
        halve(self.labels)


class Assembling(Part):
    """Joining the encoded parts of a whole raster into a COG."""

    def setup(self) -> None:
        """All parts of the raster, durable in a folder."""
        raster, book = self.raster(), self.codebook(1)
        self.temporary = tempfile.TemporaryDirectory(dir=data.WORK)
        self.folder, self.meaning = Path(self.temporary.name), LabelInfo.of(book, raster.georeference)
        self.stages = stages(raster.height, raster.width, _CHUNK_PX)
        self.pixels = raster.bounds.pixels
        first = self.stages[0]
        for unit in first.units():
            labels = BlockKMeans(1).labels(self.patch(first.window(unit)), book)
            cog.write_unit(self.folder, first, unit, labels)
        for below, stage in pairwise(self.stages):
            for unit in stage.units():
                cog.write_unit(self.folder, stage, unit, merged_remnants(self.folder, stage, unit, below))

    def teardown(self) -> None:
        """Take the folder away."""
        self.temporary.cleanup()

    def time_assemble(self) -> None:
        """One file of them, on the disk."""
        cog.assemble(self.folder, self.stages, self.meaning, self.folder / "labels.tif")


class Fitting(Part):
    """A codebook from a sample; its pixels are those of the raster, of which it reads some."""

    params: ClassVar[list[int]] = [1, 4]

    def setup(self, _resolution: int) -> None:
        """The raster."""
        self.pixels = self.raster().bounds.pixels

    def time_sample(self, resolution: int) -> None:
        """Read, sample and cluster."""
        self.codebook(resolution)
