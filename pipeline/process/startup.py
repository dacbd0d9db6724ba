"""Imports that take long, and keeping out of a process of our own what nobody there asks for.

Numba looks for SciPy's BLAS when it compiles or loads its first function; Dask for SciPy's transforms and
sparse matrices, and for xarray, which brings pandas: half of all that a short run imports. A run uses none
of it, so while Numba and Dask are imported it is hidden (`without`): `sys.modules` has None for it, which all
threads see. What they did not find they never look for again. That is done in a process of our own alone,
which `__main__` claims; in any other process (a notebook, a test, a worker) nothing is ever hidden and
everything is imported, and neither the environment nor the garbage collector is changed.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

_ours = False
importing = threading.RLock()  # modules of one package may be seen half made by two threads that import them


def claim() -> None:
    """Say that this process is there for one command and nothing else; called by `__main__` alone."""
    global _ours  # noqa: PLW0603  (it is the process that has this state)
    _ours = True
    # what looks for plugins reads the metadata of every package that is installed
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    # imports make many objects and hardly any garbage
    gc.set_threshold(50_000, 20, 20)
    # names that the encoding lacks (on Windows that is not UTF-8) are shown by their numbers, as on stderr
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def age_s() -> float:
    """Seconds since this process began; 0 in a process that is somebody else's, where others spent them."""
    if not _ours:
        return 0.0
    try:
        # the system counts in hundredths of a second there, psutil in whole ones
        ticks = int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        # a clock that was set since then makes no seconds that were not spent
        return max(0.0, time.time() - float(psutil.Process().create_time()))


@functools.cache
def load_compiled() -> None:
    """Import what compiled functions need."""
    import numpy as np

    with importing, without("scipy.linalg"):
        from engine import hashing

        hashing.mix(np.zeros(1, np.uint64))


def freeze_for_exit() -> None:
    """Freeze the garbage collector, so that the interpreter's shutdown does not scan every object."""
    gc.freeze()


@contextlib.contextmanager
def without(*modules: str) -> Iterator[None]:
    """Hide modules from the imports of all threads for a block, if the process is claimed as ours.

    A module that is imported already stays. Where the process is not ours, it does nothing.
    """
    hidden = [name for name in modules if _ours and name not in sys.modules]
    # Python documents that None fails an import
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
