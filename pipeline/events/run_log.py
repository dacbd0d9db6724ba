"""`OUT/run.log.jsonl`: what happened, one JSON object a line, over all runs of one OUT.

Every object has `time` (UTC, milliseconds), `level` (debug, info, warning, error), `event` and `run`
(the same for all lines of one run); the others are the event's fields (`pipeline.events.kinds`). A crash
tears at most one line, which is no JSON then; readers pass over it.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import out_names
from pipeline.durable.files import open_handle, read_at
from pipeline.events.kinds import (
    Event,
    FilesOpened,
    FitAdvanced,
    RasterAdvanced,
    RasterFailed,
    RasterStarted,
    RunAborted,
    Warned,
    WindowDone,
    Working,
)
from pipeline.events.observer import Observer

LIMIT_BYTES = 256 << 20

_LEVELS: dict[type[Event], str] = {
    WindowDone: "debug",
    RasterAdvanced: "debug",
    FitAdvanced: "debug",
    FilesOpened: "debug",
    Working: "debug",
    Warned: "warning",
    RasterFailed: "error",
    RunAborted: "error",
}
# these come by the hundred and say little more than the one before: one of a kind is logged in this time
_SELDOM = (FilesOpened, FitAdvanced, RasterAdvanced)
_SELDOM_S = 1.0


def now_text() -> str:
    """The time in UTC, as ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class RunLog(Observer):
    """The log of one run, appended to what is there; its events come one at a time.

    Nothing that goes wrong here ends a run: lines that cannot be written are lost, and later ones are
    tried again.

    Parameters
    ----------
    out
        The folder of outputs.
    run
        Identifies the run.
    limit
        Bytes after which the log becomes `run.log.jsonl.1`, in the place of the former one.
    """

    def __init__(self, out: Path, run: str, limit: int = LIMIT_BYTES) -> None:
        self._path = out / out_names.LOG
        self._run = run
        self._limit = limit
        self._handle = -1
        self._size = 0
        self._torn = False
        self._logged: dict[type[Event], float] = {}
        self._chunk_px: dict[str, int] = {}

    def event(self, event: Event) -> None:
        """Append an event, if one like it was not logged just now."""
        kind = type(event)
        if isinstance(event, _SELDOM):
            if time.monotonic() - self._logged.get(kind, float("-inf")) < _SELDOM_S:
                return
            self._logged[kind] = time.monotonic()
        level = _LEVELS.get(kind, "info")
        line = {"time": now_text(), "level": level, "event": event.name, "run": self._run}
        data = json.dumps({**line, **self._fields(event)}, default=str).encode() + b"\n"
        try:
            self._append(data)
        except OSError:
            self.close()

    def _fields(self, event: Event) -> dict[str, Any]:
        """The event's own fields, and which chunks a window holds."""
        if isinstance(event, RasterStarted):
            self._chunk_px[event.raster] = event.chunk_px
        if isinstance(event, WindowDone) and event.stage == 0:
            return {**event.as_json(), "chunk_ids": chunk_ids(event, self._chunk_px[event.raster])}
        return event.as_json()

    def _append(self, data: bytes) -> None:
        if self._size + len(data) > self._limit and self._size:
            self.close()
            self._path.replace(self._path.with_name(f"{out_names.LOG}.1"))
        if self._handle < 0:
            self._open()
        # a line that was cut off is ended, so that it takes no other with it
        data = b"\n" + data if self._torn else data
        self._torn = True
        written = os.write(self._handle, data)
        self._size += written
        self._torn = written < len(data)

    def _open(self) -> None:
        self._handle = open_handle(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._size = os.fstat(self._handle).st_size
        self._torn = self._size > 0 and read_at(self._handle, 1, self._size - 1) != b"\n"

    def close(self) -> None:
        """Close the file; the next event opens it again."""
        handle, self._handle = self._handle, -1
        self._size = 0
        if handle >= 0:
            with contextlib.suppress(OSError):
                os.close(handle)


def chunk_ids(window: WindowDone, chunk_px: int) -> list[list[int]]:
    """[row, column] of each chunk of `chunk_px` pixels in a window."""
    rows, cols = (
        range(start // chunk_px, -(-(start + length) // chunk_px))
        for start, length in ((window.row, window.height), (window.col, window.width))
    )
    return [[row, col] for row in rows for col in cols]
