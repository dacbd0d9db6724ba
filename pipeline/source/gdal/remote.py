"""Rasters over a network: what GDAL calls them, how it has to ask for them, and why it failed to get them."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import threading
from collections.abc import Iterator
from typing import Any

import rasterio
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.session import DummySession

from pipeline.errors import RasterError, one_line
from pipeline.process.warning_filters import ignored
from pipeline.source.gdal import setup

_SCHEMES = {"s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/", "oss": "/vsioss/"}
_CURL_SCHEMES = ("http://", "https://", "ftp://")
_NOWHERE = "/vsicurl/nowhere"
_ADDRESS = re.compile(r"(?<![a-z0-9+.-])(?!(?:vrt|file)://)[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_SYSTEMS = ("curl", "s3", "gs", "az", "adls", "oss", "swift", "webhdfs")
_NETWORK = re.compile(rf"/vsi({'|'.join(_SYSTEMS)})(_streaming)?/")
_UNCACHED = ":".join(["/vsicurl/http", *(f"/vsi{system}/" for system in _SYSTEMS[1:])])

_VECTORS = threading.Lock()

_SAID = re.compile(r"CPLE_\w+(?::| in )(.*)")
_FAILED_REQUEST = re.compile(
    r"CURL error.*|HTTP (error|response) code.*|.*failed with response_code.*|.*Retrying again.*"
)
_PERMANENT = re.compile(r"HTTP (?:error|response) code: (400|401|403|404|405|410|414)\b")
_NO_ANSWER = "HTTP response code: 0"  # what curl says of it comes with it
_BROKEN_OFF = re.compile(r"response_code=(0|200|206)\b|got \d+ bytes, expected \d+")


def is_remote(path: str) -> bool:
    """True for what is read over a network."""
    return _NETWORK.search(gdal_path(path)) is not None or _ADDRESS.search(path) is not None


def gdal_path(path: str) -> str:
    """What GDAL calls a path: URLs become /vsi names, so that GDAL's own settings and credentials hold."""
    scheme, separator, rest = path.partition("://")
    if path.startswith(_CURL_SCHEMES):
        path = f"/vsicurl/{path}"
    elif separator and scheme in _SCHEMES:
        path = _SCHEMES[scheme] + rest
    if path.rstrip("/").endswith(".zarr") and _NETWORK.match(path):
        path = f'ZARR:"{path.rstrip("/")}"'
    return path


@contextlib.contextmanager
def environment(path: str, *, afresh: bool = False) -> Iterator[None]:
    """GDAL's settings for a path.

    Remote folders are not listed; sidecar files are asked for by name. From a local path nothing leads
    to a network.

    Parameters
    ----------
    path
        A raster, local or not.
    afresh
        Forget what is remembered of it. GDAL 3.10 takes the first half of an answer that broke off
        for all of it, a file that it could not reach for one that is not there, and remembers both.
    """
    options = setup.missing_options(rasterio.env.getenv() if rasterio.env.hasenv() else ())
    if not is_remote(path):
        # what a local file names is not followed to a network
        with rasterio.Env(DummySession(), CPL_VSIL_CURL_ALLOWED_FILENAME=_NOWHERE, **options):
            yield
        return
    if "GDAL_DISABLE_READDIR_ON_OPEN" not in os.environ:
        options["GDAL_DISABLE_READDIR_ON_OPEN"] = "TRUE"
    if afresh:
        options["CPL_VSIL_CURL_NON_CACHED"] = _UNCACHED
    with rasterio.Env(DummySession(), **options):
        if afresh:
            # what was remembered goes when a handle that was opened under this setting is closed
            with contextlib.suppress(RasterioError):
                open_dataset(path).close()
        yield


def open_dataset(path: str, **options: Any) -> Any:
    """Open what a path names for reading, within `environment`; no driver of a service may open it.

    Parameters
    ----------
    path
        A raster, local or not.
    options
        Open options of GDAL's.

    Raises
    ------
    RasterioError
        If none of the drivers that may takes it.
    """
    with ignored(NotGeoreferencedWarning):  # a raster without georeference is as good as any other
        return rasterio.DatasetReader(gdal_path(path), driver=_drivers(), **options)


@functools.cache
def _drivers() -> list[str] | None:
    """The drivers that may open a file; None for all, where GDAL was started without those of services."""
    with rasterio.Env(DummySession()) as gdal:
        registered = list(gdal.drivers())
    harmless = [name for name in registered if name not in setup.SERVICES]
    return None if harmless == registered else harmless


def refuse(path: str) -> None:
    """Refuse what is read over a network.

    Raises
    ------
    RasterError
        If it is.
    """
    if is_remote(path):
        raise RasterError(path, "lies on a network, which --no-network forbids; fetch it first")


@contextlib.contextmanager
def forbidden_in_vectors() -> Iterator[None]:
    """Keep the vector library, which has a GDAL of its own, from any network while the block runs."""
    import pyogrio

    name = "CPL_VSIL_CURL_ALLOWED_FILENAME"
    with _VECTORS:  # its options are the process's: two blocks side by side would put back each other's
        before = pyogrio.get_gdal_config_option(name)
        pyogrio.set_gdal_config_options({name: _NOWHERE})
        try:
            yield
        finally:
            pyogrio.set_gdal_config_options({name: before})


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """While the block runs, note what GDAL says about failed requests in this thread, for `failure`."""
    _EAR.local.lines = []
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


def is_permanent(what: str) -> bool:
    """True for a failure that asking again does not change."""
    return _PERMANENT.search(what) is not None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


class _Ear(logging.Handler):
    """Remembers for each thread what GDAL said about failed requests: exceptions do not carry it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.local = threading.local()
        self._listeners = 0
        self._loggers = [logging.getLogger(name) for name in ("rasterio._err", "rasterio._env")]

    def attach(self) -> None:
        """Listen to rasterio's loggers, for one more block."""
        self.acquire()
        try:
            self._listeners += 1
            if self._listeners == 1:
                for logger in self._loggers:
                    logger.addHandler(self)
        finally:
            self.release()

    def detach(self) -> None:
        """Listen for one block less."""
        self.acquire()
        try:
            self._listeners -= 1
            if not self._listeners:
                for logger in self._loggers:
                    logger.removeHandler(self)
        finally:
            self.release()

    def heard(self) -> list[str]:
        """The failed requests of this thread since it began to listen."""
        lines: list[str] = getattr(self.local, "lines", [])
        return lines

    def emit(self, record: logging.LogRecord) -> None:
        """Take a message of GDAL's, of the form ``CPLE_AppDefined:text`` or ``CPLE_AppDefined in text``."""
        match = _SAID.fullmatch(" ".join(record.getMessage().split()))
        if match and _FAILED_REQUEST.fullmatch(match[1]) and len(self.heard()) < 64:
            # the address is known, and what GDAL does next is not what came of it
            text = re.sub(r"( - \S+)? Retrying again.*", "", match[1])
            self.heard().append(re.sub(r" on \S+:", ":", text))


_EAR = _Ear()
