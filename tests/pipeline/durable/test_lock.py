"""One run at a time in OUT, and a dead run's lock is taken over."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import filelock
import pytest
from filelock._identity import host_name, process_start_token

from pipeline.durable import lock
from pipeline.durable.lock import FolderLock, alive
from pipeline.errors import StorageError, UsageError
from tests.waiting import HANG_S, waited_for


@pytest.fixture
def partial(tmp_path):
    folder = tmp_path / ".partial"
    folder.mkdir()
    return folder


@pytest.fixture
def no_exchange(monkeypatch):
    """As on NFS: no two names can be exchanged."""
    monkeypatch.setattr(filelock._soft, "exchange_names", lambda *_: False)
    monkeypatch.setattr(filelock._util, "exchange_names", lambda *_: False)


def record(**changes):
    """The text of a lock of this process, but for some changes; a field of None is left out."""
    fields = {
        "pid": os.getpid(),
        "host": host_name(),
        "mode": "lease",
        "token": "another",
        "duration": lock._LEASE_S,
        "start": process_start_token(os.getpid()),
        **changes,
    }
    lines = [f"{key}={value}\n" for key, value in fields.items() if value is not None]
    return "".join(["filelock/2\n", *lines])


def write(partial, **changes):
    (partial / ".owner").unlink(missing_ok=True)
    (partial / ".owner").write_text(record(**changes))


def write_former(partial, **changes):
    """A lock as the version before wrote it, of this process but for some changes."""
    ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    value = {
        "host": socket.gethostname(),
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        "processes": str(Path("/proc/self/ns/pid").readlink()),
        "pid": os.getpid(),
        "started": ticks,
        "since": "2026-01-01 00:00:00 UTC",
        "nonce": "another",
        **changes,
    }
    (partial / ".owner").write_text(json.dumps(value))


def dead_process():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_the_second_run_is_refused_while_the_first_lives(partial):
    first = FolderLock(partial)
    assert alive(partial.parent)
    with pytest.raises(UsageError, match=f"another run is at work there .process {os.getpid()} on"):
        FolderLock(partial)
    first.release()
    assert not alive(partial.parent)
    FolderLock(partial).release()
    assert list(partial.iterdir()) == []


@pytest.mark.parametrize("change", ["pid", "started", "boot"])
def test_a_dead_run_s_place_is_taken_over(partial, change):
    boot, ticks = divmod(process_start_token(os.getpid()), 1 << 64)
    gone = {
        "pid": {"pid": dead_process()},
        "started": {"start": boot << 64 | 1},
        "boot": {"start": boot + 1 << 64 | ticks},
    }
    write(partial, **gone[change])
    assert not alive(partial.parent)
    mine = FolderLock(partial)
    assert alive(partial.parent)
    mine.release()


@pytest.mark.parametrize("where", [{"host": "elsewhere"}, {"host": f"{host_name()}?pidns-1"}])
def test_a_run_on_another_machine_is_watched_for_signs_of_life(partial, monkeypatch, where):
    # it is refused at the first sign of life, and without one taken over after as long
    monkeypatch.setattr(lock, "_WATCH_S", HANG_S)
    write(partial, **where)
    path, over = partial / ".owner", threading.Event()

    def touch():
        stamp = 1_000_000_000  # whatever its clock says
        while not over.wait(0.1):
            stamp += 1
            os.utime(path, (stamp, stamp))

    living = threading.Thread(target=touch)
    living.start()
    with pytest.raises(UsageError, match="another run is at work there"):
        FolderLock(partial)
    over.set()
    living.join()
    monkeypatch.setattr(lock, "_WATCH_S", 0.6)
    FolderLock(partial).release()


def test_what_is_half_written_is_waited_for_and_then_taken_over(partial, monkeypatch):
    monkeypatch.setattr(lock, "_WATCH_S", 0.6)
    (partial / ".owner").write_text('{"host"')
    FolderLock(partial).release()


def test_of_many_that_come_at_once_one_gets_the_place(partial):
    write(partial, pid=dead_process())
    got, refused, together = [], [], threading.Barrier(8)

    def take():
        together.wait()
        try:
            got.append(FolderLock(partial))
        except UsageError as error:
            refused.append(error)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)
    got[0].check()
    got[0].release()
    assert list(partial.iterdir()) == []


def test_a_run_that_lost_its_place_stops(partial, monkeypatch):
    monkeypatch.setattr(lock, "_REFRESH_EVERY_S", 0.02)
    first = FolderLock(partial)
    first.check()
    write(partial)
    waited_for(lambda: first._lease.compromise)
    with pytest.raises(StorageError, match="took this folder over"):
        first.check()
    first.release()
    assert (partial / ".owner").exists()  # it is another's now


def test_file_systems_without_hard_links_do_too(partial, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    first = FolderLock(partial)
    with pytest.raises(UsageError, match="another run"):
        FolderLock(partial)
    first.release()
    FolderLock(partial).release()


@pytest.mark.parametrize(
    "text",
    ["", "[" * 100_000, "x" * 300_000, '{"pid": 1e999}', "[]", record(pid=None), record(mode="?"), None, "/"],
)
@pytest.mark.parametrize("exchange", [True, False])
def test_a_lock_file_that_says_nothing_sensible_is_lived_with(partial, text, exchange, monkeypatch, request):
    if not exchange:
        request.getfixturevalue("no_exchange")
    path = partial / ".owner"
    if text is None:
        os.mkfifo(path)  # reading it would not end
    elif text == "/":
        path.mkdir()
        (path / "file").touch()
    else:
        path.write_text(text)
    sensible = text is not None and "mode=?" in text
    assert alive(partial.parent)  # by its time alone
    monkeypatch.setattr(lock, "_WATCH_S", 0.0)
    if sensible:  # of a filelock to come, by a process that is alive
        with pytest.raises(UsageError, match=f"process {os.getpid()} on {socket.gethostname()}"):
            FolderLock(partial)
        return
    FolderLock(partial).release()
    assert list(partial.iterdir()) == []


@pytest.mark.parametrize("pid", [10**400, 1 << 31, -1, 0])
def test_no_process_has_a_number_that_is_none(partial, pid, monkeypatch):
    write(partial, pid=pid)
    monkeypatch.setattr(lock, "_WATCH_S", 0.0)
    FolderLock(partial).release()
    assert list(partial.iterdir()) == []


def test_a_lock_that_another_user_left_is_judged_as_any_other(partial, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    write(partial)
    monkeypatch.setattr(filelock._soft, "raise_on_not_writable_file", refuse)
    with pytest.raises(UsageError, match="another run is at work there"):
        FolderLock(partial)
    (partial / ".owner").unlink()
    with pytest.raises(StorageError, match="cannot write"):  # it is the folder that cannot be written
        FolderLock(partial)


@pytest.mark.usefixtures("no_exchange")
@pytest.mark.parametrize("times", range(5))
def test_a_dead_run_s_lock_is_taken_over_by_one_where_no_names_can_be_exchanged(partial, times):
    test_of_many_that_come_at_once_one_gets_the_place(partial)


@pytest.mark.usefixtures("no_exchange")
def test_a_stale_lock_of_another_machine_is_taken_over_where_no_names_can_be_exchanged(partial, monkeypatch):
    monkeypatch.setattr(lock, "_WATCH_S", 0.6)
    write(partial, host="elsewhere")
    FolderLock(partial).release()
    assert list(partial.iterdir()) == []


def test_a_dead_run_that_nobody_has_waited_for_is_dead(partial):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    write(partial, pid=child.pid, start=process_start_token(child.pid))
    assert alive(partial.parent)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it stays as a zombie
    assert not alive(partial.parent)
    FolderLock(partial).release()
    child.communicate()


def test_a_process_that_is_forked_does_not_release_the_lock(partial):
    first = FolderLock(partial)
    if (child := os.fork()) == 0:
        first.release()
        del first
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    first.check()
    assert alive(partial.parent)
    with pytest.raises(UsageError, match="another run"):
        FolderLock(partial)
    first.release()
    assert not alive(partial.parent)


def test_a_lock_that_storage_refuses_to_refresh_for_long_is_lost(partial, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(lock, "_REFRESH_EVERY_S", 0.02)
    monkeypatch.setattr(lock, "_LEASE_S", 0.5)
    first = FolderLock(partial)
    monkeypatch.setattr(filelock._lease, "touch", refuse)
    first.check()  # it may come back
    waited_for(lambda: first._lease.compromise)
    with pytest.raises(StorageError, match="could not be refreshed for"):
        first.check()
    first.release()


class TestLocksOfTheVersionBefore:
    """Its work is taken up, and so is its lock, whose text is another."""

    def test_a_dead_one_s_is_taken_over(self, partial, monkeypatch):
        monkeypatch.setattr(lock, "_WATCH_S", 0.6)
        write_former(partial, pid=dead_process())
        FolderLock(partial).release()
        assert list(partial.iterdir()) == []

    def test_a_living_one_s_is_respected(self, partial, monkeypatch):
        monkeypatch.setattr(lock, "_WATCH_S", 5.0)
        write_former(partial)
        path, over = partial / ".owner", threading.Event()

        def touch():
            while not over.wait(0.1):
                os.utime(path)

        living = threading.Thread(target=touch)
        living.start()
        assert alive(partial.parent)
        with pytest.raises(UsageError, match=r"another run is at work there \(unknown\)"):
            FolderLock(partial)
        over.set()
        living.join()
