"""Whether an input is still what it was when it was opened.

A raster's fingerprint tells states apart from one run to another, so it has no times in it. During a run,
unchanged modification times and sizes are enough; the content is hashed again only if they differ.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import AlteredError, RasterError
from pipeline.process.retry import retry
from pipeline.source.fingerprint import combined, fingerprint
from pipeline.source.gdal import remote
from pipeline.source.raster import Raster, SingleRaster

_BESIDE = ("", ".msk", ".aux.xml")
_AGAIN_S = (0.5, 3.0)


class Mark(NamedTuple):
    """What tells one state of an input from another.

    Parameters
    ----------
    fingerprint
        Of content; "" where it is not cheaply known.
    stamp
        Of times and sizes; "" where they tell nothing.
    """

    fingerprint: str = ""
    stamp: str = ""


def mark_of(raster: SingleRaster, stamp: str = "") -> Mark:
    """The mark of a raster that was just opened.

    Parameters
    ----------
    raster
        The raster.
    stamp
        Of its path before it was opened, so that what is written to it from then on shows.

    Raises
    ------
    OSError
        If a file cannot be read.
    """
    mark = combined((*map(fingerprint, raster.files), raster.state))
    return Mark(mark, stamp if _stands_alone(raster) else "")


def together(marks: Iterable[Mark]) -> Mark:
    """The mark of what is made of several rasters, from theirs in order."""
    kept = list(marks)
    return Mark(combined(m.fingerprint for m in kept), combined(m.stamp for m in kept))


def stamp_of(path: str) -> str:
    """Tells whether a file may have been written to or replaced, or has got a mask or metadata beside it."""
    digest = hashlib.sha256()
    for end in _BESIDE:
        with suppress(OSError, ValueError):
            stat = Path(path + end).stat()
            digest.update(f"{end} {stat.st_mtime_ns} {stat.st_size} {stat.st_ino}".encode())
    return digest.hexdigest()


def _stands_alone(raster: SingleRaster) -> bool:
    """Whether the stamp of a raster's path tells of all that it is read from."""
    alone = {raster.path, f"{raster.path}.msk"}
    return raster.path in raster.files and alone.issuperset(raster.files) and Path(raster.path).is_file()


def refuse(raster: Raster, mark: Mark, *, tolerant: bool) -> None:
    """Refuse to keep what was made of a raster that was replaced or altered since it was opened.

    Parameters
    ----------
    raster
        As it was opened.
    mark
        Its marks then.
    tolerant
        Whether what cannot be read is nodata and no error: a file that is gone now has been told of.

    Raises
    ------
    AlteredError
        If it is another one now.
    """
    if not mark.fingerprint or (
        mark.stamp and combined(stamp_of(member.path) for member in raster.members) == mark.stamp
    ):
        return
    # what cannot be read again says nothing where it was tolerated, or where a network may be to blame
    forgiving = tolerant or any(remote.is_remote(member.path) for member in raster.members)

    def fingerprint_now() -> str:
        return together(mark_of(member.reopened()) for member in raster.members).fingerprint

    try:
        now = retry(
            fingerprint_now, () if forgiving else _AGAIN_S, lambda e: isinstance(e, (RasterError, OSError))
        )
    except (RasterError, OSError) as error:
        if forgiving:
            return
        raise AlteredError(raster.path, f"{_CHANGED} ({error}); {_ADVICE}") from error
    if now not in ("", mark.fingerprint):
        raise AlteredError(raster.path, f"{_CHANGED}{_newest(raster)}; {_ADVICE}")


_CHANGED = "the input changed while the run was going on"
_ADVICE = "nothing of it is kept: run the same command again when it stays as it is"


def _newest(raster: Raster) -> str:
    """Which of several files was written last."""
    times = {}
    for member in raster.members:
        with suppress(OSError, ValueError):
            times[member.path] = Path(member.path).stat().st_mtime_ns
    return f" (the file written last is {max(times, key=times.__getitem__)})" if len(times) > 1 else ""
