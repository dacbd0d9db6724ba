"""Runs are killed at random moments, in all manners, and finished: the bytes are those of an undisturbed run.

Moments are drawn from the whole time of a run and, as most of that is start-up and fit on so small a
raster, from the moments after an event or after a file has appeared: of the map, the overviews, the
assembly, the moving into place. Each run is killed a few times in a row before it may end.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import time
from dataclasses import dataclass

import pytest

from tests.rasters import noise, write_geotiff
from tests.survive.commands import HINT, Command, outputs, whole_so_far

SEED = 20261123
_LONG = 60
_SHORT = 4
_IN_A_ROW = 4


@dataclass(frozen=True)
class Scene:
    """What is run: how many rasters of what size, with which options."""

    rasters: int
    size: tuple[int, int]
    options: tuple[str, ...]


SCENES = {
    "kmeans-cog": Scene(1, (1100, 4700), ("--format", "cog")),
    "kmeans-zarr": Scene(1, (1100, 4700), ("--format", "zarr")),
    "batch-cog": Scene(3, (700, 1100), ("--codebook-scope", "raster")),
    "batch-zarr": Scene(3, (700, 1100), ("--format", "zarr", "--codebook-scope", "raster")),
    "cnn-cog": Scene(1, (600, 1300), ("--method", "cnn", "--resolution", "8")),
    "cnn-zarr": Scene(1, (600, 1300), ("--method", "cnn", "--resolution", "8", "--format", "zarr")),
}
WORKERS = ("1", "2", "processes:2")
MANNERS = ("main", "worker", "group", "term", "term-group", "int", "int-group", "int-twice")
MOMENTS = (
    "any", "any", "codebook", "raster", "progress",  # times and events
    "*/stage0/*/*.part", "*/stage1/*/*.part", "*/.*.part", "*/*.aux.xml", "*/zarr.json", "*/record.json",
    "!*.tif", "!*.qml", "!run.json",
)  # fmt: skip
"""What a kill waits for: any time, an event, a file in the work in progress, or (!) in OUT itself."""


class Trial:
    """Kills of runs of one scene."""

    def __init__(self, scene, folder):
        self.scene = scene
        self.folder = folder
        bands, (height, width) = 3, scene.size
        self.sources = [
            write_geotiff(folder / f"r{i}.tif", noise(bands, height, width, seed=i), tiled=True)
            for i in range(scene.rasters)
        ]
        begun = time.monotonic()
        whole = self.command(folder / "undisturbed", "2")
        assert whole.wait() == 0, whole.errors
        self.seconds = time.monotonic() - begun
        self.wanted = outputs(folder / "undisturbed")
        assert not (folder / "undisturbed" / ".partial").exists()

    def command(self, out, workers):
        options = ("--segments", "3", "--chunk-size", "512", "--workers", workers)
        return Command(out, self.folder / "log", *self.sources, *options, *self.scene.options)

    def survive(self, name, rng, kills):
        """Kill a run several times and finish it; gives how many kills met it alive."""
        out, met = self.folder / name, 0
        workers = rng.choice(WORKERS)
        for _ in range(kills):
            workers = rng.choice((workers, rng.choice(WORKERS)))
            manner, moment, delay = rng.choice(MANNERS), rng.choice(MOMENTS), rng.uniform(0, 0.1)
            at = rng.uniform(0.3, self.seconds)
            what = f"{name}: {manner} with {workers} workers at {moment} + {delay:.3f} s, or {at:.2f} s"
            run = self.command(out, workers)
            try:
                met += self._kill(run, manner, lambda run=run, m=moment, a=at, d=delay: _wait(run, m, a, d))
                assert not run.orphans()
                whole_so_far(out, self.wanted)
            except AssertionError as error:
                raise AssertionError(f"{what}\n{error}\n{run.errors}") from error
        last = self.command(out, rng.choice(WORKERS))
        assert last.wait() == 0, f"{name}: {last.errors}"
        assert not last.errors, f"{name}: {last.errors}"
        assert not last.orphans()
        assert outputs(out) == self.wanted, name
        assert not (out / ".partial").exists()
        return met

    def _kill(self, run, manner, wait):
        if not wait():
            assert run.wait() == 0
            return False
        if manner == "worker" and (workers := run.workers()):
            os.kill(workers[0], signal.SIGKILL)
            # others do its work
            assert run.wait() == 0
            return True
        if manner in ("main", "worker"):
            run.signal(signal.SIGKILL)
            run.wait()
            return True
        if manner == "group":
            run.signal_group(signal.SIGKILL)
            run.wait()
            return True
        number = signal.SIGTERM if manner.startswith("term") else signal.SIGINT
        (run.signal_group if manner.endswith("group") else run.signal)(number)
        if manner == "int-twice":
            time.sleep(0.05)
            run.signal(number)
        code = run.wait()
        assert code in (0, 130), code
        assert run.errors == ("" if code == 0 else f"{HINT}\n")
        return True


def _wait(run, moment, at, delay):
    """Wait for a moment; False if the run ends before."""
    end = time.monotonic() + at
    before = _found(run, moment)
    while run.running:
        if moment == "any":
            if time.monotonic() > end and run.listens():
                return True
        elif _found(run, moment) - before:
            time.sleep(delay)
            return run.running
        time.sleep(0.002)
    return False


def _found(run, moment):
    """The events or files of a moment so far."""
    if moment.isalpha():
        return {i for i, event in enumerate(run.events) if event["event"] == moment}
    folder = run.out if moment.startswith("!") else run.out / ".partial"
    found = set()
    for path in folder.glob(moment.lstrip("!")):
        with contextlib.suppress(OSError):  # it has gone again
            found.add((path, path.stat().st_mtime_ns))
    return found


def _all_survive(scenes, count, seed, tmp_path):
    """Kill runs of scenes in turn until so many kills met one alive."""
    rng = random.Random(seed)
    trials, met, number = {}, 0, 0
    while met < count:
        name = scenes[number % len(scenes)]
        if name not in trials:
            (tmp_path / name).mkdir()
            trials[name] = Trial(SCENES[name], tmp_path / name)
        met += trials[name].survive(f"out{number}", rng, _IN_A_ROW)
        number += 1
        logging.getLogger(__name__).info("seed %s: %d kills of %d runs survived", seed, met, number)
    return met


@pytest.mark.parametrize("scene", ["kmeans-cog", "batch-zarr"])
def test_runs_that_are_killed_at_random_end_with_the_same_bytes(tmp_path, scene):
    _all_survive((scene,), _SHORT, f"{SEED} {scene}", tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_runs_that_are_killed_at_random_end_with_the_same_bytes(tmp_path):
    assert _all_survive(tuple(SCENES), _LONG, SEED + 1, tmp_path) >= 50
