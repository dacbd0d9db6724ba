"""Checksums of files and of records in files, so that what is torn or altered is recognised.

`FileDigest` is what the ledger keeps of a part; fixed records are sealed by their last field; a whole file
can have its checksum beside it; `checksum` is the SHA-256 that a raster's record keeps of its outputs.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.durable.files import write_bytes

DIGEST_BYTES = 16

Beside = tuple[str, bytes]
"""A file that belongs to a part and is on disk already: its name below the workspace, and its bytes."""

_CHECK_BYTES = 4


@dataclass(frozen=True, slots=True)
class FileDigest:
    """Size of a file, and the BLAKE2b digest (16 bytes) of what it holds."""

    size: int
    digest: bytes

    @classmethod
    def of(cls, data: bytes) -> FileDigest:
        """The digest of a file that holds `data`."""
        return cls(len(data), hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest())

    def matches(self, path: Path) -> bool:
        """Whether a file holds these bytes."""
        try:
            return path.stat().st_size == self.size and FileDigest.of(path.read_bytes()) == self
        except OSError:
            return False


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


def checksum(path: Path) -> str:
    """SHA-256 of a file's bytes, or of a folder's: the names and bytes of all files below it, in order.

    Raises
    ------
    OSError
        If something cannot be read.
    """
    if not path.is_dir():
        return f"sha256:{_sha256(path)}"
    whole = hashlib.sha256()
    for name in walk(path):
        whole.update(f"{_sha256(path / name)} {name}\0".encode(errors="surrogateescape"))
    return f"sha256:{whole.hexdigest()}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def walk(path: Path) -> Iterator[str]:
    """Names of all files below a folder, in an order that does not depend on the file system."""
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            # checksums hold these names, and are the same on every system
            yield os.path.relpath(Path(folder) / name, path).replace(os.sep, "/")
