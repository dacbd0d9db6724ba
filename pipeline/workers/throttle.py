"""How many tasks may be under way: a few for each worker, fewer where memory does not allow that."""

from __future__ import annotations

import time

from pipeline.process import memory

_LOOK_EVERY_S = 0.5


class Throttle:
    """Room for tasks, by the memory that this process and its workers take.

    Parameters
    ----------
    workers
        Tasks that run at a time.
    limit
        Bytes; None for most of what the machine has to give now.
    """

    def __init__(self, workers: int, limit: int | None) -> None:
        self._most = 2 * workers
        self._room = self._most
        self._limit = memory.available_memory() if limit is None else limit
        self._looked = float("-inf")

    def room(self, under_way: int) -> int:
        """How many tasks may be under way now; at least one."""
        if (now := time.monotonic()) - self._looked >= _LOOK_EVERY_S:
            self._looked = now
            if memory.memory_in_use() > self._limit:
                self._room = max(1, min(self._room, under_way) - 1)
            elif self._room < self._most:
                self._room += 1
        return self._room

    def worker_lost(self) -> None:
        """Have fewer tasks under way for a while: it may be memory that workers die of."""
        self._room = max(1, self._room // 2)
