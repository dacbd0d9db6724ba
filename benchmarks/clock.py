"""Commands that time the work they do themselves: a floor is what is left when start-up is not counted.

Such a command prints one line of JSON for the race that runs it. Its module calls `repeated` or `best`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TypeVar

T = TypeVar("T")

_AT_LEAST_S = 1.0
_MARK = '{"work": '


@dataclass(frozen=True)
class Work:
    """What a command did and what it took.

    Parameters
    ----------
    seconds
        Of the work.
    pixels
        That it was done on.
    peak_bytes
        Memory, where the command knows it; else 0.
    """

    seconds: float
    pixels: float
    peak_bytes: int = 0

    @property
    def s_per_mpx(self) -> float:
        """Seconds of a million pixels."""
        return self.seconds / self.pixels * 1e6


def tell(work: Work) -> None:
    """Print what was done, for the race."""
    print(_MARK + json.dumps(asdict(work)) + "}", flush=True)


def found(text: str) -> str:
    """The last line of `tell` in what a command printed; "" if there is none."""
    return next((line for line in reversed(text.splitlines()) if line.startswith(_MARK)), "")


def read(told: str) -> Work:
    """What a line of `tell` says.

    Raises
    ------
    ValueError
        If it is no such line, or no time passed.
    """
    try:
        work = Work(**json.loads(told)["work"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"no report of its work ({told[:80]!r})") from error
    if work.seconds <= 0 or work.pixels <= 0:
        raise ValueError(f"reports {work.pixels} pixels in {work.seconds} s")
    return work


def repeated(function: Callable[[], object], pixels: int, at_least_s: float = _AT_LEAST_S) -> Work:
    """Work of a call, after one that does not count; repeated until the clock's grain does not matter."""
    function()
    calls, start = 0, time.perf_counter()
    while True:
        function()
        calls += 1
        taken = time.perf_counter() - start
        if taken >= at_least_s:
            return Work(taken / calls, pixels)


def best(function: Callable[[], object], pixels: int, at_least_s: float = 2 * _AT_LEAST_S) -> Work:
    """Work of the best of some calls, after one that does not count: for what waits for the disk."""
    function()
    taken: list[float] = []
    while sum(taken) < at_least_s:
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return Work(min(taken), pixels)


def on_threads(function: Callable[[T], object], items: Iterable[T], threads: int) -> None:
    """Call a function with each item, on some threads."""
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(function, items):
            pass


def cores() -> int:
    """Cores that a process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
