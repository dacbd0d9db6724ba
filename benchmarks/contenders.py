"""Who races: ours, the old system's way, and GDAL's plain copy, each a command on one raster."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SEGMENTS = 8

Command = Callable[[Path, Path], list[str]]


@dataclass(frozen=True)
class Contender:
    """One way from a raster to a file.

    Parameters
    ----------
    name
        For tables and `--only`.
    about
        What it does.
    command
        From a raster and an empty folder to a command that leaves one .tif in the folder.
    """

    name: str
    about: str
    command: Command


@dataclass(frozen=True)
class Pair:
    """Two contenders whose times are compared: `name` as a share of `beside`."""

    name: str
    beside: str


def _ours(resolution: int) -> Contender:
    def command(source: Path, out: Path) -> list[str]:
        options = ["--segments", str(SEGMENTS), "--resolution", str(resolution)]
        return [sys.executable, "-m", "pipeline", "run", str(source), "-o", str(out), *options]

    about = f"`python -m pipeline run`, K-Means, K = {SEGMENTS}, R = {resolution}, defaults otherwise"
    return Contender(f"tilewright-r{resolution}", about, command)


def _old_system(resolution: int) -> Contender:
    def command(source: Path, out: Path) -> list[str]:
        options = ["--segments", str(SEGMENTS), "--resolution", str(resolution)]
        return [sys.executable, "-m", "benchmarks.old_system", str(source), str(out / "old.tif"), *options]

    about = f"the old system's way (`benchmarks/old_system.py`), K = {SEGMENTS}, R = {resolution}"
    return Contender(f"old-system-r{resolution}", about, command)


def _copy() -> Contender:
    if program := shutil.which("gdal_translate"):
        options = ["-q", "-of", "COG", "-co", "COMPRESS=DEFLATE", "-co", "NUM_THREADS=2"]
        about = f"`gdal_translate {' '.join(options)}`: the raster itself, all bands, as a COG"
        return Contender(
            "copy", about, lambda source, out: [program, *options, str(source), str(out / "copy.tif")]
        )
    code = (
        "import sys, rasterio.shutil; "
        "rasterio.shutil.copy(*sys.argv[1:], driver='COG', COMPRESS='DEFLATE', NUM_THREADS='2')"
    )
    about = "`rasterio.shutil.copy` to a COG (DEFLATE, 2 threads): the raster itself, all bands"
    return Contender(
        "copy", about, lambda source, out: [sys.executable, "-c", code, str(source), str(out / "copy.tif")]
    )


def contenders() -> list[Contender]:
    """All contenders."""
    return [_ours(1), _ours(4), _old_system(1), _old_system(4), _copy()]


PAIRS = (
    Pair("tilewright-r1", "copy"),
    Pair("tilewright-r4", "copy"),
    Pair("tilewright-r1", "old-system-r1"),
    Pair("tilewright-r4", "old-system-r4"),
    Pair("old-system-r1", "copy"),
)
"""What the tables compare."""
