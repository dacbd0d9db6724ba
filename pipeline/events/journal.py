"""A run's journal: shows its events, logs them, and keeps `OUT/.partial/status.json` fresh."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from pipeline import out_names
from pipeline.errors import TilewrightError, one_line
from pipeline.events.live_state import LiveState
from pipeline.events.progress import Progress
from pipeline.events.run_log import RunLog

_EVERY_S = 1.0
# what comes by the hundred and says little more than the one before
_NOW_AND_THEN = frozenset({"open", "fit", "progress"})


class Journal:
    """A `Progress` that passes events on to a display, and keeps log, status file and metrics.

    Leave it (as a context) before the folder of work in progress is deleted: it writes there till
    then. Nothing that it cannot write ends the run.

    Parameters
    ----------
    display
        Shows the events; it stays its maker's to close.
    out
        The folder of outputs, which is this run's by now.
    """

    def __init__(self, display: Progress, out: Path) -> None:
        run = secrets.token_hex(6)
        self._display = display
        self._log = RunLog(out, run)
        self._path = out / out_names.PARTIAL / out_names.STATUS
        self._standing = LiveState(run)
        self._lock = threading.Lock()
        self._logged = dict.fromkeys(_NOW_AND_THEN, float("-inf"))
        self._chunk_px: dict[str, int] = {}
        self._stack = contextlib.ExitStack()
        self._memory: dict[str, int] = {"memory_bytes": 0, "memory_peak_bytes": 0, "processes": 0}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_fresh, name="tilewright-status", daemon=True)

    def __enter__(self) -> Self:
        self._write()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._note_error(error)
        self.close()

    def event(self, name: str, **fields: Any) -> None:
        """Take one event."""
        with self._lock:
            self._take(name, fields)
        self._display.event(name, **fields)

    def close(self) -> None:
        """Write the last status, and nothing more after that."""
        if not self._over.is_set():
            self._over.set()
            self._thread.join()
            self._write()
            self._stack.close()
            self._log.close()

    def _take(self, name: str, fields: dict[str, Any]) -> None:
        self._standing.event(name, fields)
        if name == "start" and fields.get("dashboard"):
            from pipeline.events import metrics

            self._stack.enter_context(metrics.served(self.snapshot))
        elif name == "raster":
            self._chunk_px[fields["raster"]] = fields["chunk_px"]
        elif name == "window" and fields["stage"] == 0:
            fields = {**fields, "chunk_ids": chunk_ids(fields, self._chunk_px[fields["raster"]])}
        if name in _NOW_AND_THEN:
            if time.monotonic() - self._logged[name] < _EVERY_S:
                return
            self._logged[name] = time.monotonic()
        self._log.add(name, fields)

    def _note_error(self, error: BaseException) -> None:
        fields: dict[str, Any] = {"error": f"{type(error).__name__}: {one_line(error)}"}
        if isinstance(error, TilewrightError):
            fields = {"error": one_line(error)}
        elif isinstance(error, Exception):
            fields["traceback"] = "".join(traceback.format_exception(error))
        with self._lock:
            self._take("error", fields)

    def snapshot(self) -> dict[str, Any]:
        """Where the run stands, with its memory."""
        return {**self._standing.snapshot(), **self._memory}

    def _keep_fresh(self) -> None:
        while not self._over.wait(_EVERY_S):
            self._write()

    def _write(self) -> None:
        """Replace the status file: whole for every reader, but not made to outlast a power cut."""
        self._measure()
        part = self._path.with_name(f".{out_names.STATUS}.part")
        with contextlib.suppress(OSError):
            part.write_text(json.dumps(self.snapshot(), default=str), encoding="utf-8")
            part.replace(self._path)

    def _measure(self) -> None:
        """Resident bytes of this process and its children; pages that they share count for each."""
        total = count = 0
        with contextlib.suppress(psutil.Error, OSError):
            me = psutil.Process()
            for process in (me, *me.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    total += process.memory_info().rss
                    count += 1
        peak = max(total, self._memory["memory_peak_bytes"])
        self._memory = {"memory_bytes": total, "memory_peak_bytes": peak, "processes": count}


def chunk_ids(window: dict[str, Any], chunk_px: int) -> list[list[int]]:
    """[row, column] of each chunk in a window of pixels."""
    rows, cols = (
        range(window[start] // chunk_px, -(-(window[start] + window[length]) // chunk_px))
        for start, length in (("row", "height"), ("col", "width"))
    )
    return [[row, col] for row in rows for col in cols]
