"""Fingerprints of inputs: enough to notice a change, cheap for any size, and free of times."""

from __future__ import annotations

import hashlib
from pathlib import Path

_EDGE_BYTES = 64 << 10
_PROBES = 48
_PROBE_BYTES = 4 << 10


def fingerprint(path: str) -> str:
    """SHA-256 over a file's size, its first and last 64 KiB, and 48 blocks of 4 KiB spread evenly.

    What is not a local file gives "" (its header is checked when it is opened).
    """
    file_path = Path(path)
    if not file_path.is_file():
        return ""
    digest = hashlib.sha256()
    with file_path.open("rb") as file:
        size = file.seek(0, 2)
        digest.update(str(size).encode())
        starts = [0, *(size * i // (_PROBES + 1) for i in range(1, _PROBES + 1)), max(0, size - _EDGE_BYTES)]
        for i, start in enumerate(starts):
            file.seek(start)
            digest.update(file.read(_EDGE_BYTES if i in (0, len(starts) - 1) else _PROBE_BYTES))
    return digest.hexdigest()
