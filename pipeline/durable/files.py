"""Files that appear whole or not at all: written beside their name, synced, then renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pipeline.cost import timing
from pipeline.errors import StorageError
from pipeline.process.retry import retry

_LASTING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG})
# what network file systems say of a server that is away for a moment, and disks of a bad one
_PASSING = frozenset(
    {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ENOLCK}
)
_PATIENCE_S = (0.05, 0.5, 3.0)

T = TypeVar("T")


@contextlib.contextmanager
def whole_file(path: Path, via: Path | None = None) -> Iterator[BinaryIO]:
    """A binary file that takes its name only when the block ends well and its bytes are on disk.

    Parameters
    ----------
    path
        The file.
    via
        Folder of the same file system where it stands until then, and stays if the process is killed;
        its own folder if None.

    Raises
    ------
    StorageError
        If the disk is full or not writable; nothing stands under the final name then.
    """
    # long names are cut, so what tells them apart has to stand in the rest
    digest = hashlib.blake2b(os.fsencode(path.name), digest_size=6).hexdigest()
    part = (via or path.parent) / f".{path.name[:40]}.{digest}.{os.getpid()}.part"
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
    if error.errno not in _LASTING | _PASSING:
        return error
    return StorageError(
        f"{path}: cannot write ({error.strerror}); free space or choose another OUT, then run again",
        passing=error.errno in _PASSING,
    )


def patiently(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function that may be called twice, again after a while if storage stumbled.

    Raises
    ------
    StorageError
        If it fails each time, or for a reason that lasts.
    """
    return retry(lambda: function(*arguments), _PATIENCE_S, _is_passing)


def _is_passing(error: Exception) -> bool:
    """Whether an error says that storage is away for a moment."""
    if isinstance(error, StorageError):
        return error.passing
    return isinstance(error, OSError) and error.errno in _PASSING


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_bytes(path: Path, data: bytes, via: Path | None = None) -> None:
    """Write a whole file durably and atomically; see `whole_file`."""
    with timing.measure(timing.WRITE), whole_file(path, via) as file:
        file.write(data)


def write_json(path: Path, value: Any, via: Path | None = None) -> None:
    """Write a JSON file durably and atomically; see `whole_file`."""
    try:
        data = json.dumps(value, indent=1, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        # a file's name need not be Unicode; JSON's escapes hold it all the same
        data = json.dumps(value, indent=1).encode()
    write_bytes(path, data + b"\n", via)


def write_synced(files: Iterable[tuple[Path, bytes]], root: Path) -> None:
    """Write files whose bytes and names are on disk at the end, but each of which may be torn till then.

    One sync of each folder serves all its files; something written later has to say that they are whole.

    Parameters
    ----------
    files
        Names below `root` with their bytes.
    root
        Folder that exists.

    Raises
    ------
    StorageError
        If the disk is full or not writable.
    """
    folders: set[Path] = set()
    path = root
    try:
        for path, data in files:
            if path.parent not in folders:
                path.parent.mkdir(parents=True, exist_ok=True)
                folders.update(p for p in (path.parent, *path.parent.parents) if p.is_relative_to(root))
            with timing.measure(timing.WRITE), path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(path, error) from error
    for folder in sorted(folders, reverse=True):
        sync_folder(folder)


def sync_tree(root: Path) -> None:
    """Make the names of everything below a folder durable; the files' bytes are so already."""
    for folder, _, _ in os.walk(root, topdown=False):
        sync_folder(Path(folder))


def move(source: Path, target: Path) -> None:
    """Give a whole, synced file or folder its final name, in the place of what stands there.

    Raises
    ------
    StorageError
        If the target folder is not writable.
    """
    # a folder cannot be renamed over another one, so that goes into the workspace first
    aside = source.with_name(f".replaced.{target.name}"[:200])
    try:
        if target.is_dir():
            target.replace(aside)
        source.replace(target)
        remove(aside)
    except OSError as error:
        raise storage_error(target, error) from error
    sync_folder(target.parent)


def remove(path: Path) -> None:
    """Delete a file or a folder with all that is in it, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
