"""The Zarr sink: a multiscale group of labels, in which every unit writes its own Zarr shards.

In format 3 a Zarr shard is one unit at one level, so no two tasks share a file; it holds inner chunks of
one cell. Format 2 has no shards: each chunk is a file. Units are written to their final path;
`assemble` adds the metadata, the coordinates, and the VRTs for GDAL.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.grid import Window
from engine.kernel import NODATA, Labels
from pipeline.durable.checksums import Beside, FileDigest
from pipeline.durable.files import sync_tree, whole_file, write_bytes, write_synced
from pipeline.sinks import geozarr
from pipeline.sinks.label_info import LabelInfo
from pipeline.sinks.parts import histogram, write_part
from pipeline.sinks.pyramid import TILE_PX, Stage, cut_tiles, level_shapes, unit_pyramid
from pipeline.sinks.vrt import labels_vrt, mosaic_vrt
from pipeline.sinks.zarr_metadata import Array, Node, chunk_key, metadata_files
from pipeline.sinks.zarr_shard import encode_bytes, encode_chunk, encode_shard

_AXIS_CHUNK = 1 << 16
_LEVEL_VRT = "gdal.vrt"


@dataclass(frozen=True, slots=True)
class ZarrStore:
    """Labels as a Zarr store, with a VRT beside it by which GDAL opens them styled.

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
    ) -> FileDigest:
        """Make a unit durable: its Zarr shards or chunks at all the stage's levels, then its part."""
        pyramid = unit_pyramid(stage, unit, labels)
        levels = enumerate(pyramid.levels)
        encoded = chain.from_iterable(self._encoded(stage, step, unit, level) for step, level in levels)
        files = [(f"{self.file}/{name}", data) for name, data in encoded]
        write_synced(((folder / name, data) for name, data in files), folder)
        return write_part(folder, stage, unit, pyramid, (), [*files, *beside])

    def _encoded(
        self, stage: Stage, step: int, unit: tuple[int, int], labels: Labels
    ) -> Iterator[tuple[str, bytes]]:
        """Name and bytes of each file of a unit at one level; none if all of it is nodata."""
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

    def assemble(
        self, folder: Path, stages: tuple[Stage, ...], label_info: LabelInfo
    ) -> npt.NDArray[np.int64]:
        """Complete the store with metadata, coordinates and VRTs; returns the pixels of each label."""
        counts, *_ = [histogram(folder, stage) for stage in stages]  # reads all parts: a missing one raises
        store = folder / self.file
        store.mkdir(exist_ok=True)
        shapes = level_shapes(stages[0].height, stages[0].width)
        nodes = [Node("", geozarr.root_attributes(label_info, shapes))]
        for stage in stages:
            for step in range(stage.levels):
                level = stage.level + step
                nodes += self._level_nodes(label_info, level, shapes[level], shard_px(stage, step))
                write_synced(self._coordinates(store, label_info, level, shapes[level]), folder)
                if self.version == 3:
                    self._mosaic(store, stage, step, shapes[level])
        metadata = ((store / name, data) for name, data in metadata_files(nodes, self.version))
        write_synced(metadata, folder)
        sync_tree(store)
        levels = [self._level_path(level) for level in range(len(shapes))]
        text = labels_vrt(label_info, shapes[0], counts, levels)
        # a store's name need not be valid Unicode: the VRT holds its original bytes
        write_bytes(folder / self.raster, text.encode(errors="surrogateescape"))
        return counts

    def _level_path(self, level: int) -> str:
        """The path, relative to the store's folder, that GDAL opens for a level.

        In format 2 the array itself, in format 3 the mosaic of its Zarr shards.
        """
        array = f"{self.file}/{geozarr.path_of(level, geozarr.LABELS)}"
        return f"{array}/{_LEVEL_VRT}" if self.version == 3 else array

    def _level_nodes(
        self, label_info: LabelInfo, level: int, shape: tuple[int, int], side: int
    ) -> list[Node]:
        """The group of a level and its arrays."""
        georeference = geozarr.at_level(label_info.georeference, level)
        shards = (side, side) if self.version == 3 else None
        labels = Array("uint8", ("y", "x"), shape, (TILE_PX, TILE_PX), NODATA, shards)
        path = geozarr.path_of(level, geozarr.LABELS)
        nodes = [Node(geozarr.group_of(level))] if level else []
        attributes = geozarr.label_attributes(label_info, level, shape)
        if self.version == 2:
            attributes |= geozarr.crs_of_gdal(georeference)
        nodes.append(Node(path, attributes, labels))
        for name, (_, _, about) in geozarr.axes(georeference).items():
            length = shape[0] if name == "y" else shape[1]
            axis = Array("float64", (name,), (length,), (min(length, _AXIS_CHUNK),), 0.0)
            nodes.append(Node(geozarr.path_of(level, name), about, axis))
        if (mapping := geozarr.grid_mapping(georeference)) is not None:
            scalar = Array("int64", (), (), (), 0)
            nodes.append(Node(geozarr.path_of(level, geozarr.GRID_MAPPING), mapping, scalar))
        return nodes

    def _coordinates(
        self, store: Path, label_info: LabelInfo, level: int, shape: tuple[int, int]
    ) -> Iterator[tuple[Path, bytes]]:
        """Name and bytes of each chunk of a level's x and y."""
        georeference = geozarr.at_level(label_info.georeference, level)
        for name, (start, step, _) in geozarr.axes(georeference).items():
            length = shape[0] if name == "y" else shape[1]
            side = min(length, _AXIS_CHUNK)
            for index, first in enumerate(range(0, length, side)):
                # the last chunk is stored at full length; readers drop the values beyond the array
                centres = start + step * (np.arange(first, first + side, dtype=np.float64) + 0.5)
                key = chunk_key(geozarr.path_of(level, name), (index,), self.version)
                yield store / key, encode_bytes(centres.astype("<f8"))

    def _mosaic(self, store: Path, stage: Stage, step: int, shape: tuple[int, int]) -> None:
        """Write a level's VRT of its Zarr shards into the array's folder, where Zarr readers ignore it."""
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
            for fragment in mosaic_vrt(shape, shards()):
                file.write(fragment.encode())


def shard_px(stage: Stage, step: int) -> int:
    """Side of a unit at a level of its stage, rounded up to whole chunks."""
    return -(-(stage.unit_px >> step) // TILE_PX) * TILE_PX
