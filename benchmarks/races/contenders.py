"""Who races: ours, the old system's way, GDAL's plain copy, floors: each a command on one raster."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SEGMENTS = 8
THREADS = 2
"""Threads of what is a floor or can be told how many to use."""

Command = Callable[[Path, Path], list[str]]


@dataclass(frozen=True)
class Contender:
    """One way from a raster to a file, or a part of it.

    Parameters
    ----------
    name
        For tables and `--only`.
    about
        What it does.
    command
        From a raster and an empty folder to a command that leaves one .tif in the folder.
    own_clock
        The command times its work itself: see `clock`.
    leaves_raster
        It leaves a file, which is looked at.
    size_px
        Sides of its raster, where those are not the race's.
    peer
        It is another program, which takes part on request.
    absent
        Why it cannot take part here; "" if it can.
    """

    name: str
    about: str
    command: Command
    own_clock: bool = False
    leaves_raster: bool = True
    size_px: int | None = None
    peer: bool = False
    absent: str = ""


@dataclass(frozen=True)
class Pair:
    """Two contenders whose seconds a pixel are compared: `name` as a share of `beside`.

    Parameters
    ----------
    name, beside
        Contenders.
    at_most, at_least
        The goal for the ratio; None where there is none.
    over
        Two more contenders: the ratio is taken as a share of theirs.
    memory
        Compare the memory instead.
    beyond
        Take the difference in seconds instead of the ratio.
    """

    name: str
    beside: str
    at_most: float | None = None
    at_least: float | None = None
    over: tuple[str, str] | None = None
    memory: bool = False
    beyond: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """All that have to be there."""
        return self.name, self.beside, *(self.over or ())

    @property
    def left(self) -> str:
        """What is compared, in words."""
        share = f" beside {self.beside}" if self.over else ""
        what = ", memory" if self.memory else ", seconds beyond" if self.beyond else ""
        return f"{self.name}{share}{what}"

    @property
    def right(self) -> str:
        """What it is compared with, in words."""
        return " beside ".join(self.over) if self.over else self.beside

    @property
    def goal(self) -> str:
        """The goal in words; "" if there is none."""
        low = f"at least {self.at_least:.2f}" if self.at_least is not None else ""
        high = f"at most {self.at_most:.2f}" if self.at_most is not None else ""
        return ", ".join(filter(None, (low, high)))

    def met(self, ratio: float) -> bool:
        """Whether a ratio reaches the goal."""
        above = self.at_least is None or ratio >= self.at_least
        return above and (self.at_most is None or ratio <= self.at_most)


def module(name: str, *arguments: object) -> list[str]:
    """Command line of one of our modules."""
    return [sys.executable, "-m", name, *map(str, arguments)]


def ours(name: str, *options: object, size_px: int | None = None) -> Contender:
    """A run of ours with some options, defaults otherwise."""
    about = f"`python -m pipeline run` {' '.join(map(_shown, options)) or 'with defaults'}"

    def command(source: Path, out: Path) -> list[str]:
        return module("pipeline", "run", source, "-o", out, "--progress", "none", *options)

    return Contender(name, about, command, size_px=size_px)


def kmeans(resolution: int) -> tuple[object, ...]:
    """Options of a K-Means run."""
    return "--segments", SEGMENTS, "--resolution", resolution


def cnn(model: Path | str) -> tuple[object, ...]:
    """Options of a run with a network."""
    return "--segments", SEGMENTS, "--method", "cnn", "--model", model


def old_system(name: str, *options: object) -> Contender:
    """The old system's way."""
    about = f"the old system's way (`benchmarks/races/old_system.py`) {' '.join(map(_shown, options))}"
    return Contender(
        name,
        about,
        lambda source, out: module("benchmarks.races.old_system", source, out / "old.tif", *options),
    )


def copy() -> Contender:
    """GDAL's copy of the raster, by its command where that is installed."""
    if not (program := shutil.which("gdal_translate")):
        return library_copy()
    options = ["-q", "-of", "COG", "-co", "COMPRESS=DEFLATE", "-co", f"NUM_THREADS={THREADS}"]
    about = f"`gdal_translate {' '.join(options)}`: the raster itself, all bands, as a COG"
    return Contender(
        "copy", about, lambda source, out: [program, *options, str(source), str(out / "copy.tif")]
    )


def library_copy() -> Contender:
    """The same copy by the GDAL that comes with rasterio: one version wherever the lock is followed."""
    code = (
        "import sys, rasterio.shutil; "
        f"rasterio.shutil.copy(*sys.argv[1:], driver='COG', COMPRESS='DEFLATE', NUM_THREADS='{THREADS}')"
    )
    about = f"`rasterio.shutil.copy` to a COG (DEFLATE, {THREADS} threads): the raster itself, all bands"
    return Contender(
        "copy", about, lambda source, out: [sys.executable, "-c", code, str(source), str(out / "copy.tif")]
    )


def itself(name: str, about: str, line: Callable[[Path, Path], list[str]]) -> Contender:
    """A command that times its own work."""
    about = f"{about}; its own clock, without start-up"
    return Contender(name, about, line, own_clock=True, leaves_raster=False)


def _shown(option: object) -> str:
    return option.name if isinstance(option, Path) else str(option)
