"""JSON files that anybody may have changed: read within bounds, and with few kinds of errors."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from pipeline.durable.files import open_at_once

LIMIT_BYTES = 256 << 20
"""Bytes of the largest file that is read: the `run.json` of half a million rasters."""

_LIMIT_VALUES = 1 << 23  # a byte or two can become an object of a hundred


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it holds none, or more than memory is meant for.
    """
    value = _read(path)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004  (the file's content is wrong, not a type)
    return value


def read_list(path: Path) -> list[Any]:
    """The JSON list that a file holds; raises as `read_object` does."""
    value = _read(path)
    if not isinstance(value, list):
        raise ValueError("not a JSON list")  # noqa: TRY004  (the file's content is wrong, not a type)
    return value


def _read(path: Path) -> Any:
    data = _bytes(path)
    if data.count(b",") + data.count(b"[") + data.count(b"{") > _LIMIT_VALUES:
        raise ValueError(f"holds more than {_LIMIT_VALUES} values")
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _bytes(path: Path) -> bytes:
    with open(path, "rb", opener=open_at_once) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("not a file")
        if found.st_size > LIMIT_BYTES:
            raise ValueError(f"larger than {LIMIT_BYTES >> 20} MiB")
        return file.read(LIMIT_BYTES)
