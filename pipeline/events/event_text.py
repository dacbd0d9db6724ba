"""Events as lines for people."""

from __future__ import annotations

from pipeline.errors import printable
from pipeline.events import kinds


def text_of(event: kinds.Event) -> str:
    """An event as a line for people (two for the end of a run); "" for events that need none."""
    match event:
        case kinds.RunStarted():
            text = f"dashboard: {event.dashboard}" if event.dashboard else ""
        case kinds.FilesOpened():
            text = f"open: {event.done} of {event.total} files"
        case kinds.FitAdvanced():
            text = f"fit: {event.done} of {event.total}"
        case kinds.CodebookChosen():
            text = _codebook_text(event)
        case kinds.RasterEvent():
            text = _raster_text(event)
        case kinds.Warned():
            text = f"warning: {event.message}"
        case kinds.RunEnded():
            return f"{_end_text(event)}\ntime: {printable(event.budget['verdict'])}"
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
