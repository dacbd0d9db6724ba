"""Checksums of what is to be read again: torn or altered ones are told from others.

Fixed records end in one of themselves; a whole file has one beside it.
"""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.durable.files import write_bytes

_CHECK_BYTES = 4


def seal(record: bytes) -> bytes:
    """A packed record with the CRC-32 of what stands before in the place of its last four bytes."""
    body = record[:-_CHECK_BYTES]
    return body + zlib.crc32(body).to_bytes(_CHECK_BYTES, "little")


def sound_records(data: bytes, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The sound ones of packed records in a row; their last field, `check`, is what `seal` put there."""
    size = dtype.itemsize
    table = np.frombuffer(data, dtype, len(data) // size)
    sound = [
        zlib.crc32(data[i * size : (i + 1) * size - _CHECK_BYTES]) == check
        for i, check in enumerate(table["check"].tolist())
    ]
    chosen: npt.NDArray[Any] = table[np.asarray(sound, bool)]
    return chosen


def seal_file(path: Path) -> None:
    """Write the checksum of a file beside it, once the file is durable.

    Raises
    ------
    OSError
        If the one cannot be read or the other not be written.
    """
    write_bytes(_beside(path), _digest(path))


def is_sound(path: Path) -> bool:
    """Whether a file is as it was when it was sealed.

    Raises
    ------
    OSError
        If it or its checksum cannot be read.
    """
    return _beside(path).read_bytes() == _digest(path)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".seal")


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()
