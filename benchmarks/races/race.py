"""Races: contenders take turns on one raster, so that what slows the machine slows all of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import rasterio

from benchmarks import clock
from benchmarks.clock import Work
from benchmarks.data import WORK, Photo
from benchmarks.data import photo as photo_of
from benchmarks.races import command
from benchmarks.races.command import CommandError, Cost
from benchmarks.races.contenders import Contender, Pair

_ONE_TILE_PX = 512  # what needs no overviews
QUIET = 0.05  # share of the cores that others may take during a timed run ...
_TRIES = 4  # ... that is done so often at most


@dataclass(frozen=True)
class Lap:
    """One timed run: what the command took, and the work that counts."""

    cost: Cost
    work: Work

    @property
    def quiet(self) -> bool:
        """Whether others took so little that the time can be trusted."""
        return self.cost.disturbance <= QUIET


@dataclass
class Entry:
    """How one contender did.

    Parameters
    ----------
    contender
        Who.
    photo
        On which raster.
    laps
        One for each round.
    peak_bytes
        Memory, from a run of its own or as the command reports it; 0 where it is not known.
    output_bytes
        Size of the file.
    repeats
        Timed runs that were done again because others disturbed them.
    failure
        Why it left the race, or "".
    """

    contender: Contender
    photo: Photo
    laps: list[Lap] = field(default_factory=list)
    peak_bytes: int = 0
    output_bytes: int = 0
    repeats: int = 0
    failure: str = ""

    @property
    def seconds(self) -> list[float]:
        """Of the work of each round."""
        return [lap.work.seconds for lap in self.laps]


@dataclass(frozen=True)
class Race:
    """What came out of a race: its raster, rounds, an entry for each contender, and who could not come."""

    photo: Photo
    rounds: int
    entries: tuple[Entry, ...]
    absent: tuple[Contender, ...] = ()

    def entry(self, name: str) -> Entry | None:
        """The entry of a contender that was there to the end."""
        return next((e for e in self.entries if e.contender.name == name and not e.failure), None)

    def ratios(self, pair: Pair) -> list[float]:
        """The ratio of a pair round by round; empty if one of it is missing."""
        entries = [e for e in map(self.entry, pair.names) if e is not None]
        if len(entries) < len(pair.names):
            return []
        if pair.memory:
            one, other = entries
            return [one.peak_bytes / other.peak_bytes] if one.peak_bytes and other.peak_bytes else []
        laps = zip(*(e.laps for e in entries), strict=True)
        if pair.beyond:
            return [one.work.seconds - other.work.seconds for one, other in laps]
        return [ratio(*(lap.work.s_per_mpx for lap in round_)) for round_ in laps]


def ratio(one: float, beside: float, over: float = 1.0, under: float = 1.0) -> float:
    """A number as a share of another, itself as a share of a share."""
    return (one / beside) / (over / under)


def race(
    contenders: Sequence[Contender],
    photo: Photo,
    rounds: int,
    say: Callable[[str], None] = lambda _: None,
    photos: Callable[[int], Photo] = photo_of,
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
    photos
        Rasters for those who have a size of their own.
    """
    entries = enter(contenders, photo, photos)
    warm_up(entries, say)
    for index in range(rounds):
        run_round(index, entries, say)
    for entry in _in_order_of(0, entries):
        if entry.contender.leaves_raster:
            with _turn(entry) as (line, _):
                entry.peak_bytes = command.peak_bytes(line)
                say(f"{entry.contender.name}: {entry.peak_bytes / 2**20:.0f} MiB")
    for entry in entries:
        if entry.failure:
            say(f"{entry.contender.name}: out of the race: {entry.failure}")
    return Race(photo, rounds, entries, tuple(c for c in contenders if c.absent))


def enter(
    contenders: Sequence[Contender], photo: Photo, photos: Callable[[int], Photo] = photo_of
) -> tuple[Entry, ...]:
    """Entries of those who can take part."""
    return tuple(
        Entry(c, photos(c.size_px) if c.size_px and c.size_px != photo.size_px else photo)
        for c in contenders
        if not c.absent
    )


def warm_up(entries: Sequence[Entry], say: Callable[[str], None]) -> None:
    """Run each once, untimed, and look at what it leaves."""
    for entry in entries:
        with _turn(entry) as (line, out):
            command.cost(line)
            if entry.contender.leaves_raster:
                entry.output_bytes = _bytes_of_cog(out, entry.photo)
            say(f"{entry.contender.name}: warmed up")


def run_round(index: int, entries: Sequence[Entry], say: Callable[[str], None], tries: int = _TRIES) -> None:
    """One timed run of each, in an order that differs from round to round; done so often if disturbed."""
    for entry in _in_order_of(index, entries):
        say(f"{entry.contender.name}: round {index + 1}, {_timed(entry, tries)}")


def _in_order_of(index: int, entries: Sequence[Entry]) -> list[Entry]:
    """Those still in the race, each round another first."""
    first = index % len(entries) if entries else 0
    return [e for e in (*entries[first:], *entries[:first]) if not e.failure]


def _timed(entry: Entry, tries: int) -> str:
    """Add the lap of a round to an entry, and say it; what others disturb is done again, a few times."""
    laps: list[Lap] = []
    while len(laps) < tries and not entry.failure:
        with _turn(entry) as (line, _):
            laps.append(_lap(entry, command.cost(line)))
            if laps[-1].quiet:
                break
    if entry.failure:
        return entry.failure
    best = min(laps, key=lambda lap: lap.cost.disturbance)
    entry.laps.append(best)
    entry.peak_bytes = best.work.peak_bytes
    entry.repeats += len(laps) - 1
    return ", ".join(f"{lap.work.seconds:.2f} s (others {lap.cost.disturbance:.0%})" for lap in laps)


def _lap(entry: Entry, cost: Cost) -> Lap:
    if not entry.contender.own_clock:
        return Lap(cost, Work(cost.wall_s, entry.photo.size_px**2))
    try:
        return Lap(cost, clock.read(cost.told))
    except ValueError as error:
        raise CommandError(str(error)) from error


@contextlib.contextmanager
def _turn(entry: Entry) -> Iterator[tuple[list[str], Path]]:
    """A contender's command and the new folder that it writes into; its failure goes into its entry."""
    WORK.mkdir(parents=True, exist_ok=True)
    out = Path(tempfile.mkdtemp(prefix="race-", dir=WORK))
    os.sync()
    try:
        yield entry.contender.command(entry.photo.path, out), out
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
