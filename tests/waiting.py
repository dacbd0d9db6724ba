"""Waiting for what happens: as long as it takes, so that a busy machine fails nothing."""

from __future__ import annotations

import time

HANG_S = 240.0
"""What takes longer hangs. No test asserts how long anything takes; this only ends what would not end."""


def waited_for(happened, alive=lambda: True):
    """What a condition returns as soon as that is true.

    Parameters
    ----------
    happened
        The condition.
    alive
        False once it can no longer become true.
    """
    end = time.monotonic() + HANG_S
    while True:
        # asked for first: what has ended may have fulfilled the condition as its last act
        going_on = alive()
        if found := happened():
            return found
        assert going_on, "it ended before"
        assert time.monotonic() < end, "it hangs"
        time.sleep(0.005)
