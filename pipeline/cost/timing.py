"""Seconds that one task spends on each kind of work, independent of other tasks in its process.

Each task has its own watch in a context variable: concurrent tasks in one process do not see each other's
watch, and the threads of `CarryingThreads` add to the watch of the task that submitted them.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Self

READ, LABEL, WRITE = "read", "label", "write"


class Watch:
    """Seconds by kind of work, summed over the threads of one task."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}

    def add(self, work: str, seconds: float) -> None:
        """Add seconds to a kind of work."""
        with self._lock:
            self._seconds[work] = self._seconds.get(work, 0.0) + seconds

    def __getitem__(self, work: str) -> float:
        return self._seconds.get(work, 0.0)


_current: contextvars.ContextVar[Watch | None] = contextvars.ContextVar("tilewright_watch", default=None)


@contextmanager
def task() -> Iterator[Watch]:
    """A new watch, current within the block."""
    watch = Watch()
    token = _current.set(watch)
    try:
        yield watch
    finally:
        _current.reset(token)


@contextmanager
def measure(work: str) -> Iterator[None]:
    """Add the block's seconds to the current task's watch; do nothing outside of a task."""
    start = time.perf_counter()
    try:
        yield
    finally:
        if (watch := _current.get()) is not None:
            watch.add(work, time.perf_counter() - start)


@dataclass(frozen=True, slots=True)
class Effort:
    """Seconds of reading, labelling, encoding and writing."""

    read_s: float = 0.0
    label_s: float = 0.0
    encode_s: float = 0.0
    write_s: float = 0.0

    def __add__(self, other: Self) -> Self:
        """Sums of both."""
        return type(self)(
            self.read_s + other.read_s,
            self.label_s + other.label_s,
            self.encode_s + other.encode_s,
            self.write_s + other.write_s,
        )

    def rounded(self, digits: int) -> dict[str, float]:
        """Rounded seconds by name."""
        return {name: round(seconds, digits) for name, seconds in asdict(self).items()}


def effort_of(watch: Watch, encoded_s: float) -> Effort:
    """What a task's watch says; `encoded_s` are its seconds of encoding and of writing what is encoded."""
    write_s = watch[WRITE]
    return Effort(watch[READ], watch[LABEL], encoded_s - write_s, write_s)
