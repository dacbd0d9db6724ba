"""Ends on request: the first signal lets what is under way finish, the second ends at once.

Python runs signal handlers between any two steps of the main thread, where an exception could tear
anything. So a signal only sets a flag, which work asks for where it can stop (`check`), and a clock
makes sure that the end comes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import psutil

EXIT_CODE = 130
GRACE_S = 8.0
"""Seconds that tasks under way have to finish."""

_HINT = "interrupted; run the same command again to finish"
_SIGNALS = [s for name in ("SIGINT", "SIGTERM", "SIGHUP") if (s := getattr(signal, name, None)) is not None]

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


@contextlib.contextmanager
def on_signals() -> Iterator[None]:
    """While the block runs, SIGINT, SIGTERM and SIGHUP ask for an end instead of ending the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _requested.clear()
    before = {s: signal.signal(s, _handle) for s in _SIGNALS if signal.getsignal(s) is not signal.SIG_IGN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _requested.clear()


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
        sys.stderr.write(f"{cursor}{_HINT}\n")
        sys.stderr.flush()
    os._exit(EXIT_CODE)
