"""Ends on request, from outside: early, in the midst of work, twice, and to the whole group."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from tests.rasters import noise, write_geotiff
from tests.survive.commands import HINT, ROOT, Command, HeldCommand, outputs
from tests.waiting import waited_for


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_geotiff(tmp_path_factory.mktemp("source") / "scene.tif", noise(3, 2100, 4200, seed=4))


def started(source, folder, workers="2", *, kind=HeldCommand, **more):
    """A run of a raster of many windows."""
    options = ("--segments", "3", "--chunk-size", "512", "--workers", workers)
    return kind(folder / "out", folder / "log", source, *options, **more)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_one_signal_ends_the_run_after_what_is_under_way_in_a_line(source, tmp_path, number):
    run = started(source, tmp_path)
    run.hold(2)
    run.signal(number)
    run.heard()
    run.release()
    assert run.wait() == 130
    # those that the two threads were at, and those given to them before
    assert run.begun <= 4
    assert run.errors == f"{HINT}\n"
    assert not (tmp_path / "out" / ".partial" / ".owner").exists()
    again = started(source, tmp_path, kind=Command)
    assert again.wait() == 0
    assert "scene.tif" in outputs(tmp_path / "out")


def test_tasks_that_do_not_end_are_not_waited_for(source, tmp_path):
    run = started(source, tmp_path, grace_s=0.2)
    run.hold(2)
    run.signal(signal.SIGINT)
    assert run.wait() == 130
    assert run.errors == f"{HINT}\n"


def test_the_second_signal_ends_it_at_once(source, tmp_path):
    run = started(source, tmp_path)
    run.hold(2)
    run.signal(signal.SIGINT)
    # two that come before the first is taken are one
    run.heard()
    run.signal(signal.SIGINT)
    # what is under way would not have ended
    assert run.wait() == 130
    assert run.begun == 2
    assert run.errors == f"{HINT}\n"


@pytest.mark.parametrize("until", ["start", "raster"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_workers_that_get_the_signal_too_add_nothing_to_it(source, tmp_path, number, until):
    run = started(source, tmp_path, "processes:2")
    if until == "raster":
        run.hold(2)
    else:
        run.reach(until)
    run.signal_group(number)
    run.heard()
    run.release()
    assert run.wait() == 130
    assert run.errors == f"{HINT}\n"
    assert not run.orphans()


_AT_IMPORT = """
import os, runpy, signal, sys
at, number, seen = int(sys.argv.pop(1)), int(sys.argv.pop(1)), []
class Finder:
    def find_spec(self, name, path=None, target=None):
        seen.append(name)
        if len(seen) == at:
            print(name, flush=True)
            os.kill(os.getpid(), number)
sys.meta_path.insert(0, Finder())
runpy.run_module("pipeline", run_name="__main__", alter_sys=True)
"""


def at_import(at, number, *arguments):
    """The command, which sends itself a signal as it begins its at-th import; that module is on stdout."""
    command = [sys.executable, "-c", _AT_IMPORT, str(at), str(int(number)), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_signal_at_any_import_is_quiet_but_at_the_first_four(tmp_path):
    # the command's own: those of the run are imported under its own handler, as tested above
    early = set()
    for at in (*range(1, 12), *range(12, 200, 17)):
        ended = at_import(at, signal.SIGINT, "status", str(tmp_path))
        module = ended.stdout.strip()
        if "Traceback" in ended.stderr:
            early.add(module)
        elif module:
            assert (ended.returncode, ended.stderr) == (130, f"{HINT}\n")
    assert early == {"pipeline", "pipeline.__main__", "pipeline.process", "pipeline.process.first_signals"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_signal_at_any_import_of_a_run_is_quiet(source, tmp_path, number):
    command = ["run", str(source), "-o", str(tmp_path / "out"), "--segments", "3", "--progress", "none"]
    # of 1,300 imports those after the first of ours, the last ones beside the fit; other ones of each signal
    for at in range(12 if number == signal.SIGINT else 57, 1000, 90):
        ended = at_import(at, number, *command)
        assert ended.stdout, "there are not so many imports"
        assert (ended.returncode, ended.stderr) == (130, f"{HINT}\n"), ended.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_signal_from_the_first_handler_on_is_quiet(source, tmp_path, number):
    # Any moment will do, for all of them end alike. Before there is a handler, while Python itself starts,
    # nothing can be promised: who gets the signal is Python's own start, which says what it likes.
    for after in (0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8):
        run = started(source, tmp_path, kind=Command)
        waited_for(run.listens, lambda run=run: run.running)
        time.sleep(after)
        run.signal(number)
        assert (run.wait(), run.errors) == (130, f"{HINT}\n"), after
