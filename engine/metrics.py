"""How well labels agree with classes: figures of one confusion matrix, and of boundaries.

A confusion matrix has a row for each class of the reference and a column for each label. It counts the pixels
of a whole set: a matching of labels with classes that is found image by image would flatter the labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

Z95 = 1.959963984540054
"""Standard errors on each side of an estimate that a confidence interval of 95 % has."""


def one_to_one(confusion: Counts) -> Counts:
    """The label of each class, -1 for none, so that most pixels agree and no label has two classes.

    Parameters
    ----------
    confusion
        Shape (classes, labels).
    """
    from scipy.optimize import linear_sum_assignment

    label_of = np.full(len(confusion), -1, np.int64)
    classes, labels = linear_sum_assignment(confusion, maximize=True)
    label_of[classes] = labels
    return label_of


def many_to_one(confusion: Counts) -> Counts:
    """The class that most pixels of each label have, -1 for a label without pixels; ties to the first."""
    return np.where(confusion.any(axis=0), confusion.argmax(axis=0), -1)


def by_class(confusion: Counts, label_of: Counts) -> Counts:
    """Pixels of each class (row) whose label is that of each class (column), shape (classes, classes).

    Parameters
    ----------
    confusion
        Shape (classes, labels).
    label_of
        As of `one_to_one`.
    """
    return np.where(label_of >= 0, confusion[:, label_of], 0)


def accuracy(confusion: Counts, label_of: Counts) -> float:
    """Share of pixels whose label is that of their class."""
    return _ratio(int(np.trace(by_class(confusion, label_of))), int(confusion.sum()))


def many_to_one_accuracy(confusion: Counts) -> float:
    """Share of pixels that are right when each label is called by its commonest class."""
    return _ratio(int(confusion.max(axis=0).sum()), int(confusion.sum()))


def iou(confusion: Counts, label_of: Counts) -> Shares:
    """Intersection over union of each class and its label; 0 without a label, NaN without any pixel."""
    predicted = by_class(confusion, label_of)
    hits = np.diag(predicted)
    return _ratios(hits, confusion.sum(axis=1) + predicted.sum(axis=0) - hits)


def precision(confusion: Counts, label_of: Counts) -> Shares:
    """Share of the pixels of each class's label that are of the class (user's accuracy); NaN for none."""
    predicted = by_class(confusion, label_of)
    return _ratios(np.diag(predicted), predicted.sum(axis=0))


def recall(confusion: Counts, label_of: Counts) -> Shares:
    """Share of the pixels of each class that have its label (producer's accuracy); NaN for none."""
    return _ratios(np.diag(by_class(confusion, label_of)), confusion.sum(axis=1))


def f1(precision: Shares, recall: Shares) -> Shares:
    """Harmonic mean of `precision` and `recall`; NaN where both are."""
    unknown = np.isnan(precision) & np.isnan(recall)
    found, complete = np.nan_to_num(precision), np.nan_to_num(recall)
    mean = np.nan_to_num(_ratios(2 * found * complete, found + complete))
    return np.where(unknown, np.nan, mean)


def adjusted_rand(confusion: Counts) -> float:
    """Adjusted Rand index (Hubert and Arabie 1985): 1 for the same partition, about 0 by chance.

    Pairs of pixels are counted exactly: those of a large raster do not fit into 64 bits.
    """

    def pairs(counts: Counts) -> int:
        return sum(n * (n - 1) // 2 for n in map(int, counts.ravel()))

    both, total = pairs(confusion), pairs(confusion.sum(keepdims=True))
    rows, columns = pairs(confusion.sum(axis=1)), pairs(confusion.sum(axis=0))
    # times 2 * total, so that all is whole
    found, most = 2 * (both * total - rows * columns), (rows + columns) * total - 2 * rows * columns
    return found / most if most else 1.0


def boundary_hits(
    labels: npt.NDArray[Any],
    classes: npt.NDArray[Any],
    known: Mask,
    core: tuple[slice, slice],
    tolerance: float,
) -> Counts:
    """Boundary pixels of labels and of classes, and how many of each lie near one of the other's.

    A boundary pixel differs from its right or lower neighbour, both known.

    Parameters
    ----------
    labels, classes
        Of one shape (height, width).
    known
        Where both are known.
    core
        Where pixels are counted; `boundary_halo_px` more on each side are needed, as far as there are any.
    tolerance
        Farthest Euclidean distance of a hit, in pixels.

    Returns
    -------
    Counts
        Hits and number of the labels' boundary pixels, then of the classes'; counts of windows add up.
    """
    ours, theirs = _boundaries(labels, known), _boundaries(classes, known)
    counts = [
        (np.count_nonzero((mine & _within(other, tolerance))[core]), np.count_nonzero(mine[core]))
        for mine, other in ((ours, theirs), (theirs, ours))
    ]
    return np.array(counts, np.int64).ravel()


def boundary_halo_px(tolerance: float) -> int:
    """How far `boundary_hits` looks."""
    return math.floor(tolerance) + 1


def boundary_f1(hits: Counts) -> float:
    """F1 of boundaries: the harmonic mean of the shares of hits; NaN where neither has a boundary.

    Parameters
    ----------
    hits
        Sum of `boundary_hits`.
    """
    ours_hit, ours, theirs_hit, theirs = map(int, hits)
    if not (ours or theirs):
        return math.nan
    found, complete = _ratio(ours_hit, ours), _ratio(theirs_hit, theirs)
    return _ratio(2 * found * complete, found + complete)


def _boundaries(values: npt.NDArray[Any], known: Mask) -> Mask:
    edges = np.zeros(values.shape, bool)
    edges[:, :-1] = (values[:, :-1] != values[:, 1:]) & known[:, :-1] & known[:, 1:]
    edges[:-1] |= (values[:-1] != values[1:]) & known[:-1] & known[1:]
    return edges


def _within(mask: Mask, tolerance: float) -> Mask:
    """Where a pixel of a mask lies no farther than the tolerance: the mask grown by a disc, row by row."""
    height, width = mask.shape
    reach = math.floor(tolerance)
    sums = np.zeros((height, width + 2 * reach + 1), np.int32)
    np.cumsum(np.pad(mask, ((0, 0), (reach, reach))), axis=1, out=sums[:, 1:])
    result = np.zeros_like(mask)
    for rows in range(min(reach + 1, height)):
        half = math.isqrt(math.floor(tolerance * tolerance - rows * rows))
        first, last = reach - half, reach + half + 1
        wide = sums[:, last : last + width] > sums[:, first : first + width]
        result[rows:] |= wide[: height - rows]
        result[: height - rows] |= wide[rows:]
    return result


@dataclass(frozen=True)
class Estimate:
    """An estimate and its standard error; NaN where nothing can be said.

    Parameters
    ----------
    value, error
        Of equal shape.
    """

    value: Shares
    error: Shares

    @property
    def interval(self) -> tuple[Shares, Shares]:
        """Ends of its confidence interval of 95 %, as far as shares go."""
        low, high = self.value - Z95 * self.error, self.value + Z95 * self.error
        return np.clip(low, 0, 1), np.clip(high, 0, 1)


@dataclass(frozen=True)
class AreaAdjusted:
    """Accuracies and areas by a sample that is stratified by the labels of the map.

    Parameters
    ----------
    accuracy
        Overall, shape ().
    users, producers
        User's and producer's accuracy of each class.
    area
        Share of the map that each class has on the ground.
    strata
        Share of each label's pixels that are of the label's class: its accuracy.
    weights
        Share of the map that each stratum has, of those with a sample; 0 for the others.
    unsampled
        Share of the map in strata with fewer than two pixels of the sample, of which nothing is said.
    """

    accuracy: Estimate
    users: Estimate
    producers: Estimate
    area: Estimate
    strata: Estimate
    weights: Shares
    unsampled: float


def area_adjusted(confusion: Counts, label_of: Counts, mapped: Counts) -> AreaAdjusted:
    """Estimates that weight each label by its area on the map, not by its share of the sample.

    The estimators are those of Olofsson et al. 2014, "Good practices for estimating area and assessing
    accuracy of land change", Remote Sensing of Environment 148, 42-57: equations 4 to 7, 9 and 10.

    Parameters
    ----------
    confusion
        The sample, shape (classes, labels).
    label_of
        As of `one_to_one`; other labels are of no class and wrong.
    mapped
        Pixels of each label on the map.
    """
    size = confusion.sum(axis=0)
    sampled = (size >= 2) & (mapped > 0)
    weights = np.where(sampled, mapped, 0) / max(1, int(mapped[sampled].sum()))
    shares = np.where(sampled, confusion / np.maximum(size, 1), 0.0)  # of each class, in each stratum
    variances = shares * (1 - shares) / np.maximum(size - 1, 1)
    nothing = not sampled.any()

    matched = label_of >= 0
    own = np.where(matched, label_of, 0)
    rows = np.arange(len(confusion))
    users = np.where(matched & sampled[own], shares[rows, own], np.nan)
    users_variance = np.where(matched & sampled[own], variances[rows, own], np.nan)

    of_label = np.full(len(mapped), -1)
    of_label[label_of[matched]] = rows[matched]
    right = np.where(of_label >= 0, shares[of_label, np.arange(len(mapped))], 0.0)
    right_variance = right * (1 - right) / np.maximum(size - 1, 1)

    area = shares @ weights
    mine = np.where(matched, weights[own], 0.0)
    producers = _ratios(mine * shares[rows, own], area)
    others = variances @ weights**2 - mine**2 * variances[rows, own]
    spread = mine**2 * (1 - producers) ** 2 * variances[rows, own] + producers**2 * others
    return AreaAdjusted(
        accuracy=_estimate(right @ weights, right_variance @ weights**2, nothing),
        users=_estimate(users, users_variance, nothing),
        producers=_estimate(producers, _ratios(spread, area**2), nothing),
        area=_estimate(area, variances @ weights**2, nothing),
        strata=_estimate(right, right_variance, ~sampled),
        weights=weights,
        unsampled=_ratio(int(mapped[~sampled].sum()), int(mapped.sum())),
    )


def _estimate(value: Any, variance: Any, nothing: Any) -> Estimate:
    unknown = np.broadcast_to(nothing, np.shape(value))
    error = np.sqrt(np.maximum(variance, 0))
    return Estimate(np.where(unknown, np.nan, value), np.where(unknown, np.nan, error))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _ratios(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> Shares:
    ratios: Shares = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
    return ratios
