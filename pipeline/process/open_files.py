"""How many files this process may have open."""

from __future__ import annotations

import errno

ERRORS = frozenset({errno.EMFILE, errno.ENFILE})
"""Numbers of the errors that say that too many files are open."""

HINT = "too many open files: raise the limit (ulimit -n 1024), then run again"

_USUAL = 512  # what Windows allows


def most_open_files() -> int:
    """The limit on open files of this process."""
    try:
        import resource
    except ImportError:  # on Windows
        return _USUAL
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _USUAL if soft == resource.RLIM_INFINITY else soft
