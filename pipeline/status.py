"""`status OUT`: where a run stands, told from its files alone, while it lives and after.

What is durable is counted from the ledgers and records, never from what the run says of itself; its
`status.json` adds what only it knows: rates, memory, what went wrong of late. Any of these files may
be missing, half-written or vanish while they are read.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline import ledger, owner
from pipeline.errors import UsageError
from pipeline.journal import STATUS

_STATES = ("running", "interrupted", "waiting", "done", "failed", "skipped")


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

    @property
    def totals(self) -> dict[str, Any]:
        """Sums over the rasters, and how many are in each state."""
        counts = Counter(r.state for r in self.rasters)
        return {
            "rasters": len(self.rasters),
            **{state: counts[state] for state in _STATES},
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


def status(out: Path) -> RunStatus:
    """Where the run in a folder stands.

    Raises
    ------
    UsageError
        If the folder holds no run.
    """
    # asked first: a run that ends meanwhile has then left all its files
    live = owner.alive(out)
    said = _read(out / ".partial" / STATUS)
    kept = _read(out / "run.json")
    if not live and not kept and not (out / ".partial").is_dir():
        raise UsageError(f"{out}: no run here (neither run.json nor .partial); name the OUT of a run")
    looker = _Looker(out, said, live=live)
    rasters = [looker.raster(entry) for entry in _entries(kept)]
    unfinished = [r for r in rasters if r.state in ("running", "interrupted", "waiting")]
    word = "running" if live else "interrupted"
    if unfinished and all(r.state == "waiting" for r in unfinished):
        # in the fit, or between two rasters: the run is at work for the one that is next
        unfinished[0].state = word
        unfinished[0].stage = _text(said, "phase") if live else None
    over = bool(rasters) and not unfinished
    ended = "failed" if any(r.state == "failed" for r in rasters) else "done"
    found = RunStatus(str(out), ended if over and not live else word, rasters)
    _add_said(found, said, live=live)
    found.last_error = _text(said, "last_error") or _last_error(rasters)
    if over:
        budget = kept.get("budget")
        found.verdict = _text(budget, "verdict") if isinstance(budget, dict) else None
    if found.age_s is None:
        found.age_s = _file_age(out)
    return found


class _Looker:
    """Tells each raster's state from its files and from what the run says."""

    def __init__(self, out: Path, said: dict[str, Any], *, live: bool) -> None:
        self._out = out
        self._live = live
        self._rows = {r["name"]: r for r in _rows(said.get("rasters"))}
        failed = said.get("failed")
        self._failed = failed if isinstance(failed, dict) else {}

    def raster(self, entry: dict[str, Any]) -> RasterStatus:
        """The state of a raster of `run.json`."""
        name = str(entry["name"])
        row = self._rows.get(name, {})
        found = RasterStatus(
            name,
            "waiting",
            chunks=_count(entry, "chunks") or _count(row, "chunks"),
            pixels=_count(entry, "pixels") or _count(row, "pixels"),
            bad_chunks=self._bad_chunks(name, row),
        )
        folder = self._out / ".partial" / name
        # the ledger is looked at before the record: it goes only when the record is there
        begun = folder.is_dir()
        if begun:
            found.chunks_done = self._chunks_done(folder)
        if self._is_done(entry, found, under_way=bool(row)):
            return found
        if row and self._live:
            found.state = "running"
            found.stage = _text(row, "stage")
            found.mpx_per_s, found.eta_s = _number(row, "mpx_per_s"), _number(row, "eta_s")
        elif (error := self._failed.get(name)) or entry.get("state") in ("failed", "skipped"):
            found.state = "failed" if error else str(entry["state"])
            found.error = str(error or entry.get("error") or entry.get("reason") or "") or None
        elif begun and not self._live:
            found.state = "interrupted"
        return found

    def _is_done(self, entry: dict[str, Any], found: RasterStatus, *, under_way: bool) -> bool:
        """True if record and labels are there; fills in what the record knows."""
        path = self._out / f"{found.name}.json"
        if entry.get("state") == "done" and found.chunks is not None and path.exists():
            # ten thousand records need not be read for what run.json holds
            files, chunks = [entry.get("output")], found.chunks
        elif entry.get("state") in ("failed", "skipped") and not under_way:
            return False  # the record, if any, is of an earlier run
        elif not (record := _read(path)):
            return False
        else:
            files, chunks = list(record.get("files") or [None]), _count(record, "chunks") or 0
        if not all(isinstance(f, str) and (self._out / f).exists() for f in files):
            return False
        found.state, found.chunks_done, found.chunks = "done", chunks, chunks
        return True

    @staticmethod
    def _chunks_done(folder: Path) -> int:
        try:
            return ledger.chunks_done(folder / "ledger")
        except (OSError, ValueError):
            return 0

    def _bad_chunks(self, name: str, row: dict[str, Any]) -> int:
        listed = _read(self._out / f"{name}.bad.geojson").get("features")
        return max(len(listed) if isinstance(listed, list) else 0, _count(row, "bad_chunks") or 0)


def watch(out: Path, every_s: float = 2.0) -> Iterator[RunStatus]:
    """The status again and again, till the run lives no more.

    Raises
    ------
    UsageError
        If the folder holds no run.
    """
    while True:
        found = status(out)
        yield found
        if found.state != "running":
            return
        time.sleep(every_s)


def _add_said(found: RunStatus, said: dict[str, Any], *, live: bool) -> None:
    found.phase, found.host, found.run = _text(said, "phase"), _text(said, "host"), _text(said, "run")
    found.started, found.pid = _text(said, "started"), _count(said, "pid")
    found.workers = _count(said, "workers")
    found.age_s, found.idle_s = _age(said, "updated"), _age(said, "event_at")
    found.memory_bytes, found.processes = _count(said, "memory_bytes"), _count(said, "processes")
    batch = said.get("batch")
    if live and isinstance(batch, dict):
        found.mpx_per_s, found.eta_s = _number(batch, "mpx_per_s"), _number(batch, "eta_s")


def _read(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty where there is none, or not a whole one."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _entries(kept: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Rasters of a run.json whose names are names: it is data, and may not lead out of OUT."""
    return (r for r in _rows(kept.get("rasters")) if Path(r["name"]).name == r["name"])


def _rows(value: Any) -> Iterable[dict[str, Any]]:
    rows = value if isinstance(value, list) else []
    return [r for r in rows if isinstance(r, dict) and isinstance(r.get("name"), str)]


def _text(value: dict[str, Any], key: str) -> str | None:
    found = value.get(key)
    return found if isinstance(found, str) else None


def _number(value: dict[str, Any], key: str) -> float | None:
    found = value.get(key)
    # infinity is no JSON
    return float(found) if isinstance(found, int | float) and math.isfinite(found) else None


def _count(value: dict[str, Any], key: str) -> int | None:
    found = value.get(key)
    return found if isinstance(found, int) else None


def _age(said: dict[str, Any], key: str) -> float | None:
    """Seconds since a moment that a run wrote down, by this machine's clock, which may be another's."""
    try:
        then = datetime.fromisoformat(str(said[key])).timestamp()
    except (KeyError, ValueError):
        return None
    return round(max(0.0, time.time() - then), 1)


def _file_age(out: Path) -> float | None:
    try:
        return round(max(0.0, time.time() - (out / "run.json").stat().st_mtime), 1)
    except OSError:
        return None


def _last_error(rasters: list[RasterStatus]) -> str | None:
    return next((r.error for r in reversed(rasters) if r.state == "failed"), None)
