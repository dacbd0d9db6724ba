"""Models loaded from TorchScript files, and torch with its devices."""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from pathlib import Path
from typing import Any

from engine.errors import NetworkError
from engine.networks import filters

_LIMIT_BYTES = 4 << 30


def digest(path: str) -> str:
    """SHA-256 of a model: of its file, or of a built-in network's name and version.

    Raises
    ------
    NetworkError
        If it cannot be read.
    """
    if path.startswith(filters.PREFIX):
        return hashlib.sha256(filters.describe(path)).hexdigest()
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise NetworkError(f"{path}: cannot read this model ({error.strerror}); check --model") from None


def load(torch: Any, path: str, device: str) -> Any:
    """A TorchScript module; pickled weights and other files are refused before anything is unpickled."""
    if path.startswith(filters.PREFIX):
        return filters.build(path).to(device)
    try:
        if Path(path).stat().st_size > _LIMIT_BYTES:
            raise NetworkError(f"{path}: larger than {_LIMIT_BYTES >> 30} GiB; not a network for this use")
        with zipfile.ZipFile(path) as archive:
            names = {n.split("/", 1)[-1] for n in archive.namelist()}
    except OSError as error:
        raise NetworkError(f"{path}: cannot read this model ({error.strerror}); check --model") from None
    except zipfile.BadZipFile:
        names = set()
    if "constants.pkl" not in names:
        raise NetworkError(
            f"{path}: not a TorchScript model (pickled weights are refused: they can run code); "
            "save it with torch.jit.script or torch.jit.trace"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch 2.13 calls TorchScript deprecated; it still loads
            module = torch.jit.load(path, map_location=device).eval()
            return module.to(memory_format=torch.channels_last)
    except (RuntimeError, ValueError, LookupError, TypeError) as error:  # damaged files
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise NetworkError(
            f"{path}: not a TorchScript model that torch can load ({reason[0][:120]})"
        ) from None


def import_torch() -> Any:
    """torch, with one intra-op thread: parallelism is over cells."""
    import torch

    torch.set_num_threads(1)
    return torch


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
