"""Whose OUT is (only what `status` asks)."""

from __future__ import annotations

import json
from pathlib import Path

import psutil


def alive(out: Path) -> bool:
    """True while the run that owns OUT lives."""
    try:
        pid = json.loads((out / ".partial" / "owner.json").read_text())["pid"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(psutil.pid_exists(pid))
