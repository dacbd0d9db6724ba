"""Temporary folders: those of the dead go, those of the living and of others stay."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.process import temporary
from pipeline.process.temporary import remove_left, temporary_folder
from pipeline.workers.pool import Workers, open_pool

ROOT = Path(__file__).resolve().parents[3]
HOLDER = """
import sys
from pathlib import Path
from pipeline.process import temporary
manager = {made}
folder = manager if isinstance(manager, Path) else manager.__enter__()
(folder / "part").write_bytes(b"x")
print(folder, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def parent(tmp_path, monkeypatch):
    """The system's temporary folder, for this test alone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


class Holder:
    """A process that holds a folder until it is killed."""

    def __init__(self, made):
        self._process = subprocess.Popen(
            [sys.executable, "-c", HOLDER.format(made=made)],
            cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.folder = Path(self._process.stdout.readline().strip())

    def kill(self):
        """Kill it, as the system does when memory runs out."""
        self._process.kill()
        self._process.communicate()


def made_in(parent):
    return f"temporary.temporary_folder('plan', Path({str(parent)!r}))"


def test_a_folder_stays_as_long_as_its_process_lives_and_goes_when_it_was_killed(parent):
    holder = Holder(made_in(parent))
    try:
        with temporary_folder("plan") as mine:
            remove_left()
            assert sorted(parent.iterdir()) == sorted([mine, holder.folder])
            assert (holder.folder / "part").exists()
    finally:
        holder.kill()
    assert [*parent.iterdir()] == [holder.folder]
    remove_left()
    assert not [*parent.iterdir()]


def test_a_folder_stays_as_long_as_any_of_its_processes_lives(parent):
    first = Holder(made_in(parent))
    second = Holder(f"Path({str(first.folder)!r}); temporary.hold(manager)")
    first.kill()
    remove_left()
    assert (second.folder / "part").exists()
    second.kill()
    remove_left()
    assert not [*parent.iterdir()]


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_whatever_opens_workers_next_removes_what_is_left(parent, kind):
    holder = Holder(made_in(parent))
    holder.kill()
    with open_pool(Workers(kind, 1)) as pool:
        assert list(pool.each(abs, [(-1,)])) == [1]
        assert holder.folder not in parent.iterdir()
    assert not [*parent.iterdir()]


def test_what_is_not_ours_stays(parent, tmp_path, monkeypatch):
    for name in ("dask-scratch-space", "tilewright", "other-tilewright-plan-x"):
        (parent / name).mkdir()
    (parent / "tilewright-notes.txt").write_text("mine")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "1.lock").touch()
    if os.name != "nt":
        (parent / "tilewright-link").symlink_to(elsewhere)
    unheld = parent / "tilewright-plan-of-somebody"
    unheld.mkdir()
    (unheld / "part").touch()
    before = sorted(parent.rglob("*"))
    remove_left()
    assert sorted(parent.rglob("*")) == before
    assert (elsewhere / "1.lock").exists()


@pytest.mark.skipif(os.name == "nt", reason="temporary folders are each user's own there")
def test_what_another_user_left_stays(parent, monkeypatch):
    holder = Holder(made_in(parent))
    holder.kill()
    own = os.getuid()
    with monkeypatch.context() as patch:
        patch.setattr(temporary.os, "getuid", lambda: own + 1)
        remove_left()
    assert holder.folder.exists()


def test_a_folder_whose_process_was_killed_before_it_held_it_goes_after_a_while(parent):
    folder = Path(tempfile.mkdtemp(prefix="tilewright-plan-"))
    remove_left()
    assert folder.exists()  # another command may be about to hold it
    long_ago = folder.stat().st_mtime - 3600
    os.utime(folder, (long_ago, long_ago))
    remove_left()
    assert not folder.exists()


def test_what_is_left_of_a_folder_that_was_being_deleted_goes_after_a_while(parent):
    # a worker that was ending wrote into it when its lock was gone
    folder = parent / "tilewright-workers-x"
    (folder / "dask-scratch-space").mkdir(parents=True)
    remove_left(parent)
    assert folder.exists()
    long_ago = folder.stat().st_mtime - 3600
    os.utime(folder, (long_ago, long_ago))
    remove_left(parent)
    assert not folder.exists()


@pytest.mark.parametrize("error", [NotImplementedError("no flock"), OSError(95, "not supported")])
def test_storage_without_locks_loses_nothing(parent, monkeypatch, error):
    import filelock

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with temporary_folder("plan") as folder:
        remove_left()
        assert folder.exists()
    assert not folder.exists()


def test_a_temporary_folder_that_is_not_there_is_nobody_s_trouble(tmp_path):
    remove_left(tmp_path / "nowhere")
