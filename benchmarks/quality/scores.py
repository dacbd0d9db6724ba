"""Scores of clusters beside classes, from one confusion matrix over a whole set."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

Counts = npt.NDArray[np.int64]


def confusion(
    labels: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], segments: int, classes: int
) -> Counts:
    """Pixels of each label and class, shape (segments, classes), where both are known."""
    known = (labels < segments) & (truth < classes)
    flat = labels[known].astype(np.int64) * classes + truth[known]
    return np.bincount(flat, minlength=segments * classes).reshape(segments, classes)


def matched(counts: Counts) -> tuple[float, float]:
    """Accuracy and mean IoU where each label is one class, by the matching that is right most often."""
    rows, cols = linear_sum_assignment(-counts)
    merged = np.zeros((counts.shape[1], counts.shape[1]), np.int64)
    merged[cols] = counts[rows]
    return _scores(merged, counts.sum(axis=0))


def named(counts: Counts) -> tuple[float, float]:
    """Accuracy and mean IoU where each label is named for the class of most of its pixels (many-to-one)."""
    merged = np.zeros((counts.shape[1], counts.shape[1]), np.int64)
    np.add.at(merged, counts.argmax(axis=1), counts)
    return _scores(merged, counts.sum(axis=0))


def _scores(merged: Counts, pixels: Counts) -> tuple[float, float]:
    """Of a matrix of classes by classes; `pixels` of each class are also those whose label is no class."""
    right, present = merged.diagonal(), pixels > 0
    union = merged.sum(axis=1) + pixels - right
    return float(right.sum() / pixels.sum()), float((right[present] / union[present]).mean())
