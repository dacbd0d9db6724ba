"""`status OUT`: where a run stands, told from its files alone, while it lives and after.

What is durable is counted from the ledgers and records, never from what the run says of itself; its
`status.json` adds what only it knows: rates, memory, what went wrong of late. Any of these files may
be missing, damaged or vanish while they are read; what is damaged is named, and the rest is told.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline import out_names
from pipeline.durable import ledger, lock, loose_json
from pipeline.durable.loose_json import Damaged, LooseJson
from pipeline.errors import UsageError

_STATES = ("running", "interrupted", "waiting", "done", "failed", "skipped")
_LEDGER_BYTES = 256 << 20  # of five million units: what is larger is not counted


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
    live = lock.alive(out)
    damaged: Damaged = {}
    heard = loose_json.read(out / out_names.PARTIAL / out_names.STATUS, damaged)
    kept = loose_json.read(out / out_names.RUN, damaged)
    if not live and not kept.value and not damaged and not (out / out_names.PARTIAL).is_dir():
        raise UsageError(f"{out}: no run here (neither run.json nor .partial); name the OUT of a run")
    looker = _Looker(out, heard, damaged, live=live)
    rasters = [looker.raster(entry, name) for entry, name in _named(kept)]
    unfinished = [r for r in rasters if r.state in ("running", "interrupted", "waiting")]
    word = "running" if live else "interrupted"
    if unfinished and all(r.state == "waiting" for r in unfinished):
        # in the fit, or between two rasters: the run is at work for the one that is next
        unfinished[0].state = word
        unfinished[0].stage = heard.text("phase") if live else None
    over = bool(rasters) and not unfinished
    ended = "failed" if any(r.state == "failed" for r in rasters) else "done"
    found = RunStatus(str(out), ended if over and not live else word, rasters)
    _add_heard(found, heard, live=live)
    found.last_error = heard.text("last_error") or _last_error(rasters)
    if over:
        found.verdict = kept.object("budget").text("verdict")
    if found.age_s is None:
        found.age_s = _file_age(out)
    found.damaged = [f"{path}: {what}" for path, what in damaged.items()]
    return found


class _Looker:
    """Tells each raster's state from its files and from what the run says."""

    def __init__(self, out: Path, heard: LooseJson, damaged: Damaged, *, live: bool) -> None:
        self._out = out
        self._damaged = damaged
        self._live = live
        self._rows = {name: row for row, name in _named(heard)}
        self._nothing = LooseJson(heard.path, damaged)
        self._failed = heard.object("failed")

    def raster(self, entry: LooseJson, name: str) -> RasterStatus:
        """The state of a raster of `run.json`."""
        row = self._rows.get(name, self._nothing)
        found = RasterStatus(
            name,
            "waiting",
            chunks=entry.count("chunks") or row.count("chunks"),
            pixels=entry.count("pixels") or row.count("pixels"),
            bad_chunks=self._bad_chunks(name, row),
        )
        kept = entry.text("state", among=_STATES)
        # the ledger is looked at before the record: it goes only when the record is there
        begun = (folder := self._out / out_names.PARTIAL / name).is_dir()
        if begun:
            found.chunks_done = self._chunks_done(folder / out_names.LEDGER, found.chunks)
        if self._is_done(entry, found, kept, under_way=bool(row.value)):
            return found
        if row.value and self._live:
            found.state = "running"
            found.stage = row.text("stage")
            found.mpx_per_s, found.eta_s = row.number("mpx_per_s"), row.number("eta_s")
        elif (error := self._failed.text(name)) or kept in ("failed", "skipped"):
            found.state = "failed" if error else str(kept)
            found.error = error or entry.text("error") or entry.text("reason")
        elif begun and not self._live:
            found.state = "interrupted"
        return found

    def _is_done(self, entry: LooseJson, found: RasterStatus, kept: str | None, *, under_way: bool) -> bool:
        """True if record and labels are there; fills in what the record knows."""
        path = self._out / f"{found.name}{out_names.RECORD_SUFFIX}"
        if kept == "done" and found.chunks is not None and (output := entry.name("output")) and path.exists():
            # ten thousand records need not be read for what run.json holds
            files, chunks = [output], found.chunks
        elif kept in ("failed", "skipped") and not under_way:
            return False  # the record, if any, is of an earlier run
        else:
            record = loose_json.read(path, self._damaged)
            files, chunks = record.names("files"), record.count("chunks") or 0
        if not files or not all((self._out / file).exists() for file in files):
            return False
        found.state, found.chunks_done, found.chunks = "done", chunks, chunks
        return True

    def _chunks_done(self, path: Path, chunks: int | None) -> int:
        try:
            if path.is_file() and path.stat().st_size > _LEDGER_BYTES:
                self._damaged[path] = f"larger than {_LEDGER_BYTES >> 20} MiB, not counted"
            elif path.exists() and not path.is_file():
                self._damaged[path] = "not a file"
            else:
                done = ledger.chunks_done(path)
                return done if chunks is None else min(done, chunks)
        except OSError as error:
            self._damaged[path] = f"cannot be read ({error.strerror})"
        return 0

    def _bad_chunks(self, name: str, row: LooseJson) -> int:
        listed = loose_json.read(self._out / f"{name}{out_names.BAD_SUFFIX}", self._damaged).objects(
            "features"
        )
        noted = 0
        with suppress(OSError), os.scandir(self._out / out_names.PARTIAL / name / out_names.BAD) as notes:
            noted = sum(note.name.endswith(".json") for note in notes)
        # a run that was taken up says nothing of those before it
        return max(len(listed), noted, row.count("bad_chunks") or 0)


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


def _add_heard(found: RunStatus, heard: LooseJson, *, live: bool) -> None:
    found.phase, found.host, found.run = heard.text("phase"), heard.text("host"), heard.text("run")
    found.started, found.pid = heard.text("started"), heard.count("pid")
    found.workers = heard.count("workers")
    found.age_s, found.idle_s = _age(heard.moment("updated")), _age(heard.moment("event_at"))
    found.memory_bytes, found.processes = heard.count("memory_bytes"), heard.count("processes")
    if live:
        batch = heard.object("batch")
        found.mpx_per_s, found.eta_s = batch.number("mpx_per_s"), batch.number("eta_s")


def _named(file: LooseJson) -> list[tuple[LooseJson, str]]:
    """The rasters of a file, with their names."""
    return [(one, name) for one in file.objects("rasters") if (name := one.name("name")) is not None]


def _age(moment: float | None) -> float | None:
    """Seconds since a moment that a run wrote down, by this machine's clock, which may be another's."""
    return None if moment is None else round(max(0.0, time.time() - moment), 1)


def _file_age(out: Path) -> float | None:
    try:
        return round(max(0.0, time.time() - (out / out_names.RUN).stat().st_mtime), 1)
    except OSError:
        return None


def _last_error(rasters: list[RasterStatus]) -> str | None:
    return next((r.error for r in reversed(rasters) if r.state == "failed"), None)
