"""Standard streams that are there, also where whoever started the process gave it none."""

from __future__ import annotations

import contextlib
import os
import sys


def open_missing() -> None:
    """Open what is missing of standard input, output and error on the null device, for worker processes too.

    `pythonw` on Windows has no streams, nor has a command with ``2>&-``. There Python has None for them, and
    the files that are opened next would get their numbers, and what a library writes to number 2 be in one.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # the system takes the lowest number that is free
            with contextlib.suppress(OSError):
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # noqa: FBT003
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = open(os.devnull, mode, encoding="utf-8", errors="backslashreplace")  # noqa: PTH123, SIM115
            setattr(sys, name, stream)
