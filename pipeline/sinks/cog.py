"""The Cloud Optimized GeoTIFF sink: joins the parts of a raster into one file.

The layout is that of GDAL's COG driver: header, ghost area, all directories (full resolution first),
then the tiles from the smallest overview up to full resolution, row by row. Every tile was encoded
when its unit was written; here bytes are only copied (`copy_file_range`: inside the operating system's
kernel, and without any copy on file systems that share blocks).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.kernel import NODATA, Labels
from pipeline.durable.checksums import Beside, FileDigest
from pipeline.durable.files import copy_at, whole_file, write_bytes
from pipeline.legend.label_style import LabelStyle
from pipeline.sinks import tiff
from pipeline.sinks.deflate.labels import compress
from pipeline.sinks.label_info import LabelInfo
from pipeline.sinks.parts import PartIndex, histogram, part_path, read_index, write_part
from pipeline.sinks.pyramid import TILE_PX, Stage, cut_tiles, level_shapes, unit_pyramid
from pipeline.sinks.style import aux_xml, statistics

_GHOST = (
    "LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
    "BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
)
_CLASSIC_LIMIT = 2**32 - 2**20
_FRAME_BYTES = 8  # leader and trailer of a tile

Sizes = list[npt.NDArray[np.uint32]]


@dataclass(frozen=True, slots=True)
class Cog:
    """Labels as a Cloud Optimized GeoTIFF, with a sidecar for what TIFF tags cannot hold.

    Parameters
    ----------
    file
        Name of the GeoTIFF.
    """

    file: str

    @property
    def raster(self) -> str:
        """The GeoTIFF."""
        return self.file

    @property
    def files(self) -> tuple[str, ...]:
        """The sidecar, then the GeoTIFF."""
        return f"{self.file}.aux.xml", self.file

    def write_unit(
        self,
        folder: Path,
        stage: Stage,
        unit: tuple[int, int],
        labels: Labels,
        beside: Sequence[Beside] = (),
    ) -> FileDigest:
        """Make a unit durable: write its encoded tiles to its part."""
        return write_unit(folder, stage, unit, labels, beside)

    def assemble(
        self, folder: Path, stages: tuple[Stage, ...], label_info: LabelInfo
    ) -> npt.NDArray[np.int64]:
        """Join the parts and write the sidecar; returns the pixels of each label."""
        counts = assemble(folder, stages, label_info, folder / self.file)
        georeference = label_info.georeference
        wkt = None if tiff.geo_tags(georeference).exact_crs else georeference.crs_wkt
        sidecar, _ = self.files
        write_bytes(folder / sidecar, aux_xml(label_info.style, counts, wkt).encode())
        return counts


def write_unit(
    folder: Path, stage: Stage, unit: tuple[int, int], labels: Labels, beside: Sequence[Beside] = ()
) -> FileDigest:
    """Encode a unit's tiles of all the stage's levels and make them durable.

    Parameters
    ----------
    folder
        Workspace of the raster.
    stage, unit
        The stage, and the unit in it.
    labels
        The unit's labels at the stage's first level, uint8.
    beside
        Further files that belong to the unit: it is incomplete without them.
    """
    pyramid = unit_pyramid(stage, unit, labels)
    tiles = [[[encode_tile(t) for t in line] for line in cut_tiles(level)] for level in pyramid.levels]
    return write_part(folder, stage, unit, pyramid, tiles, beside)


def encode_tile(tile: Labels) -> bytes:
    """A tile's bytes in a COG: zlib data between GDAL's leader and trailer; b"" if all of it is nodata.

    Source: GDAL's COG driver documentation, "Header ghost area" (block leader and trailer).
    """
    if (tile == NODATA).all():
        return b""
    data = compress(tile)
    return struct.pack("<I", len(data)) + data + data[-4:]


def assemble(
    folder: Path, stages: tuple[Stage, ...], label_info: LabelInfo, path: Path
) -> npt.NDArray[np.int64]:
    """Join the parts of a raster into a COG; the file at `path` appears only when it is complete.

    Parameters
    ----------
    folder
        Workspace that holds the part of every unit of every stage.
    stages
        The raster's stages.
    label_info
        Georeference, provenance and style.
    path
        The file to write.

    Returns
    -------
    numpy.ndarray
        int64, shape (256,): pixels of each label at full resolution.

    Raises
    ------
    StorageError
        If the file cannot be written.
    ValueError
        If a part is missing or incomplete.
    """
    sizes, counts = _sizes(folder, stages), histogram(folder, stages[0])
    header, starts = _header(stages, sizes, counts, label_info)
    with whole_file(path) as out:
        out.write(header)
        out.flush()
        for part, index in _parts(folder, stages):
            with part.open("rb") as source:
                for offset, level, row, col, size in _lines(index):
                    _copy(source.fileno(), out.fileno(), size, offset, int(starts[level][row, col]))
    return counts


def _parts(folder: Path, stages: tuple[Stage, ...]) -> Iterator[tuple[Path, PartIndex]]:
    for stage in stages:
        for unit in stage.units():
            path = part_path(folder, stage, unit)
            yield path, read_index(path)


def _sizes(folder: Path, stages: tuple[Stage, ...]) -> Sizes:
    """Stored size of every tile of every level."""
    shapes = level_shapes(stages[0].height, stages[0].width)
    sizes = [np.zeros((-(-h // TILE_PX), -(-w // TILE_PX)), np.uint32) for h, w in shapes]
    for _, index in _parts(folder, stages):
        for tiles in index.tiles:
            lines = np.asarray(tiles.sizes, np.uint32)
            rows, cols = lines.shape
            sizes[tiles.level][tiles.row : tiles.row + rows, tiles.col : tiles.col + cols] = lines
    return sizes


def _lines(index: PartIndex) -> Iterator[tuple[int, int, int, int, int]]:
    """(offset in the part, level, tile row, tile col, bytes) of each row of tiles; a row is contiguous."""
    for tiles in index.tiles:
        offset = tiles.offset
        for i, line in enumerate(tiles.sizes):
            size = sum(line)
            if size:
                yield offset, tiles.level, tiles.row + i, tiles.col, size
            offset += size


def _header(
    stages: tuple[Stage, ...], sizes: Sizes, counts: npt.NDArray[np.int64], label_info: LabelInfo
) -> tuple[bytes, list[npt.NDArray[np.int64]]]:
    """Everything before the tiles, and the offset of each tile (of its leader)."""
    tile_bytes = int(sum(s.sum(dtype=np.int64) for s in sizes))
    # directories take 12 to 16 bytes per tile, plus a few kilobytes
    big = tile_bytes + 16 * sum(s.size for s in sizes) > _CLASSIC_LIMIT
    blank = [np.zeros(s.shape, np.int64) for s in sizes]
    length = len(_directories(stages, sizes, blank, counts, label_info, big=big))
    starts: list[npt.NDArray[np.int64]] = []
    offset = length
    for size in reversed(sizes):
        flat = size.ravel().astype(np.int64)
        starts.append((offset + np.cumsum(flat) - flat).reshape(size.shape))
        offset += int(flat.sum())
    starts.reverse()
    return _directories(stages, sizes, starts, counts, label_info, big=big), starts


def _directories(
    stages: tuple[Stage, ...],
    sizes: Sizes,
    starts: list[npt.NDArray[np.int64]],
    counts: npt.NDArray[np.int64],
    label_info: LabelInfo,
    *,
    big: bool,
) -> bytes:
    ghost = f"GDAL_STRUCTURAL_METADATA_SIZE={len(_GHOST):06d} bytes\n{_GHOST}".encode()
    first = (16 if big else 8) + len(ghost)
    first += first % 2
    head = b"II+\0\x08\0\0\0" + first.to_bytes(8, "little") if big else b"II*\0" + first.to_bytes(4, "little")
    data = (head + ghost).ljust(first, b"\0")
    shapes = level_shapes(stages[0].height, stages[0].width)
    for level, shape in enumerate(shapes):
        tags = _image_tags(shape, sizes[level], starts[level], label_info.style, overview=level > 0, big=big)
        if level == 0:
            tags += [
                *tiff.geo_tags(label_info.georeference).tags,
                tiff.text(42112, _metadata(counts, label_info)),
            ]
        data += tiff.directory(tags, len(data), big=big, more=level < len(shapes) - 1)
    return data


def _image_tags(
    shape: tuple[int, int],
    sizes: npt.NDArray[np.uint32],
    starts: npt.NDArray[np.int64],
    style: LabelStyle,
    *,
    overview: bool,
    big: bool,
) -> list[tiff.Tag]:
    stored = sizes.ravel().astype(np.int64)
    offsets = np.where(stored > 0, starts.ravel() + 4, 0)
    stored_bytes = np.where(stored > 0, stored - _FRAME_BYTES, 0)
    kind = tiff.LONG8 if big else tiff.LONG
    return [
        tiff.numbers(254, tiff.LONG, 1 if overview else 0),
        tiff.numbers(256, tiff.LONG, shape[1]),
        tiff.numbers(257, tiff.LONG, shape[0]),
        tiff.numbers(258, tiff.SHORT, 8),
        tiff.numbers(259, tiff.SHORT, 8),  # zlib ("Adobe deflate")
        tiff.numbers(262, tiff.SHORT, 3),  # palette
        tiff.numbers(277, tiff.SHORT, 1),
        tiff.numbers(284, tiff.SHORT, 1),
        tiff.Tag(320, tiff.SHORT, 768, _colour_map(style)),
        tiff.numbers(322, tiff.LONG, TILE_PX),
        tiff.numbers(323, tiff.LONG, TILE_PX),
        tiff.Tag(324, kind, offsets.size, offsets.astype("<u8" if big else "<u4").tobytes()),
        tiff.Tag(325, tiff.LONG, stored_bytes.size, stored_bytes.astype("<u4").tobytes()),
        tiff.numbers(339, tiff.SHORT, 1),
        tiff.text(42113, "255"),
    ]


def _colour_map(style: LabelStyle) -> bytes:
    """All reds, greens and blues of the 256 values, 16 bits each."""
    table = np.zeros((3, 256), "<u2")
    for value, rgb in enumerate(style.colours):
        table[:, value] = np.asarray(rgb) * 257
    return table.tobytes()


def _metadata(counts: npt.NDArray[np.int64], label_info: LabelInfo) -> str:
    items = {"TILEWRIGHT_CODEBOOK": label_info.codebook_hash, "TILEWRIGHT_KERNEL": label_info.kernel}
    return tiff.gdal_metadata(items, statistics(counts))


def _copy(source: int, target: int, size: int, from_offset: int, to_offset: int) -> None:
    """Copy all of some bytes between files at given offsets."""
    while size > 0:
        copied = copy_at(source, target, size, from_offset, to_offset)
        if copied == 0:
            raise ValueError("a part file ended early; run again with --overwrite")
        size, from_offset, to_offset = size - copied, from_offset + copied, to_offset + copied
