"""Whether an input has changed since it was opened.

A raster's fingerprint is compared between runs, so it does not depend on times. During a run, unchanged
modification times and sizes are enough; the content is fingerprinted again only if they differ.
"""

from __future__ import annotations

import hashlib
import os
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
    """Digests of the state of an input.

    Parameters
    ----------
    fingerprint
        Digest of the content; "" if it cannot be computed cheaply.
    stamp
        Digest of times and sizes; "" if they do not cover all files of the input.
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
        Stamp of its path, taken before it was opened, so that any later write changes it.

    Raises
    ------
    OSError
        If a file cannot be read.
    """
    mark = combined((*map(fingerprint, raster.files), raster.state))
    return Mark(mark, stamp if _stands_alone(raster) else "")


def together(marks: Iterable[Mark]) -> Mark:
    """The mark of several rasters, from theirs in order."""
    listed = list(marks)
    return Mark(combined(m.fingerprint for m in listed), combined(m.stamp for m in listed))


def stamp_of(path: str) -> str:
    """A digest that changes if a file is written to or replaced, or gets a mask or metadata beside it."""
    digest = hashlib.sha256()
    for end in _BESIDE:
        with suppress(OSError, ValueError):
            state = os.stat(path + end)  # noqa: PTH116  (for each of ten thousand tiles)
            digest.update(f"{end} {state.st_mtime_ns} {state.st_size} {state.st_ino}".encode())
    return digest.hexdigest()


def _stands_alone(raster: SingleRaster) -> bool:
    """Whether the stamp of a raster's path covers all files that it is read from."""
    alone = {raster.path, f"{raster.path}.msk"}
    return raster.path in raster.files and alone.issuperset(raster.files) and Path(raster.path).is_file()


def refuse(raster: Raster, mark: Mark, *, tolerant: bool) -> None:
    """Refuse results from a raster that was replaced or altered since it was opened.

    Parameters
    ----------
    raster
        The raster, as it was opened.
    mark
        Its mark at that time.
    tolerant
        True if unreadable pixels are labelled nodata: a file that is missing now was reported as such.

    Raises
    ------
    AlteredError
        If it has changed.
    """
    if not mark.fingerprint or (
        mark.stamp and combined(stamp_of(member.path) for member in raster.members) == mark.stamp
    ):
        return
    # if failures are tolerated, or a remote server may have failed, a failed read is no evidence of a change
    may_fail = tolerant or any(remote.is_remote(member.path) for member in raster.members)

    def fingerprint_now() -> str:
        return together(mark_of(member.reopened()) for member in raster.members).fingerprint

    pauses_s = () if may_fail else _AGAIN_S
    try:
        now = retry(fingerprint_now, pauses_s, lambda error: isinstance(error, (RasterError, OSError)))
    except (RasterError, OSError) as error:
        if may_fail:
            return
        raise AlteredError(raster.path, f"{_CHANGED} ({error}); {_ADVICE}") from error
    if now not in ("", mark.fingerprint):
        raise AlteredError(raster.path, f"{_CHANGED}{_newest(raster)}; {_ADVICE}")


_CHANGED = "the input changed while the run was going on"
_ADVICE = "nothing of it is kept: run the same command again when it stays as it is"


def _newest(raster: Raster) -> str:
    """Text that names the file written last, if there are several; else ""."""
    times = {}
    for member in raster.members:
        with suppress(OSError, ValueError):
            times[member.path] = Path(member.path).stat().st_mtime_ns
    return f" (the file written last is {max(times, key=times.__getitem__)})" if len(times) > 1 else ""
