"""Versions of what labels depend on."""

from __future__ import annotations

import functools
import importlib.metadata

_PACKAGES = ("tilewright", "numpy", "numba", "dask", "rasterio", "torch")


@functools.cache
def versions() -> dict[str, str]:
    """Versions of what labels depend on."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found
