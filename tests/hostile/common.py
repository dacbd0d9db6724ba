"""What kinds of hostile input share: honest files, made once, and the command line."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from tests.hostile.judge import Case
from tests.rasters import noise, write_geotiff

RUN = ["-o", "out", "--segments", "3", "--workers", "1", "--progress", "plain"]


@functools.cache
def _scratch():
    kept = tempfile.TemporaryDirectory(prefix="hostile-")
    return kept, Path(kept.name)


def made(function, *arguments):
    """What a maker of honest files gives, made once."""
    return _remembered(function, arguments)


@functools.cache
def _remembered(function, arguments):
    folder = _scratch()[1] / f"{function.__name__}-{'-'.join(map(str, arguments))}"
    folder.mkdir()
    return function(folder, *arguments)


def good(folder, name="good.tif"):
    write_geotiff(folder / name, noise(3, 60, 70))
    return name


def run(source, *more, may=(0, 1, 2), measure=None):
    return Case(["run", source, *RUN, *more], may, measure)


def mostly(rng, usual, *odd, chance=0.1):
    """What is usual, and now and then something odd: where all is odd, only the first oddity is tried."""
    return rng.choice(odd) if rng.random() < chance else usual
