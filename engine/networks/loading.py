"""Networks, loaded once per process."""

from __future__ import annotations

import functools
import threading

from engine.errors import NetworkError
from engine.networks.geometry import Geometry, probe
from engine.networks.network import Network, digest, import_torch

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


def choose_device(wanted: str) -> str:
    """The torch device for ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises
    ------
    NetworkError
        If torch does not have that device.
    """
    if wanted == "cpu":
        return wanted
    torch = import_torch()
    mps = torch.backends.mps.is_available()
    if wanted == "auto":
        return "cuda:0" if torch.cuda.is_available() else "mps" if mps else "cpu"
    kind, _, number = wanted.partition(":")
    if kind == "cuda" and torch.cuda.is_available() and int(number or 0) < torch.cuda.device_count():
        return f"cuda:{int(number or 0)}"
    if wanted == "mps" and mps:
        return wanted
    raise NetworkError(f"--device {wanted}: torch sees no such device here; use --device auto or cpu")
