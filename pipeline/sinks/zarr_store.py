"""The Zarr sink: a multiscale group of labels, of which every unit writes the shards that are its own.

In format 3 a shard is one unit at one level, so that no two tasks share a file; it holds inner chunks
of one cell. Format 2 has no shards: there each chunk is a file. What was written when a unit was done
stays where it is: assembling adds the metadata, the coordinates, and the VRTs for GDAL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.grid import Window
from engine.kernel import NODATA
from pipeline.durable.checksums import Beside, Written
from pipeline.durable.files import sync_tree, whole_file, write_bytes, write_synced
from pipeline.sinks import geozarr
from pipeline.sinks.label_info import LabelInfo
from pipeline.sinks.parts import histogram, write_part
from pipeline.sinks.pyramid import TILE_PX, Stage, cut_tiles, level_shapes, unit_pyramid
from pipeline.sinks.vrt import labels_vrt, mosaic_vrt
from pipeline.sinks.zarr_metadata import Array, Node, chunk_key, metadata_files
from pipeline.sinks.zarr_shard import encode_bytes, encode_chunk, encode_shard

Labels = npt.NDArray[np.uint8]

_AXIS_CHUNK = 1 << 16
_LEVEL_VRT = "gdal.vrt"


@dataclass(frozen=True, slots=True)
class ZarrStore:
    """Labels as a Zarr store, and a VRT beside it by which GDAL opens them styled.

    Parameters
    ----------
    file
        Name of the store, which ends in `.zarr`.
    version
        Zarr format, 3 or 2.
    """

    file: str
    version: int = 3

    @property
    def raster(self) -> str:
        """The VRT."""
        return f"{Path(self.file).stem}.vrt"

    @property
    def files(self) -> tuple[str, ...]:
        """The VRT, then the store."""
        return self.raster, self.file

    def write_unit(
        self,
        folder: Path,
        stage: Stage,
        unit: tuple[int, int],
        labels: Labels,
        beside: Sequence[Beside] = (),
    ) -> Written:
        """Make a unit durable: its shards or chunks of all the stage's levels, then its part."""
        pyramid = unit_pyramid(stage, unit, labels)
        levels = enumerate(pyramid.levels)
        encoded = chain.from_iterable(self._encoded(stage, step, unit, level) for step, level in levels)
        files = [(f"{self.file}/{name}", data) for name, data in encoded]
        write_synced(((folder / name, data) for name, data in files), folder)
        return write_part(folder, stage, unit, pyramid, (), [*files, *beside])

    def _encoded(
        self, stage: Stage, step: int, unit: tuple[int, int], labels: Labels
    ) -> Iterator[tuple[str, bytes]]:
        """Name and bytes of each file of a unit at one level; none where all is nodata."""
        array = geozarr.path_of(stage.level + step, geozarr.LABELS)
        side = shard_px(stage, step)
        chunks = [[encode_chunk(t) for t in line] for line in cut_tiles(labels)]
        if self.version == 3:
            if data := encode_shard(labels, chunks, side):
                yield chunk_key(array, unit, 3), data
            return
        row, col = (i * (side // TILE_PX) for i in unit)
        for i, line in enumerate(chunks):
            for j, data in enumerate(line):
                if data:
                    yield chunk_key(array, (row + i, col + j), 2), data

    def assemble(self, folder: Path, stages: tuple[Stage, ...], meaning: LabelInfo) -> npt.NDArray[np.int64]:
        """Complete the store with metadata, coordinates and VRTs; gives the pixels of each label."""
        counts, *_ = [histogram(folder, stage) for stage in stages]  # all: a missing unit is an error
        store = folder / self.file
        store.mkdir(exist_ok=True)
        shapes = level_shapes(stages[0].height, stages[0].width)
        nodes = [Node("", geozarr.root_attributes(meaning, shapes))]
        for stage in stages:
            for step in range(stage.levels):
                level = stage.level + step
                nodes += self._level_nodes(meaning, level, shapes[level], shard_px(stage, step))
                write_synced(self._coordinates(store, meaning, level, shapes[level]), folder)
                if self.version == 3:
                    self._mosaic(store, stage, step, shapes[level])
        metadata = ((store / name, data) for name, data in metadata_files(nodes, self.version))
        write_synced(metadata, folder)
        sync_tree(store)
        levels = [self._opened(level) for level in range(len(shapes))]
        text = labels_vrt(meaning, shapes[0], counts, levels)
        # a store's name need not be Unicode: it goes into the VRT as the bytes that it is
        write_bytes(folder / self.raster, text.encode(errors="surrogateescape"))
        return counts

    def _opened(self, level: int) -> str:
        """What GDAL opens for a level, from beside the store: format 2 by itself, 3 by the shards' mosaic."""
        array = f"{self.file}/{geozarr.path_of(level, geozarr.LABELS)}"
        return f"{array}/{_LEVEL_VRT}" if self.version == 3 else array

    def _level_nodes(self, meaning: LabelInfo, level: int, shape: tuple[int, int], side: int) -> list[Node]:
        """The group of a level and its arrays."""
        place = geozarr.at_level(meaning.georeference, level)
        shards = (side, side) if self.version == 3 else None
        labels = Array("uint8", ("y", "x"), shape, (TILE_PX, TILE_PX), NODATA, shards)
        path = geozarr.path_of(level, geozarr.LABELS)
        nodes = [Node(geozarr.group_of(level))] if level else []
        attributes = geozarr.label_attributes(meaning, level, shape)
        if self.version == 2:
            attributes |= geozarr.crs_of_gdal(place)
        nodes.append(Node(path, attributes, labels))
        for name, (_, _, about) in geozarr.axes(place).items():
            length = shape[0] if name == "y" else shape[1]
            axis = Array("float64", (name,), (length,), (min(length, _AXIS_CHUNK),), 0.0)
            nodes.append(Node(geozarr.path_of(level, name), about, axis))
        if (mapping := geozarr.grid_mapping(place)) is not None:
            scalar = Array("int64", (), (), (), 0)
            nodes.append(Node(geozarr.path_of(level, geozarr.GRID_MAPPING), mapping, scalar))
        return nodes

    def _coordinates(
        self, store: Path, meaning: LabelInfo, level: int, shape: tuple[int, int]
    ) -> Iterator[tuple[Path, bytes]]:
        """Name and bytes of each chunk of a level's x and y."""
        place = geozarr.at_level(meaning.georeference, level)
        for name, (start, step, _) in geozarr.axes(place).items():
            length = shape[0] if name == "y" else shape[1]
            side = min(length, _AXIS_CHUNK)
            for index, first in enumerate(range(0, length, side)):
                # the last chunk is stored whole too; readers drop what lies beyond the array
                centres = start + step * (np.arange(first, first + side, dtype=np.float64) + 0.5)
                key = chunk_key(geozarr.path_of(level, name), (index,), self.version)
                yield store / key, encode_bytes(centres.astype("<f8"))

    def _mosaic(self, store: Path, stage: Stage, step: int, shape: tuple[int, int]) -> None:
        """Write a level's VRT of its shards, inside the array's folder, where no Zarr reader looks."""
        array = store / geozarr.path_of(stage.level + step, geozarr.LABELS)
        side = shard_px(stage, step)

        def shards() -> Iterator[tuple[str, Window]]:
            for i, j in stage.units():
                name = chunk_key("", (i, j), 3).lstrip("/")
                if (array / name).exists():
                    height, width = min(side, shape[0] - i * side), min(side, shape[1] - j * side)
                    yield name, Window(i * side, j * side, height, width)

        array.mkdir(parents=True, exist_ok=True)
        with whole_file(array / _LEVEL_VRT) as file:
            for piece in mosaic_vrt(shape, shards()):
                file.write(piece.encode())


def shard_px(stage: Stage, step: int) -> int:
    """Side of a unit at a level of its stage, in whole chunks (a single unit may be smaller than that)."""
    return -(-(stage.unit_px >> step) // TILE_PX) * TILE_PX
