"""Files that appear whole or not at all: written beside their name, synced, then renamed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.errors import StorageError

_STORAGE_ERRNOS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO}
)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes its name only when the block ends well and its bytes are on disk.

    Raises
    ------
    StorageError
        If the disk is full or not writable; nothing stands under the final name then.
    """
    part = path.with_name(f".{path.name[:200]}.{os.getpid()}.part")
    try:
        try:
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error


def storage_error(path: Path, error: OSError) -> StorageError | OSError:
    """What to tell people about a failed write; other kinds of OSError stay what they are."""
    if error.errno not in _STORAGE_ERRNOS:
        return error
    return StorageError(
        f"{path}: cannot write ({error.strerror}); free space or choose another OUT, then run again"
    )


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file durably and atomically."""
    with whole_file(path) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file durably and atomically."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def move(source: Path, target: Path) -> None:
    """Give a whole, synced file its final name.

    Raises
    ------
    StorageError
        If the target folder is not writable.
    """
    try:
        source.replace(target)
    except OSError as error:
        raise storage_error(target, error) from error
    sync_folder(target.parent)
