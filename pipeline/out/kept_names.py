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

    A raster is known by its file, however that is named, or by its content if it was moved under the same
    file name. New ones get names that no raster of an earlier run has.

    Parameters
    ----------
    out
        OUT, with or without the run.json of an earlier run.
    sources
        Rasters of this run, with distinct names.
    fingerprint
        Returns that of a source's content; "" where it is not known.
    """
    try:
        before = RunFile.read(out / out_names.RUN).rasters
    except (OSError, ValueError):
        before = ()
    if any(Path(raster.name).name != raster.name for raster in before):
        before = ()  # whoever takes it up refuses it
    by_file = {os.path.realpath(raster.source): raster for raster in before}
    kept = {s: by_file[f].name for s in sources if (f := os.path.realpath(s.path)) in by_file}
    if len(kept) < len(sources):
        rest = [raster for raster in before if raster.name not in kept.values()]
        moved = {(Path(r.source).name, mark): r.name for r in rest for mark in _fingerprint(out, r)}
        for source in sources:
            name = moved.pop((Path(source.path).name, fingerprint(source)), "")
            if name and source not in kept:
                kept[source] = name
    new = [source for source in sources if source not in kept]
    names = numbered([source.name for source in new], taken=[raster.name for raster in before])
    kept |= dict(zip(new, names, strict=True))
    return {source: replace(source, name=kept[source]) for source in sources}


def _fingerprint(out: Path, raster: RasterState) -> Iterator[str]:
    """That of the raster when it was begun or done, if it is known."""
    with contextlib.suppress(OSError, ValueError):
        record = out / f"{raster.name}{out_names.RECORD_SUFFIX}"
        if mark := raster.fingerprint or RasterRecord.read(record).input.fingerprint:
            yield mark
