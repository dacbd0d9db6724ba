"""Networks and their geometries, once per process."""

from __future__ import annotations

import functools
import threading

from engine.errors import NetworkError
from engine.networks.geometry import Geometry, probe
from engine.networks.loading import digest
from engine.networks.network import Network

_lock = threading.Lock()


@functools.cache
def _loaded(path: str, content: str, device: str) -> Network:
    if digest(path) != content:
        raise NetworkError(f"{path}: the model file has changed since the run began; run again")
    return Network(path, device)


def network(path: str, content: str, device: str) -> Network:
    """The network in a file with a given digest, loaded once per process.

    Raises
    ------
    NetworkError
        If the file has another digest, or is no network.
    """
    with _lock:
        return _loaded(path, content, device)


@functools.cache
def geometry(path: str, content: str) -> Geometry:
    """The geometry of a network, probed once per process."""
    return probe(network(path, content, "cpu"))
