"""Part files: each holds one finished unit of a pyramid stage, durable and self-describing.

A part is the unit's encoded tiles (if the sink stores them there), level by level and row by row, then
the compressed remnant, then a JSON index and its length. Writing a unit twice writes the same bytes, so
a unit may be done again at any time; the part's digest shows whether it was altered since.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engine.kernel import NODATA, Labels
from pipeline.durable.checksums import Beside, FileDigest
from pipeline.durable.files import write_bytes
from pipeline.sinks.deflate.labels import compress
from pipeline.sinks.pyramid import FAN, TILE_PX, Stage, UnitPyramid, count_labels

_MAGIC = b"TWPART02"
_TAIL = struct.Struct("<I8s")


@dataclass(frozen=True)
class LevelTiles:
    """The tiles of one level in a part.

    Parameters
    ----------
    level
        Level of the pyramid.
    row, col
        Position of the first tile in the level's tile grid.
    sizes
        Stored bytes of each tile, by rows; 0 for a tile without labels.
    offset
        Offset of the first tile in the part.
    """

    level: int
    row: int
    col: int
    sizes: list[list[int]]
    offset: int


@dataclass(frozen=True)
class PartIndex:
    """The index of a part file.

    Parameters
    ----------
    tiles
        Tiles of each level.
    histogram
        Pixels of each label at the stage's first level, 256 counts.
    remnant
        (offset, bytes, height, width) of the compressed remnant, or None after the last stage.
    checksums
        CRC-32C of the unit's labels at each of the stage's levels.
    files
        The unit's files outside the part: name below the workspace, size, digest in hex.
    """

    tiles: list[LevelTiles]
    histogram: list[int]
    remnant: tuple[int, int, int, int] | None
    checksums: list[int]
    files: list[tuple[str, int, str]]


def part_path(folder: Path, stage: Stage, unit: tuple[int, int]) -> Path:
    """Path of a unit's part; each row of units has its own folder, so that folders stay small."""
    return folder / f"stage{stage.index}" / f"{unit[0]:05d}" / f"{unit[1]:05d}.part"


def write_part(
    folder: Path,
    stage: Stage,
    unit: tuple[int, int],
    pyramid: UnitPyramid,
    tiles: Sequence[Sequence[Sequence[bytes]]],
    files: Sequence[Beside] = (),
) -> FileDigest:
    """Write the part of a unit durably; returns its size and digest.

    Parameters
    ----------
    folder
        Workspace of the raster.
    stage, unit
        The stage, and the unit in it.
    pyramid
        The unit's labels at the stage's levels.
    tiles
        Encoded tiles of each level, by rows; empty if the sink stores them elsewhere.
    files
        The unit's files outside the part.
    """
    import google_crc32c

    window = stage.window(unit)
    body: list[bytes] = []
    stored: list[LevelTiles] = []
    offset = 0
    for step, lines in enumerate(tiles):
        sizes = [[len(t) for t in line] for line in lines]
        row, col = (window.row >> step) // TILE_PX, (window.col >> step) // TILE_PX
        stored.append(LevelTiles(stage.level + step, row, col, sizes, offset))
        body += [t for line in lines for t in line]
        offset += sum(map(sum, sizes))
    remnant = None
    if pyramid.remnant is not None:
        data = compress(pyramid.remnant)
        height, width = pyramid.remnant.shape
        remnant = (offset, len(data), height, width)
        body.append(data)
    histogram = count_labels(pyramid.levels[0]).tolist()
    checksums = [google_crc32c.value(np.ascontiguousarray(level).tobytes()) for level in pyramid.levels]
    kept = [(name, d.size, d.digest.hex()) for name, d in ((n, FileDigest.of(b)) for n, b in files)]
    index = PartIndex(stored, histogram, remnant, checksums, kept)
    text = json.dumps(asdict(index), separators=(",", ":")).encode()
    path = part_path(folder, stage, unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = b"".join((*body, text, _TAIL.pack(len(text), _MAGIC)))
    write_bytes(path, data)
    return FileDigest.of(data)


def intact(folder: Path, stage: Stage, unit: tuple[int, int], digest: FileDigest) -> bool:
    """Whether a unit's part and its files outside the part are still what was written."""
    path = part_path(folder, stage, unit)
    if not digest.matches(path):
        return False
    files = read_index(path).files
    return all(FileDigest(size, bytes.fromhex(hex_)).matches(folder / name) for name, size, hex_ in files)


def histogram(folder: Path, stage: Stage) -> npt.NDArray[np.int64]:
    """Pixels of each label at full resolution, shape (256,), from the parts of the first stage."""
    counts = np.zeros(256, np.int64)
    for unit in stage.units():
        counts += np.asarray(read_index(part_path(folder, stage, unit)).histogram, np.int64)
    return counts


def read_index(path: Path) -> PartIndex:
    """The index of a part.

    Raises
    ------
    ValueError
        If the file is not a complete part.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL.size))
        tail = file.read()
        if len(tail) != _TAIL.size or (parsed := _TAIL.unpack(tail))[1] != _MAGIC:
            raise ValueError(f"{path}: not a whole part file; run again with --overwrite")
        file.seek(size - _TAIL.size - parsed[0])
        value = json.loads(file.read(parsed[0]))
    remnant = value["remnant"]
    return PartIndex(
        [LevelTiles(**t) for t in value["tiles"]],
        value["histogram"],
        tuple(remnant) if remnant else None,
        value["checksums"],
        [tuple(f) for f in value["files"]],
    )


def merged_remnants(folder: Path, stage: Stage, unit: tuple[int, int], below: Stage) -> Labels:
    """The labels of a unit of a later stage: the remnants of its units in the stage before, side by side."""
    window = stage.window(unit)
    labels = np.full((window.height, window.width), NODATA, np.uint8)
    side = stage.unit_px // FAN
    for i in range(unit[0] * FAN, min((unit[0] + 1) * FAN, below.rows)):
        for j in range(unit[1] * FAN, min((unit[1] + 1) * FAN, below.cols)):
            row, col = i * side - window.row, j * side - window.col
            remnant = _remnant(part_path(folder, below, (i, j)))
            labels[row : row + remnant.shape[0], col : col + remnant.shape[1]] = remnant
    return labels


def _remnant(path: Path) -> Labels:
    index = read_index(path)
    if index.remnant is None:
        raise ValueError(f"{path}: a part without remnant in a stage that is not the last")
    offset, size, height, width = index.remnant
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(size)
    raw = zlib.decompressobj().decompress(data, height * width)
    return np.frombuffer(raw, np.uint8).reshape(height, width)
