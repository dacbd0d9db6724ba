"""Compiled loops over labels: the majority in a window around each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.jit import compiled
from engine.kernel import NODATA, Labels

_LANES = 16  # votes are counted for whole registers of labels


def majority(labels: Labels, window_px: int) -> Labels:
    """The label that most pixels in the window around each pixel have; see `smoothing.Smoothing`.

    Parameters
    ----------
    labels
        Shape (y, x), uint8, 255 where there is none.
    window_px
        Side of the window, odd, at most `smoothing.MAX_WINDOW_PX`.

    Returns
    -------
    numpy.ndarray
        uint8, shape (y, x).
    """
    labels = np.ascontiguousarray(labels)
    out = np.empty_like(labels)
    lanes = -(-(_highest(labels) + 1) // _LANES) * _LANES
    _majority(labels, window_px // 2, np.zeros((labels.shape[1], lanes), np.uint16), out)
    return out


@compiled
def _highest(labels: Any) -> int:
    """The highest label but nodata; 0 without any."""
    highest = np.uint8(0)
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            label = labels[y, x]
            highest = max(highest, label if label != NODATA else np.uint8(0))
    return int(highest)


@compiled
def _majority(labels: Any, radius: int, columns: Any, out: Any) -> None:  # noqa: C901, PLR0912  (one pass)
    """Write the majority of each window into `out`.

    `columns` (x, label) are zeros. They count the votes in each column of the window's rows, and
    `votes` sums those of the window's columns: a step to the next pixel costs the same for any window.
    Source: Perreault and Hebert, "Median filtering in constant time" (2007), for the counts.
    """
    height, width = labels.shape
    lanes = columns.shape[1]
    votes = np.empty(lanes, np.uint16)
    half = ((2 * radius + 1) * (2 * radius + 1)) // 2
    for i in range(-radius, radius + 1):
        y = min(max(i, 0), height - 1)
        for x in range(width):
            if labels[y, x] != NODATA:
                columns[x, labels[y, x]] += np.uint16(1)
    for y in range(height):
        if y > 0:
            above, below = max(y - 1 - radius, 0), min(y + radius, height - 1)
            for x in range(width):
                old, new = labels[above, x], labels[below, x]
                if old != new:
                    if old != NODATA:
                        columns[x, old] -= np.uint16(1)
                    if new != NODATA:
                        columns[x, new] += np.uint16(1)
        votes[:] = 0
        for i in range(-radius, radius + 1):
            x = min(max(i, 0), width - 1)
            for k in range(lanes):
                votes[k] += columns[x, k]
        for x in range(width):
            if x > 0:
                left, right = max(x - 1 - radius, 0), min(x + radius, width - 1)
                for k in range(lanes):
                    votes[k] += columns[right, k] - columns[left, k]
            own = labels[y, x]
            if own == NODATA or votes[own] > half:
                out[y, x] = own
                continue
            most = np.uint16(0)
            for k in range(lanes):
                most = max(most, votes[k])
            if votes[own] == most:
                out[y, x] = own
                continue
            k = 0
            while votes[k] != most:
                k += 1
            out[y, x] = k
