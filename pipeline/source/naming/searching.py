"""Searches for rasters by folder and by pattern: no folder twice, and nothing that a run left."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline import out_names
from pipeline.source.zarr.names import is_store

_SEPARATORS = re.escape("".join(filter(None, (os.sep, os.altsep))))
_DEEP = re.compile(rf"(?:^|(?<=[{_SEPARATORS}]))\*\*(?:[{_SEPARATORS}]+|$)")
_FIRST_BYTES = 4096


@dataclass(frozen=True)
class Search:
    """Finds files for a run, but none that are its own.

    Parameters
    ----------
    out
        The run's OUT, whether it is there or not; None for none.
    made
        Returns the files that earlier runs made there. Only these are left out where the folder that is
        searched lies in OUT itself.
    """

    out: str | None = None
    made: Callable[[], Collection[Path]] = tuple

    def matching(self, pattern: str) -> list[str]:
        """All that matches a pattern, sorted; of `**` each folder once, wherever links lead."""
        base = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
        return sorted(self._inputs(set(_matching(pattern)), os.path.dirname(base)))  # noqa: PTH120

    def folder(self, path: str, *, recursive: bool) -> list[str]:
        """Files and Zarr stores in a folder, sorted; all that it holds if that is asked for."""
        folders = _below(path) if recursive else [path]
        return sorted(self._inputs({str(p) for folder in folders for p in _listed(folder)}, path))

    def _inputs(self, paths: set[str], base: str) -> Iterator[str]:
        if self.out is None:
            yield from paths
            return
        out = _real(self.out)
        made = {_real(str(path)) for path in self.made()} if _lies_in(_real(base), out) else None
        for path in paths:
            real = _real(path)
            if not (_lies_in(real, out) if made is None else real in made):
                yield path


EVERYWHERE = Search()
"""For callers that have no OUT."""


def is_out(folder: str) -> bool:
    """Whether a run has a folder for its outputs."""
    path = Path(folder)
    if (path / out_names.PARTIAL).is_dir():
        return True
    try:
        with (path / out_names.RUN).open("rb") as file:
            head = file.read(_FIRST_BYTES)
    except OSError:
        return False
    # other programs have a file of this name too
    return not head or b"tilewright-run-" in head


def _matching(pattern: str) -> Iterator[str]:
    head, *rest = _DEEP.split(pattern, maxsplit=1)
    if not rest:
        yield from glob.iglob(pattern)  # noqa: PTH207  (a pattern may be absolute)
        return
    bases = [head]
    if glob.has_magic(head):
        bases = [p for p in glob.iglob(head) if not (is_store(p) or is_out(p))]  # noqa: PTH207
    for folder in (below for base in bases for below in _below(base)):
        yield from _matching(os.path.join(glob.escape(folder), rest[0] or "*"))  # noqa: PTH118


def _below(base: str) -> Iterator[str]:
    """A folder and those in it, each once: links come last, so that a folder has its plain name.

    What is hidden is left out, and so are Zarr stores, what runs left there, and what cannot be listed.
    """
    seen: set[str] = set()
    plain, links = [base], list[str]()
    while plain or links:
        folder = plain.pop() if plain else links.pop(0)
        if (real := os.path.realpath(folder)) in seen:
            continue
        seen.add(real)
        try:
            entries = sorted(os.scandir(folder or "."), key=lambda entry: entry.name)
        except OSError:
            continue
        yield folder
        for entry in entries:
            if entry.name.startswith(".") or not entry.is_dir():
                continue
            path = os.path.join(folder, entry.name)  # noqa: PTH118
            if not is_store(path) and not is_out(path):
                (links if entry.is_symlink() else plain).append(path)


def _listed(folder: str) -> Iterator[Path]:
    """Files and Zarr stores of a folder that are not hidden: macOS leaves `._NAME.tif` beside each file."""
    for path in Path(folder).iterdir():
        if not path.name.startswith(".") and (is_store(str(path)) if path.is_dir() else path.is_file()):
            yield path


def _real(path: str) -> str:
    return os.path.normcase(os.path.realpath(path))


def _lies_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
