"""Where a run's time went, its bottleneck, and which option would help.

The available time is wall time times workers. The start (loading, opening, fitting) uses all workers'
time while it lasts; tasks measure their own time (`pipeline.cost.timing`); the remainder is waiting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from pipeline.cost.timing import Effort

BOTTLENECK_SHARE = 0.4
"""A stage with at least this share of the time is called the bottleneck."""

_LARGE_CHUNK_PX = 2048  # smaller chunks share a task, so a smaller chunk size does not make more tasks


@dataclass
class Spent:
    """Seconds of a run.

    Parameters
    ----------
    wall_s
        From the start of the process to the end of its workers.
    open_s, fit_s, setup_s
        Parts of `wall_s`: opening the rasters, fitting, and everything else before the first chunk.
    effort, assemble_s
        Sums over the workers' tasks: making chunks, and joining them.
    startup_s
        Part of `wall_s`: starting Python, and imports.
    """

    wall_s: float = 0.0
    open_s: float = 0.0
    fit_s: float = 0.0
    setup_s: float = 0.0
    effort: Effort = field(default_factory=Effort)
    assemble_s: float = 0.0
    startup_s: float = 0.0

    @property
    def start_s(self) -> float:
        """Seconds before the first chunk, as far as they are known."""
        return self.startup_s + self.open_s + self.fit_s + self.setup_s

    def add(self, effort: Effort, assemble_s: float) -> None:
        """Add the times of a raster."""
        self.effort += effort
        self.assemble_s += assemble_s

    @property
    def seconds(self) -> dict[str, float]:
        """All values by name, rounded to milliseconds."""
        rounded = {name: round(s, 3) for name, s in vars(self).items() if name != "effort"}
        return {**rounded, **self.effort.rounded(3)}


@dataclass(frozen=True, slots=True)
class Setting:
    """Properties of a run that decide which advice applies.

    Parameters
    ----------
    workers, cores
        Number of workers, and of cores that this process may use.
    rasters, windows
        Number of rasters done, and of labelling tasks.
    method, resolution, device
        Name of the kernel, its `--resolution` (None if a model or a saved codebook determines it), and the
        device that it computes on.
    chunk_px
        Side of a chunk.
    remote
        True if sources were remote.
    refitted
        True if a codebook was fitted, not taken from a file.
    """

    workers: int
    cores: int
    rasters: int
    windows: int
    method: str
    resolution: int | None
    device: str
    chunk_px: int
    remote: bool
    refitted: bool


def time_shares(spent: Spent, setting: Setting) -> dict[str, Any]:
    """Shares of a run's time, with a one-line verdict.

    Returns
    -------
    dict
        `seconds` (those of `Spent`), `shares` of the workers' time (start, read, compute, write,
        wait; their sum is 1), `bound_by` (the share that is the bottleneck, or "nothing"), `verdict`.
    """
    shares = _shares(spent, setting.workers)
    largest = max(shares, key=lambda name: shares[name])
    bound = largest if shares[largest] >= BOTTLENECK_SHARE else "nothing"
    return {
        "seconds": spent.seconds,
        "shares": {name: share / 1000 for name, share in _rounded(shares, 1000).items()},
        "bound_by": bound,
        "verdict": _verdict(shares, bound, spent, setting),
    }


def _shares(spent: Spent, workers: int) -> dict[str, float]:
    busy = {
        "start": spent.start_s * workers,
        "read": spent.effort.read_s,
        "compute": spent.effort.label_s + spent.effort.encode_s,
        "write": spent.effort.write_s + spent.assemble_s,
    }
    # where threads share cores, tasks together can measure more time than wall time times workers
    available = max(spent.wall_s * workers, sum(busy.values()), 1e-9)
    seconds_of = {**busy, "wait": available - sum(busy.values())}
    return {name: seconds / available for name, seconds in seconds_of.items()}


def _rounded(shares: dict[str, float], whole: int) -> dict[str, int]:
    """Shares of 1 as whole numbers that sum to `whole`; those that rounding down costs most get the rest."""
    exact = {name: share * whole for name, share in shares.items()}
    rounded = {name: math.floor(share) for name, share in exact.items()}
    rest = whole - sum(rounded.values())
    for name in sorted(exact, key=lambda name: rounded[name] - exact[name])[:rest]:
        rounded[name] += 1
    return rounded


def _verdict(shares: dict[str, float], bound: str, spent: Spent, setting: Setting) -> str:
    listed = ", ".join(f"{name} {percent}%" for name, percent in _rounded(shares, 100).items())
    if bound == "nothing":
        return f"{listed}: no one thing bounds this run"
    advice = {
        "start": _start_advice,
        "read": _read_advice,
        "compute": _compute_advice,
        "write": _write_advice,
        "wait": _wait_advice,
    }[bound](spent, setting)
    stage = {
        "start": "its start",
        "read": "reading",
        "compute": "labelling" if spent.effort.label_s >= spent.effort.encode_s else "encoding",
        "write": "writing",
        "wait": "waiting for tasks",
    }[bound]
    return f"{listed}: bound by {stage}" + (f"; {advice}" if advice else "")


def _start_advice(spent: Spent, setting: Setting) -> str:
    if spent.fit_s >= max(spent.open_s, spent.setup_s, spent.startup_s) and setting.refitted:
        return f"a saved --codebook spares the fit ({spent.fit_s:.1f} s); more rasters in one run share it"
    if setting.rasters <= 1:
        return "more rasters in one run share the start"
    return ""


def _idle_cores(setting: Setting) -> str:
    free = setting.cores - setting.workers
    return f"--workers {setting.cores} would use the {free} idle cores" if free > 0 else ""


def _read_advice(_: Spent, setting: Setting) -> str:
    if setting.remote:
        return f"more --workers (now {setting.workers}) wait for the network side by side"
    return _idle_cores(setting) or "a faster disk for the inputs, or inputs that decode faster, would help"


def _compute_advice(spent: Spent, setting: Setting) -> str:
    if setting.method == "cnn" and spent.effort.label_s >= spent.effort.encode_s:
        device = "--device for a GPU" if setting.device == "cpu" else ""
        stride = setting.resolution
        coarser = f"--resolution {2 * stride}" if stride is not None and stride < 16 else ""
        options = " or ".join(option for option in (coarser, device) if option)
        return f"{options} would help" if options else ""
    return _idle_cores(setting) or "more cores would help"


def _write_advice(spent: Spent, _: Setting) -> str:
    slow = "joining finished chunks" if spent.assemble_s > spent.effort.write_s else "making chunks durable"
    return f"mostly {slow}: OUT on a faster disk would help"


def _wait_advice(_: Spent, setting: Setting) -> str:
    if setting.windows >= 2 * setting.workers:
        return ""
    if setting.chunk_px > _LARGE_CHUNK_PX:
        return f"{setting.windows} tasks for {setting.workers} workers: a smaller --chunk-size makes more"
    return f"{setting.windows} tasks for {setting.workers} workers: more rasters in one run would fill them"
