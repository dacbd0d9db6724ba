"""What a run says while it works: events, and the ways to show them.

With ``--progress json`` each event is one JSON object on a line of stdout. Every object has `event`
and `time` (seconds since the run began); the others, by event:

==========  ==========================================================================================
event       fields
==========  ==========================================================================================
start       rasters, workers, dashboard (address or null)
open        done, total (files; now and then, before `start`, where there are many)
fit         done, total (cells, or windows of an exact fit), raster (name, or null for the batch)
codebook    codebook_hash, segments, raster (name, or null), cells_read, cells_total
raster      raster, chunks, chunk_px, pixels
progress    raster, chunks_done, chunks, mpx_per_s, eta_s, batch_done, batch_pixels, batch_eta_s
done        raster, output, seconds
skipped     raster, reason
failed      raster, error
verified    raster, ok (true or false)
warning     message
window      raster, stage (0: chunks; then overviews), row, col, height, width (pixels of the stage's
            first level), chunks, bad_chunks, read_s, label_s, encode_s, write_s
end         done, failed, skipped, seconds, mpx_per_s, budget (`pipeline.budget`)
==========  ==========================================================================================
"""

from __future__ import annotations

import json
import sys
import time
from typing import IO, Any, Protocol

from pipeline.errors import printable

_QUIET_S = 0.1
_PLAIN_EVERY_S = 5.0


class Progress(Protocol):
    """Hears of a run's events."""

    def event(self, name: str, **fields: Any) -> None:
        """Take one event."""
        ...

    def close(self) -> None:
        """End the display."""
        ...


def chosen(kind: str) -> Progress:
    """The display for a --progress option; `auto` is a bar on a terminal, else plain lines."""
    if kind == "auto":
        kind = "bar" if sys.stderr.isatty() else "plain"
    displays: dict[str, type[Any]] = {"bar": Bar, "plain": Plain, "json": JsonLines, "none": Silent}
    display: Progress = displays[kind]()
    return display


class Silent:
    """Shows nothing but failures and warnings."""

    def event(self, name: str, **fields: Any) -> None:
        """Take one event."""
        if name in ("failed", "warning"):
            print(_text(name, fields), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing to end."""


class Plain:
    """A line on stderr for what matters, and every few seconds for how far it is."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stderr
        self._last = time.monotonic()

    def event(self, name: str, **fields: Any) -> None:
        """Take one event."""
        now = time.monotonic()
        if name in ("progress", "fit", "open"):
            if now - self._last < _PLAIN_EVERY_S:
                return
        elif name in ("raster", "window"):
            return
        self._last = now
        if text := _text(name, fields):
            print(text, file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing to end."""


class JsonLines:
    """One JSON object a line on stdout; failures and warnings on stderr too."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stdout
        self._start = time.monotonic()

    def event(self, name: str, **fields: Any) -> None:
        """Take one event."""
        line = {"event": name, "time": round(time.monotonic() - self._start, 3), **fields}
        print(json.dumps(line), file=self._stream, flush=True)
        if name in ("failed", "warning"):
            print(_text(name, fields), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing to end."""


class Bar:
    """A live display on a terminal: the fit, the raster under way, the batch."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._console = Console(stderr=True)
        self._bars = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._rows: dict[str, Any] = {}
        self._bars.start()

    def event(self, name: str, **fields: Any) -> None:
        """Take one event."""
        if name in ("fit", "open"):
            what = "cells" if name == "fit" else "files"
            self._show(name, fields["done"], fields["total"], f"{fields['done']}/{fields['total']} {what}")
        elif name == "progress":
            note = f"{fields['chunks_done']}/{fields['chunks']} chunks  {fields['mpx_per_s']:.1f} Mpx/s"
            self._show(fields["raster"], fields["chunks_done"], fields["chunks"], note)
            self._show("all rasters", fields["batch_done"], fields["batch_pixels"], "")
        elif name in ("codebook", "done", "failed", "skipped", "start", "verified"):
            self._hide({"codebook": "fit", "start": "open"}.get(name) or fields["raster"])
        if name not in ("fit", "open", "progress", "raster", "window") and (text := _text(name, fields)):
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _show(self, row: str, done: int, total: int, note: str) -> None:
        if row not in self._rows:
            self._rows[row] = self._bars.add_task(row[:40], total=total, note=note)
        self._bars.update(self._rows[row], completed=done, total=total, note=note)

    def _hide(self, row: str) -> None:
        if row in self._rows:
            self._bars.remove_task(self._rows.pop(row))

    def close(self) -> None:
        """Take the bars off the screen."""
        self._bars.stop()


def _text(name: str, fields: dict[str, Any]) -> str:
    """An event as a line for people; "" for those that need none."""
    lines = {
        "start": "dashboard: {dashboard}" if fields.get("dashboard") else "",
        "open": "open: {done} of {total} files",
        "fit": "fit: {done} of {total}",
        "progress": "{raster}: {chunks_done} of {chunks} chunks, {mpx_per_s:.1f} Mpx/s, {eta_s:.0f} s left, "
        "{batch_eta_s:.0f} s for the batch",
        "done": "{raster}: done in {seconds:.1f} s: {output}",
        "skipped": "{raster}: {reason}",
        "failed": "{error}",
        "warning": "warning: {message}",
        "end": "{done} done, {failed} failed, {skipped} skipped in {seconds:.1f} s ({mpx_per_s:.1f} Mpx/s)",
    }
    if name == "codebook":
        where = f" for {fields['raster']}" if fields["raster"] else ""
        seen = (
            f" from {fields['cells_read']} of {fields['cells_total']} cells" if fields["cells_read"] else ""
        )
        return f"codebook {fields['codebook_hash'][:12]}{where}: {fields['segments']} segments{seen}"
    text = printable(lines.get(name, "").format(**fields))
    return f"{text}\ntime: {printable(fields['budget']['verdict'])}" if name == "end" else text
