"""A layer of faults between the pipeline and storage: the k-th call of a kind fails, once or from then on.

It stands in the place of the calls of `os`, of `open`, and of rasterio's datasets, and concerns itself
with the files below some folders only, so that imports and the test's own files are left alone.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import rasterio
from rasterio.errors import RasterioIOError

from pipeline.source.gdal import dataset_opening

KINDS = ("open", "read", "write", "sync", "name", "gdal")
"""Opening, reading, writing, fsync, what changes names (mkdir, rename, link, unlink), and GDAL's reads."""

_ALWAYS_FAIL = {
    # a full disk takes nothing new; what is there can be read and deleted
    errno.ENOSPC: {"write", "mkdir", "open-w", "sync"},
    errno.EACCES: {"open-w", "mkdir", "replace", "rename", "link", "unlink", "rmdir"},
    errno.EROFS: {"write", "open-w", "mkdir", "replace", "rename", "link", "unlink", "rmdir"},
}
_FILES = {
    "fsync": "sync",
    "read": "read",
    "pread": "read",
    "write": "write",
    "pwrite": "write",
    "copy_file_range": "write",
    "ftruncate": "write",
}
_NAMES = ("replace", "rename", "link", "mkdir", "unlink", "rmdir")


@dataclass(frozen=True)
class Fault:
    """Which call fails, with what.

    Parameters
    ----------
    kind, number
        One of `KINDS`, and which call of it, from 1.
    error
        The error's number.
    lasting
        False if only that call fails; True if from then on all fail that such a fault concerns.
    """

    kind: str
    number: int
    error: int
    lasting: bool = False

    def __str__(self):
        name = errno.errorcode[self.error]
        return f"{self.kind} {self.number} {name}{' from then on' if self.lasting else ''}"


class Faults:
    """The layer, in place while it is entered; without a fault it counts.

    Parameters
    ----------
    folders
        Whose files it concerns.
    fault
        What fails.
    """

    def __init__(self, *folders, fault=None):
        self.folders = tuple(os.fspath(f) for f in folders)
        self.fault = fault
        self.counts = Counter()
        self.struck = False
        self._lock = threading.Lock()
        self._real = {name: getattr(os, name) for name in ("open", *_NAMES, *_FILES)}

    def __enter__(self):
        self._stack = contextlib.ExitStack()
        for name in _NAMES:
            self._put(os, name, self._on_path("name", name))
        for name, kind in _FILES.items():
            self._put(os, name, self._on_file(kind, name))
        self._put(os, "open", self._os_open)
        self._put(io, "open", self._open)
        self._put(rasterio, "open", self._open_dataset(rasterio.open))
        self._put(dataset_opening, "open_dataset", self._open_dataset(dataset_opening.open_dataset))
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _put(self, owner, name, value):
        self._stack.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, value)

    def ask(self, kind, call, path):
        """Fail here, if this is the call, or one after it that fails too."""
        if not isinstance(path, (str, bytes, os.PathLike)) or not os.fsdecode(path).startswith(self.folders):
            return
        with self._lock:
            self.counts[kind] += 1
            fault = self.fault
            if fault is None:
                return
            first = not self.struck and kind == fault.kind and self.counts[kind] == fault.number
            self.struck |= first
            after = fault.lasting and self.struck and call in _ALWAYS_FAIL.get(fault.error, {call})
        if first or after:
            if kind == "gdal":
                raise RasterioIOError(f"{os.fsdecode(path)}: {os.strerror(fault.error)}")
            raise OSError(fault.error, os.strerror(fault.error), os.fsdecode(path))

    def _on_path(self, kind, name):
        real = self._real[name]

        def call(path, *arguments, dir_fd=None, **options):
            whole = path if dir_fd is None else Path(_path_of(dir_fd)) / path
            self.ask(kind, name, whole)
            return real(path, *arguments, **({} if dir_fd is None else {"dir_fd": dir_fd}), **options)

        return call

    def _on_file(self, kind, name):
        real = self._real[name]

        def call(file, *arguments):
            # of a copy the second file is the one that is written
            self.ask(kind, name, _path_of(arguments[0] if name == "copy_file_range" else file))
            return real(file, *arguments)

        return call

    def _os_open(self, path, flags, *arguments, **options):
        if not flags & os.O_DIRECTORY:
            writing = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            self.ask("open", "open-w" if writing else "open-r", path)
        return self._real["open"](path, flags, *arguments, **options)

    def _open(self, file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, **more):
        if isinstance(file, int) or not os.fsdecode(file).startswith(self.folders):
            return open(file, mode, buffering, encoding, errors, newline, **more)  # noqa: PTH123
        plain = mode.replace("b", "").replace("t", "")
        self.ask("open", "open-r" if plain == "r" else "open-w", file)
        raw = _Raw(self, file, plain)
        buffered = (io.BufferedReader if plain == "r" else io.BufferedWriter)(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    def _open_dataset(self, real):
        def call(path, *arguments, **options):
            self.ask("gdal", "gdal", path)
            return _Dataset(self, path, real(path, *arguments, **options))

        return call


class _Raw(io.FileIO):
    """A file whose reads and writes may fail."""

    def __init__(self, faults, path, mode):
        super().__init__(path, mode)
        self._faults = faults

    def readinto(self, buffer):
        self._faults.ask("read", "read", self.name)
        return super().readinto(buffer)

    def readall(self):
        self._faults.ask("read", "read", self.name)
        return super().readall()

    def write(self, data):
        self._faults.ask("write", "write", self.name)
        return super().write(data)


class _Dataset:
    """A dataset whose reads may fail."""

    def __init__(self, faults, path, dataset):
        self._faults, self._path, self._dataset = faults, path, dataset

    def __getattr__(self, name):
        return getattr(self._dataset, name)

    def __enter__(self):
        self._dataset.__enter__()
        return self

    def __exit__(self, *error):
        return self._dataset.__exit__(*error)

    def read(self, *arguments, **options):
        self._faults.ask("gdal", "gdal", self._path)
        return self._dataset.read(*arguments, **options)


def _path_of(file):
    try:
        return str(Path(f"/proc/self/fd/{file}").readlink())
    except OSError:
        return ""
