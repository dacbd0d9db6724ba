"""GDAL datasets as handles: opened late, kept for each thread, bounded in number, retried if they fail.

GDAL reads its settings from the environment when it first opens something, so they are set here; what
the user set wins, but for what labels depend on.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from pipeline.errors import DamageError, UnreachableError, one_line
from pipeline.source import bad_blocks
from pipeline.source.gdal import remote as network

os.environ.update(
    {
        name: value
        for name, value in {
            # a block cache for the whole process, which would otherwise take 5 % of the memory
            "GDAL_CACHEMAX": "64",
            # folders of thousands of tiles are not listed for each tile that is opened
            "GDAL_READDIR_LIMIT_ON_OPEN": "200",
            # a request that does not get on is given up, and repeated where the server is to blame
            "GDAL_HTTP_CONNECTTIMEOUT": "10",
            "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
            "GDAL_HTTP_LOW_SPEED_TIME": "30",
            "GDAL_HTTP_MAX_RETRY": "2",
            "GDAL_HTTP_RETRY_DELAY": "0.5",
        }.items()
        if name not in os.environ
    }
)
# of a VRT's sources that meet inside a pixel the last has it; GDAL 3.10 reads them in several threads, and
# then it is any of them
os.environ["VRT_NUM_THREADS"] = "1"


def _unraisable(what: Any) -> None:
    """Say nothing of GDAL's messages that are no UTF-8; rasterio cannot log them, and raises their errors."""
    if what.object != "rasterio._env.log_error":
        _usual(what)


_usual, sys.unraisablehook = sys.unraisablehook, _unraisable

# a raster without georeference is as good as any other, and nothing to warn people of
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

READ_ERRORS = (RasterioError, CPLE_BaseError, OSError, ValueError)
"""What a read or an open raises that is the raster's fault."""

T = TypeVar("T")


_PER_THREAD = 16
_NETWORK_RETRY_S = (0.25, 1.0, 3.0)
_NO_RASTER = "not recognized as being in a supported file format"


def opened(path: str, function: Callable[[Any], T]) -> T:
    """What a function makes of a dataset that is opened for it and closed.

    Raises
    ------
    RasterError
        If it cannot be opened or read; a network is asked several times.
    """

    def use() -> T:
        with rasterio.open(network.gdal_path(path)) as dataset:
            return function(dataset)

    remote = network.is_remote(path)
    hint = "fetch remote Zarr stores of format 3 first" if remote and ".zarr" in path else "is it complete?"
    reason = f"not a raster that GDAL can open ({{}}); {hint}"
    return _attempt(path, use, reason, _NETWORK_RETRY_S if remote else ())


def read(path: str, function: Callable[[Any], T], what: str, *, again: bool = True, level: int = 0) -> T:
    """What a function reads from this thread's handle of a raster, tried again with a fresh one.

    Parameters
    ----------
    path
        The raster.
    function
        Called with the dataset.
    what
        What is read, for the message.
    again
        Whether a read that failed may be tried again.
    level
        0 for full resolution, n for the nth overview as a raster of its own.

    Raises
    ------
    RasterError
        If it fails each time; a `DamageError` where that is the fault of a local file, else an
        `UnreachableError`.
    """
    reason = f"cannot read {what} ({{}}); the file is damaged or gone: repair or fetch it again"
    retry_s = _NETWORK_RETRY_S if network.is_remote(path) else bad_blocks.RETRY_AFTER_S
    return _attempt(path, lambda: function(_handle(path, level)), reason, retry_s if again else ())


def _attempt(path: str, use: Callable[[], T], reason: str, retry_s: tuple[float, ...]) -> T:
    """Call a function until it succeeds, with growing pauses; a network's failures are named as such."""
    remote = network.is_remote(path)
    network.listen()
    for tries, delay in enumerate((*retry_s, None), 1):
        try:
            with network.environment(path, afresh=tries > 1):
                return use()
        except READ_ERRORS as error:
            forget(path)
            failure = network.failure(error, remote=remote)
            if remote and network.is_permanent(failure):
                said = f"the server refuses it ({failure}); check the address and the credentials"
                raise UnreachableError(path, said) from error
            if delay is None or (remote and not failure and _NO_RASTER in str(error)):
                elsewhere = remote or failure or _no_memory(error)
                kind = UnreachableError if elsewhere else DamageError
                raise kind(path, _reason(error, failure, reason, tries)) from error
            time.sleep(delay)
    raise AssertionError("unreachable")


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


_local = threading.local()
_Key = tuple[str, int, int, int]


def _key(path: str, level: int) -> _Key:
    """What tells one state of a file from the next, so that a changed file is opened afresh."""
    try:
        stat = Path(path).stat()
    except OSError:
        return path, level, 0, 0
    return path, level, stat.st_mtime_ns, stat.st_size


def _handle(path: str, level: int) -> Any:
    """The handle of a raster in this thread, opened late and kept for the next window."""
    handles: OrderedDict[_Key, Any] | None = getattr(_local, "handles", None)
    if handles is None:
        handles = _local.handles = OrderedDict()
    key = _key(path, level)
    if key not in handles:
        while len(handles) >= _PER_THREAD:
            handles.popitem(last=False)[1].close()
        overview = {"overview_level": level - 1} if level else {}
        handles[key] = rasterio.open(network.gdal_path(path), **overview)
    handles.move_to_end(key)
    return handles[key]


def handle_key(path: str, dataset: Any) -> _Key | None:
    """What tells the state of a local file that a handle of this thread was opened of from others."""
    handles: OrderedDict[_Key, Any] = getattr(_local, "handles", None) or OrderedDict()
    return next((k for k, d in handles.items() if d is dataset and k[0] == path and any(k[2:])), None)


def forget(path: str) -> None:
    """Close this thread's handles of a raster, so that the next read opens it afresh."""
    handles: OrderedDict[_Key, Any] = getattr(_local, "handles", None) or OrderedDict()
    for key in [k for k in handles if k[0] == path]:
        with contextlib.suppress(Exception):
            handles.pop(key).close()
