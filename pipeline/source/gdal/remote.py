"""Addresses of remote rasters: what GDAL calls them, and where none may be followed."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator

from pipeline.errors import RasterError

_SCHEMES = {"s3": "/vsis3/", "gs": "/vsigs/", "az": "/vsiaz/", "oss": "/vsioss/"}
_CURL_SCHEMES = ("http://", "https://", "ftp://")
NOWHERE = "/vsicurl/nowhere"
"""The only address that GDAL may ask where it shall ask none."""

_ADDRESS = re.compile(r"(?<![a-z0-9+.-])(?!(?:vrt|file)://)[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_SYSTEMS = ("curl", "s3", "gs", "az", "adls", "oss", "swift", "webhdfs")
_NETWORK = re.compile(rf"/vsi({'|'.join(_SYSTEMS)})(_streaming)?/")
UNCACHED = ":".join(["/vsicurl/http", *(f"/vsi{system}/" for system in _SYSTEMS[1:])])
"""GDAL's names of all that is remote, as it takes them for what it shall not remember."""

_VECTORS = threading.Lock()


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
        pyogrio.set_gdal_config_options({name: NOWHERE})
        try:
            yield
        finally:
            pyogrio.set_gdal_config_options({name: before})
