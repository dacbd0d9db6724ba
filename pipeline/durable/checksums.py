"""What is on disk, by its size and digest: what a ledger remembers of a part."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

DIGEST_BYTES = 16

Beside = tuple[str, bytes]
"""A file that belongs to a part and is on disk already: its name below the workspace, and its bytes."""


@dataclass(frozen=True, slots=True)
class Written:
    """A file that is on disk: its size, and the BLAKE2b digest (16 bytes) of what it holds."""

    size: int
    digest: bytes

    @classmethod
    def of(cls, data: bytes) -> Written:
        """What a file that holds `data` is."""
        return cls(len(data), hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest())

    def still(self, path: Path) -> bool:
        """Whether a file is what was written."""
        try:
            return path.stat().st_size == self.size and Written.of(path.read_bytes()) == self
        except OSError:
            return False
