"""The `score` command: labels of a run beside a reference, as one set with one confusion matrix."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine import metrics
from engine.codebook import Codebook, CodebookError
from engine.grid import tiles
from engine.kernel import NODATA
from pipeline import out_names
from pipeline.commands.score.counting import Counted, count_window
from pipeline.commands.score.figures import Scores
from pipeline.commands.score.laid import MOST_CLASSES, Grid, NoOverlapError, Reference
from pipeline.commands.score.picture import draw
from pipeline.commands.score.raster_reference import RasterReference
from pipeline.commands.score.vector_reference import VectorReference
from pipeline.config import RunConfig
from pipeline.durable.files import write_bytes, write_json
from pipeline.errors import RasterError, StorageError, UsageError, one_line
from pipeline.events.kinds import RasterAdvanced, RasterFailed, Warned, Working
from pipeline.events.observer import Observer
from pipeline.legend.label_style import LabelStyle
from pipeline.out.outputs import Outputs
from pipeline.out.record import RasterRecord
from pipeline.out.run_file import run_of
from pipeline.source.arguments import numbered
from pipeline.source.gdal import handles
from pipeline.workers.pool import Pool

_WINDOW_PX = 1024


@dataclass(frozen=True)
class _Labelled:
    """A finished raster of a run: the file that GDAL opens, its grid, pixels of each label, its codebook."""

    name: str
    file: str
    grid: Grid
    codebook_hash: str
    mapped: metrics.Counts
    codebook: Path


@dataclass
class _Compared:
    """What was counted on rasters, those, and why others were not compared."""

    total: Counted = field(default_factory=Counted)
    rasters: list[_Labelled] = field(default_factory=list)
    elsewhere: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, labelled: _Labelled, counted: Counted) -> None:
        """Add a raster."""
        self.total.add(counted)
        self.rasters.append(labelled)


def open_reference(path: str, attribute: str | None) -> Reference:
    """A raster of classes, or with an attribute a vector file.

    Raises
    ------
    UsageError
        If it is none.
    """
    return RasterReference.open(path) if attribute is None else VectorReference.open(path, attribute)


def score(
    out: Path, reference: Reference, *, tolerance: float, strata: bool, pool: Pool, observer: Observer
) -> Scores:
    """Compare the labels of a run with a reference.

    Parameters
    ----------
    out
        Folder of the run.
    reference
        What is true.
    tolerance
        Farthest distance of a boundary that counts as found, in pixels.
    strata
        Whether figures of each label are asked for.
    pool
        Reads windows.
    observer
        Hears of progress, and of rasters that cannot be read.

    Raises
    ------
    UsageError
        If the folder holds no run, the reference covers none of its rasters or holds no classes, or the
        rasters that it covers have labels of different codebooks.
    RasterError
        If the reference cannot be read.
    """
    run, config = run_of(out)
    done = [state.name for state in run.rasters if state.state == "done"]
    if not done:
        raise UsageError(f"{out}: none of its rasters is done; run the same command again")
    if len(done) > 1 and not reference.placed:
        raise UsageError(
            f"{reference.path}: has no place on the ground, and {out} has {len(done)} rasters that it may be "
            "of; give it a transform (gdal_translate -a_ullr)"
        )
    found = _Compared()
    start = time.monotonic()
    for index, name in enumerate(done):
        observer.event(Working(f"{name}: comparing its labels with {reference.path}"))
        advance = _advance(observer, name, index, len(done), start)
        try:
            labelled = _labelled(out, name, config)
            found.add(labelled, _count(labelled, reference, tolerance, pool, advance))
        except NoOverlapError as error:
            found.elsewhere[name] = one_line(error)
        except RasterError as error:
            if error.path == reference.path:
                raise
            found.failed[name] = one_line(error)
            observer.event(RasterFailed(name, one_line(error)))
        if len(found.total.counts) > MOST_CLASSES:
            raise UsageError(f"{reference.path}: more than {MOST_CLASSES} values; a reference has classes")
    if not found.total.pixels:
        if found.failed and not found.elsewhere:
            raise RasterError(
                str(out), "none of its rasters can be read; python -m pipeline verify says more"
            )
        why = next(iter(found.elsewhere.values()), "no pixel has a label and a class")
        raise UsageError(f"{reference.path}: does not overlap the labels in {out} ({why})")
    return _scores(out, reference, found, tolerance, strata=strata)


def _scores(
    out: Path,
    reference: Reference,
    found: _Compared,
    tolerance: float,
    *,
    strata: bool,
) -> Scores:
    total, compared = found.total, found.rasters
    codebooks = {labelled.codebook_hash for labelled in compared}
    if len(codebooks) > 1:
        raise UsageError(
            f"{out}: {reference.path} covers rasters with codebooks of their own, whose labels mean "
            "different things; score with a reference of one of them, or run with one codebook for all"
        )
    codebook = _codebook(compared[0].codebook)
    segments = codebook.segments
    if any(counts[segments:NODATA].any() for counts in total.counts.values()):
        raise RasterError(str(out), f"labels of {segments} or more; python -m pipeline verify says where")
    values = sorted(value for value, counts in total.counts.items() if counts[:NODATA].any())
    names = tuple(map(reference.name_of, values))
    if total.left_out and len(values) == 1:
        raise UsageError(
            f"{reference.path}: one class ({names[0]}) beside 255, which means unlabelled unless the file "
            "declares another nodata value (gdal_edit -a_nodata); give the class another number"
        )
    return Scores(
        out=str(out),
        reference=reference.path,
        rasters=tuple(labelled.name for labelled in compared),
        elsewhere=tuple(found.elsewhere),
        failed=found.failed,
        classes=tuple(map(reference.class_of, values)),
        names=names,
        style=LabelStyle.of_codebook(codebook),
        confusion=np.stack([total.counts[value][:segments] for value in values]),
        mapped=np.sum([labelled.mapped for labelled in compared], axis=0)[:segments],
        hits=total.hits,
        tolerance=tolerance,
        without_label=total.without_label,
        strata=strata,
    )


def keep(out: Path, scores: Scores, observer: Observer) -> str:
    """Write the figures and their picture into OUT, under names that no raster has; returns the picture.

    What cannot be written is warned of: OUT may be an archive.
    """
    (name,) = numbered(["score"], (*scores.rasters, *scores.elsewhere, *scores.failed))
    picture = out / f"{name}{out_names.PNG_SUFFIX}"
    try:
        write_json(out / f"{name}{out_names.RECORD_SUFFIX}", scores.as_json())
        write_bytes(picture, draw(scores))
    except (OSError, StorageError) as error:
        observer.event(Warned(f"{picture}: not written ({one_line(error)})"))
        return ""
    return str(picture)


def _labelled(out: Path, name: str, config: RunConfig) -> _Labelled:
    try:
        outputs = Outputs.named(out, name, config.format, config.zarr_version)
        record = RasterRecord.read(outputs.json)
        mapped = np.zeros(256, np.int64)
        for label, pixels in record.labels.items():
            mapped[int(label)] = pixels
    except (OSError, ValueError, IndexError, OverflowError) as error:
        raise RasterError(str(out / name), f"its record cannot be read ({one_line(error)})") from None
    file = str(out / outputs.sink.raster)
    own = config.codebook_scope == "raster" and config.codebook is None
    codebook = outputs.codebook if own else out / out_names.CODEBOOK
    grid = handles.opened(file, Grid.of)
    return _Labelled(name, file, grid, record.codebook_hash, mapped, codebook)


def _codebook(path: Path) -> Codebook:
    try:
        return Codebook.load(path)
    except CodebookError as error:
        raise RasterError(str(path), str(error).removeprefix(f"{path}: ")) from None


def _count(
    labelled: _Labelled,
    reference: Reference,
    tolerance: float,
    pool: Pool,
    advance: Callable[[int, int, float], None],
) -> Counted:
    """What a raster and the reference have in common; windows far from the reference are not read."""
    laid = reference.lay(labelled.grid)
    bounds = labelled.grid.bounds
    box = laid.box
    windows = -(-box.height // _WINDOW_PX) * -(-box.width // _WINDOW_PX)

    def calls() -> Iterator[tuple[object, ...]]:
        for window in tiles(box, _WINDOW_PX):
            yield labelled.file, reference.path, laid, window, bounds, tolerance

    counted = Counted()
    for number, part in enumerate(pool.each(count_window, calls()), 1):
        counted.add(part)
        advance(min(number, windows), windows, box.pixels * min(1.0, number / windows))
    if not counted.counts:
        raise NoOverlapError("lies elsewhere")
    return counted


def _advance(
    observer: Observer, name: str, index: int, count: int, start: float
) -> Callable[[int, int, float], None]:
    begun = time.monotonic()

    def advance(done: int, total: int, pixels: float) -> None:
        now = time.monotonic()
        seconds, rasters = max(1e-6, now - begun), index + done / total
        observer.event(
            RasterAdvanced(
                raster=name,
                chunks_done=done,
                chunks=total,
                mpx_per_s=round(pixels / seconds / 1e6, 2),
                eta_s=round(seconds / done * (total - done), 1),
                batch_done=round(rasters, 3),
                batch_pixels=count,
                batch_eta_s=round((now - start) / rasters * (count - rasters), 1),
            )
        )

    return advance
