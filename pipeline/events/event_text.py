"""Events as lines for people."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.errors import printable
from pipeline.events import kinds

DONE_ALREADY = "done already"
"""Why a raster is skipped that an earlier run has done."""

_MOST_LISTED = 20
_NOT_KEPT = "for no folder can be written that keeps it (name one in NUMBA_CACHE_DIR)"


class Lines:
    """Lines for people: rasters that were done before are one line, and what failed is listed at the end."""

    def __init__(self) -> None:
        self._skipped: list[kinds.Event] = []
        self._failed: list[str] = []

    def of(self, event: kinds.Event) -> Iterator[str]:
        """The lines of an event, after those that waited for it."""
        if isinstance(event, kinds.RasterSkipped) and event.reason == DONE_ALREADY:
            self._skipped.append(event)
            return
        if len(self._skipped) > 1:
            yield f"{len(self._skipped)} rasters: {DONE_ALREADY}"
        else:
            yield from map(text_of, self._skipped)
        self._skipped.clear()
        if text := text_of(event):
            yield text
        if isinstance(event, kinds.RasterFailed):
            self._failed.append(text)
        if isinstance(event, kinds.RunEnded) and self._failed and event.failed + event.done > 1:
            yield f"failed: {len(self._failed)}"
            yield from (f"  {text}" for text in self._failed[:_MOST_LISTED])
            if (more := len(self._failed) - _MOST_LISTED) > 0:
                yield f"  and {more} more (run.json has all)"


def text_of(event: kinds.Event) -> str:
    """An event as a line for people (two for the end of a run); "" for events that need none."""
    match event:
        case kinds.RunStarted():
            text = f"dashboard: {event.dashboard}" if event.dashboard else ""
        case kinds.Working():
            text = f"{event.what} ..."
        case kinds.FilesOpened():
            text = f"open: {event.done} of {event.total} files"
        case kinds.Compiling():
            when = "the first run only" if event.kept else f"each run, {_NOT_KEPT}"
            text = f"compiling for this processor: some seconds, in {when}"
        case kinds.FitAdvanced():
            text = f"fit: {event.done} of {event.total}"
        case kinds.CodebookChosen():
            text = _codebook_text(event)
        case kinds.RasterEvent():
            text = _raster_text(event)
        case kinds.Warned():
            text = f"warning: {event.message}"
        case kinds.RunEnded():
            time = f"\ntime: {printable(event.budget['verdict'])}" if event.done else ""
            return _end_text(event) + time
        case _:
            text = ""
    return printable(text)


def _raster_text(event: kinds.RasterEvent) -> str:
    match event:
        case kinds.RasterAdvanced():
            return (
                f"{event.raster}: {event.chunks_done} of {event.chunks} chunks, {event.mpx_per_s:.1f} Mpx/s, "
                f"{event.eta_s:.0f} s left, {event.batch_eta_s:.0f} s for the batch"
            )
        case kinds.RasterDone():
            return f"{event.raster}: done in {event.seconds:.1f} s: {event.output}"
        case kinds.RasterSkipped():
            return f"{event.raster}: {event.reason}"
        case kinds.RasterFailed():
            return event.error
    return ""


def _codebook_text(event: kinds.CodebookChosen) -> str:
    raster = f" for {event.raster}" if event.raster else ""
    cells = f" from {event.cells_read} of {event.cells_total} cells" if event.cells_read else ""
    return f"codebook {event.codebook_hash[:12]}{raster}: {event.segments} segments{cells}"


def _end_text(event: kinds.RunEnded) -> str:
    counts = f"{event.done} done, {event.failed} failed, {event.skipped} skipped"
    return f"{counts} in {event.seconds:.1f} s ({event.mpx_per_s:.1f} Mpx/s)"
