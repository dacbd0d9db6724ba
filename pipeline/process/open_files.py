"""How many files this process may have open."""

from __future__ import annotations

import contextlib
import errno

ERRORS = frozenset({errno.EMFILE, errno.ENFILE})
"""Numbers of the errors that say that too many files are open."""

HINT = "too many open files: raise the limit (ulimit -n 1024), then run again"

OURS = 32
"""Files that a process has open beside its rasters: libraries, sockets, outputs, a ledger, a log."""

_USUAL = 512  # what Windows allows
_ENOUGH = 4096


def most_open_files() -> int:
    """The limit on open files of this process."""
    try:
        import resource
    except ImportError:  # on Windows
        return _USUAL
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _USUAL if soft == resource.RLIM_INFINITY else soft


def allow_more() -> None:
    """Let this process have as many files open as it may ask for: macOS begins with 256 and allows more."""
    try:
        import resource
    except ImportError:  # on Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
