"""What is known of assembled labels: the checksums of their files, and which of their windows were checked.

Two files in the workspace: what was assembled, and a fixed record for each window that was found sound
since, only ever appended. One that is torn or altered does not count, so its work is done again. Windows
are checked against the units that the labels were made of, so all of it is forgotten when one of these is
made anew.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import out_names
from pipeline.check.seams import Seams
from pipeline.durable.checksums import seal, sound_records
from pipeline.durable.files import storage_error, write_bytes
from pipeline.tasks.assembling import Assembled

_RECORD = struct.Struct("<IIIddI")
_DTYPE = np.dtype(
    [
        ("index", "<u4"),
        ("pairs", "<u4"),
        ("changes", "<u4"),
        ("expected", "<f8"),
        ("variance", "<f8"),
        ("check", "<u4"),
    ]
)
_DIGEST_BYTES = 16


class Assembly:
    """What a workspace says of its assembled labels, for the one run that works there.

    Parameters
    ----------
    folder
        The workspace.
    """

    def __init__(self, folder: Path) -> None:
        self._assembled, self._checked = folder / out_names.ASSEMBLED, folder / out_names.CHECKED
        self.known, self._digest = _read_assembled(self._assembled)
        table = _read_checked(self._checked, self._digest)
        # a bit of memory for each window, of which there may be millions
        self._sound = np.zeros(int(table["index"].astype(np.int64).max(initial=-1)) + 1, bool)
        self._sound[table["index"]] = True
        self.seams = Seams(
            *(sum(table[name].tolist()) for name in ("pairs", "changes", "expected", "variance"))
        )
        """Label changes counted in the windows found sound by earlier runs."""

    def sound(self, index: int) -> bool:
        """Whether an earlier run found the window of this number sound."""
        return self.found()(index)

    def found(self) -> Callable[[int], bool]:
        """Tells what `sound` tells now, whatever is forgotten later."""
        sound = self._sound
        return lambda index: index < len(sound) and bool(sound[index])

    def begin(self, assembled: Assembled) -> None:
        """Record what was assembled; what was found of other labels is forgotten.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        if assembled == self.known:
            return
        self.forget()
        text = json.dumps(asdict(replace(assembled, seconds=0.0))).encode()
        self.known, self._digest = assembled, _digest(text)
        write_bytes(self._assembled, self._digest + text)

    def add(self, index: int, seams: Seams) -> None:
        """Record that the window of this number is sound.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        data = seal(_RECORD.pack(index, seams.pairs, seams.changes, seams.expected, seams.variance, 0))
        try:
            with self._checked.open("r+b" if self._checked.exists() else "wb") as file:
                # at a whole record, not at the end: what could be written in part only is written over
                end = max(0, file.seek(0, 2) - _DIGEST_BYTES) // _RECORD.size * _RECORD.size
                if end == 0:
                    file.seek(0)
                    file.write(self._digest)
                file.seek(_DIGEST_BYTES + end)
                file.write(data)
        except OSError as error:
            raise storage_error(self._checked, error) from error

    def forget(self) -> None:
        """Count nothing as assembled, if anything is.

        Raises
        ------
        StorageError
            If that cannot be written.
        """
        if self.known is None:
            return
        try:
            self._assembled.unlink(missing_ok=True)
            self._checked.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(self._assembled, error) from error
        self.known, self._sound, self.seams = None, np.zeros(0, bool), Seams()


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()


def _read_assembled(path: Path) -> tuple[Assembled | None, bytes]:
    """What was assembled, with the digest that tells it from another; None where that is not sound."""
    try:
        data = path.read_bytes()
        digest, text = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        return (Assembled(**json.loads(text)), digest) if digest == _digest(text) else (None, b"")
    except (OSError, ValueError, TypeError):
        return None, b""


def _read_checked(path: Path, digest: bytes) -> Any:
    """The sound records of what has this digest, one of each window."""
    try:
        data = path.read_bytes() if digest else b""
    except OSError:
        data = b""
    body = data[_DIGEST_BYTES:] if data.startswith(digest) else b""
    table = sound_records(body, _DTYPE)
    return table[np.unique(table["index"], return_index=True)[1]]
