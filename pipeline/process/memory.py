"""The most memory that this process and those below it held at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

_EVERY_S = 0.05

_SHARE = 0.8
_CGROUP_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class Footprint:
    """Watches memory while its block lasts; pages that processes share count once (PSS)."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="tilewright-footprint", daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._over.set()
        self._thread.join()

    def look(self) -> None:
        """Look now."""
        self.peak_bytes = max(self.peak_bytes, held())

    def _watch(self) -> None:
        while not self._over.is_set():
            self.look()
            self._over.wait(_EVERY_S)


def held() -> int:
    """Bytes that this process and those below it hold, shared pages once where the system tells."""
    return _sum(lambda process: getattr(memory := process.memory_full_info(), "pss", memory.rss))


def memory_in_use() -> int:
    """Bytes that this process and those below it hold in memory."""
    return _sum(lambda process: process.memory_info().rss)


def _sum(bytes_of: Callable[[psutil.Process], int]) -> int:
    process, used = psutil.Process(), 0
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            used += bytes_of(one)
    return used


def available_memory() -> int:
    """What may be taken of this machine's memory, or of this container's."""
    free = psutil.virtual_memory().available
    for name in _CGROUP_FILES:
        with contextlib.suppress(OSError, ValueError):
            free = min(free, int(Path(name).read_text(encoding="ascii")))
    return int(free * _SHARE)
