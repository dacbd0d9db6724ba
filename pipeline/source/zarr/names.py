"""Names of Zarr stores, and how a folder is recognised as one."""

from __future__ import annotations

import re
from pathlib import Path

STORE_METADATA = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")

_NAMED = re.compile(r'ZARR:"?(?P<store>.+?)"?(?::(?P<array>/.*))?')


def is_store(path: str) -> bool:
    """Whether a path is a folder that is a Zarr group or array."""
    # a mosaic asks this of ten thousand files
    try:
        folder = Path(path)
        return folder.is_dir() and any((folder / name).is_file() for name in STORE_METADATA)
    except (OSError, ValueError):
        return False


def store_of(path: str) -> tuple[str, str] | None:
    """Folder and array path of a local Zarr store; None if the path is not one."""
    if is_store(path):
        return path, ""
    match = _NAMED.fullmatch(path)
    if match is None or not is_store(match["store"]):
        return None
    return match["store"], (match["array"] or "").strip("/")
