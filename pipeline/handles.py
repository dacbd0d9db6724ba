"""GDAL datasets as handles: opened late, kept for each thread, bounded in number, retried if they fail.

GDAL reads its settings from the environment when it first opens something, so they are set here; what
the user set wins.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.session import DummySession

from pipeline.errors import RasterError, one_line

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

# a raster without georeference is as good as any other, and nothing to warn people of
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

READ_ERRORS = (RasterioError, OSError, ValueError)
"""What a read or an open raises that is the raster's fault."""

T = TypeVar("T")

_PER_THREAD = 16
_RETRY_AFTER_S = (0.05, 0.25)
_NETWORK_RETRY_S = (0.25, 1.0, 3.0)
_SCHEMES = {"s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/", "oss": "/vsioss/"}
_CURL_SCHEMES = ("http://", "https://", "ftp://")
_NETWORK = re.compile(r"/vsi(curl|s3|gs|az|adls|oss|swift|webhdfs)(_streaming)?/")
_FAILED_REQUEST = re.compile(
    r"CURL error.*|HTTP (error|response) code.*|.*failed with response_code.*|.*Retrying again.*"
)
_PERMANENT = re.compile(r"HTTP (?:error|response) code\s*:? ?(400|401|403|404|405|410|414)\b")
_BROKEN_OFF = re.compile(r"response_code=(0|200|206)\b")


def is_remote(path: str) -> bool:
    """True for what is read over a network."""
    gdal = gdal_path(path)
    return gdal.startswith(_CURL_SCHEMES) or _NETWORK.search(gdal) is not None


def gdal_path(path: str) -> str:
    """What GDAL calls a path: URLs become /vsi names, so that GDAL's own settings and credentials hold."""
    if path.startswith(_CURL_SCHEMES):
        return f"/vsicurl/{path}"
    scheme, separator, rest = path.partition("://")
    return _SCHEMES[scheme] + rest if separator and scheme in _SCHEMES else path


@contextlib.contextmanager
def environment(path: str) -> Iterator[None]:
    """GDAL's settings for a path: no listing of remote folders (sidecar files are asked for by name)."""
    if not is_remote(path) or "GDAL_DISABLE_READDIR_ON_OPEN" in os.environ:
        yield
        return
    with rasterio.Env(DummySession(), GDAL_DISABLE_READDIR_ON_OPEN="TRUE"):
        yield


def opened(path: str, function: Callable[[Any], T]) -> T:
    """What a function makes of a dataset that is opened for it and closed.

    Raises
    ------
    RasterError
        If it cannot be opened or read; a network is asked several times.
    """

    def use() -> T:
        with rasterio.open(gdal_path(path)) as dataset:
            return function(dataset)

    reason = "not a raster that GDAL can open ({}); is it complete?"
    return _attempt(path, use, reason, _NETWORK_RETRY_S if is_remote(path) else ())


def read(path: str, function: Callable[[Any], T], what: str, *, again: bool = True) -> T:
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

    Raises
    ------
    RasterError
        If it fails each time.
    """
    reason = f"cannot read {what} ({{}}); the file is damaged or gone: repair or fetch it again"
    retry_s = _NETWORK_RETRY_S if is_remote(path) else _RETRY_AFTER_S
    return _attempt(path, lambda: function(_handle(path)), reason, retry_s if again else ())


def _attempt(path: str, use: Callable[[], T], reason: str, retry_s: tuple[float, ...]) -> T:
    """Call a function until it succeeds, with growing pauses; a network's failures are named as such."""
    remote = is_remote(path)
    delays = iter(retry_s)
    tries = 0
    _EAR.listen()
    while True:
        tries += 1
        try:
            with environment(path):
                return use()
        except READ_ERRORS as error:
            forget(path)
            failure = _network_failure(error)
            delay = next(delays, None)
            if remote and failure and _PERMANENT.search(failure):
                said = f"the server refuses it ({failure}); check the address and the credentials"
                raise RasterError(path, said) from error
            if delay is None:
                if failure:
                    said = (
                        f"cannot be fetched, after {tries} tries ({failure}); "
                        "check the network and the server, then run the same command again"
                    )
                    raise RasterError(path, said) from error
                raise RasterError(path, reason.format(one_line(error))) from error
            time.sleep(delay)


def _network_failure(error: BaseException) -> str:
    """What went wrong on the network, or "" if it was something else."""
    said = [*_EAR.heard(), *(one_line(e) for e in _chain(error))]
    failures = [t for t in said if _FAILED_REQUEST.fullmatch(t)]
    if not failures:
        return ""
    failure = next((t for t in reversed(failures) if _PERMANENT.search(t)), failures[-1])
    if _BROKEN_OFF.search(failure):
        return "the connection broke off in the middle of an answer"
    return re.sub(r"\. Retrying again.*| - https?://\S+", "", failure)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


class _Ear(logging.Handler):
    """Remembers for each thread what GDAL said about failed requests: exceptions do not carry it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._local = threading.local()

    def listen(self) -> None:
        """Forget what was heard in this thread."""
        self._local.lines = []

    def heard(self) -> list[str]:
        """The failed requests of this thread since `listen`."""
        lines: list[str] = getattr(self._local, "lines", [])
        return lines

    def emit(self, record: logging.LogRecord) -> None:
        """Take a message of GDAL's, which is of the form ``CPLE_AppDefined:text``."""
        text = " ".join(record.getMessage().split()).partition(":")[2]
        if _FAILED_REQUEST.fullmatch(text) and len(self.heard()) < 64:
            self.heard().append(text)


_EAR = _Ear()
logging.getLogger("rasterio._err").addHandler(_EAR)

_local = threading.local()
_Key = tuple[str, int, int]


def _key(path: str) -> _Key:
    """What tells one state of a file from the next, so that a changed file is opened afresh."""
    try:
        stat = Path(path).stat()
    except OSError:
        return path, 0, 0
    return path, stat.st_mtime_ns, stat.st_size


def _handle(path: str) -> Any:
    """The handle of a raster in this thread, opened late and kept for the next window."""
    handles: OrderedDict[_Key, Any] | None = getattr(_local, "handles", None)
    if handles is None:
        handles = _local.handles = OrderedDict()
    key = _key(path)
    if key not in handles:
        while len(handles) >= _PER_THREAD:
            handles.popitem(last=False)[1].close()
        handles[key] = rasterio.open(gdal_path(path))
    handles.move_to_end(key)
    return handles[key]


def forget(path: str) -> None:
    """Close this thread's handles of a raster, so that the next read opens it afresh."""
    handles: OrderedDict[_Key, Any] = getattr(_local, "handles", None) or OrderedDict()
    for key in [k for k in handles if k[0] == path]:
        with contextlib.suppress(Exception):
            handles.pop(key).close()
