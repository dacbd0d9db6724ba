"""Files that appear whole or not at all: written beside their name, synced, then renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pipeline.cost import timing
from pipeline.errors import StorageError
from pipeline.out_names import PARTIAL
from pipeline.process import open_files
from pipeline.process.retry import retry

_PERMANENT = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG})
# what network file systems say of a server that is away for a moment, and disks of a bad one
_TRANSIENT = frozenset(
    {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ENOLCK}
)
_PAUSES_S = (0.05, 0.5, 3.0)

# what Windows says while another program has the file open, as one that indexes or looks for viruses
_TRANSIENT_WINDOWS = frozenset({5, 32, 33})
_COPIED_BYTES = 1 << 20

MOVES_OPEN_FILES = os.name != "nt"
"""Whether a file can be renamed or deleted while it is open."""

_moving = threading.Lock()

T = TypeVar("T")


@contextlib.contextmanager
def whole_file(path: Path, via: Path | None = None) -> Iterator[BinaryIO]:
    """A binary file that takes its name only when the block ends well and its bytes are on disk.

    The name is on disk too then, but for work in progress: one that is lost when the machine stops costs work
    and never a label, and to wait for each takes most of the time of a small raster.

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
        if PARTIAL not in path.parts:
            sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, error) from error


def storage_error(path: Path, error: OSError) -> StorageError | OSError:
    """What to tell people about a failed write; other kinds of OSError stay what they are."""
    if error.errno in open_files.ERRORS:
        return StorageError(f"{path}: {open_files.HINT}", transient=True)
    if error.errno not in _PERMANENT | _TRANSIENT:
        return error
    return StorageError(
        f"{path}: cannot write ({error.strerror}); free space or choose another OUT, then run again",
        transient=_is_transient(error),
    )


def _is_transient(error: Exception) -> bool:
    """Whether an error says that storage is away for a moment."""
    if isinstance(error, StorageError):
        return error.transient
    if not isinstance(error, OSError):
        return False
    return error.errno in _TRANSIENT or getattr(error, "winerror", None) in _TRANSIENT_WINDOWS


def with_retries(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function that may be called twice, again after a while if storage stumbled.

    Raises
    ------
    StorageError
        If it fails each time, or for a permanent reason.
    """
    return retry(lambda: function(*arguments), _PAUSES_S, _is_transient)


def open_at_once(path: str | Path, flags: int = os.O_RDONLY) -> int:
    """Open a file; the other end of a pipe in its place is not waited for."""
    return open_handle(path, flags | getattr(os, "O_NONBLOCK", 0))


def open_handle(path: str | Path, flags: int, mode: int = 0o666) -> int:
    """Open a file by the system's flags; its bytes are read and written as they are, on Windows too."""
    return os.open(path, flags | getattr(os, "O_BINARY", 0), mode)


def read_at(handle: int, size: int, offset: int) -> bytes:
    """Up to so many bytes of an open file from an offset; its position stays what it was."""
    if hasattr(os, "pread"):
        return os.pread(handle, size, offset)
    with _at(handle, offset):
        return os.read(handle, size)


def write_at(handle: int, data: bytes, offset: int) -> int:
    """Write to an open file at an offset; its position stays. Returns the number of bytes written."""
    if hasattr(os, "pwrite"):
        return os.pwrite(handle, data, offset)
    with _at(handle, offset):
        return os.write(handle, data)


@contextlib.contextmanager
def _at(handle: int, offset: int) -> Iterator[None]:
    """Set a file's position for a block; other threads wait, which may have the same file."""
    with _moving:
        before = os.lseek(handle, 0, os.SEEK_CUR)
        os.lseek(handle, offset, os.SEEK_SET)
        try:
            yield
        finally:
            os.lseek(handle, before, os.SEEK_SET)


def copy_at(source: int, target: int, size: int, from_offset: int, to_offset: int) -> int:
    """Copy bytes between open files, in the kernel where it can. Returns their number; 0 at the end."""
    # Linux alone has it, and not for all pairs of file systems: the plain way fails loudly on a full disk
    if hasattr(os, "copy_file_range"):
        with contextlib.suppress(OSError):
            return os.copy_file_range(source, target, size, from_offset, to_offset)
    return write_at(target, read_at(source, min(size, _COPIED_BYTES), from_offset), to_offset)


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

    The name is on disk when the folder is synced (`sync_folder`).

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


def remove(path: Path) -> None:
    """Delete a file or a folder with all that is in it, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
