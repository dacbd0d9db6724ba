"""The ledger of a raster: which of its units are durable, and the checksums of what was written.

A file of fixed records, only ever appended to, each after the unit's bytes are on disk. A record that is
torn or altered does not count, so its unit is done again; so is one whose file is no longer what the
record says. What is lost of the ledger in a crash of the machine costs work and never a label.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.durable.checksums import DIGEST_BYTES, FileDigest, seal, sound_records
from pipeline.durable.files import open_handle, read_at, storage_error, write_at

Unit = tuple[int, int]

RAW_STAGE = 255
"""Of chunks whose labels are as the kernel gives them: of those of stage 0 something more was made."""

_HEADER = b"TILEWRIGHT-LDG1\n"
_RECORD = struct.Struct(f"<B3xIIQ{DIGEST_BYTES}sI")
_DTYPE = np.dtype(
    [
        ("stage", "<u4"),
        ("row", "<u4"),
        ("col", "<u4"),
        ("size", "<u8"),
        ("digest", f"V{DIGEST_BYTES}"),
        ("check", "<u4"),
    ]
)
_SYNC_EVERY_S = 1.0


class Ledger:
    """A raster's ledger, open for its one writer.

    Parameters
    ----------
    path
        The file; made if there is none. What was recorded there before is known at once.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._before = records(path)
        self._keys = _keys(self._before)
        try:
            self._file = open_handle(path, os.O_RDWR | os.O_CREAT)
            whole = os.fstat(self._file).st_size - len(_HEADER)
            if whole < 0 or read_at(self._file, len(_HEADER), 0) != _HEADER:
                os.ftruncate(self._file, 0)
                write_at(self._file, _HEADER, 0)
                whole = 0
            self._end = len(_HEADER) + whole // _RECORD.size * _RECORD.size
        except OSError as error:
            raise storage_error(path, error) from error
        self._synced = time.monotonic()

    def done(self, stage: int, unit: Unit) -> FileDigest | None:
        """What an earlier run recorded of a unit."""
        # of the keys' own type: of a plain int NumPy makes all of them floats, each time, and rounds them
        key = np.uint64(_key(stage, *unit))
        at = int(np.searchsorted(self._keys, key))
        if at == len(self._keys) or self._keys[at] != key:
            return None
        record = self._before[at]
        return FileDigest(int(record["size"]), record["digest"].tobytes())

    def add(self, stage: int, unit: Unit, digest: FileDigest) -> None:
        """Record a unit whose bytes are on disk.

        Raises
        ------
        StorageError
            If the ledger cannot be written.
        """
        data = seal(_RECORD.pack(stage, *unit, digest.size, digest.digest, 0))
        try:
            # at its place, not at the end: what could be written in part only is written over
            done = write_at(self._file, data, self._end)
            while done < len(data):
                done += write_at(self._file, data[done:], self._end + done)
            self._end += len(data)
            if (now := time.monotonic()) - self._synced > _SYNC_EVERY_S:
                os.fsync(self._file)
                self._synced = now
        except OSError as error:
            raise storage_error(self.path, error) from error

    def close(self) -> None:
        """End writing."""
        os.close(self._file)


def records(path: Path) -> npt.NDArray[Any]:
    """The sound records of a ledger, the last of each unit, by stage, row and column; none without a file."""
    try:
        data = path.read_bytes()
    except OSError:
        data = b""
    if not data.startswith(_HEADER):
        data = _HEADER
    table = sound_records(data[len(_HEADER) :], _DTYPE)
    keys = _keys(table)
    # of several records of a unit the last counts: a stable sort of the reversed table puts it first
    _, first = np.unique(keys[::-1], return_index=True)
    last: npt.NDArray[Any] = table[::-1][first]
    return last


def chunks_done(path: Path) -> int:
    """Number of a raster's chunks that its ledger has labels of; 0 if there is no ledger."""
    found = records(path)["stage"]
    return int(max(np.count_nonzero(found == stage) for stage in (0, RAW_STAGE)))


def _key(stage: int, row: int, col: int) -> int:
    return stage << 56 | row << 28 | col


def _keys(table: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    stage, row, col = (table[name].astype(np.uint64) for name in ("stage", "row", "col"))
    keys: npt.NDArray[np.uint64] = stage << np.uint64(56) | row << np.uint64(28) | col
    return keys
