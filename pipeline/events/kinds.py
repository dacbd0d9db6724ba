"""The events of a run, typed: what each is called in files and on stdout, and what its fields mean.

With ``--progress json`` each event is one JSON object on a line of stdout: `event` (its name), `time`
(seconds since the run began), then the fields of its class below, in their order. The lines of
`run.log.jsonl` hold the same fields.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a run; `name` is what files and programs know it by."""

    name: ClassVar[str]

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values, in their order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """A run began.

    Parameters
    ----------
    rasters, workers
        Number of rasters, and of tasks at a time.
    dashboard
        Address of Dask's dashboard, or None.
    """

    name: ClassVar[str] = "start"
    rasters: int
    workers: int
    dashboard: str | None


@dataclass(frozen=True, slots=True)
class Working(Event):
    """Something begins that may take seconds and has no figures yet; displays show it if it does.

    Parameters
    ----------
    what
        In words.
    """

    name: ClassVar[str] = "working"
    what: str


@dataclass(frozen=True, slots=True)
class FilesOpened(Event):
    """Some files were opened; comes now and then, before `start`, where there are many.

    Parameters
    ----------
    done, total
        Number of files.
    """

    name: ClassVar[str] = "open"
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Compiling(Event):
    """Loops are compiled for this processor; comes once, in the first run of an installation or version.

    Parameters
    ----------
    kept
        False if no folder can be written to keep the code in, so that it comes in each run.
    """

    name: ClassVar[str] = "compile"
    kept: bool = True


@dataclass(frozen=True, slots=True)
class FitAdvanced(Event):
    """A fit has looked at more of its sample.

    Parameters
    ----------
    done, total
        Number of cells, or of windows in an exact fit.
    raster
        Name of the raster whose codebook is fitted, or None for that of the batch.
    """

    name: ClassVar[str] = "fit"
    done: int
    total: int
    raster: str | None


@dataclass(frozen=True, slots=True)
class CodebookChosen(Event):
    """A codebook was fitted, or one that existed is used.

    Parameters
    ----------
    codebook_hash, segments
        Hash of its content, and number of its segments.
    raster
        Name of the raster that it is for, or None for all of the batch.
    cells_read, cells_total
        Cells that its fit looked at, of how many; None where the codebook does not say.
    """

    name: ClassVar[str] = "codebook"
    codebook_hash: str
    segments: int
    raster: str | None
    cells_read: int | None
    cells_total: int | None


@dataclass(frozen=True, slots=True)
class RasterEvent(Event):
    """Something that happened to one raster.

    Parameters
    ----------
    raster
        Name of its outputs.
    """

    raster: str


@dataclass(frozen=True, slots=True)
class RasterStarted(RasterEvent):
    """The first task of a raster can be submitted.

    Parameters
    ----------
    chunks, chunk_px
        Number of its chunks, and their side in pixels.
    pixels
        Number of pixels to label.
    """

    name: ClassVar[str] = "raster"
    chunks: int
    chunk_px: int
    pixels: int


@dataclass(frozen=True, slots=True)
class RasterAdvanced(RasterEvent):
    """More of a raster is done.

    Parameters
    ----------
    chunks_done, chunks
        Chunks of the raster that are durable, of how many.
    mpx_per_s, eta_s
        Million pixels of the raster that were labelled a second, and the seconds left at this rate.
    batch_done, batch_pixels
        Pixels of the batch that are durable, of how many; of `verify`, rasters.
    batch_eta_s
        Seconds that the batch still takes.
    """

    name: ClassVar[str] = "progress"
    chunks_done: int
    chunks: int
    mpx_per_s: float
    eta_s: float
    batch_done: float
    batch_pixels: int
    batch_eta_s: float


@dataclass(frozen=True, slots=True)
class RasterDone(RasterEvent):
    """The labels of a raster are complete, under their final name.

    Parameters
    ----------
    output
        Path of the labels.
    seconds
        From the raster's first task to its last.
    """

    name: ClassVar[str] = "done"
    output: str
    seconds: float


@dataclass(frozen=True, slots=True)
class RasterSkipped(RasterEvent):
    """A raster is not segmented in this run.

    Parameters
    ----------
    reason
        Why not.
    """

    name: ClassVar[str] = "skipped"
    reason: str


@dataclass(frozen=True, slots=True)
class RasterFailed(RasterEvent):
    """A raster failed; the others go on.

    Parameters
    ----------
    error
        One line that begins with the path of the raster.
    """

    name: ClassVar[str] = "failed"
    error: str


@dataclass(frozen=True, slots=True)
class RasterVerified(RasterEvent):
    """`verify` is through with a raster.

    Parameters
    ----------
    ok
        True if nothing is wrong.
    """

    name: ClassVar[str] = "verified"
    ok: bool


@dataclass(frozen=True, slots=True)
class Warned(Event):
    """Something that people have to know, and that ends nothing.

    Parameters
    ----------
    message
        One line.
    """

    name: ClassVar[str] = "warning"
    message: str


@dataclass(frozen=True, slots=True)
class WindowDone(RasterEvent):
    """A task made its part of a raster durable; the log has each, with its `chunk_ids`.

    Parameters
    ----------
    stage
        0 for chunks, then the stages of overviews.
    row, col, height, width
        The window, in pixels of the stage's first level.
    chunks, bad_chunks
        Chunks that are done, and those of which something could not be read or labelled.
    read_s, label_s, encode_s, write_s
        Seconds of work of each kind.
    """

    name: ClassVar[str] = "window"
    stage: int
    row: int
    col: int
    height: int
    width: int
    chunks: int
    bad_chunks: int
    read_s: float
    label_s: float
    encode_s: float
    write_s: float


@dataclass(frozen=True, slots=True)
class RunEnded(Event):
    """A run is over.

    Parameters
    ----------
    done, failed, skipped
        Number of rasters that ended so.
    seconds, mpx_per_s
        Whole time, and million pixels that were labelled a second of it.
    budget
        What the time went to; see `pipeline.cost.time_shares.time_shares`.
    """

    name: ClassVar[str] = "end"
    done: int
    failed: int
    skipped: int
    seconds: float
    mpx_per_s: float
    budget: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunAborted(Event):
    """An error or an interrupt ended the run early; it is in the log, and no display shows it.

    Parameters
    ----------
    error
        One line.
    traceback
        Of an error that nobody foresaw, else None, and then no field in JSON.
    """

    name: ClassVar[str] = "error"
    error: str
    traceback: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON values, in their order."""
        return {"error": self.error} if self.traceback is None else Event.as_json(self)
