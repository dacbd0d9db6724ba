"""GDAL datasets as handles: opened late, kept for each thread, bounded in number, retried if they fail."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from pipeline.errors import DamageError, UnreachableError, one_line
from pipeline.process import open_files
from pipeline.process.retry import retry
from pipeline.source.gdal import dataset_opening, transient
from pipeline.source.gdal.remote import is_remote

READ_ERRORS = (RasterioError, CPLE_BaseError, OSError, ValueError)
"""What a read or an open raises that is the raster's fault."""

T = TypeVar("T")

_PER_THREAD = 16
# a thread that labels has its outputs open too
_OUTPUTS = 3
# where few files may be open, few threads read at a time: a file may lead to others
_READS = threading.BoundedSemaphore(max(1, (open_files.most_open_files() - 48) // 8))
_SCARCE_S = (0.1, 0.4, 1.0)
_SCARCE = re.compile("too many open files|too many threads are running", re.IGNORECASE)
# what GDAL can read if a file of such a name is whole; of any other a driver may be missing
_USUAL = (".tif", ".tiff", ".vrt", ".png", ".jpg", ".jpeg", ".jp2", ".img", ".nc", ".h5", ".hdf", ".asc")


def opened(path: str, function: Callable[[Any], T]) -> T:
    """Return what a function makes of a dataset that is opened for it and closed.

    Raises
    ------
    RasterError
        If it cannot be opened or read; a network is asked several times.
    """

    def use() -> T:
        with dataset_opening.open_dataset(path) as dataset:
            return function(dataset)

    remote = is_remote(path)
    hint = "is it complete?"
    if remote and ".zarr" in path:
        hint = "fetch remote Zarr stores of format 3 first"
    elif not path.lower().endswith(_USUAL):
        hint = "if it is one, GDAL lacks its driver here: convert it elsewhere (gdal_translate)"
    reason = f"not a raster that GDAL can open ({{}}); {hint}"
    return _with_retries(path, use, reason, transient.REMOTE_PAUSES_S if remote else ())


def read(
    path: str,
    function: Callable[[Any], T],
    what: str,
    retry_s: Sequence[float],
    *,
    level: int = 0,
    placed: bool = True,
) -> T:
    """Return what a function reads from this thread's handle of a raster.

    Parameters
    ----------
    path
        The raster.
    function
        Called with the dataset.
    what
        What is read, for the message.
    retry_s
        Pauses before a read that failed is tried again with a fresh handle, longer ones where it is the
        network's; () if it is not to be tried again.
    level
        0 for full resolution, n for the nth overview as a raster of its own.
    placed
        False for a GeoTIFF whose place and CRS the function does not ask for: to make out the CRS takes
        GDAL three times as long as all else of opening it. What is remote is opened as its header was.

    Raises
    ------
    RasterError
        If it fails each time; a `DamageError` where that is the fault of a local file, else an
        `UnreachableError`.
    """
    options: dict[str, Any] = {"overview_level": level - 1} if level else {}
    if not (placed or is_remote(path)):
        options["GEOREF_SOURCES"] = "NONE"
    reason = f"cannot read {what} ({{}}); the file is damaged or gone: repair or fetch it again"
    pauses_s = transient.REMOTE_PAUSES_S if retry_s and is_remote(path) else retry_s
    return _with_retries(path, lambda: function(_handle(path, options)), reason, pauses_s)


def _with_retries(path: str, use: Callable[[], T], reason: str, pauses_s: Sequence[float]) -> T:
    """Call a function until it succeeds, with growing pauses; failures of remote reads are named as such."""
    remote = is_remote(path)
    tries = 0

    def attempt() -> T:
        nonlocal tries
        tries += 1
        with _turn(), dataset_opening.environment(path, afresh=tries > 1):
            return use()

    def is_transient(error: Exception) -> bool:
        if not isinstance(error, READ_ERRORS):
            return False
        forget(path)
        return transient.is_transient(error, remote=remote)

    def is_scarce(error: Exception) -> bool:
        if not (isinstance(error, READ_ERRORS) and _lacks_handles(path, error, remote=remote)):
            return False
        _close(len(_handles()))
        return True

    with transient.listening():
        try:
            return retry(lambda: retry(attempt, pauses_s, is_transient), _SCARCE_S, is_scarce)
        except READ_ERRORS as error:
            if is_scarce(error):
                raise UnreachableError(path, open_files.HINT) from error
            forget(path)
            failure = transient.failure(error, remote=remote)
            if remote and transient.is_permanent(failure):
                refusal = f"the server refuses it ({failure}); check the address and the credentials"
                raise UnreachableError(path, refusal) from error
            elsewhere = remote or failure or _no_memory(error)
            kind = UnreachableError if elsewhere else DamageError
            raise kind(path, _reason(error, failure, reason, tries)) from error


def _lacks_handles(path: str, error: BaseException, *, remote: bool) -> bool:
    """True if too many files are open: GDAL may only say that it cannot open one."""
    cause: BaseException | None = error
    while cause is not None:
        if _SCARCE.search(str(cause)) or getattr(cause, "errno", None) in open_files.ERRORS:
            return True
        cause = cause.__cause__
    try:
        if not remote:
            Path(path).open("rb").close()
    except OSError as denied:
        return denied.errno in open_files.ERRORS
    return False


def _no_memory(error: BaseException | None) -> bool:
    """True if GDAL could not get memory: that says nothing of the file."""
    while error is not None:
        if type(error).__name__ == "CPLE_OutOfMemoryError":
            return True
        error = error.__cause__
    return False


def _reason(error: BaseException, failure: str, reason: str, tries: int) -> str:
    if not failure:
        # rasterio refers to the exception before; GDAL's own words are in the first one
        while "previous exception" in str(error) and error.__cause__ is not None:
            error = error.__cause__
        return reason.format(one_line(error))
    after = f", after {tries} tries" if tries > 1 else ""
    return (
        f"cannot be fetched{after} ({failure}); check the network and the server, "
        "then run the same command again"
    )


class _Reader:
    """Stands for a thread that has handles, as long as that lives."""


_local = threading.local()
_readers: weakref.WeakSet[_Reader] = weakref.WeakSet()
_Key = tuple[str, tuple[Any, ...], int, int]
_Handles = OrderedDict[_Key, Any]


def _key(path: str, options: Mapping[str, Any]) -> _Key:
    """A key of the present state of a file, so that a changed file is opened again."""
    given = tuple(options.items())
    try:
        stat = os.stat(path)  # noqa: PTH116  (for each of ten thousand tiles)
    except OSError:
        return path, given, 0, 0
    return path, given, stat.st_mtime_ns, stat.st_size


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """Wait until this thread may read; within a read it may always."""
    if getattr(_local, "reads", False):
        yield
        return
    with _READS:
        _local.reads = True
        try:
            yield
        finally:
            _local.reads = False
            _close(len(_handles()) - _most_kept())


def _handles() -> _Handles:
    """The handles of this thread, those used last at the end."""
    handles: _Handles | None = getattr(_local, "handles", None)
    if handles is None:
        handles, _local.reader = OrderedDict(), _Reader()
        _local.handles = handles
        _readers.add(_local.reader)
    return handles


def _most_kept() -> int:
    """Handles that a thread may keep: all threads together leave half of the files to what they read."""
    threads = max(1, len(_readers))
    left = open_files.most_open_files() - open_files.OURS - _OUTPUTS * threads
    return max(0, min(_PER_THREAD, left // (2 * threads)))


def _close(count: int) -> None:
    """Close those handles of this thread that were not used for longest."""
    handles = _handles()
    for _ in range(count):
        with contextlib.suppress(Exception):
            handles.popitem(last=False)[1].close()


def _handle(path: str, options: Mapping[str, Any]) -> Any:
    """The handle of a raster in this thread, opened late and kept for the next window."""
    handles, key = _handles(), _key(path, options)
    if key not in handles:
        _close(len(handles) + 1 - max(1, _most_kept()))
        handles[key] = dataset_opening.open_dataset(path, **options)
    handles.move_to_end(key)
    return handles[key]


def file_state(path: str, dataset: Any) -> _Key | None:
    """The state of the local file that a handle of this thread was opened in; None if it has none."""
    handles = _handles()
    return next((k for k, d in handles.items() if d is dataset and k[0] == path and any(k[2:])), None)


def forget(path: str) -> None:
    """Close this thread's handles of a raster, so that the next read opens it again."""
    handles = _handles()
    for key in [k for k in handles if k[0] == path]:
        with contextlib.suppress(Exception):
            handles.pop(key).close()
