"""The temporary folder in which a plan segments parts of rasters."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from pipeline.process.temporary import temporary_folder


def scratch(out: str | None) -> contextlib.AbstractContextManager[Path]:
    """A temporary folder, deleted after the block, on the disk of OUT but never inside OUT."""
    return temporary_folder("plan", _other_disk(out))


def _other_disk(out: str | None) -> Path | None:
    """The nearest existing folder above OUT, if it is on another disk than the system's temporary folder.

    None if the temporary folder is on the same disk, or that folder cannot be written to.
    """
    if out is None:
        return None
    folder = next(p for p in Path(os.path.abspath(out)).parents if p.exists())
    same = folder.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev
    return None if same or not os.access(folder, os.W_OK) else folder
