"""What a signal does before anything else is loaded: this needs nothing that takes long to import."""

from __future__ import annotations

import os
import signal

EXIT_CODE = 130
HINT = "interrupted; run the same command again to finish"
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # of which each system has some
SIGNALS = [s for name in _NAMES if (s := getattr(signal, name, None)) is not None]


def install() -> None:
    """From now on the signals that nobody ignores end the process in a line: nothing is begun yet."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def _end(_number: int, _frame: object) -> None:
    try:
        os.write(2, f"{HINT}\n".encode())
    finally:
        os._exit(EXIT_CODE)
