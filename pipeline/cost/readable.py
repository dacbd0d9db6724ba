"""Bytes and seconds as text for people."""

from __future__ import annotations


def bytes_text(count: float) -> str:
    """Bytes in the largest unit in which the number is at least 1: ``1.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def seconds_text(seconds: float) -> str:
    """A duration in its two largest units: ``3 min 20 s``."""
    whole = max(0, round(seconds))
    for (large, size), (small, step) in (
        (("d", 86400), ("h", 3600)),
        (("h", 3600), ("min", 60)),
        (("min", 60), ("s", 1)),
    ):
        if whole >= size:
            return f"{whole // size} {large} {whole % size // step:02d} {small}"
    return f"{whole} s"
