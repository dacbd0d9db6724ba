"""Fingerprints of inputs: they detect changes, are cheap for any size, and do not depend on times."""

from __future__ import annotations

import hashlib
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pipeline.durable.checksums import walk

_EDGE_BYTES = 64 << 10
_PROBES = 48
_PROBE_BYTES = 4 << 10
_WHOLE_BYTES = 256 << 10
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
    """SHA-256 of a file's size, and of all of it or its first and last 64 KiB and 48 even blocks of 4 KiB."""
    with path.open("rb") as opened:
        size = opened.seek(0, 2)
        if size <= _WHOLE_BYTES:
            parts = [(0, size)]
        else:
            probes = [(size * i // (_PROBES + 1), _PROBE_BYTES) for i in range(1, _PROBES + 1)]
            parts = [(0, _EDGE_BYTES), *probes, (size - _EDGE_BYTES, _EDGE_BYTES)]
        blocks = [str(size).encode()]
        for start, length in parts:
            opened.seek(start)
            blocks.append(opened.read(length))
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
