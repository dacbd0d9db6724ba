"""Tilewright: segment rasters of any size, chunk by chunk, with equal labels however they are cut.

From Python: `open_raster`, `fit`, `segment`, `plot`, `write` and `run`; they load what they need when
they are first used, so that the command line starts at once.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers know it: `typing` takes longer to import than all of this
if TYPE_CHECKING:
    from typing import Any

    from engine.codebook import Codebook
    from pipeline.api.arrays import open_raster, segment
    from pipeline.api.fitting import fit
    from pipeline.api.plotting import plot
    from pipeline.api.writing import write
    from pipeline.config import RunConfig
    from pipeline.running.run import run

    __version__: str

__all__ = ["Codebook", "RunConfig", "fit", "open_raster", "plot", "run", "segment", "write"]

_HOMES = {
    "Codebook": "engine.codebook",
    "RunConfig": "pipeline.config",
    "fit": "pipeline.api.fitting",
    "open_raster": "pipeline.api.arrays",
    "plot": "pipeline.api.plotting",
    "run": "pipeline.running.run",
    "segment": "pipeline.api.arrays",
    "write": "pipeline.api.writing",
}


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__")), "__version__"])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from pipeline.versions import versions

        return versions()["tilewright"]
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
