"""Fingerprints of inputs: enough to notice a change, cheap for any size, and free of times."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_EDGE_BYTES = 64 << 10
_PROBES = 48
_PROBE_BYTES = 4 << 10
_MOST_FILES = 100_000
_HEAD_TIMEOUT_S = 10.0


def fingerprint(path: str) -> str:
    """What tells one state of a raster from another; "" where that is not cheaply known.

    Parameters
    ----------
    path
        A local file, a folder that is a Zarr store, or a URL.
    """
    if path.startswith(("http://", "https://")):
        return _remote(path)
    file_path = Path(path)
    try:
        if file_path.is_dir():
            return _folder(file_path)
        return _file(file_path) if file_path.is_file() else ""
    except ValueError:
        return ""


def combined(fingerprints: Iterable[str]) -> str:
    """The fingerprint of what is made of several, from theirs in order; "" where one is not known."""
    digest = hashlib.sha256()
    for one in fingerprints:
        if not one:
            return ""
        digest.update(f"{one}\n".encode())
    return digest.hexdigest()


def _file(path: Path) -> str:
    """SHA-256 over a file's size, its first and last 64 KiB, and 48 blocks of 4 KiB spread evenly."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = file.seek(0, 2)
        digest.update(str(size).encode())
        starts = [0, *(size * i // (_PROBES + 1) for i in range(1, _PROBES + 1)), max(0, size - _EDGE_BYTES)]
        for i, start in enumerate(starts):
            file.seek(start)
            digest.update(file.read(_EDGE_BYTES if i in (0, len(starts) - 1) else _PROBE_BYTES))
    return digest.hexdigest()


def _folder(path: Path) -> str:
    """SHA-256 over the names and sizes of a folder's files, and the fingerprints of some spread evenly."""
    files = []
    for name in walk(path):
        files.append(name)
        if len(files) >= _MOST_FILES:
            break
    digest = hashlib.sha256(str(len(files)).encode())
    step = max(1, len(files) // _PROBES)
    for i, name in enumerate(files):
        content = _file(path / name) if i % step == 0 else str((path / name).stat().st_size)
        digest.update(f"{name}\0{content}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def walk(path: Path) -> Iterator[str]:
    """Names of all files below a folder, in an order that does not depend on the file system."""
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            # checksums hold these names, and are the same on every system
            yield os.path.relpath(Path(folder) / name, path).replace(os.sep, "/")


def _remote(url: str) -> str:
    """SHA-256 over what the server says of a file: its ETag, or when and how large it was stored."""
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310  (http and https alone come here)
    with suppress(OSError, ValueError), urllib.request.urlopen(request, timeout=_HEAD_TIMEOUT_S) as answer:  # noqa: S310
        said = [answer.headers.get(name) for name in ("ETag", "Content-Length", "Last-Modified")]
        if said[0] or all(said[1:]):
            return hashlib.sha256(repr(said[:2] if said[0] else said[1:]).encode()).hexdigest()
    return ""
