"""Raw units: the labels of chunks as the kernel gives them, kept for the stages that make a map of them.

A file holds the labels of a chunk, at the border of the region with those beyond it that the stages need,
in tiles that are compressed apart: a neighbour reads no more than it needs. Written twice, it is the same.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.grid import Window
from engine.kernel import NODATA, Labels
from pipeline import out_names
from pipeline.durable.checksums import FileDigest
from pipeline.durable.files import write_bytes
from pipeline.durable.ledger import Unit
from pipeline.errors import StorageError
from pipeline.sinks.deflate.labels import compress

_TILE_PX = 256
_MAGIC = b"TWRAWL01"
_TAIL = struct.Struct("<I8s")


@dataclass(frozen=True)
class _Index:
    """The end of a file: (row, col, height, width) of its labels, bytes of each tile, what is bad in them."""

    window: tuple[int, int, int, int]
    sizes: list[list[int]]
    bad: list[dict[str, Any]]


def path_of(folder: Path, unit: Unit) -> Path:
    """Path of a raw unit; each row has its own folder, so that folders stay small."""
    return folder / out_names.RAW / f"{unit[0]:05d}" / f"{unit[1]:05d}.raw"


def write(folder: Path, unit: Unit, window: Window, labels: Labels, bad: list[dict[str, Any]]) -> FileDigest:
    """Write a raw unit durably; returns its size and digest.

    Parameters
    ----------
    folder
        Workspace of the raster.
    unit
        Row and column of the chunk.
    window
        Of the labels, in pixels of the region.
    labels
        Shape (window.height, window.width), uint8.
    bad
        What in the chunk could not be read, as `source.bad_blocks.of_chunk` gives it.
    """
    tiles = [
        [
            compress(np.ascontiguousarray(labels[row : row + _TILE_PX, col : col + _TILE_PX]))
            for col in range(0, window.width, _TILE_PX)
        ]
        for row in range(0, window.height, _TILE_PX)
    ]
    sides = (window.row, window.col, window.height, window.width)
    index = _Index(sides, [[len(tile) for tile in line] for line in tiles], bad)
    text = json.dumps(asdict(index), separators=(",", ":")).encode()
    data = b"".join((*(tile for line in tiles for tile in line), text, _TAIL.pack(len(text), _MAGIC)))
    path = path_of(folder, unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, data)
    return FileDigest.of(data)


def intact(folder: Path, unit: Unit, digest: FileDigest | None) -> bool:
    """Whether a raw unit is on disk as the ledger recorded it."""
    return digest is not None and digest.matches(path_of(folder, unit))


def bad_of(folder: Path, unit: Unit) -> list[dict[str, Any]]:
    """What in a chunk could not be read.

    Raises
    ------
    StorageError
        If the unit is not whole.
    """
    data = _data(path_of(folder, unit))
    return _index(path_of(folder, unit), data).bad


def read_into(out: Labels, wanted: Window, folder: Path, unit: Unit) -> None:
    """Copy what a raw unit has of a window into its labels.

    Parameters
    ----------
    out
        Labels of `wanted`.
    wanted
        In pixels of the region.
    folder, unit
        The unit.

    Raises
    ------
    StorageError
        If the unit is not whole.
    """
    path = path_of(folder, unit)
    data = _data(path)
    index, start = _index(path, data), 0
    whole = Window(*index.window)
    for i, sizes in enumerate(index.sizes):
        for j, size in enumerate(sizes):
            row, col = i * _TILE_PX, j * _TILE_PX
            height, width = min(_TILE_PX, whole.height - row), min(_TILE_PX, whole.width - col)
            tile = Window(whole.row + row, whole.col + col, height, width)
            if tile.overlaps(wanted):
                shared = tile.shared(wanted)
                labels = _decoded(path, data[start : start + size], tile)
                out[shared.slices(wanted)] = labels[shared.slices(tile)]
            start += size


def _data(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise _not_whole(path) from None


def _index(path: Path, data: bytes) -> _Index:
    try:
        length, magic = _TAIL.unpack(data[-_TAIL.size :])
        if magic != _MAGIC:
            raise _not_whole(path)
        return _Index(**json.loads(data[-_TAIL.size - length : -_TAIL.size]))
    except (ValueError, TypeError, struct.error):
        raise _not_whole(path) from None


def _decoded(path: Path, data: bytes, tile: Window) -> Labels:
    try:
        raw = zlib.decompressobj().decompress(data, tile.pixels)
        return np.frombuffer(raw, np.uint8).reshape(tile.height, tile.width)
    except (ValueError, zlib.error):
        raise _not_whole(path) from None


def _not_whole(path: Path) -> StorageError:
    return StorageError(f"{path}: not what was written; run the same command again")


def nothing(window: Window) -> Labels:
    """Labels of a window in which nothing has one."""
    return np.full((window.height, window.width), NODATA, np.uint8)
