"""How Zarr stores are named and recognised."""

from __future__ import annotations

import re
from pathlib import Path

STORE_METADATA = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")

_NAMED = re.compile(r'ZARR:"?(?P<store>.+?)"?(?::(?P<array>/.*))?')


def is_store(path: str) -> bool:
    """True for a folder that is a Zarr group or array."""
    try:
        return any((Path(path) / name).is_file() for name in STORE_METADATA)
    except (OSError, ValueError):
        return False


def store_of(path: str) -> tuple[str, str] | None:
    """Folder and array path of a local Zarr store; None for what is none."""
    if is_store(path):
        return path, ""
    match = _NAMED.fullmatch(path)
    if match is None or not is_store(match["store"]):
        return None
    return match["store"], (match["array"] or "").strip("/")
