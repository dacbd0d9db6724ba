"""The ways to show the events of a run (`--progress`)."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import IO, Any

from pipeline.events.event_text import Lines, text_of
from pipeline.events.kinds import (
    CodebookChosen,
    Event,
    FilesOpened,
    FitAdvanced,
    RasterAdvanced,
    RasterEvent,
    RasterFailed,
    RasterStarted,
    RunStarted,
    Warned,
    WindowDone,
    Working,
)
from pipeline.events.observer import Observer

_PLAIN_FIRST_S = 2.0
_PLAIN_EVERY_S = 5.0
_TICK_S = 0.25


def chosen(kind: str) -> Observer:
    """The display for a --progress option; `auto` is a bar on a terminal, else plain lines."""
    if kind == "auto":
        kind = "bar" if sys.stderr.isatty() else "plain"
    displays: dict[str, type[Any]] = {"bar": Bar, "plain": Plain, "json": JsonLines, "none": Silent}
    display: Observer = displays[kind]()
    return display


class Silent(Observer):
    """Shows nothing but failures and warnings."""

    def event(self, event: Event) -> None:
        """Show a failure or a warning."""
        if isinstance(event, RasterFailed | Warned):
            print(text_of(event), file=sys.stderr, flush=True)


class Plain(Observer):
    """A line on stderr for what matters, and for how far it is: after 2 s without a line, then every 5 s."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lines = Lines()
        self._lock = threading.Lock()
        self._since = time.monotonic()
        self._shown: type[Event] | None = None
        self._waiting: Event | None = None
        self._over = threading.Event()
        # what is under way may send no event for long
        self._thread = threading.Thread(target=self._keep_looking, name="tilewright-lines", daemon=True)
        self._thread.start()

    def event(self, event: Event) -> None:
        """Print the line of an event, if it has one, now or when its turn comes."""
        with self._lock:
            match event:
                case RasterStarted() | WindowDone():
                    return
                case RasterAdvanced() | FitAdvanced() | FilesOpened():
                    self._waiting = event
                case Working():
                    self._waiting = event
                    self._since = time.monotonic()
                    self._shown = None
                case _:
                    self._waiting = None
                    self._print(event)
                    self._shown = None
        self.tick()

    def tick(self) -> None:
        """Print how far it is, if that is due."""
        with self._lock:
            if (event := self._waiting) is None:
                return
            pause = _PLAIN_EVERY_S if self._shown is type(event) else _PLAIN_FIRST_S
            if time.monotonic() - self._since >= pause:
                self._waiting = None
                self._shown = type(event)
                self._print(event)

    def _print(self, event: Event) -> None:
        self._since = time.monotonic()
        for line in self._lines.of(event):
            print(line, file=self._stream, flush=True)

    def _keep_looking(self) -> None:
        while not self._over.wait(_TICK_S):
            self.tick()

    def close(self) -> None:
        """Print nothing any more."""
        self._over.set()
        self._thread.join()


class JsonLines(Observer):
    """One JSON object a line on stdout; failures and warnings on stderr too."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stdout
        self._start = time.monotonic()
        self._beside = Silent()

    def event(self, event: Event) -> None:
        """Print the object of an event; what has no figures is for people."""
        if isinstance(event, Working):
            return
        seconds = round(time.monotonic() - self._start, 3)
        line = {"event": event.name, "time": seconds, **event.as_json()}
        print(json.dumps(line), file=self._stream, flush=True)
        self._beside.event(event)


class Bar(Observer):
    """A live display on a terminal: the fit, the raster under way, the batch."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._rows: dict[str, Any] = {}
        self._working: str | None = None
        self._lines = Lines()
        self._bars.start()

    def event(self, event: Event) -> None:
        """Move the bars, and print the line of an event that has one."""
        self._hide(self._working)
        self._working = None
        match event:
            case Working(what=what):
                self._working = what
                self._show(what, 0, None, "")
            case FitAdvanced(done=done, total=total):
                self._show("fit", done, total, f"{done}/{total} cells")
            case FilesOpened(done=done, total=total):
                self._show("open", done, total, f"{done}/{total} files")
            case RasterAdvanced(chunks_done=done, chunks=total):
                self._show(event.raster, done, total, f"{done}/{total} chunks  {event.mpx_per_s:.1f} Mpx/s")
                self._show("all rasters", event.batch_done, event.batch_pixels, "")
            case RasterStarted() | WindowDone():
                pass
            case _:
                self._hide(_row_that_ends(event))
                for line in self._lines.of(event):
                    self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _show(self, row: str, done: float, total: int | None, note: str) -> None:
        if row not in self._rows:
            self._rows[row] = self._bars.add_task(row[:40], total=total, note=note)
        self._bars.update(self._rows[row], completed=done, total=total, note=note)

    def _hide(self, row: str | None) -> None:
        if row in self._rows:
            self._bars.remove_task(self._rows.pop(row))

    def close(self) -> None:
        """Take the bars off the screen."""
        self._bars.stop()


def _row_that_ends(event: Event) -> str | None:
    """The row of the display that an event makes superfluous, or None."""
    match event:
        case RunStarted():
            return "open"
        case CodebookChosen():
            return "fit"
        case RasterEvent():
            return event.raster
    return None
