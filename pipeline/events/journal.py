"""A run's journal: shows its events, logs them, and keeps `OUT/.partial/status.json` fresh."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from pipeline import out_names
from pipeline.errors import TilewrightError, one_line
from pipeline.events.kinds import Event, RunAborted
from pipeline.events.live_state import LiveState
from pipeline.events.metrics import Metrics
from pipeline.events.observer import Observer, Observers
from pipeline.events.run_log import RunLog

_EVERY_S = 1.0


class Journal(Observer):
    """Passes events on to a display, and keeps log, status file and metrics.

    Leave it (as a context) before the folder of work in progress is deleted: it writes there till
    then. Nothing that it cannot write ends the run.

    Parameters
    ----------
    display
        Shows the events; whoever made it closes it.
    out
        The folder of outputs, which is this run's by now.
    """

    def __init__(self, display: Observer, out: Path) -> None:
        run = secrets.token_hex(6)
        self._display = display
        self._path = out / out_names.PARTIAL / out_names.STATUS
        self._state = LiveState(run)
        self._own = Observers(self._state, Metrics(self.snapshot), RunLog(out, run))
        self._lock = threading.Lock()
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

    def event(self, event: Event) -> None:
        """Note one event, then show it."""
        self._note(event)
        self._display.event(event)

    def close(self) -> None:
        """Write the last status, and nothing more after that."""
        if not self._over.is_set():
            self._over.set()
            self._thread.join()
            self._write()
            self._own.close()

    def _note(self, event: Event) -> None:
        with self._lock:
            self._own.event(event)

    def _note_error(self, error: BaseException) -> None:
        trace = None
        text = one_line(error)
        if not isinstance(error, TilewrightError):
            text = f"{type(error).__name__}: {text}"
            if isinstance(error, Exception):
                trace = "".join(traceback.format_exception(error))
        self._note(RunAborted(text, trace))

    def snapshot(self) -> dict[str, Any]:
        """Where the run stands, with its memory."""
        return {**self._state.snapshot(), **self._memory}

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
