"""Results as markdown: ratios first, then what was measured, and the machine it was measured on."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import platform
import shutil
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

from benchmarks.command import ROOT
from benchmarks.contenders import PAIRS
from benchmarks.coordinator import Coordination
from benchmarks.data import Photo
from benchmarks.race import Race
from benchmarks.suite import Timing

RESULTS = Path(__file__).with_name("RESULTS.md")

_LIBRARIES = ("numpy", "numba", "dask", "rasterio", "scikit-learn")


def of_race(race: Race, load: float) -> str:
    """A section on a race; `load` is the machine's load before it began."""
    size = race.photo.size_px
    ratios = [(pair, values) for pair in PAIRS if (values := race.ratios(pair.name, pair.beside))]
    lines = [
        f"## {_today()}: {size:,} x {size:,} px, {_count(race.rounds, 'round')}",
        "",
        *table(
            ("time of", "beside", "ratio (median)", "each round"),
            (
                (
                    p.name,
                    p.beside,
                    f"**{statistics.median(values):.2f}**",
                    ", ".join(f"{v:.2f}" for v in values),
                )
                for p, values in ratios
            ),
        ),
        *table(
            ("command", "seconds (median)", "from", "to", "Mpx/s", "CPU seconds", "peak MiB", "file MiB"),
            (_line(race, entry.contender.name) for entry in race.entries if not entry.failure),
        ),
        *(f"- `{e.contender.name}`: {e.contender.about}" for e in race.entries if not e.failure),
        *(f"- `{e.contender.name}` failed: {e.failure}" for e in race.entries if e.failure),
        "",
        _quiet(race),
        f"Raster: {_raster(race.photo)}.",
        *machine(load),
    ]
    return "\n".join(lines) + "\n"


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
    parts = [_processor(), _count(cores(), "core"), f"{memory:.0f} GiB of memory", _system()]
    return [
        f"Machine: {', '.join(parts)}; load {load:.1f} when the run began.",
        f"Software: {', '.join(_software())}.",
    ]


def cores() -> int:
    """Cores that a process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _line(race: Race, name: str) -> tuple[str, ...]:
    entry = race.entry(name)
    assert entry is not None
    seconds = [c.wall_s for c in entry.costs]
    return (
        name,
        f"{entry.median_s:.2f}",
        f"{min(seconds):.2f}",
        f"{max(seconds):.2f}",
        f"{race.photo.size_px**2 / entry.median_s / 1e6:.1f}",
        f"{statistics.median(c.cpu_s for c in entry.costs):.1f}",
        _mib(entry.peak_bytes) if entry.peak_bytes else "unknown",
        _mib(entry.output_bytes),
    )


def _raster(photo: Photo) -> str:
    return f"made from {photo.origin}, 3 bands of uint8, {_mib(photo.path.stat().st_size)} MiB"


def _quiet(race: Race) -> str:
    """A line on how much of the machine was taken by what is not measured here."""
    entries = [e for e in race.entries if not e.failure]
    shares = [c.disturbance for e in entries for c in e.costs] or [0.0]
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


def _processor() -> str:
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
