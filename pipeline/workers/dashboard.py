"""Where Dask's dashboard is served."""

from __future__ import annotations

import errno
import os
import re
import socket
from typing import NamedTuple

from pipeline.errors import UsageError

DEFAULT = "127.0.0.1:8787"
"""Of this machine alone, on Dask's usual port."""

ADDRESS = re.compile(r"(?:(?P<host>[^\s:/\[\]]+):)?(?P<port>[0-9]{1,5})", re.ASCII)
"""[HOST:]PORT; Dask takes no IPv6 address here."""


class Address(NamedTuple):
    """A host, and a port of it that another takes the place of if it is in use; 0 for any."""

    host: str
    port: int

    @property
    def shown_host(self) -> str:
        """The host by which a browser finds it."""
        return socket.gethostname() if self.host == "0.0.0.0" else self.host  # noqa: S104  (it is compared)


def parse(text: str) -> Address:
    """Read ``[HOST:]PORT``; without a host it is served on this machine alone.

    Raises
    ------
    UsageError
        If it is none.
    """
    match = ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise UsageError(f"--dashboard {text}: give [HOST:]PORT, such as 8787 or 0.0.0.0:8787")
    return Address(match["host"] or "127.0.0.1", int(match["port"]))


def to_serve(address: Address) -> Address:
    """The address, with any free port in the place of one that is in use.

    Raises
    ------
    UsageError
        If it cannot be served there: the host is not this machine, or the port is the system's.
    """
    try:
        family, kind, _, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as tried:
            if os.name != "nt":  # there it takes a port from others
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(place)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return address._replace(port=0)
        raise UsageError(
            f"--dashboard {address.host}:{address.port}: cannot be served there ({error.strerror}); "
            "name a host of this machine and a port from 1024, or a port alone"
        ) from None
    return address
