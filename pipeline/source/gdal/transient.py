"""What GDAL's log says and no exception: which failures are transient or permanent; which CRS is unknown."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Iterator

from pipeline.errors import one_line

REMOTE_PAUSES_S = (0.25, 1.0, 3.0)
"""Pauses before a remote read is tried again."""

_NO_RASTER = "not recognized as being in a supported file format"
_SAID = re.compile(r"CPLE_\w+(?::| in )(.*)")
_FAILED_REQUEST = re.compile(
    r"CURL error.*|HTTP (error|response) code.*|.*failed with response_code.*|.*Retrying again.*"
)
_PERMANENT = re.compile(r"HTTP (?:error|response) code: (400|401|403|404|405|410|414)\b")
_NO_ANSWER = "HTTP response code: 0"  # what curl says of it comes with it
_BROKEN_OFF = re.compile(r"response_code=(0|200|206)\b|got \d+ bytes, expected \d+")
_UNKNOWN_CRS = re.compile(
    r"PROJ: .*crs not found: (?P<code>\w+:\w+).*"
    r"|The definition of \w+ CRS (?P<defined>\w+:\w+) got from GeoTIFF keys is not the same.*"
)


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """While the block runs, note what GDAL says in this thread, for `failure` and `unknown_crs`."""
    _EAR.local.lines = []
    _EAR.local.unknown_crs = ""
    _EAR.attach()
    try:
        yield
    finally:
        _EAR.detach()


def failure(error: BaseException, *, remote: bool) -> str:
    """What went wrong on the network within `listening`, or "" if it was something else.

    Parameters
    ----------
    error
        What was raised.
    remote
        True if the raster itself is read over a network; what it refers to may be in any case. An answer
        that is too short speaks of the network only then: a file on disk that is cut short sounds alike.
    """
    said = [*(one_line(e) for e in _chain(error)), *_EAR.heard()]
    if not (failures := [t for t in said if _FAILED_REQUEST.fullmatch(t) and t != _NO_ANSWER]):
        short = remote and any(_BROKEN_OFF.search(t) for t in said)
        return "the connection broke off, or the file there is cut short" if short else ""
    worst = next((t for t in reversed(failures) if _PERMANENT.search(t)), failures[-1])
    if _BROKEN_OFF.search(worst):
        return "the connection broke off in the middle of an answer"
    own = one_line(error)
    return worst if own in worst or "previous exception" in own else f"{worst}: {own[:160]}"


def unknown_crs() -> str:
    """The code of a CRS that GDAL made something else of within `listening`, or ""."""
    return str(getattr(_EAR.local, "unknown_crs", ""))


def is_permanent(what: str) -> bool:
    """Whether a `failure` is a refusal by the server, which asking again does not change."""
    return _PERMANENT.search(what) is not None


def is_transient(error: BaseException, *, remote: bool) -> bool:
    """Whether another read may succeed where this error was raised within `listening`.

    A local file may be on a file system that stumbles, so each of its errors is; of a remote one, neither a
    refusal nor an answer that is no raster.
    """
    what = failure(error, remote=remote)
    return not remote or not (is_permanent(what) or (not what and _NO_RASTER in str(error)))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


class _Ear(logging.Handler):
    """Remembers for each thread what GDAL said that exceptions do not carry."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.local = threading.local()
        self._counting = threading.Lock()
        self._listeners = 0
        self._loggers = [logging.getLogger(name) for name in ("rasterio._err", "rasterio._env")]

    def attach(self) -> None:
        """Listen to rasterio's loggers, for one more block."""
        with self._counting:
            self._listeners += 1
            if self._listeners == 1:
                for logger in self._loggers:
                    logger.addHandler(self)

    def detach(self) -> None:
        """Listen for one block less."""
        with self._counting:
            self._listeners -= 1
            if not self._listeners:
                for logger in self._loggers:
                    logger.removeHandler(self)

    def heard(self) -> list[str]:
        """The failed requests of this thread since it began to listen."""
        lines: list[str] = getattr(self.local, "lines", [])
        return lines

    def emit(self, record: logging.LogRecord) -> None:
        """Take a message of GDAL's, of the form ``CPLE_AppDefined:text`` or ``CPLE_AppDefined in text``."""
        match = _SAID.fullmatch(" ".join(record.getMessage().split()))
        if match and (crs := _UNKNOWN_CRS.fullmatch(match[1])):
            self.local.unknown_crs = crs["code"] or crs["defined"]
        if match and _FAILED_REQUEST.fullmatch(match[1]) and len(self.heard()) < 64:
            # the address is known, and what GDAL does next is not what came of it
            text = re.sub(r"( - \S+)? Retrying again.*", "", match[1])
            self.heard().append(re.sub(r" on \S+:", ":", text))


_EAR = _Ear()
