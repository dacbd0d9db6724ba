"""Names of outputs over several runs in one OUT: a raster that an earlier run knew keeps its name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline import out_names
from pipeline.out.record import RasterRecord
from pipeline.out.run_file import RasterState, RunFile
from pipeline.source.arguments import Source, numbered


def with_kept_names(
    out: Path, sources: Sequence[Source], fingerprint: Callable[[Source], str]
) -> dict[Source, Source]:
    """Each source with the name of its outputs in OUT.

    A raster is known by its file, however that is named, or by its content if the file is gone, or OUT is
    a copy, and one of that name holds the same elsewhere. New ones get names that no raster of an earlier
    run has.

    Parameters
    ----------
    out
        OUT, with or without the run.json of an earlier run.
    sources
        Rasters of this run, with distinct names.
    fingerprint
        Returns that of a source's content; "" where it is not known.
    """
    before: tuple[RasterState, ...] = ()
    is_copy = False
    with contextlib.suppress(OSError, ValueError):
        run = RunFile.read(out / out_names.RUN)
        before, place = run.rasters, str(run.config.get("out"))
        is_copy = Path(place).is_absolute() and os.path.realpath(place) != os.path.realpath(out)
    if any(Path(raster.name).name != raster.name for raster in before):
        before = ()  # whoever takes it up refuses it
    kept: dict[Source, str] = {}
    # a name goes to one raster: the one of that very path, or of the same file under another path
    for key in (absolute, _real):
        taken = set(kept.values())
        paths = {key(raster.source): raster.name for raster in before if raster.name not in taken}
        for source in sources:
            if source not in kept and (name := paths.pop(key(source.path), "")):
                kept[source] = name
    taken = set(kept.values())
    rest = [r for r in before if r.name not in taken and (is_copy or is_gone(r.source))]
    moved = {(Path(r.source).name, mark): r.name for r in rest for mark in _fingerprint(out, r)}
    for source in sources:
        known = (Path(source.path).name, fingerprint(source))
        if source not in kept and not source.parts and known in moved:
            kept[source] = moved.pop(known)
    new = [source for source in sources if source not in kept]
    names = numbered([source.name for source in new], taken=[raster.name for raster in before])
    kept |= dict(zip(new, names, strict=True))
    return {source: replace(source, name=kept[source]) for source in sources}


def absolute(path: str) -> str:
    """The path of a file from the root: a later run may be started in another folder."""
    return os.path.abspath(path) if _is_file(path) else path


def is_gone(path: str) -> bool:
    """Whether a file is not there any more; of what is no plain file nobody knows."""
    return _is_file(path) and not os.path.lexists(path)


def _real(path: str) -> str:
    return os.path.realpath(path) if _is_file(path) else path


def _is_file(path: str) -> bool:
    """Whether a source is named by its path, and not by an address or as a part of a container."""
    return "\0" not in path and ":" not in os.path.splitdrive(path)[1]


def _fingerprint(out: Path, raster: RasterState) -> Iterator[str]:
    """That of the raster when it was begun or done, if it is known."""
    with contextlib.suppress(OSError, ValueError):
        record = out / f"{raster.name}{out_names.RECORD_SUFFIX}"
        if mark := raster.fingerprint or RasterRecord.read(record).input.fingerprint:
            yield mark
