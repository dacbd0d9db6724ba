"""Intermediate results of a fit on disk, so that an interrupted fit is resumed.

Each result is stored under a hash of everything that it depends on, so a result from other inputs is never
used. A file that is incomplete or altered fails the archive's own checksums and is ignored.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.durable.files import remove, storage_error, with_retries

Arrays = dict[str, npt.NDArray[Any]]


class FitMemory:
    """Intermediate results of one fit.

    Parameters
    ----------
    folder
        Where they are stored; made with the first one.
    basis
        What all of them depend on (JSON values): inputs and versions.
    """

    def __init__(self, folder: Path, basis: Any) -> None:
        self._folder = folder
        self._basis = basis

    def get(self, *key: Any) -> Arrays | None:
        """The arrays stored under a key, or None."""
        try:
            with np.load(self._path(key), allow_pickle=False) as archive:
                return dict(archive)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None

    def put(self, *key: Any, **arrays: Any) -> None:
        """Store arrays under a key (JSON values): what they depend on beside `basis`.

        Raises
        ------
        StorageError
            If they cannot be written.
        """
        with_retries(_write, self._path(key), arrays)

    def forget(self) -> None:
        """Delete all results, once the fit is done."""
        # files that cannot be deleted match no other fit, and go when the run ends
        with contextlib.suppress(OSError):
            with_retries(remove, self._folder)

    def _path(self, key: tuple[Any, ...]) -> Path:
        text = json.dumps([self._basis, *key], sort_keys=True, default=str)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()}.npz"


def _write(path: Path, arrays: Arrays) -> None:
    data = io.BytesIO()
    np.savez(data, allow_pickle=False, **arrays)
    # not synced as labels are: the archive's checksums detect what a crash of the machine leaves of it
    unfinished = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(data.getvalue())
        unfinished.replace(path)
    except OSError as error:
        raise storage_error(path, error) from error
