"""The command line as on a system without what only POSIX has: `python -m tests.without_posix run ...`.

The project's own modules find none of those functions, constants and modules; other libraries keep theirs,
for they have ways of their own there. Files that are open cannot be renamed or deleted, as on Windows, and
text may not be read or written in an encoding that differs from system to system.
"""

from __future__ import annotations

import builtins
import os
import signal
import sys
import types
import warnings
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
OURS = tuple(f"{ROOT / package}{os.sep}" for package in ("engine", "pipeline"))
MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "termios", "tty"}
MISSING = {
    "os": {
        "O_CLOEXEC", "O_DIRECTORY", "O_DSYNC", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC", "WNOHANG", "chown",
        "copy_file_range", "fchmod", "fchown", "fdatasync", "fork", "forkpty", "fstatvfs", "getegid",
        "geteuid", "getgid", "getloadavg", "getpgid", "getpriority", "getuid", "killpg", "lchown", "mkfifo",
        "nice", "posix_fadvise", "posix_fallocate", "pread", "preadv", "pwrite", "pwritev",
        "register_at_fork", "sched_getaffinity", "sched_setaffinity", "sendfile", "set_blocking", "setsid",
        "statvfs", "sync", "sysconf", "uname", "wait3", "wait4",
    },
    "signal": {
        "SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGTSTP",
        "SIGUSR1", "SIGUSR2", "SIG_BLOCK", "SIG_SETMASK", "SIG_UNBLOCK", "alarm", "pause", "pthread_kill",
        "pthread_sigmask", "setitimer", "siginterrupt", "sigpending", "sigtimedwait", "sigwait",
    },
}  # fmt: skip


def by_us(depth):
    """Whether the code that called what asks is of the project."""
    return sys._getframe(depth + 1).f_code.co_filename.startswith(OURS)


def lacking(real):
    """A module that lacks what is missing, for the project's own code alone."""

    class Lacking(types.ModuleType):
        def __getattribute__(self, name):
            if not by_us(1):
                return getattr(real, name)
            if name in MISSING[real.__name__]:
                raise AttributeError(f"module {real.__name__!r} has no attribute {name!r} here")
            own = {("os", "name"): "nt", ("os", "open"): open_file}
            return own.get((real.__name__, name)) or getattr(real, name)

        def __setattr__(self, name, value):
            setattr(real, name, value)

    return Lacking(real.__name__)


def open_file(path, *arguments, **options):
    """Open a file; a folder cannot be."""
    if Path(path).is_dir():
        raise PermissionError(13, "a folder cannot be opened here", str(path))
    return REAL_OPEN(path, *arguments, **options)


def refusing(function, paths):
    """A function that renames or deletes its first so many arguments, unless they are open, or hold such."""

    def call(*arguments, dir_fd=None, **options):
        folder = Path.cwd() if dir_fd is None else Path(f"/proc/self/fd/{dir_fd}").readlink()
        for path in arguments[:paths]:
            whole = os.path.realpath(folder / os.fsdecode(path))
            if any(file == whole or file.startswith(f"{whole}/") for file in open_files()):
                raise PermissionError(13, "a file is open", whole)
        return function(*arguments, **options, **({} if dir_fd is None else {"dir_fd": dir_fd}))

    return call


def open_files():
    """Files, no folders, that this process has open."""
    for entry in os.scandir("/proc/self/fd"):
        try:
            target = Path(entry.path).readlink()
        except OSError:
            continue
        if target.is_file():
            yield str(target)


def importing(name, *arguments, **options):
    """Import a module, unless it is one that is missing and it is the project that asks."""
    if name.partition(".")[0] in MODULES and by_us(1):
        raise ModuleNotFoundError(f"No module named {name!r} here", name=name)
    return REAL_IMPORT(name, *arguments, **options)


REAL_IMPORT, REAL_OPEN = builtins.__import__, os.open


def main(arguments):
    """Run a command; with --stop first, a run fails where it would publish its first raster."""
    for name, paths in (("replace", 2), ("rename", 2), ("unlink", 1), ("remove", 1)):
        setattr(os, name, refusing(getattr(os, name), paths))
    sys.modules["os"], sys.modules["signal"] = lacking(os), lacking(signal)
    builtins.__import__ = importing
    warnings.filterwarnings("error", category=EncodingWarning, module=r"(engine|pipeline)\b")
    from pipeline.cli import main as command
    from pipeline.errors import StorageError
    from pipeline.tasks import publishing as tasks

    if arguments[0] != "--stop":
        return command(arguments)
    with mock.patch.object(tasks, "publish", side_effect=StorageError("stopped")):
        return command(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
