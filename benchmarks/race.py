"""Races: contenders take turns on one raster, so that what slows the machine slows all of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import rasterio

from benchmarks import command
from benchmarks.command import CommandError, Cost
from benchmarks.contenders import Contender
from benchmarks.data import WORK, Photo

_ONE_TILE_PX = 512  # what needs no overviews
_QUIET = 0.05  # share of the cores that others may take during a timed run ...
_TRIES = 4  # ... that is done so often at most


@dataclass
class Entry:
    """How one contender did.

    Parameters
    ----------
    contender
        Who.
    costs
        Of each round.
    peak_bytes
        Memory, from a run of its own; 0 where the system does not tell.
    output_bytes
        Size of the file.
    repeats
        Timed runs that were done again because others disturbed them.
    failure
        Why it left the race, or "".
    """

    contender: Contender
    costs: list[Cost] = field(default_factory=list)
    peak_bytes: int = 0
    output_bytes: int = 0
    repeats: int = 0
    failure: str = ""

    @property
    def median_s(self) -> float:
        """Median of the seconds."""
        return statistics.median(c.wall_s for c in self.costs)


@dataclass(frozen=True)
class Race:
    """What came out of a race: its raster, rounds, and an entry for each contender."""

    photo: Photo
    rounds: int
    entries: tuple[Entry, ...]

    def entry(self, name: str) -> Entry | None:
        """The entry of a contender that was there to the end."""
        return next((e for e in self.entries if e.contender.name == name and not e.failure), None)

    def ratios(self, name: str, beside: str) -> list[float]:
        """Seconds of one contender as a share of another's, round by round; empty if one is missing."""
        one, other = self.entry(name), self.entry(beside)
        if one is None or other is None:
            return []
        return [a.wall_s / b.wall_s for a, b in zip(one.costs, other.costs, strict=True)]


def race(
    contenders: Sequence[Contender], photo: Photo, rounds: int, say: Callable[[str], None] = lambda _: None
) -> Race:
    """Run a race.

    Each contender warms up once, untimed: compiled code and the raster's pages are then in their caches. Then
    come the rounds, each in another order, and at last a run of each for its memory. Before each run all
    that others wrote is brought to the disk. A timed run during which other processes took more than a
    twentieth of the cores is done again, three times at most, and the least disturbed counts: what decides
    is never the time itself.

    Parameters
    ----------
    contenders
        Who takes part.
    photo
        The raster.
    rounds
        Timed runs of each, at least 1.
    say
        Hears of each run.
    """
    entries = tuple(Entry(c) for c in contenders)
    for entry in entries:
        with _turn(entry, photo) as (line, out):
            command.cost(line)
            entry.output_bytes = _bytes_of_cog(out, photo)
            say(f"{entry.contender.name}: warmed up")
    for index in range(rounds):
        for entry in _in_order_of(index, entries):
            say(f"{entry.contender.name}: round {index + 1}, {_timed(entry, photo)}")
    for entry in _in_order_of(0, entries):
        with _turn(entry, photo) as (line, _):
            entry.peak_bytes = command.peak_bytes(line)
            say(f"{entry.contender.name}: {entry.peak_bytes / 2**20:.0f} MiB")
    for entry in entries:
        if entry.failure:
            say(f"{entry.contender.name}: out of the race: {entry.failure}")
    return Race(photo, rounds, entries)


def _in_order_of(index: int, entries: Sequence[Entry]) -> list[Entry]:
    """Those still in the race, each round another first."""
    first = index % len(entries) if entries else 0
    return [e for e in (*entries[first:], *entries[:first]) if not e.failure]


def _timed(entry: Entry, photo: Photo) -> str:
    """Add the cost of a round to an entry, and say it; what others disturb is done again, a few times."""
    tries: list[Cost] = []
    while len(tries) < _TRIES and not entry.failure:
        with _turn(entry, photo) as (line, _):
            tries.append(command.cost(line))
            if tries[-1].disturbance <= _QUIET:
                break
    if entry.failure:
        return entry.failure
    entry.costs.append(min(tries, key=lambda cost: cost.disturbance))
    entry.repeats += len(tries) - 1
    return ", ".join(f"{c.wall_s:.2f} s (others {c.disturbance:.0%})" for c in tries)


@contextlib.contextmanager
def _turn(entry: Entry, photo: Photo) -> Iterator[tuple[list[str], Path]]:
    """A contender's command and the new folder that it writes into; its failure goes into its entry."""
    WORK.mkdir(parents=True, exist_ok=True)
    out = Path(tempfile.mkdtemp(prefix="race-", dir=WORK))
    os.sync()
    try:
        yield entry.contender.command(photo.path, out), out
    except CommandError as error:
        entry.failure = str(error)
    finally:
        shutil.rmtree(out)


def _bytes_of_cog(out: Path, photo: Photo) -> int:
    """Size of the one file in a folder, once it is sure that the command did its work."""
    files = list(out.glob("*.tif"))
    if len(files) != 1:
        raise CommandError(f"left {len(files)} .tif files, not one")
    with rasterio.open(files[0]) as dataset:
        if dataset.shape != (photo.size_px, photo.size_px):
            raise CommandError(f"left a raster of {dataset.shape} px")
        if not dataset.overviews(1) and photo.size_px > _ONE_TILE_PX:
            raise CommandError("left a file without overviews")
    return files[0].stat().st_size
