"""Calling a function again after a transient failure: the only loop of its kind."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def retry(
    function: Callable[[], T], pauses_s: Sequence[float], is_transient: Callable[[Exception], bool]
) -> T:
    """Return what a function returns, called again after each pause while its error is transient.

    Parameters
    ----------
    function
        Called once, and once more for each pause.
    pauses_s
        Seconds to wait before each further call; () for one call alone.
    is_transient
        Whether another call may succeed where this error was raised. It is not asked of the error of the
        last call, which is raised in any case.

    Raises
    ------
    Exception
        What the last call raised, or the first call whose error is not transient.
    """
    for pause_s in pauses_s:
        try:
            return function()
        except Exception as error:
            if not is_transient(error):
                raise
        time.sleep(pause_s)
    return function()
