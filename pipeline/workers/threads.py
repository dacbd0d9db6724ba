"""Threads of a worker's process, shared by its tasks."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

_cell_pools: dict[int, ThreadPoolExecutor] = {}
_cell_lock = threading.Lock()


class CarryingThreads(ThreadPoolExecutor):
    """Threads shared by several tasks, where each piece of work belongs to the task that submitted it."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Submit a call in the submitter's context."""
        return super().submit(contextvars.copy_context().run, fn, *args, **kwargs)


def cell_threads(count: int) -> ThreadPoolExecutor:
    """Threads that all windows of this process share, so that the last window keeps all of them busy."""
    with _cell_lock:
        if count not in _cell_pools:
            _cell_pools[count] = CarryingThreads(count, thread_name_prefix="tilewright-cells")
        return _cell_pools[count]


def end_cell_threads() -> None:
    """Stop these threads; the next call of `cell_threads` starts others."""
    with _cell_lock:
        while _cell_pools:
            _cell_pools.popitem()[1].shutdown()
