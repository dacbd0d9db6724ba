"""Lock of an output folder: one run at a time, and the lock of a dead run is taken over.

`filelock` creates, refreshes and releases the lock file. A lock of this machine is alive if its process
exists and has the recorded start time (process numbers are reused). A lock of another machine is alive while
its file keeps being refreshed, as seen by the contender's own clock.

`filelock` takes a dead lock over by exchanging two names, which NFS, SMB and many FUSE file systems refuse,
and it respects an empty file, as a power cut leaves it, for good. So what it leaves is judged here.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

from pipeline import out_names
from pipeline.durable.files import open_at_once, remove, storage_error
from pipeline.errors import StorageError, UsageError

if TYPE_CHECKING:  # it is imported late: `status` and `verify` seldom need it
    from filelock import OwnerRecord, SoftFileLease

_REFRESH_EVERY_S = 5.0
_WATCH_S = 20.0
_LATE_S = 60.0
_LEASE_S = 600.0
"""Seconds for which storage may refuse to refresh a lock before its run gives it up as lost."""


class FolderLock:
    """The right to write in OUT, held until `release` or the end of this process.

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
        self.path = partial / out_names.OWNER
        self._lease = _lease(self.path)
        try:
            while not self._acquired():
                self._remove_dead()
        except OSError as error:
            raise storage_error(self.path, error) from error

    def check(self) -> None:
        """Make sure that the lock is still held.

        Raises
        ------
        StorageError
            If another run has taken it over, or storage has refused to refresh it for too long.
        """
        if (loss := self._lease.compromise) is None:
            return
        folder = self.path.parent.parent
        if loss.reason == "refresh-failed":
            raise StorageError(
                f"{folder}: its lock could not be refreshed for {_LEASE_S:.0f} s ({loss.error}); "
                "check the storage, then run again"
            )
        raise StorageError(f"{folder}: another run took this folder over while this one did not respond")

    def release(self) -> None:
        """Let others have the folder."""
        # where nothing can be deleted any more, the next run sees that this process is dead
        with contextlib.suppress(OSError):
            self._lease.release()

    def _acquired(self) -> bool:
        """Try once; False if there is a lock file that `filelock` does not take over."""
        from filelock import LeaseSettingsMismatch, Timeout

        try:
            self._lease.acquire()
        except (Timeout, LeaseSettingsMismatch):
            return False
        except (IsADirectoryError, PermissionError):
            # a folder or another user's lock is in the way; or else nothing can be created at all
            if not os.path.lexists(self.path):
                raise
            return False
        return True

    def _remove_dead(self) -> None:
        """Remove the lock file of a dead run.

        Raises
        ------
        UsageError
            If the run is alive.
        """
        if (seen := _look(self._lease)) is None:
            return
        if _is_alive(self._lease, seen):
            raise UsageError(
                f"{self.path.parent.parent}: another run is at work there ({_named(seen.owner)}); "
                "wait for its end, or choose another OUT"
            )
        import filelock

        with contextlib.ExitStack() as stack:
            # of several who want to remove it, each looks again when those before are done; Windows removes
            # no file that anybody has open, and so none of a run that is alive
            if filelock.has_fcntl:
                with contextlib.suppress(OSError):
                    handle = open_at_once(self.path)
                    stack.callback(os.close, handle)
                    filelock.lock_descriptor(handle)
            if _look(self._lease) == seen:
                remove(self.path)


def alive(out: Path) -> bool:
    """Whether a run is at work in OUT, as far as can be known at once."""
    path = out / out_names.PARTIAL / out_names.OWNER
    if not os.path.lexists(path) or (seen := _look(_lease(path))) is None:
        return False
    if (here := _alive_here(seen.owner)) is not None:
        return here
    return abs(time.time() - seen.refreshed_ns / 1e9) < _LATE_S


def _lease(path: Path) -> SoftFileLease:
    from filelock import SoftFileLease

    return SoftFileLease(
        path,
        timeout=0,
        thread_local=False,  # a run may end in another thread than it began in
        lease_duration=_LEASE_S,
        heartbeat_interval=_REFRESH_EVERY_S,
    )


class _Seen(NamedTuple):
    """Who a lock file names (None: nobody; it is torn, or of another format), and when it was refreshed."""

    owner: OwnerRecord | None
    inode: int
    refreshed_ns: int


def _look(lease: SoftFileLease) -> _Seen | None:
    """Look at a lock file; None if there is none."""
    # it opens the file, before which a network file system may show times of long ago
    owner = lease.owner
    try:
        info = os.lstat(lease.lock_file)
    except OSError:
        return None
    return _Seen(owner, info.st_ino, info.st_mtime_ns)


def _is_alive(lease: SoftFileLease, seen: _Seen) -> bool:
    """Whether a lock's run is alive; takes a while if it is not on this machine."""
    if (here := _alive_here(seen.owner)) is not None:
        return here
    end = time.monotonic() + _WATCH_S
    while time.monotonic() < end:
        time.sleep(0.5)
        if (now := _look(lease)) is None or now.owner != seen.owner:
            return False  # released, or another one's: that is judged by itself
        if now != seen:
            return True
    return False


def _alive_here(owner: OwnerRecord | None) -> bool | None:
    """Whether the process that holds a lock is alive; None if it is not on this machine, or not known."""
    # private names of a pinned version: it judges processes well, and offers no other way to ask
    from filelock._identity import host_name, owner_is_stale

    if owner is None or owner.hostname != host_name():
        return None
    with contextlib.suppress(psutil.Error):
        if psutil.Process(owner.pid).status() == psutil.STATUS_ZOMBIE:
            return False
    return not owner_is_stale(owner.pid, owner.hostname, owner.start)


def _named(owner: OwnerRecord | None) -> str:
    # after a question mark stands what tells containers of one machine apart
    return f"process {owner.pid} on {owner.hostname.partition('?')[0]}" if owner else "unknown"
