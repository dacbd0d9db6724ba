"""Where a run stands, folded from its events: what `status.json` and the metrics show."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.events import kinds
from pipeline.events.observer import Observer
from pipeline.events.run_log import now_text

STATES = ("waiting", "running", "done", "failed", "skipped")
_RATE_S = 60.0  # a rate is that of the last minute: chunks and machines differ
_FAILED_KEPT = 1000  # run.json has all


@dataclass
class _RasterState:
    """A raster under way, as `status.json` shows it."""

    name: str
    state: str
    stage: str
    chunks_done: int
    chunks: int
    pixels: int
    bad_chunks: int = 0
    mpx_per_s: float | None = None
    eta_s: float | None = None


@dataclass
class _Totals:
    """Sums over the windows that this run has done."""

    windows: int = 0
    chunks: int = 0
    bad_chunks: int = 0
    read_s: float = 0.0
    label_s: float = 0.0
    encode_s: float = 0.0
    write_s: float = 0.0

    def add(self, window: kinds.WindowDone) -> None:
        """Count a window; only those of stage 0 hold chunks that are done."""
        self.windows += 1
        self.chunks += 0 if window.stage else window.chunks
        self.bad_chunks += window.bad_chunks
        self.read_s += window.read_s
        self.label_s += window.label_s
        self.encode_s += window.encode_s
        self.write_s += window.write_s


@dataclass
class _Batch:
    """Pixels of all rasters, and how fast they have been done in the last minute."""

    done: float = 0
    pixels: int = 0
    _marks: deque[tuple[float, float]] = field(default_factory=deque, init=False)

    def advance(self, done: float, pixels: int) -> None:
        """Take how many pixels are done by now, and of how many."""
        self.done, self.pixels = done, pixels
        now = time.monotonic()
        # a mark a second is enough
        if not self._marks or now - self._marks[-1][0] >= 1:
            self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[1][0] > _RATE_S:
            self._marks.popleft()

    @property
    def rate(self) -> float | None:
        """Pixels a second in the last minute, up to now, so that a stall lowers it; None before two marks."""
        if len(self._marks) < 2:
            return None
        then, before = self._marks[0]
        return (self.done - before) / max(1e-6, time.monotonic() - then)

    def snapshot(self) -> dict[str, Any]:
        """The figures now."""
        rate = self.rate
        return {
            "pixels_done": self.done,
            "pixels": self.pixels,
            "mpx_per_s": None if rate is None else round(rate / 1e6, 2),
            "eta_s": round((self.pixels - self.done) / rate, 1) if rate else None,
        }


class LiveState(Observer):
    """Hears of events, from any thread; returns where the run stands at any moment.

    Parameters
    ----------
    run
        Identifies the run.
    """

    def __init__(self, run: str) -> None:
        self._lock = threading.Lock()
        self._head = {"run": run, "pid": os.getpid(), "host": socket.gethostname(), "started": now_text()}
        self._phase = "open"
        self._workers = 0
        self._event_at = now_text()
        self._last_error: str | None = None
        self._fit: dict[str, Any] | None = None
        self._rasters: dict[str, _RasterState] = {}
        self._failed: dict[str, str] = {}
        self._counts = {"rasters": 0, "done": 0, "failed": 0, "skipped": 0}
        self._totals = _Totals()
        self._batch = _Batch()

    def event(self, event: kinds.Event) -> None:
        """Take one event; those that say nothing of where the run stands change nothing."""
        with self._lock:
            self._event_at = now_text()
            match event:
                case kinds.RunStarted():
                    self._counts["rasters"] = event.rasters
                    self._workers = event.workers
                case kinds.FitAdvanced():
                    self._phase = "fit"
                    self._fit = event.as_json()
                case kinds.CodebookChosen():
                    self._fit = None
                    self._phase = "map"
                case kinds.RunAborted():
                    self._last_error = event.error
                case kinds.RunEnded():
                    self._phase = "end"
                case kinds.RasterEvent():
                    self._raster_event(event)

    def _raster_event(self, event: kinds.RasterEvent) -> None:
        match event:
            case kinds.RasterStarted(raster=name):
                self._phase = "map"
                self._rasters[name] = _RasterState(name, "running", "label", 0, event.chunks, event.pixels)
            case kinds.WindowDone():
                self._window_done(event)
            case kinds.RasterAdvanced():
                self._advanced(event)
            case kinds.RasterDone():
                self._ended(event, "done")
            case kinds.RasterSkipped():
                self._ended(event, "skipped")
            case kinds.RasterFailed():
                self._ended(event, "failed")
                self._last_error = event.error
                self._failed[event.raster] = event.error
                if len(self._failed) > _FAILED_KEPT:
                    del self._failed[next(iter(self._failed))]

    def _window_done(self, window: kinds.WindowDone) -> None:
        self._totals.add(window)
        if (raster := self._rasters.get(window.raster)) is not None:
            raster.bad_chunks += window.bad_chunks
            raster.stage = "overviews" if window.stage else raster.stage

    def _advanced(self, event: kinds.RasterAdvanced) -> None:
        if (raster := self._rasters.get(event.raster)) is not None:
            raster.chunks_done, raster.chunks = event.chunks_done, event.chunks
            raster.mpx_per_s, raster.eta_s = event.mpx_per_s, event.eta_s
            if raster.chunks_done >= raster.chunks:
                raster.stage = "overviews"
        self._batch.advance(event.batch_done, event.batch_pixels)

    def _ended(self, event: kinds.RasterEvent, state: str) -> None:
        self._counts[state] += 1
        self._rasters.pop(event.raster, None)

    def snapshot(self) -> dict[str, Any]:
        """Where the run stands now: plain values, a copy."""
        with self._lock:
            finishing = self._rasters and all(r.stage != "label" for r in self._rasters.values())
            return {
                **self._head,
                "phase": "finish" if self._phase == "map" and finishing else self._phase,
                "updated": now_text(),
                "event_at": self._event_at,
                "workers": self._workers,
                "fit": self._fit,
                "rasters": [asdict(raster) for raster in self._rasters.values()],
                "counts": dict(self._counts),
                "batch": self._batch.snapshot(),
                "totals": {name: round(total, 3) for name, total in asdict(self._totals).items()},
                "failed": dict(self._failed),
                "last_error": self._last_error,
            }
