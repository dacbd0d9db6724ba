"""Where a run stands, folded from its events: what `status.json` and the metrics show."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from typing import Any

from pipeline.events.run_log import now_text

STATES = ("waiting", "running", "done", "failed", "skipped")
_RATE_S = 60.0  # a rate is that of the last minute: chunks and machines differ
_FAILED_KEPT = 1000  # run.json has all
_SECONDS = ("read_s", "label_s", "encode_s", "write_s")


class LiveState:
    """Hears of events, from any thread; gives the run's standing at any moment.

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
        self._rasters: dict[str, dict[str, Any]] = {}
        self._failed: dict[str, str] = {}
        self._counts = {"rasters": 0, "done": 0, "failed": 0, "skipped": 0}
        self._totals = {"windows": 0, "chunks": 0, "bad_chunks": 0, **dict.fromkeys(_SECONDS, 0.0)}
        self._pixels_done = 0
        self._pixels = 0
        self._marks: deque[tuple[float, int]] = deque()

    def event(self, name: str, fields: dict[str, Any]) -> None:
        """Take one event; those that say nothing of the standing are passed over."""
        with self._lock:
            self._event_at = now_text()
            if (take := getattr(self, f"_on_{name}", None)) is not None:
                take(**fields)

    def _on_start(self, rasters: int, workers: int, **_: Any) -> None:
        self._counts["rasters"] = rasters
        self._workers = workers

    def _on_fit(self, done: int, total: int, raster: str | None, **_: Any) -> None:
        self._phase = "fit"
        self._fit = {"done": done, "total": total, "raster": raster}

    def _on_codebook(self, **_: Any) -> None:
        self._fit = None
        self._phase = "map"

    def _on_raster(self, raster: str, chunks: int, pixels: int, **_: Any) -> None:
        self._phase = "map"
        self._rasters[raster] = {
            "name": raster,
            "state": "running",
            "stage": "label",
            "chunks_done": 0,
            "chunks": chunks,
            "pixels": pixels,
            "bad_chunks": 0,
            "mpx_per_s": None,
            "eta_s": None,
        }

    def _on_window(self, raster: str, stage: int, chunks: int, **fields: Any) -> None:
        self._totals["windows"] += 1
        if stage == 0:
            self._totals["chunks"] += chunks
        for name in _SECONDS:
            self._totals[name] += fields.get(name, 0.0)
        bad = fields.get("bad_chunks", 0)
        self._totals["bad_chunks"] += bad
        if (row := self._rasters.get(raster)) is not None:
            row["bad_chunks"] += bad
            row["stage"] = "overviews" if stage else row["stage"]

    def _on_progress(self, raster: str, batch_done: int, batch_pixels: int, **fields: Any) -> None:
        if (row := self._rasters.get(raster)) is not None:
            row.update({k: fields[k] for k in ("chunks_done", "chunks", "mpx_per_s", "eta_s")})
            if row["chunks_done"] >= row["chunks"]:
                row["stage"] = "overviews"
        self._pixels_done, self._pixels = batch_done, batch_pixels
        now = time.monotonic()
        # a mark a second is enough
        if not self._marks or now - self._marks[-1][0] >= 1:
            self._marks.append((now, batch_done))
        while len(self._marks) > 2 and now - self._marks[1][0] > _RATE_S:
            self._marks.popleft()

    def _on_done(self, raster: str, **_: Any) -> None:
        self._ended(raster, "done")

    def _on_skipped(self, raster: str, **_: Any) -> None:
        self._ended(raster, "skipped")

    def _on_failed(self, raster: str, error: str, **_: Any) -> None:
        self._ended(raster, "failed")
        self._last_error = error
        self._failed[raster] = error
        if len(self._failed) > _FAILED_KEPT:
            del self._failed[next(iter(self._failed))]

    def _on_error(self, error: str, **_: Any) -> None:
        self._last_error = error

    def _on_end(self, **_: Any) -> None:
        self._phase = "end"

    def _ended(self, raster: str, state: str) -> None:
        self._counts[state] += 1
        self._rasters.pop(raster, None)

    def snapshot(self) -> dict[str, Any]:
        """The standing now: plain values, a copy."""
        with self._lock:
            rate = self._rate()
            left = self._pixels - self._pixels_done
            finishing = self._rasters and all(r["stage"] != "label" for r in self._rasters.values())
            return {
                **self._head,
                "phase": "finish" if self._phase == "map" and finishing else self._phase,
                "updated": now_text(),
                "event_at": self._event_at,
                "workers": self._workers,
                "fit": self._fit,
                "rasters": [dict(row) for row in self._rasters.values()],
                "counts": dict(self._counts),
                "batch": {
                    "pixels_done": self._pixels_done,
                    "pixels": self._pixels,
                    "mpx_per_s": None if rate is None else round(rate / 1e6, 2),
                    "eta_s": round(left / rate, 1) if rate else None,
                },
                "totals": {k: round(v, 3) for k, v in self._totals.items()},
                "failed": dict(self._failed),
                "last_error": self._last_error,
            }

    def _rate(self) -> float | None:
        """Pixels a second of late, up to now: a run that stalls slows down; None before two marks."""
        if len(self._marks) < 2:
            return None
        then, before = self._marks[0]
        return (self._pixels_done - before) / max(1e-6, time.monotonic() - then)
