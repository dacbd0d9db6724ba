"""The temporary folder in which a plan segments parts of rasters."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pipeline.process import signals


@contextlib.contextmanager
def scratch(out: str | None) -> Iterator[Path]:
    """A temporary folder, deleted after the block, on the disk of OUT but never inside OUT."""
    folder = Path(tempfile.mkdtemp(prefix="tilewright-plan-", dir=_other_disk(out)))
    remove = partial(shutil.rmtree, folder, ignore_errors=True)
    # deleted again when all threads have ended: an interrupted one may write until then
    atexit.register(remove)
    try:
        yield folder
    finally:
        with signals.interrupts_held():
            remove()
        if not folder.exists():
            atexit.unregister(remove)


def _other_disk(out: str | None) -> Path | None:
    """The nearest existing folder above OUT, if it is on another disk than the system's temporary folder.

    None if the temporary folder is on the same disk, or that folder cannot be written to.
    """
    if out is None:
        return None
    folder = next(p for p in Path(os.path.abspath(out)).parents if p.exists())
    same = folder.stat().st_dev == Path(tempfile.gettempdir()).stat().st_dev
    return None if same or not os.access(folder, os.W_OK) else folder
