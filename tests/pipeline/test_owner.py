"""One run at a time in OUT, and a dead run's place is taken over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

from pipeline import owner
from pipeline.errors import StorageError, UsageError
from pipeline.owner import Owner, alive
from tests.waiting import HANG_S, waited_for


@pytest.fixture
def partial(tmp_path):
    folder = tmp_path / ".partial"
    folder.mkdir()
    return folder


def write(partial, **changes):
    value = {**owner._here(), "nonce": "another", **changes}
    (partial / ".owner").write_text(json.dumps(value))


def dead_process():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_the_second_run_is_refused_while_the_first_lives(partial):
    first = Owner(partial)
    assert alive(partial.parent)
    with pytest.raises(UsageError, match=f"another run is at work there .process {os.getpid()} on"):
        Owner(partial)
    first.release()
    assert not alive(partial.parent)
    Owner(partial).release()
    assert list(partial.iterdir()) == []


@pytest.mark.parametrize("change", ["pid", "started", "boot"])
def test_a_dead_run_s_place_is_taken_over(partial, change):
    gone = {"pid": {"pid": dead_process()}, "started": {"started": "1"}, "boot": {"boot": "another"}}
    write(partial, **gone[change])
    assert not alive(partial.parent)
    mine = Owner(partial)
    assert alive(partial.parent)
    mine.release()


@pytest.mark.parametrize("where", [{"host": "elsewhere"}, {"processes": "pid:[1]"}])
def test_a_run_on_another_machine_is_watched_for_signs_of_life(partial, monkeypatch, where):
    # it is refused at the first sign of life, and without one taken over after as long
    monkeypatch.setattr(owner, "_WATCH_S", HANG_S)
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
        Owner(partial)
    over.set()
    living.join()
    monkeypatch.setattr(owner, "_WATCH_S", 0.6)
    Owner(partial).release()


def test_what_is_half_written_is_waited_for_and_then_taken_over(partial, monkeypatch):
    monkeypatch.setattr(owner, "_WATCH_S", 0.6)
    (partial / ".owner").write_text('{"host"')
    Owner(partial).release()


def test_of_many_that_come_at_once_one_gets_the_place(partial):
    write(partial, pid=dead_process())
    got, refused, together = [], [], threading.Barrier(8)

    def take():
        together.wait()
        try:
            got.append(Owner(partial))
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
    monkeypatch.setattr(owner, "_TOUCH_EVERY_S", 0.02)
    first = Owner(partial)
    first.check()
    write(partial)
    waited_for(lambda: first._lost)
    with pytest.raises(StorageError, match="took this folder over"):
        first.check()
    first.release()
    assert (partial / ".owner").exists()  # it is another's now


def test_file_systems_without_hard_links_do_too(partial, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    first = Owner(partial)
    with pytest.raises(UsageError, match="another run"):
        Owner(partial)
    first.release()
    Owner(partial).release()


@pytest.mark.parametrize("text", ["[" * 100_000, "x" * 300_000, '{"pid": 1e999}', "[]", None])
def test_an_owner_that_says_nothing_sensible_is_lived_with(tmp_path, text, monkeypatch):
    path = tmp_path / ".partial" / ".owner"
    path.parent.mkdir()
    if text is None:
        os.mkfifo(path)  # reading it would not end
    else:
        path.write_text(text)
    assert owner.alive(tmp_path)  # by its time alone
    monkeypatch.setattr(owner, "_WATCH_S", 0.0)
    owner.Owner(path.parent).release()
    assert not path.exists()


@pytest.mark.parametrize("pid", [10**400, -1, 0])
def test_no_process_has_a_number_that_is_none(tmp_path, pid):
    (tmp_path / ".partial").mkdir()
    (tmp_path / ".partial" / ".owner").write_text(json.dumps({**owner._here(), "pid": pid}))
    assert not owner.alive(tmp_path)
