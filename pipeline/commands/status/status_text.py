"""A run's status as lines for people: totals first, then the rasters that matter."""

from __future__ import annotations

from pipeline.commands.status.run_status import RasterStatus, RunStatus
from pipeline.cost.readable import bytes_text, seconds_text
from pipeline.errors import printable

_FEW = 20
_FEW_DAMAGED = 5
_HEAD = ("state", "chunks", "bad", "Mpx/s", "left", "raster")


def status_text(found: RunStatus, *, everything: bool = False) -> str:
    """Lines for people.

    Parameters
    ----------
    found
        The status.
    everything
        List every raster; else of many only those under way and the first that failed.
    """
    lines = [*_totals(found), "", *_table(found.rasters, everything=everything)]
    return "\n".join(map(printable, lines))


def _totals(found: RunStatus) -> list[str]:
    totals = found.totals
    states = ("done", "running", "interrupted", "waiting", "failed", "skipped")
    counts = ", ".join(f"{totals[s]} {s}" for s in states if totals[s])
    lines = [("run", f"{found.state}: rasters: {counts or 'none known yet'}")]
    if totals["chunks"]:
        share = f" ({totals['chunks_done'] / totals['chunks']:.1%})"
        bad = f", {totals['bad_chunks']} bad" if totals["bad_chunks"] else ""
        lines.append(("chunks", f"{totals['chunks_done']} of {totals['chunks']}{share}{bad}"))
    if totals["pixels"]:
        lines.append(("pixels", f"{totals['pixels_done'] / 1e6:.1f} of {totals['pixels'] / 1e6:.1f} Mpx"))
    if found.mpx_per_s is not None:
        left = f", {seconds_text(found.eta_s)} left" if found.eta_s is not None else ""
        lines.append(("rate", f"{found.mpx_per_s:.1f} Mpx/s{left}"))
    if found.state == "running":
        lines += _alive(found)
    elif found.age_s is not None:
        lines.append(("ended", f"last sign of life {seconds_text(found.age_s)} ago"))
    if found.last_error:
        lines.append(("error", " ".join(found.last_error.split())))
    lines += [("damaged", one) for one in found.damaged[:_FEW_DAMAGED]]
    if (more := len(found.damaged) - _FEW_DAMAGED) > 0:
        lines.append(("damaged", f"and {more} more"))
    if found.verdict:
        lines.append(("time", found.verdict))
    return [f"{name:<8} {text}" for name, text in lines]


def _alive(found: RunStatus) -> list[tuple[str, str]]:
    lines = []
    if found.pid is not None:
        where = f"process {found.pid} on {found.host}, workers: {found.workers}"
        lines.append(("phase", f"{found.phase}; {where}, since {found.started}"))
    if found.memory_bytes:
        lines.append(("memory", f"{bytes_text(found.memory_bytes)}, processes: {found.processes}"))
    if found.age_s is not None and found.idle_s is not None:
        last = seconds_text(found.idle_s)
        lines.append(("alive", f"{seconds_text(found.age_s)} ago; something happened {last} ago"))
    return lines


def _table(rasters: list[RasterStatus], *, everything: bool) -> list[str]:
    shown = rasters if everything or len(rasters) <= _FEW else _that_matter(rasters)
    rows = [_HEAD, *map(_row, shown)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD) - 1)]
    lines = ["  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]]) for row in rows]
    if hidden := len(rasters) - len(shown):
        lines.append(f"... and {hidden} more (--all lists them)")
    return lines


def _that_matter(rasters: list[RasterStatus]) -> list[RasterStatus]:
    under_way = [r for r in rasters if r.state in ("running", "interrupted")]
    failed = [r for r in rasters if r.state == "failed"]
    return [*under_way[:_FEW], *failed[:_FEW]]


def _row(raster: RasterStatus) -> tuple[str, ...]:
    name = raster.name if raster.error is None else f"{raster.name}: {' '.join(raster.error.split())}"
    return (
        raster.state if raster.stage in (None, "label") else f"{raster.state} ({raster.stage})",
        f"{raster.chunks_done}/{'?' if raster.chunks is None else raster.chunks}",
        str(raster.bad_chunks or "-"),
        "-" if raster.mpx_per_s is None else f"{raster.mpx_per_s:.1f}",
        "-" if raster.eta_s is None else seconds_text(raster.eta_s),
        name,
    )
