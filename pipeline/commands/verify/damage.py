"""Whether a raster's files are those that were written, and its labels those that its record counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.codebook import Codebook
from pipeline import out_names
from pipeline.check import label_file
from pipeline.check.label_file import Expected
from pipeline.check.seams import Seams
from pipeline.commands.verify.raster_report import RasterReport
from pipeline.commands.verify.record_checks import borders_of
from pipeline.durable.checksums import checksum
from pipeline.errors import printable
from pipeline.out.outputs import Outputs
from pipeline.out.record import RasterRecord
from pipeline.out.run_file import RasterState
from pipeline.workers.pool import Pool

_REMEDY = "delete it and run the same command again, or fetch it again"
# names of classes and colours, and statistics of a GIS
_STYLES = (out_names.QML_SUFFIX, ".aux.xml")
_SURE = 5.0
_PLAIN_SCORE = 1.25
_CLOSE = 1e-6


@dataclass(frozen=True)
class Finished:
    """A raster that is done: its files, its record, and the codebook beside it.

    Parameters
    ----------
    state
        What run.json says of it.
    outputs
        Names of the files.
    record
        Their record.
    codebook
        What they were made with.
    own_codebook
        True if the codebook is this raster's alone, and one of its files.
    """

    state: RasterState
    outputs: Outputs
    record: RasterRecord
    codebook: Codebook
    own_codebook: bool

    @property
    def labels(self) -> Path:
        """The labels that are checked: of a Zarr store, the store itself."""
        return self.outputs.out / self.outputs.sink.raster


def file_problems(finished: Finished) -> Iterator[str]:
    """Files that are missing, or not what was written, by their checksums; but not those of `style_notes`."""
    outputs, record = finished.outputs, finished.record
    for path in outputs.all():
        no_codebook = path == outputs.codebook and not finished.own_codebook
        no_bad = path == outputs.bad and not record.bad_chunks
        if path == outputs.json or no_codebook or no_bad:
            continue
        known = record.checksums.get(path.name)
        try:
            if known is not None and (path.name.endswith(_STYLES) or path == outputs.codebook):
                continue  # of a codebook what labels depend on is known by its hash
            if not path.exists():
                yield f"{path}: missing; {_REMEDY}"
            elif known is None:
                yield f"{outputs.json}: holds no checksum of {path.name}; {_REMEDY}"
            elif checksum(path) != known:
                yield f"{path}: not what was written (its checksum differs); {_REMEDY}"
        except OSError as error:
            yield f"{path}: cannot be read ({error.strerror}); {_REMEDY}"


def style_notes(finished: Finished) -> Iterator[str]:
    """Files of style that somebody changed or removed, which is no fault: programs keep theirs in them.

    Nor is it that the classes of the codebook have other names or colours now than the labels.
    """
    if finished.record.style != finished.codebook.style_hash:
        yield "its codebook has other names or colours now (the same run again takes them up)"
    for path in finished.outputs.all():
        if path.name.endswith(_STYLES):
            try:
                if checksum(path) != finished.record.checksums.get(path.name):
                    yield f"{path.name} was edited since"
            except OSError:
                yield f"{path.name} is gone"


def check_labels(
    finished: Finished,
    expected: Expected,
    report: RasterReport,
    pool: Pool,
    advance: Callable[[int, int], None],
) -> bool:
    """True if all labels are as their record says; what is wrong is added to the report.

    Parameters
    ----------
    finished
        The raster.
    expected
        What its record says of the labels.
    report
        Its report, which gets the seams too.
    pool
        Reads.
    advance
        Hears how many of how many windows are done.
    """
    report.wrong += label_file.header_problems(finished.labels, expected)
    if report.wrong:
        return False
    borders = borders_of(finished.outputs.json, finished.record)
    wrong, report.seams = label_file.label_problems(finished.labels, expected, borders, pool, advance)
    report.wrong += wrong or _score_problems(finished, report.seams)
    report.notes += _seam_note(report.seams)
    return not wrong


def _score_problems(finished: Finished, seams: Seams) -> Iterator[str]:
    record = finished.record
    for key, recorded, counted in (
        ("seam_score", record.seam_score, seams.score),
        ("seam_score_error", record.seam_score_error, seams.error),
    ):
        alike = (
            recorded is counted
            if recorded is None or counted is None
            else math.isclose(recorded, counted, rel_tol=_CLOSE)
        )
        if not alike:
            said = printable(str(recorded))[:40]
            yield f"{finished.outputs.json}: says {key} {said}, not {counted}; {_REMEDY}"


def _seam_note(seams: Seams) -> list[str]:
    score, error = seams.score, seams.error
    if score is None or error is None or score < max(_PLAIN_SCORE, 1 + _SURE * error):
        return []
    return ["labels change more at cell borders than elsewhere; unless the input is tiled so, look at them"]
