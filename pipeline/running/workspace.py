"""The workspace of a raster: its work in progress, which a later run takes up if it is the same work."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.grid import Window, tiles
from pipeline import out_names
from pipeline.durable import files as durable
from pipeline.durable.bounded_json import read_object
from pipeline.durable.checksums import FileDigest, checksum, is_sound
from pipeline.durable.ledger import Ledger, Unit
from pipeline.out.outputs import Outputs
from pipeline.out.record import RasterRecord
from pipeline.running.assembly import Assembly
from pipeline.tasks.job import Job

FORMAT = "tilewright-work-1"


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
        self.ledger = Ledger(job.folder / out_names.LEDGER)
        self.assembly = Assembly(job.folder)

    def _open(self, identity: dict[str, Any]) -> None:
        folder = self._job.folder
        try:
            same = read_object(folder / out_names.IDENTITY) == identity
        except (OSError, ValueError):
            same = False
        if not same:
            durable.remove(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if not same:
            durable.write_json(folder / out_names.IDENTITY, identity)

    @property
    def complete(self) -> bool:
        """Whether only the moving of finished files is left to do."""
        job = self._job
        try:
            if not is_sound(job.folder / out_names.RECORD):
                return False
            record = RasterRecord.read(job.folder / out_names.RECORD)
            if record.style != job.codebook.style_hash:
                return False
            own = {path.name for path in Outputs(job.out, job.name, job.sink).all()}
            # a workspace is data: it may not name what lies elsewhere, nor pass for whole what is not
            return own.issuperset(record.files) and all(
                checksum(self._place(name)) == record.checksums.get(name) for name in record.files
            )
        except (OSError, ValueError):
            return False

    def _place(self, name: str) -> Path:
        """Where a finished file is: in the workspace, or in OUT already."""
        here = self._job.folder / name
        return here if here.exists() else self._job.out / name

    def recorded(self, window: Window, stage: int = 0) -> dict[Unit, FileDigest]:
        """What the ledger has of the chunks of a window, at the first stage or as raw units."""
        side = self._job.chunk_px
        units = [(c.row // side, c.col // side) for c in tiles(window, side)]
        return {unit: digest for unit in units if (digest := self.ledger.done(stage, unit)) is not None}

    def add(self, stage: int, digests: Mapping[Unit, FileDigest]) -> None:
        """Record units that were made now; labels that were assembled without them count no more.

        Raises
        ------
        StorageError
            If that cannot be written.
        """
        if digests:
            durable.with_retries(self.assembly.forget)
        for unit, digest in digests.items():
            durable.with_retries(self.ledger.add, stage, unit, digest)

    def close(self) -> None:
        """End work here; what is done stays for another run."""
        self.ledger.close()

    def remove(self) -> None:
        """End work here and delete all of it."""
        self.close()
        # what cannot be deleted goes with all work in progress when the run ends, and hurts nobody till then
        with contextlib.suppress(OSError):
            durable.with_retries(durable.remove, self._job.folder)
