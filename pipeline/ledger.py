"""The ledger of a raster's finished chunks (only what `status` reads of it)."""

from __future__ import annotations

from pathlib import Path

_HEAD_BYTES = 16
_RECORD_BYTES = 40


def chunks_done(path: Path) -> int:
    """Number of chunks that a ledger holds as done."""
    return max(0, path.stat().st_size - _HEAD_BYTES) // _RECORD_BYTES
