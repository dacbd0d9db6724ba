"""Who works in OUT: one run at a time, and a dead run's place is taken over.

The owner is a file that appears by a hard link, which file systems (NFS too) do for one of several at a
time. Whether an owner lives is asked of the system if it runs on this machine (its process, and when that
began: numbers are used again). Of another machine only a sign of life is seen: the owner touches its file
every few seconds, and whoever wants its place watches the file for longer than that, by his own clock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from pipeline.durable.files import patiently, storage_error
from pipeline.errors import StorageError, UsageError

_NAME = ".owner"
_TOUCH_EVERY_S = 5.0
_WATCH_S = 20.0
_LATE_S = 60.0
_MOST_BYTES = 1 << 16
_STRANGE = (ValueError, KeyError, TypeError, OverflowError, RecursionError)


class Owner:
    """The right to write in OUT, held until `release` or death.

    Parameters
    ----------
    partial
        Folder of work in progress in OUT, which exists.

    Raises
    ------
    UsageError
        If another run is at work there.
    StorageError
        If the folder cannot be written.
    """

    def __init__(self, partial: Path) -> None:
        self.path = partial / _NAME
        self._me = json.dumps({**_here(), "nonce": uuid.uuid4().hex})
        self._lost = False
        try:
            self._take()
        except OSError as error:
            raise storage_error(self.path, error) from error
        self._over = threading.Event()
        self._touching = threading.Thread(target=self._touch, name="tilewright-owner", daemon=True)
        self._touching.start()

    def check(self) -> None:
        """Make sure that the place is still ours.

        Raises
        ------
        StorageError
            If another run has taken it: this one was out of sight for too long.
        """
        if self._lost:
            folder = self.path.parent.parent
            raise StorageError(f"{folder}: another run took this folder over while this one did not respond")

    def release(self) -> None:
        """Leave the place to others."""
        self._over.set()
        self._touching.join()
        # where nothing can be deleted any more, the next run sees that this process is dead
        with contextlib.suppress(OSError, StorageError):
            if patiently(_said, self.path) == self._me:
                patiently(self.path.unlink)

    def _take(self) -> None:
        mine = self.path.with_name(f"{_NAME}.{uuid.uuid4().hex}")
        try:
            mine.write_text(self._me)
            while not _placed(mine, self.path):
                self._remove_dead()
        finally:
            mine.unlink(missing_ok=True)

    def _remove_dead(self) -> None:
        """Take a dead owner's file away.

        Raises
        ------
        UsageError
            If its owner lives.
        """
        text = _read(self.path)
        if text is None:
            return
        if _lives(self.path, text):
            raise UsageError(
                f"{self.path.parent.parent}: another run is at work there ({_named(text)}); "
                "wait for its end, or choose another OUT"
            )
        # others that saw the same dead owner may have come before, and one of them may be the owner now
        with _alone(self.path.parent):
            if _read(self.path) == text:
                self.path.unlink(missing_ok=True)

    def _touch(self) -> None:
        while not self._over.wait(_TOUCH_EVERY_S):
            with contextlib.suppress(OSError):
                text = _read(self.path)
                if text is not None and text != self._me:
                    self._lost = True
                    return
                os.utime(self.path)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Exclude others from a block, where the file system can; the system ends it with the process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _placed(mine: Path, path: Path) -> bool:
    """Give a file its name unless somebody else has it."""
    try:
        os.link(mine, path)
    except FileExistsError:
        return False
    except OSError:
        # no hard links on this file system: then the name comes first, and what it says a moment later
        try:
            with path.open("x") as file:
                file.write(mine.read_text())
        except FileExistsError:
            return False
    return True


def alive(out: Path) -> bool:
    """Whether a run is at work in OUT, as far as can be told at once."""
    path = out / ".partial" / _NAME
    text = _read(path)
    if text is None:
        return False
    if (here := _on_this_machine(text)) is not None:
        return here
    try:
        return abs(time.time() - path.stat().st_mtime) < _LATE_S
    except OSError:
        return False


def _here() -> dict[str, Any]:
    """What tells this process from every other one, here and elsewhere."""
    return {
        "host": socket.gethostname(),
        "boot": _boot(),
        # a container may have this machine's name and boot, and other processes under the same numbers
        "processes": _text("/proc/self/ns/pid", link=True),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
    }


def _started(pid: int) -> str:
    """When a process began, by a clock that nobody sets where there is one.

    Raises
    ------
    psutil.Error
        If there is no such process, or only what is left of a dead one.
    """
    process = psutil.Process(pid)
    if process.status() == psutil.STATUS_ZOMBIE:
        raise psutil.ZombieProcess(pid)
    stat = _text(f"/proc/{pid}/stat")
    return stat.rpartition(")")[2].split()[19] if stat else str(int(process.create_time()))


def _boot() -> str:
    return _text("/proc/sys/kernel/random/boot_id") or str(int(psutil.boot_time()))


def _text(path: str, *, link: bool = False) -> str:
    try:
        return str(Path(path).readlink()) if link else Path(path).read_text().strip()
    except OSError:
        return ""


def _read(path: Path) -> str | None:
    """What an owner's file says, "" where that is nothing an owner writes; None without one."""
    try:
        return _said(path)
    except OSError:
        return "" if path.exists() else None


def _said(path: Path) -> str:
    # a pipe in its place would be waited for
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        data = os.read(handle, _MOST_BYTES + 1)
        return "" if len(data) > _MOST_BYTES else data.decode()
    except UnicodeDecodeError:
        return ""
    finally:
        os.close(handle)


def _lives(path: Path, text: str) -> bool:
    """Whether the owner lives that wrote `text`; takes a while if it is on another machine."""
    if (here := _on_this_machine(text)) is not None:
        return here
    before = path.stat().st_mtime_ns
    end = time.monotonic() + _WATCH_S
    while time.monotonic() < end:
        time.sleep(0.5)
        if _read(path) != text:
            return False
        with contextlib.suppress(OSError):
            if path.stat().st_mtime_ns != before:
                return True
    return False


def _on_this_machine(text: str) -> bool | None:
    """Whether an owner on this machine lives; None if it is on another one, or not known."""
    try:
        value = json.loads(text)
        pid, started = int(value["pid"]), value["started"]
        there = [value[k] for k in ("host", "boot", "processes")]
    except _STRANGE:
        return None  # half written, by whomever
    mine = _here()
    if there[0] == mine["host"] and there[1] != mine["boot"]:
        return False  # this machine started anew since
    if there != [mine[k] for k in ("host", "boot", "processes")]:
        return None
    try:
        return bool(started == _started(pid))
    except (psutil.Error, ValueError, OverflowError):
        return False  # there is none, or no process can have that number


def _named(text: str) -> str:
    try:
        value = json.loads(text)
        return f"process {value['pid']} on {value['host']}, since {value['since']}"
    except _STRANGE:
        return "unknown"
