"""Which names are of one file: other spellings, links and hard links of it."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable
from pathlib import Path

from pipeline.source.naming.paths import parts


class FirstNames:
    """Names that were met, of which the first one of each raster stands for all."""

    def __init__(self) -> None:
        self._names: dict[Hashable, list[str]] = {}

    def of(self, path: str) -> str:
        """The first name that was met of the raster that a path names.

        A link or a hard link that has files beside it (a world file, a mask) is a raster of its own, for it
        lies elsewhere: programs that find equal files make hard links of empty tiles.
        """
        before, file, after = parts(path)
        known = self._names.setdefault((before, _identity(file) if file else "", after), [])
        if path in known:
            return path
        own = _beside(file) if known and file else frozenset()
        for name in known:
            if own <= _beside(parts(name).file):
                return name
        known.append(path)
        return path


def each_once(paths: Iterable[str]) -> list[str]:
    """Paths in their order, and of those that are one raster the first."""
    names = FirstNames()
    return list(dict.fromkeys(map(names.of, paths)))


def _identity(file: str) -> Hashable:
    """Tells a file from others, however it is named."""
    try:
        state = os.stat(file)  # noqa: PTH116  (for each of ten thousand tiles)
    except (OSError, ValueError):
        return os.path.normcase(os.path.abspath(file))
    if not state.st_ino:  # as some network file systems on Windows have it
        return os.path.normcase(os.path.realpath(file))
    # not the number alone: there are file systems that give it twice
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def _beside(file: str) -> frozenset[Hashable]:
    """The files that belong to a file by their names, as `a.tfw` and `a.tif.msk` do to `a.tif`."""
    path = Path(file)
    try:
        found = [p for p in path.parent.iterdir() if p.stem in (path.stem, path.name) and p.name != path.name]
    except (OSError, ValueError):
        return frozenset()
    return frozenset((p.name.removeprefix(path.stem), _identity(str(p))) for p in found)
