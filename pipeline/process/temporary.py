"""Temporary folders, and what killed processes left of theirs.

Whoever uses a folder holds a lock on a file of its own in it. The system lets go of a lock when its process
ends, in whatever way and in whatever container. So a folder whose locks can all be had is nobody's any more,
and is removed by the next command. One on storage that knows no locks stays.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.process import signals

_PREFIX = "tilewright-"
_LOCK_SUFFIX = ".lock"
_UNHELD_S = 60.0

_held: dict[Path, Any] = {}  # a lock that nothing refers to is let go of


@contextlib.contextmanager
def temporary_folder(what_for: str, parent: Path | None = None) -> Iterator[Path]:
    """A temporary folder, deleted after the block; those that killed processes left beside it go first.

    Parameters
    ----------
    what_for
        A word for its name.
    parent
        Where it is made (default: the system's temporary folder).

    Raises
    ------
    OSError
        If it cannot be made.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    remove_left(parent)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{what_for}-", dir=parent))
    hold(folder)
    remove = partial(_remove, folder)
    # deleted again when all threads have ended: an interrupted one may write until then
    atexit.register(remove)
    try:
        yield folder
    finally:
        with signals.interrupts_held():
            remove()
        if not folder.exists():
            atexit.unregister(remove)


def hold(folder: Path) -> None:
    """Have a folder stay as long as this process lives."""
    import filelock

    path = folder / f"{os.getpid()}{_LOCK_SUFFIX}"
    lock = filelock.FileLock(path, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except (OSError, NotImplementedError):
        path.touch()  # storage without locks: whoever tries it cannot have it either
    else:
        _held[folder] = lock


def remove_left(parent: Path | None = None) -> None:
    """Remove the folders that killed processes of this user left in one (default: the system's temporary)."""
    with contextlib.suppress(OSError), os.scandir(parent or tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.is_dir(follow_symlinks=False) and _ours(entry):
                _remove_if_left(Path(entry.path))


def _ours(entry: os.DirEntry[str]) -> bool:
    # on Windows the temporary folder is the user's own
    return not hasattr(os, "getuid") or entry.stat(follow_symlinks=False).st_uid == os.getuid()


def _remove_if_left(folder: Path) -> None:
    """Remove a folder if nobody uses it."""
    import filelock

    with contextlib.ExitStack() as stack, contextlib.suppress(OSError, NotImplementedError):
        locks = [*folder.glob(f"*{_LOCK_SUFFIX}")]
        for path in locks:
            lock = filelock.FileLock(path, timeout=0, fallback_to_soft=False)
            stack.enter_context(lock)  # a Timeout, which is an OSError, if its process is alive
        if not locks:
            # its process is about to hold it, or was killed before or while it deleted it; or one that was
            # ending wrote into it meanwhile
            if time.time() - folder.stat().st_mtime > _UNHELD_S:
                shutil.rmtree(folder, ignore_errors=True)
            return
        stack.close()  # Windows removes no file that is open
        shutil.rmtree(folder, ignore_errors=True)


def _remove(folder: Path) -> None:
    if (lock := _held.pop(folder, None)) is not None:
        lock.release()
    shutil.rmtree(folder, ignore_errors=True)
