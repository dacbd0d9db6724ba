"""Calling a function again after a failure that may pass: the only loop of its kind."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def retry(function: Callable[[], T], pauses_s: Sequence[float], passes: Callable[[Exception], bool]) -> T:
    """Return what a function returns, called again after each pause while its error passes.

    Parameters
    ----------
    function
        Called once, and once more for each pause.
    pauses_s
        Seconds to wait before each further call; () for one call alone.
    passes
        Whether another call may succeed where this error was raised. It is not asked of the error of the
        last call, which is raised in any case.

    Raises
    ------
    Exception
        What the last call raised, or the first call whose error does not pass.
    """
    for pause_s in pauses_s:
        try:
            return function()
        except Exception as error:
            if not passes(error):
                raise
        time.sleep(pause_s)
    return function()
