"""Where a run and its rasters stand, as values."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

STATES = ("running", "interrupted", "waiting", "done", "failed", "skipped")
"""What a raster can be in, in the order that they are counted in."""


@dataclass
class RasterStatus:
    """Where one raster stands.

    Parameters
    ----------
    name
        Name of its outputs.
    state
        running, interrupted, waiting, done, failed or skipped.
    chunks_done, chunks, pixels
        What is durable, of how much; None where the raster was never opened.
    bad_chunks
        Chunks that could not be labelled.
    stage, mpx_per_s, eta_s
        Of a raster under way, else None.
    error
        Why it failed or was skipped, or None.
    """

    name: str
    state: str
    chunks_done: int = 0
    chunks: int | None = None
    pixels: int | None = None
    bad_chunks: int = 0
    stage: str | None = None
    mpx_per_s: float | None = None
    eta_s: float | None = None
    error: str | None = None


@dataclass
class RunStatus:
    """Where a run stands.

    Parameters
    ----------
    out
        Its folder.
    state
        running, interrupted, done, or failed (over, and some rasters failed).
    rasters
        Every raster, in the run's order.
    phase, pid, host, run, started, workers, memory_bytes, processes
        As the run said last, or None.
    mpx_per_s, eta_s
        Of a run that lives: its rate of late, and what is left at that rate.
    age_s
        Seconds since the last sign of life.
    idle_s
        Seconds since anything happened in it.
    last_error
        The last thing that went wrong, or None.
    verdict
        What bounded a run that is over, or None.
    damaged
        Files that are not what a run writes, each with what is wrong; nothing is told of them.
    """

    out: str
    state: str
    rasters: list[RasterStatus] = field(repr=False)
    phase: str | None = None
    pid: int | None = None
    host: str | None = None
    run: str | None = None
    started: str | None = None
    workers: int | None = None
    memory_bytes: int | None = None
    processes: int | None = None
    mpx_per_s: float | None = None
    eta_s: float | None = None
    age_s: float | None = None
    idle_s: float | None = None
    last_error: str | None = None
    verdict: str | None = None
    damaged: list[str] = field(default_factory=list)

    @property
    def totals(self) -> dict[str, Any]:
        """Sums over the rasters, and how many are in each state."""
        counts = Counter(r.state for r in self.rasters)
        return {
            "rasters": len(self.rasters),
            **{state: counts[state] for state in STATES},
            "chunks_done": sum(r.chunks_done for r in self.rasters),
            "chunks": sum(r.chunks or 0 for r in self.rasters),
            "bad_chunks": sum(r.bad_chunks for r in self.rasters),
            "pixels_done": sum(_pixels_done(r) for r in self.rasters),
            "pixels": sum(r.pixels or 0 for r in self.rasters),
        }

    def as_json(self) -> dict[str, Any]:
        """As one JSON object."""
        value = asdict(self)
        return {"state": value.pop("state"), "totals": self.totals, **value}


def _pixels_done(raster: RasterStatus) -> int:
    if raster.state == "done":
        return raster.pixels or 0
    return round((raster.pixels or 0) * raster.chunks_done / max(1, raster.chunks or 0))
