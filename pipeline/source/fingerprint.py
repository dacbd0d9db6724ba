"""Fingerprints of inputs: they detect changes, are cheap for any size, and do not depend on times."""

from __future__ import annotations

import hashlib
import io
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

from pipeline.durable.checksums import walk

_EDGE_BYTES = 64 << 10
_PROBES = 48
_PROBE_BYTES = 4 << 10
_WHOLE_BYTES = 256 << 10  # a file of no more is read at once
_MOST_FILES = 100_000
_HEAD_TIMEOUT_S = 10.0


def fingerprint(path: str) -> str:
    """A digest that changes with the content of a raster; "" if it cannot be computed cheaply.

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
    """The fingerprint of several inputs, from theirs in order; "" if one of them is unknown."""
    digest = hashlib.sha256()
    for each in fingerprints:
        if not each:
            return ""
        digest.update(f"{each}\n".encode())
    return digest.hexdigest()


def _file(path: Path) -> str:
    """SHA-256 of a file's size, its first and last 64 KiB, and 48 evenly spaced blocks of 4 KiB."""
    with path.open("rb") as opened:
        size = opened.seek(0, 2)
        starts = [0, *(size * i // (_PROBES + 1) for i in range(1, _PROBES + 1)), max(0, size - _EDGE_BYTES)]
        lengths = [_EDGE_BYTES, *[_PROBE_BYTES] * _PROBES, _EDGE_BYTES]
        file: IO[bytes] = opened
        if size <= _WHOLE_BYTES:
            opened.seek(0)
            file = io.BytesIO(opened.read())
        blocks = [str(size).encode()]
        for start, length in zip(starts, lengths, strict=True):
            file.seek(start)
            blocks.append(file.read(length))
    return hashlib.sha256(b"".join(blocks)).hexdigest()


def _folder(path: Path) -> str:
    """SHA-256 of the names and sizes of a folder's files, and of the fingerprints of evenly spaced ones."""
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


def _remote(url: str) -> str:
    """SHA-256 of a server's ETag for a file, or else of size and time of modification; "" without these."""
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310  (only http and https)
    with suppress(OSError, ValueError), urllib.request.urlopen(request, timeout=_HEAD_TIMEOUT_S) as response:  # noqa: S310
        headers = [response.headers.get(name) for name in ("ETag", "Content-Length", "Last-Modified")]
        if headers[0] or all(headers[1:]):
            known = headers[:2] if headers[0] else headers[1:]
            return hashlib.sha256(repr(known).encode()).hexdigest()
    return ""
