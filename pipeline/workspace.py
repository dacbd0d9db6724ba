"""The workspace of a raster: its work in progress, which a later run takes up if it is the same work."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from engine.grid import Window, tiles
from pipeline import durable
from pipeline.ledger import Ledger, Unit
from pipeline.sinks.written import Written

if TYPE_CHECKING:
    from pipeline.job import Job

FORMAT = "tilewright-work-1"
LEDGER = "ledger"
RECORD = "record.json"
"""The record of a raster all of whose files are whole in the workspace, and may have been moved already."""

_IDENTITY = "work.json"


class Workspace:
    """A raster's workspace, for the one run that works there.

    Parameters
    ----------
    job
        The work. What is left there of other work (another input, codebook, chunk size, sink or
        version) is deleted.

    Raises
    ------
    StorageError
        If the workspace cannot be written.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        try:
            self._open(json.loads(json.dumps({"format": FORMAT, **job.identity})))
        except OSError as error:
            raise durable.storage_error(job.folder, error) from error
        self.ledger = Ledger(job.folder / LEDGER)

    def _open(self, identity: dict[str, Any]) -> None:
        folder = self._job.folder
        try:
            same = json.loads((folder / _IDENTITY).read_text()) == identity
        except (OSError, ValueError):
            same = False
        if not same:
            durable.remove(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if not same:
            durable.write_json(folder / _IDENTITY, identity)

    @property
    def complete(self) -> bool:
        """Whether only the moving of finished files is left to do."""
        folder, out = self._job.folder, self._job.out
        try:
            files = json.loads((folder / RECORD).read_text())["files"]
            return all((folder / name).exists() or (out / name).exists() for name in files)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def recorded(self, window: Window) -> dict[Unit, Written]:
        """What the ledger has of the chunks of a window."""
        side = self._job.chunk_px
        units = [(c.row // side, c.col // side) for c in tiles(window, side)]
        return {unit: written for unit in units if (written := self.ledger.done(0, unit)) is not None}

    def close(self) -> None:
        """End work here; what is done stays for another run."""
        self.ledger.close()

    def remove(self) -> None:
        """End work here and delete all of it."""
        self.close()
        # what cannot be deleted goes with all work in progress when the run ends, and hurts nobody till then
        with contextlib.suppress(OSError):
            durable.patiently(durable.remove, self._job.folder)
