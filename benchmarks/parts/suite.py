"""Runs the classes of `parts.py`, each benchmark some seconds long."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.parts import parts

_SECONDS = 2.0
_CALLS = 5


@dataclass(frozen=True)
class Timing:
    """What one benchmark gave.

    Parameters
    ----------
    name
        Class, method and parameter.
    pixels
        Pixels of one call.
    seconds
        Of each call.
    """

    name: str
    pixels: int
    seconds: tuple[float, ...]


def measure(
    only: Sequence[str], size_px: int, seconds: float = _SECONDS, say: Callable[[str], None] = lambda _: None
) -> list[Timing]:
    """Time the parts.

    Parameters
    ----------
    only
        Parts of the names of those to run; none for all.
    size_px
        Sides of the raster.
    seconds
        How long to call each, but at least five times.
    say
        Hears of each.
    """
    parts.Part.size_px = size_px
    found = []
    for name, kind, method, arguments in _cases():
        if only and not any(o.lower() in name.lower() for o in only):
            continue
        case = kind()
        case.setup(*arguments)
        try:
            taken = _calls(getattr(case, method), arguments, seconds)
        finally:
            getattr(case, "teardown", _nothing)(*arguments)
        found.append(Timing(name, case.pixels, taken))
        say(f"{name}: {statistics.median(taken) * 1e3:.1f} ms")
    return found


def _cases() -> Iterator[tuple[str, Any, str, tuple[int, ...]]]:
    """Name, class, method and arguments of each benchmark, in the order in which they are written."""
    for kind in parts.Part.__subclasses__():
        for method in (m for m in vars(kind) if m.startswith("time_")):
            calls: list[tuple[int, ...]] = [(p,) for p in kind.params] or [()]
            for arguments in calls:
                shown = f"({arguments[0]})" if arguments else ""
                yield f"{kind.__name__}.{method.removeprefix('time_')}{shown}", kind, method, arguments


def _calls(function: Callable[..., None], arguments: tuple[int, ...], seconds: float) -> tuple[float, ...]:
    """Seconds of each call, after one that does not count."""
    function(*arguments)
    taken: list[float] = []
    while len(taken) < _CALLS or sum(taken) < seconds:
        start = time.perf_counter()
        function(*arguments)
        taken.append(time.perf_counter() - start)
    return tuple(taken)


def _nothing(*_: int) -> None:
    pass
