"""What labels and a reference have in common in a window: a task of the score."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from engine import metrics
from engine.grid import Window
from engine.kernel import NODATA
from pipeline.check.read_back import read_labels
from pipeline.commands.score.laid import MOST_CLASSES, Laid
from pipeline.errors import UsageError

_NARROW = 1 << 16  # values that lie so close are counted without being sorted


@dataclass
class Counted:
    """Pixels of windows, by what the reference and the labels say of them.

    Parameters
    ----------
    counts
        For each class, the pixels of each label, shape (256,); the last are those without a label.
    hits
        As of `metrics.boundary_hits`.
    left_out
        Whether the reference has values that mean no class, though no header says so.
    """

    counts: dict[int, metrics.Counts] = field(default_factory=dict)
    hits: metrics.Counts = field(default_factory=lambda: np.zeros(4, np.int64))
    left_out: bool = False

    def add(self, other: Counted) -> None:
        """Add those of other windows."""
        for value, counts in other.counts.items():
            self.counts[value] = self.counts.get(value, 0) + counts
        self.hits = self.hits + other.hits
        self.left_out |= other.left_out

    @property
    def pixels(self) -> int:
        """Pixels that have both a class and a label."""
        return sum(int(counts[:NODATA].sum()) for counts in self.counts.values())

    @property
    def without_label(self) -> int:
        """Pixels that have a class and no label."""
        return sum(int(counts[NODATA]) for counts in self.counts.values())


def count_window(
    labels_path: str, reference_path: str, laid: Laid, window: Window, bounds: Window, tolerance: float
) -> Counted:
    """Compare a window of a label file with the reference.

    Parameters
    ----------
    labels_path, reference_path
        The files.
    laid
        The reference on the grid of the labels.
    window, bounds
        The window, and the raster.
    tolerance
        Of `metrics.boundary_hits`.

    Raises
    ------
    RasterError
        If either cannot be read.
    UsageError
        If the reference holds no classes.
    """
    outer = window.grow(metrics.boundary_halo_px(tolerance), bounds)
    classes = laid.read(outer)
    core = window.slices(outer)
    known = classes.known[core]
    if not known.any():
        return Counted(left_out=classes.left_out)
    labels = read_labels(labels_path, 0, outer)
    counts = _by_class(classes.values[core][known], labels[core][known], reference_path)
    both = classes.known & (labels != NODATA)
    hits = metrics.boundary_hits(labels, classes.values, both, core, tolerance)
    return Counted(counts, hits, classes.left_out)


def _by_class(
    values: npt.NDArray[np.int64], labels: npt.NDArray[np.uint8], path: str
) -> dict[int, metrics.Counts]:
    first = int(values.min())
    if int(values.max()) - first < _NARROW:
        rows = values - first
        present = np.flatnonzero(np.bincount(rows))
        number = np.zeros(present[-1] + 1, np.int64)
        number[present] = np.arange(len(present))
        rows, present = number[rows], present + first
    else:
        present, rows = np.unique(values, return_inverse=True)
    if len(present) > MOST_CLASSES:
        raise UsageError(
            f"{path}: more than {MOST_CLASSES} values; a reference has classes, not measurements"
        )
    table = np.bincount(rows * 256 + labels, minlength=256 * len(present)).reshape(-1, 256)
    return {int(value): row for value, row in zip(present, table, strict=True)}
