"""`status OUT`: where a run stands, told from its files alone, while it lives and after.

What is durable is counted from the ledgers and records, never from what the run says of itself; its
`status.json` adds what only it knows: rates, memory, what went wrong of late. Any of these files may
be missing, damaged or vanish while they are read; what is damaged is named, and the rest is told.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pipeline import out_names
from pipeline.commands.status.run_status import STATES, RasterStatus, RunStatus
from pipeline.durable import ledger, lock, loose_json
from pipeline.durable.loose_json import Damaged, LooseJson
from pipeline.errors import UsageError

_LEDGER_BYTES = 256 << 20  # of five million units: what is larger is not counted


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
        kept = entry.text("state", among=STATES)
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
            chunks = found.chunks if (self._out / output).exists() else None
        elif kept in ("failed", "skipped") and not under_way:
            return False  # the record, if any, is of an earlier run
        else:
            from pipeline.out.record import chunks_done  # its models take a while, and are seldom needed

            chunks = chunks_done(self._out, found.name, self._damaged)
        if chunks is None:
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
