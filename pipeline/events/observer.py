"""Who hears the events of a run: one observer, or several as one."""

from __future__ import annotations

import time
from collections.abc import Callable

from pipeline.events.kinds import Event, FilesOpened

Advance = Callable[[int, int], None]
"""Called with how much is done, and of how much: cells of a fit, files to open."""


_OPENING_EVERY_S = 1.0


def ignore_progress(done: int, total: int) -> None:
    """Ignore progress."""


class Observer:
    """Hears the events of a run, from any thread, and ignores what a subclass does not take."""

    def event(self, event: Event) -> None:
        """Take one event."""

    def close(self) -> None:
        """Release what the observer holds; no event comes after that."""


class Opening:
    """Tells an observer now and then how far the opening of many files is; an `Advance`."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._last = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Take how many of how many are open."""
        if (now := time.monotonic()) - self._last >= _OPENING_EVERY_S:
            self._last = now
            self._observer.event(FilesOpened(done, total))


class Observers(Observer):
    """Several observers as one, in their order.

    Parameters
    ----------
    observers
        Those that hear.
    """

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def event(self, event: Event) -> None:
        """Pass an event on to each."""
        for observer in self._observers:
            observer.event(event)

    def close(self) -> None:
        """Close each, the last first."""
        for observer in reversed(self._observers):
            observer.close()
