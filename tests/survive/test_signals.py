"""Ends on request, from outside: early, in the midst of work, twice, and to the whole group."""

from __future__ import annotations

import signal
import time

import pytest

from tests.rasters import noise, write_geotiff
from tests.survive.commands import HINT, Command, outputs


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
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_workers_that_get_the_signal_too_add_nothing_to_it(source, tmp_path, number, until):
    run = started(source, tmp_path, "processes:2", until)
    begun = time.monotonic()
    run.signal_group(number)
    assert run.wait() == 130
    assert time.monotonic() - begun < 11
    assert run.errors == f"{HINT}\n"
    assert not run.orphans()
