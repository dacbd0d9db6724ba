"""Ends on request, from outside: early, in the midst of work, twice, and to the whole group."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from tests.rasters import noise, write_geotiff
from tests.survive.commands import HINT, ROOT, Command, outputs


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_geotiff(tmp_path_factory.mktemp("source") / "scene.tif", noise(3, 2100, 4200, seed=4))


def started(source, folder, workers="2", until="raster"):
    """A run that has come to an event."""
    run = Command(folder / "out", folder / "log", source, "--segments", "3", "--workers", workers)
    end = time.monotonic() + 60
    while until and run.running and until not in [e["event"] for e in run.events]:
        assert time.monotonic() < end
        time.sleep(0.005)
    return run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_one_signal_ends_the_run_within_ten_seconds_in_a_line(source, tmp_path, number):
    run = started(source, tmp_path)
    begun = time.monotonic()
    run.signal(number)
    assert run.wait() == 130
    assert time.monotonic() - begun < 10
    assert run.errors == f"{HINT}\n"
    assert not (tmp_path / "out" / ".partial" / ".owner").exists()
    again = started(source, tmp_path, until=None)
    assert again.wait() == 0
    assert "scene.tif" in outputs(tmp_path / "out")


def test_the_second_signal_ends_it_at_once(source, tmp_path):
    run = started(source, tmp_path)
    run.signal(signal.SIGINT)
    time.sleep(0.02)
    run.signal(signal.SIGINT)
    begun = time.monotonic()
    assert run.wait() == 130
    assert time.monotonic() - begun < 2
    assert run.errors == f"{HINT}\n"


@pytest.mark.parametrize("after", [0, 0.1, 0.3])
def test_a_signal_before_there_is_any_work_is_as_quiet(source, tmp_path, after):
    run = started(source, tmp_path, until=None)
    while not run.listens():
        time.sleep(0.002)
    time.sleep(after)
    run.signal(signal.SIGINT)
    assert run.wait() == 130
    assert run.errors == f"{HINT}\n"


@pytest.mark.parametrize("until", ["start", "raster"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_workers_that_get_the_signal_too_add_nothing_to_it(source, tmp_path, number, until):
    run = started(source, tmp_path, "processes:2", until)
    begun = time.monotonic()
    run.signal_group(number)
    assert run.wait() == 130
    assert time.monotonic() - begun < 11
    assert run.errors == f"{HINT}\n"
    assert not run.orphans()


_FIRST = ("pipeline/__init__.py", "pipeline/__main__.py", "pipeline/process/first_signals.py")
"""What runs before signals are handled: a few steps, which nothing can shorten."""

_AT_IMPORT = """
import os, runpy, signal, sys
at, seen = int(sys.argv.pop(1)), []
class Finder:
    def find_spec(self, name, path=None, target=None):
        seen.append(name)
        if len(seen) == at:
            print(name, flush=True)
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
runpy.run_module("pipeline", run_name="__main__", alter_sys=True)
"""


def lines_of_ours(errors):
    """Files of this project in a traceback, of which Python's own start knows none."""
    return {line.split('"')[1].removeprefix(f"{ROOT}/") for line in errors.splitlines() if f'"{ROOT}' in line}


def test_a_signal_at_any_import_is_quiet_but_at_the_first_three(tmp_path):
    # the command's own: those of the run are imported under its own handler, as tested above
    early = set()
    for at in (*range(1, 12), *range(12, 200, 17)):
        command = [sys.executable, "-c", _AT_IMPORT, str(at), "status", str(tmp_path)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        module = ended.stdout.strip()
        if "Traceback" in ended.stderr:
            early.add(module)
        elif module:
            assert (ended.returncode, ended.stderr) == (130, f"{HINT}\n")
    assert early == {"pipeline", "pipeline.__main__", "pipeline.process.first_signals"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_signal_in_the_first_half_second_is_quiet_too(source, tmp_path, number):
    for step in range(25):
        run = started(source, tmp_path, until=None)
        time.sleep(step * 0.02)
        run.signal(number)
        code, errors = run.wait(), run.errors
        # Python's own start; of SIGINT it may print where it was, or that it cannot go on
        if code == -number or (code == 1 and errors.startswith("Fatal Python error: init")):
            assert lines_of_ours(errors) <= {*_FIRST}, errors
        else:
            assert (code, errors) == (130, f"{HINT}\n")
