"""What a fit has found so far, on disk, so that a fit that was cut short is taken up.

Each finding stands under a hash of all that it depends on, so one from other inputs is never taken; a
file that is torn or altered is found out by the archive's own checksums and done without.
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

from pipeline.durable.files import patiently, remove, storage_error

Arrays = dict[str, npt.NDArray[Any]]


class FitMemory:
    """Findings of one fit.

    Parameters
    ----------
    folder
        Where they are kept; made when the first one is.
    basis
        What all of them depend on (JSON values): inputs and versions.
    """

    def __init__(self, folder: Path, basis: Any) -> None:
        self._folder = folder
        self._basis = basis

    def get(self, *what: Any) -> Arrays | None:
        """A finding, or None if it is not known."""
        try:
            with np.load(self._path(what), allow_pickle=False) as archive:
                return dict(archive)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None

    def put(self, *what: Any, **arrays: Any) -> None:
        """Keep a finding.

        Raises
        ------
        StorageError
            If it cannot be written.
        """
        patiently(_write, self._path(what), arrays)

    def forget(self) -> None:
        """Delete all findings: the fit is done."""
        # what cannot be deleted is of no other fit, and goes when the run ends
        with contextlib.suppress(OSError):
            patiently(remove, self._folder)

    def _path(self, what: tuple[Any, ...]) -> Path:
        text = json.dumps([self._basis, *what], sort_keys=True, default=str)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()}.npz"


def _write(path: Path, arrays: Arrays) -> None:
    data = io.BytesIO()
    np.savez(data, allow_pickle=False, **arrays)
    # not synced, as labels are: what a crash of the machine leaves of it the archive's checksums find out
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data.getvalue())
        part.replace(path)
    except OSError as error:
        raise storage_error(path, error) from error
