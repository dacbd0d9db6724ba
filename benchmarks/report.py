"""Results as markdown: ratios first, then what was measured, and the machine it was measured on."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import platform
import shutil
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import clock
from benchmarks.data import Photo
from benchmarks.parts.coordinator import Coordination
from benchmarks.parts.suite import Timing
from benchmarks.quality.features import Score
from benchmarks.races.command import ROOT
from benchmarks.races.contenders import Pair
from benchmarks.races.race import Entry, Race

RESULTS = Path(__file__).with_name("RESULTS.md")

_LIBRARIES = ("numpy", "numba", "dask", "rasterio", "rioxarray", "scikit-learn", "torch")
_PACKAGES = ("grass-core", "otb-bin")


@dataclass(frozen=True)
class Result:
    """An event that was run: its title, its race, and what is compared."""

    title: str
    race: Race
    pairs: Sequence[Pair]

    def ratios(self) -> list[tuple[Pair, list[float]]]:
        """Each pair that was there, with its ratio in each round."""
        return [(pair, values) for pair in self.pairs if (values := self.race.ratios(pair))]


def of_sitting(results: Sequence[Result], load: float) -> str:
    """A section on all events of a sitting; `load` is the machine's load before it began.

    It begins with the goals, event by event; the details of each event follow, and the machine.
    """
    goals = [
        (result, pair, statistics.median(values))
        for result in results
        for pair, values in result.ratios()
        if pair.goal
    ]
    lines = [
        f"## {_today()}: a sitting of {_count(len(results), 'event')}",
        "",
        *table(
            ("event", "size", "time of", "beside", "ratio (median)", "goal", "met"),
            (
                (
                    result.title,
                    f"{result.race.photo.size_px:,}",
                    pair.left,
                    pair.right,
                    f"**{value:.2f}**",
                    pair.goal,
                    "yes" if pair.met(value) else "**no**",
                )
                for result, pair, value in goals
            ),
        ),
    ]
    for result in results:
        lines += _of_race(result)
    return "\n".join([*lines, *machine(load)]) + "\n"


def _of_race(result: Result) -> list[str]:
    race = result.race
    size = race.photo.size_px
    done = [e for e in race.entries if not e.failure]
    return [
        f"### {result.title}: {size:,} x {size:,} px, {_count(race.rounds, 'round')}",
        "",
        *table(
            ("time of", "beside", "ratio (median)", "goal", "each round"),
            (
                (
                    pair.left,
                    pair.right,
                    f"**{statistics.median(values):.2f}**",
                    pair.goal,
                    ", ".join(f"{v:.2f}" for v in values),
                )
                for pair, values in result.ratios()
            ),
        ),
        *table(
            ("command", "seconds (median)", "from", "to", "Mpx/s", "CPU seconds", "peak MiB", "file MiB"),
            map(_line, done),
        ),
        *(f"- `{e.contender.name}`: {e.contender.about}" for e in done),
        *(f"- `{e.contender.name}` failed: {e.failure}" for e in race.entries if e.failure),
        *(f"- `{c.name}` {c.absent}" for c in race.absent),
        "",
        _quiet(race),
        f"Raster: {_raster(race.photo)}.",
        "",
    ]


def of_parts(parts: Sequence[Timing], photo: Photo, load: float) -> str:
    """A section on parts."""
    lines = [
        f"## {_today()}: parts, one thread, {photo.size_px:,} x {photo.size_px:,} px",
        "",
        *table(
            ("part", "Mpx/s (median)", "ms (median)", "ms (best)", "calls"),
            (
                (
                    p.name,
                    f"{p.pixels / statistics.median(p.seconds) / 1e6:.0f}",
                    f"{statistics.median(p.seconds) * 1e3:.1f}",
                    f"{min(p.seconds) * 1e3:.1f}",
                    f"{len(p.seconds)}",
                )
                for p in parts
            ),
        ),
        f"Raster: {_raster(photo)}.",
        *machine(load),
    ]
    return "\n".join(lines) + "\n"


def of_coordination(done: Coordination, load: float) -> str:
    """A section on what the coordinator costs."""
    first, *_, last = done.memory
    lines = [
        f"## {_today()}: the coordinator alone, {done.chunks:,} chunks",
        "",
        *table(
            ("ms a chunk", "seconds", "MiB before", "at most", "at the end", "ledger", "resume ms a chunk"),
            [
                (
                    f"**{done.seconds / done.chunks * 1e3:.3f}**",
                    f"{done.seconds:.1f}",
                    _mib(first),
                    _mib(max(done.memory)),
                    _mib(last),
                    _mib(done.ledger_bytes),
                    f"{done.resume_s / done.chunks * 1e3:.3f}",
                )
            ],
        ),
        "Tasks do nothing; a task is one chunk of 2,048 px, on 2 threads. Memory is the process's resident",
        "one, looked at after every tenth of the chunks. The resumed run finds all of them in the ledger.",
        *machine(load),
    ]
    return "\n".join(lines) + "\n"


def of_features(
    scores: Sequence[Score], speeds: Mapping[tuple[int, str], float], photo: Photo, load: float
) -> str:
    """A section on the features of K-Means: scores on labelled rasters, and Mpx/s."""
    lines = [
        f"## {_today()}: features of K-Means",
        "",
        *table(
            ("set", "R", "features", "accuracy", "mIoU", "many-to-one", "its mIoU", "between seeds"),
            (
                (
                    score.name,
                    f"{score.resolution}",
                    score.features,
                    f"{score.accuracy:.3f}",
                    f"{score.mean_iou:.3f}",
                    f"{score.named_accuracy:.3f}",
                    f"{score.named_iou:.3f}",
                    f"{score.spread:.3f}",
                )
                for score in scores
            ),
        ),
        "Accuracy and mIoU with as many labels as classes, matched one to one once for the whole set;",
        "many-to-one with 8 labels, each named for the class of most of its pixels. Means of three seeds;",
        "the last column is the largest difference of accuracies between these.",
        "",
        *table(
            ("R", "features", "Mpx/s", "time beside bands"),
            (
                (f"{r}", features, f"{speed:.0f}", f"{speeds[r, 'bands'] / speed:.2f}")
                for (r, features), speed in speeds.items()
            ),
        ),
        f"The bare kernel on one thread, {photo.size_px:,} x {photo.size_px:,} px, K = 8, in turns, medians.",
        f"Raster: {_raster(photo)}.",
        *machine(load),
    ]
    return "\n".join(lines) + "\n"


def save(section: str) -> None:
    """Append a section to RESULTS.md."""
    with RESULTS.open("a") as file:
        file.write("\n" + section)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a markdown table and an empty one; nothing if it has no rows."""
    body = [f"| {' | '.join(row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", "| --- " * len(head) + "|", *body, ""] if body else []


def machine(load: float) -> list[str]:
    """Lines on hardware, software and how idle the machine was."""
    memory = psutil.virtual_memory().total / 2**30
    parts = [processor(), _count(clock.cores(), "core"), f"{memory:.0f} GiB of memory", _system()]
    return [
        f"Machine: {', '.join(parts)}; load {load:.1f} when the run began.",
        f"Software: {', '.join(_software())}.",
    ]


def _line(entry: Entry) -> tuple[str, ...]:
    seconds = entry.seconds
    rate = 1 / statistics.median(lap.work.s_per_mpx for lap in entry.laps)
    # of a command that times its own work the rest would count too
    cpu = statistics.median(lap.cost.cpu_s for lap in entry.laps)
    return (
        entry.contender.name,
        f"{statistics.median(seconds):.2f}",
        f"{min(seconds):.2f}",
        f"{max(seconds):.2f}",
        f"{rate:.3g}",
        "" if entry.contender.own_clock else f"{cpu:.1f}",
        _mib(entry.peak_bytes) if entry.peak_bytes else "",
        _mib(entry.output_bytes) if entry.output_bytes else "",
    )


def _raster(photo: Photo) -> str:
    return f"made from {photo.origin}, 3 bands of uint8, {_mib(photo.path.stat().st_size)} MiB"


def _quiet(race: Race) -> str:
    """A line on how much of the machine was taken by what is not measured here."""
    entries = [e for e in race.entries if not e.failure]
    shares = [lap.cost.disturbance for e in entries for lap in e.laps] or [0.0]
    return (
        f"Other processes took {statistics.median(shares):.0%} of the cores during a timed run (median), "
        f"{max(shares):.0%} at most; {_count(sum(e.repeats for e in entries), 'run')} had to be done again."
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.{0 if size >= 10 * 2**20 else 1}f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _today() -> str:
    return dt.datetime.now(dt.UTC).date().isoformat()


def processor() -> str:
    """What the processor calls itself."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _software() -> list[str]:
    import rasterio

    found = [f"tilewright {importlib.metadata.version('tilewright')}{_commit()}"]
    found.append(f"Python {platform.python_version()}")
    found += [f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES]
    found.append(f"GDAL {rasterio.__gdal_version__} in rasterio")
    if program := shutil.which("gdal_translate"):
        found.append(f"gdal_translate of {_said(program, '--version').partition(',')[0]}")
    for package in _PACKAGES:
        if version := _said("dpkg-query", "-W", "-f", "${Version}", package):
            found.append(f"{package} {version}")
    return found


def _commit() -> str:
    """The commit that ran, where git tells, and whether files differ from it."""
    commit = _said("git", "describe", "--always", "--dirty", "--exclude=*")
    return f" ({commit})" if commit else ""


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
