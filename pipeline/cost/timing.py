"""Seconds that one task spends on each kind of work, exact whatever else its process does.

A task has a watch of its own, found through a context variable: tasks side by side in one process do
not see each other's, and the threads of `CarryingThreads` add to that of the task that submitted them.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

READ, LABEL, WRITE = "read", "label", "write"


class Watch:
    """Seconds by kind of work, summed over the threads of one task."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}

    def add(self, what: str, seconds: float) -> None:
        """Add to a kind of work."""
        with self._lock:
            self._seconds[what] = self._seconds.get(what, 0.0) + seconds

    def __getitem__(self, what: str) -> float:
        return self._seconds.get(what, 0.0)


_current: contextvars.ContextVar[Watch | None] = contextvars.ContextVar("tilewright_watch", default=None)


@contextmanager
def task() -> Iterator[Watch]:
    """A new watch for what happens in the block."""
    watch = Watch()
    token = _current.set(watch)
    try:
        yield watch
    finally:
        _current.reset(token)


@contextmanager
def measure(what: str) -> Iterator[None]:
    """Add the block's seconds to the watch of the task under way; outside of any task, to nothing."""
    start = time.perf_counter()
    try:
        yield
    finally:
        if (watch := _current.get()) is not None:
            watch.add(what, time.perf_counter() - start)


class CarryingThreads(ThreadPoolExecutor):
    """Threads shared by several tasks, where each piece of work belongs to the task that submitted it."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Submit a call in the submitter's context."""
        return super().submit(contextvars.copy_context().run, fn, *args, **kwargs)
