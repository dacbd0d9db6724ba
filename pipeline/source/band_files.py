"""Files that hold single bands of scenes, known by their names: the `--stack` that makes rasters of them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline.source.scenes import PLACE

# as Landsat, Sentinel-2, HLS and catalogues of their files name bands: LC08_..._SR_B4, T33UUP_..._B04_10m
_BAND = re.compile(
    r"(?P<before>.*[_.\- ]|)"
    r"(?P<band>B\d{1,2}A?|coastal|blue|green|red|rededge\d*|nir\d*|swir\d*|scl|fmask|qa_pixel)"
    r"(?:_\d\dm)?",
    re.IGNORECASE,
)


class BandFiles(NamedTuple):
    """What single bands can be stacked to.

    Parameters
    ----------
    stack
        The value of ``--stack`` that names them.
    files
        The files of one scene.
    scenes
        Number of scenes that have these bands.
    """

    stack: str
    files: tuple[str, ...]
    scenes: int


def band_files(paths: Iterable[str]) -> BandFiles | None:
    """The stack that files of single bands look like; None where no two of them are bands of one scene."""
    scenes: dict[tuple[Path, str], dict[str, Path]] = defaultdict(dict)
    for path in map(Path, paths):
        if match := _BAND.fullmatch(path.stem):
            scenes[path.parent, match["before"]].setdefault(match["band"].casefold(), path)
    # the bands that most scenes have: others may lack some
    sets = [frozenset(files) for files in scenes.values() if len(files) > 1]
    if not sets:
        return None
    bands = max(sorted(set(sets), key=sorted), key=sets.count)
    (_, before), files = next(item for item in scenes.items() if bands == item[1].keys())
    stack = ",".join(f"{band}={_pattern(file, before)}" for band, file in files.items())
    return BandFiles(stack, tuple(map(str, files.values())), _count(bands, scenes))


def _count(bands: frozenset[str], scenes: Mapping[tuple[Path, str], Mapping[str, Path]]) -> int:
    return sum(bands <= files.keys() for files in scenes.values())


def _pattern(file: Path, before: str) -> str:
    """A file's path with the name of its scene left open: what comes before the band, or the folder."""
    if before:
        return str(file.with_name(f"{PLACE}{file.name[len(before) - 1 :]}"))
    return str(file.parent.with_name(PLACE) / file.name) if file.parent.name else str(file)
