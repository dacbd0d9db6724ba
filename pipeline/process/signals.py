"""Ends on request: the first signal lets what is under way finish, the second ends at once.

Python runs signal handlers between any two steps of the main thread, where an exception could tear
anything. So a signal only sets a flag, which work asks for where it can stop (`check`), and a clock
makes sure that the end comes.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import psutil

from pipeline.process.first_signals import EXIT_CODE, HINT, SIGNALS

GRACE_S = 8.0
"""Seconds that tasks under way have to finish."""

_Handler = Callable[[int, FrameType | None], Any] | signal.Handlers

_requested = threading.Event()


def requested() -> bool:
    """Whether somebody wants an end."""
    return _requested.is_set()


def check() -> None:
    """Stop here if somebody wants an end.

    Raises
    ------
    KeyboardInterrupt
        Then.
    """
    if _requested.is_set():
        raise KeyboardInterrupt


def install() -> None:
    """From now on SIGINT, SIGTERM and SIGHUP end the process in a line: nothing is begun, or all is done."""
    _handled_by(lambda _number, _frame: end_now())
    # as the last thing, when Python takes itself apart and would give the signals back to the system
    atexit.register(lambda: _handled_by(signal.SIG_IGN))


@contextlib.contextmanager
def interrupting() -> Iterator[None]:
    """While the block runs, all of these signals raise KeyboardInterrupt, so that things are tidied up."""
    before = _handled_by(signal.default_int_handler)
    try:
        yield
    finally:
        _handled_as(before)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold back what a terminal sends; threads begun in the block, and processes of theirs, never get it.

    It sends Ctrl-C, and a hang-up when it is closed, to every process of a command. One that has not come
    to ignore it would die, and Python's own helper for shared resources never ignores a hang-up.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def on_signals() -> Iterator[None]:
    """While the block runs, SIGINT, SIGTERM and SIGHUP ask for an end instead of ending the process."""
    _requested.clear()
    before = _handled_by(_handle)
    try:
        yield
    finally:
        _handled_as(before)
        _requested.clear()


def _handled_by(handler: _Handler) -> dict[int, Any]:
    """Have a handler take the signals that nobody ignores; gives those before it."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {s: signal.signal(s, handler) for s in SIGNALS if signal.getsignal(s) is not signal.SIG_IGN}


def _handled_as(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)


def _handle(_number: int, _frame: FrameType | None) -> None:
    if _requested.is_set():
        end_now()
    _requested.set()
    clock = threading.Timer(GRACE_S + 1, _end_late)
    clock.daemon = True
    clock.start()


def _end_late() -> None:
    if _requested.is_set():
        end_now()


def end_now() -> None:
    """End this process and its workers at once; what is durable stays."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    with contextlib.suppress(Exception):
        # a live display hides the cursor, and is not asked any more
        cursor = "\x1b[?25h" if sys.stderr.isatty() else ""
        sys.stderr.write(f"{cursor}{HINT}\n")
        sys.stderr.flush()
    os._exit(EXIT_CODE)
