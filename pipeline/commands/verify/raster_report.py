"""What came of one raster, and of all, for people and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.check.seams import Seams
from pipeline.errors import printable

_MOST_SHOWN = 4


@dataclass
class RasterReport:
    """What came of one raster.

    Parameters
    ----------
    name
        Of its outputs.
    state
        done, failed, skipped or waiting, as run.json says.
    wrong
        What is wrong, each naming the file; none where all is well.
    notes
        What could not be looked at, or is worth a look.
    seams
        Of its labels.
    recomputed
        Windows made anew from the input.
    unproved
        True if that was asked for and the input is not there any more, or is another one.
    """

    name: str
    state: str
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seams: Seams = field(default_factory=Seams)
    recomputed: int = 0
    unproved: bool = False

    @property
    def ok(self) -> bool:
        """True where nothing is wrong."""
        return not self.wrong

    def text(self) -> str:
        """As a line for people."""
        if self.wrong:
            more = len(self.wrong) - _MOST_SHOWN
            said = [*self.wrong[:_MOST_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        elif self.state == "skipped":
            said = ["skipped in the run"]
        else:
            said = ["files ok, labels not compared with the input" if self.unproved else "ok"]
            said += [f"windows recomputed: {self.recomputed}"]
            if self.seams.score is not None and self.seams.error is not None:
                said.append(f"seam score {self.seams.score:.2f} +- {self.seams.error:.2f}")
        line = f"{self.name}: {'; '.join([*said, *(f'note: {n}' for n in self.notes)])}"
        return printable(" ".join(line.split()))  # a name may hold a newline

    def as_json(self) -> dict[str, Any]:
        """As a JSON object."""
        score, error = self.seams.score, self.seams.error
        return {
            "name": self.name,
            "state": self.state,
            "ok": self.ok,
            "wrong": self.wrong,
            "notes": self.notes,
            "seam_score": None if score is None else round(score, 4),
            "seam_error": None if error is None else round(error, 4),
            "recomputed": self.recomputed,
            "unproved": self.unproved,
        }


def summary(out: str, reports: Sequence[RasterReport]) -> dict[str, Any]:
    """All reports as one JSON object, with a line for people."""
    wrong = sum(not report.ok for report in reports)
    skipped = sum(report.state == "skipped" for report in reports)
    unproved = sum(report.ok and report.unproved for report in reports)
    total = f"{out}: {len(reports) - wrong - skipped} rasters ok, {wrong} wrong, {skipped} skipped in the run"
    if unproved:
        total += (
            f"; of {unproved} that are ok only the files were looked at: their inputs are not there, "
            "are others now, or cannot be read (see the notes)"
        )
    return {
        "out": out,
        "ok": not wrong,
        "unproved": unproved,
        "text": printable(total),
        "rasters": [report.as_json() for report in reports],
    }
