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
from pipeline.source.naming.paths import absolute, parts
from pipeline.source.scenes import label


def with_kept_names(
    out: Path, sources: Sequence[Source], fingerprint: Callable[[Source], str]
) -> dict[Source, Source]:
    """Each source with the name of its outputs in OUT.

    A raster is known by its file (a stack by its files), however that is named, or by its content if the file
    is gone, or OUT is a copy, and one of that name holds the same elsewhere. New ones get names that no
    raster of an earlier run has, unless nothing was ever begun of that one.

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
        before, former = run.rasters, str(run.config.get("out"))
        is_copy = Path(former).is_absolute() and os.path.realpath(former) != os.path.realpath(out)
    if any(Path(raster.name).name != raster.name for raster in before):
        before = ()  # whoever takes it up refuses it
    kept: dict[Source, str] = {}
    # a name goes to one raster: the one of that very path, or of the same file under another path
    for place in (absolute, _real):
        taken = set(kept.values())
        paths = {_placed(raster.files, place): raster.name for raster in before if raster.name not in taken}
        for source in sources:
            if source not in kept and (name := paths.pop(_placed(_known_by(source), place), "")):
                kept[source] = name
    taken = set(kept.values())
    rest = [r for r in before if r.name not in taken and (is_copy or is_gone(r))]
    moved = {(_base_names(r.files), mark): r.name for r in rest for mark in _fingerprint(out, r)}
    for source in sources:
        known = (_base_names(_known_by(source)), fingerprint(source))
        if source not in kept and known in moved:
            kept[source] = moved.pop(known)
    new = [source for source in sources if source not in kept]
    # a scene that lacked a file is another one when it has it: a pattern with * did not know its name
    taken = {r.name for r in before if not _is_nothing(r)}.union(kept.values())
    names = numbered([source.name for source in new], taken=taken)
    kept |= dict(zip(new, names, strict=True))
    return {source: replace(source, name=kept[source]) for source in sources}


def from_root(raster: RasterState) -> RasterState:
    """A raster's state with the paths of its files from the root: a later run may be started elsewhere."""
    if raster.stack:
        stack = tuple((name, absolute(file)) for name, file in raster.stack)
        return raster.model_copy(update={"source": label(stack), "stack": stack})
    return raster.model_copy(update={"source": absolute(raster.source)})


def is_gone(raster: RasterState) -> bool:
    """Whether a file of a raster is not there any more; of an address nobody knows."""
    files = [parts(path).file for path in raster.files]
    return any(file and not os.path.lexists(file) for file in files)


def _is_nothing(raster: RasterState) -> bool:
    """Whether nothing was begun of a raster, for a file of it was not there, and is not now."""
    return raster.state == "failed" and raster.fingerprint is None and is_gone(raster)


def _known_by(source: Source) -> tuple[str, ...]:
    """The files that a source is known by over several runs; of a container the path of the raster in it."""
    return tuple(file for _, file in source.stack) or (source.path,)


def _placed(files: Sequence[str], place: Callable[[str], str]) -> tuple[str, ...]:
    return tuple(map(place, files))


def _base_names(files: Sequence[str]) -> tuple[str, ...]:
    named = map(parts, files)
    return tuple(f"{before}{Path(file).name}{after}" for before, file, after in named)


def _real(path: str) -> str:
    before, file, after = parts(path)
    return f"{before}{os.path.realpath(file)}{after}" if file else path


def _fingerprint(out: Path, raster: RasterState) -> Iterator[str]:
    """That of the raster when it was begun or done; "" for one in an archive, of which names have to do."""
    with contextlib.suppress(OSError, ValueError):
        record = out / f"{raster.name}{out_names.RECORD_SUFFIX}"
        yield raster.fingerprint or RasterRecord.read(record).input.fingerprint
