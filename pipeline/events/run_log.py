"""`OUT/run.log.jsonl`: what happened, one JSON object a line, over all runs of one OUT.

Every object has `time` (UTC, milliseconds), `level` (debug, info, warning, error), `event` and `run`
(the same for all lines of one run); the others are the event's fields (`pipeline.progress`; `error` is
what ended a run early, with its traceback where that was not foreseen). What is
torn by a crash is one line, which is no JSON; readers pass over it.
"""

from __future__ import annotations

import contextlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import out_names
from pipeline.durable.files import open_handle, read_at

LIMIT_BYTES = 256 << 20

_LEVELS = {
    "window": "debug",
    "progress": "debug",
    "fit": "debug",
    "open": "debug",
    "warning": "warning",
    "failed": "error",
    "error": "error",
}


def now_text() -> str:
    """The time in UTC, as ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class RunLog:
    """The log of one run, appended to what is there.

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

    def add(self, event: str, fields: dict[str, Any]) -> None:
        """Append an event."""
        line = {"time": now_text(), "level": _LEVELS.get(event, "info"), "event": event, "run": self._run}
        data = json.dumps({**line, **fields}, default=str).encode() + b"\n"
        try:
            self._append(data)
        except OSError:
            self.close()

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
