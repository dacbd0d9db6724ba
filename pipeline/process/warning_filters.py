"""Warnings that are ignored while a block runs, without leaving a filter behind."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_Filter = tuple[str, None, type[Warning], None, int]

_lock = threading.Lock()
_users: dict[type[Warning], int] = {}
_added: dict[type[Warning], tuple[_Filter, list[Any]]] = {}


@contextmanager
def ignored(category: type[Warning]) -> Iterator[None]:
    """Ignore a category of warnings, in all threads, while the block of at least one thread runs.

    `warnings.catch_warnings` restores the whole list of filters, so that of two threads the one that
    leaves last brings back the filter of the other. Here one entry is added by the first block and
    removed by the last.
    """
    entry: _Filter = ("ignore", None, category, None, 0)
    with _lock:
        _users[category] = _users.get(category, 0) + 1
        if _users[category] == 1:
            _added[category] = entry, _filters()
            _filters().insert(0, entry)
    try:
        yield
    finally:
        with _lock:
            _users[category] -= 1
            if not _users[category]:
                _remove(*_added.pop(category))


def _remove(entry: _Filter, filters: list[Any]) -> None:
    """Remove an entry from the list that it was put into, and from its copy if one is in force now."""
    lists = [filters] if filters is _filters() else [filters, _filters()]
    for entries in lists:
        # that very entry: one that equals it may be somebody else's
        for i in [i for i, other in enumerate(entries) if other is entry]:
            del entries[i]


def _filters() -> list[Any]:
    """The list of filters that is in force."""
    assert isinstance(warnings.filters, list)
    return warnings.filters
