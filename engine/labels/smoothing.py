"""Smoothing of labels by the majority in a window (a mode filter)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.grid import Window
from engine.jit import compiled
from engine.kernel import NODATA, Labels

MAX_WINDOW_PX = 255
"""Side of the widest window: its pixels are counted in 16 bits."""

MAX_REACH_PX = 2048
"""How far all passes may reach together: so much of its neighbours a window is read with."""

_LANES = 16  # votes are counted for whole registers of labels


@dataclass(frozen=True)
class Smoothing:
    """Each pixel gets the label that most pixels in a window around it have, some passes after each other.

    Nodata does not vote and stays. At equal votes the pixel's own label wins, if it is among the first,
    else the lowest. Beyond the raster its outermost pixels are repeated.

    Parameters
    ----------
    window_px
        Side of the window, odd, 3 to `MAX_WINDOW_PX`.
    passes
        How often, 1 or more; together they reach `MAX_REACH_PX` at most.

    Raises
    ------
    ValueError
        If they are others.
    """

    window_px: int
    passes: int = 1

    def __post_init__(self) -> None:
        if self.window_px % 2 == 0 or not 3 <= self.window_px <= MAX_WINDOW_PX:
            raise ValueError(f"a window of {self.window_px} px; give an odd one, 3 to {MAX_WINDOW_PX}")
        if self.passes < 1:
            raise ValueError(f"{self.passes} passes; give 1 or more")
        if self.halo_px > MAX_REACH_PX:
            raise ValueError(f"reaches {self.halo_px} px, more than {MAX_REACH_PX}; give fewer passes")

    @classmethod
    def parse(cls, text: str) -> Smoothing | None:
        """Smoothing as PX or PXxN says it; None for ``none``.

        Raises
        ------
        ValueError
            If it says something else.
        """
        if text == "none":
            return None
        if (match := re.fullmatch(r"(\d{1,9})(?:x(\d{1,9}))?", text, re.ASCII)) is None:
            raise ValueError("give PX or PXxN, an odd window and a number of passes, such as 7x2")
        return cls(int(match[1]), int(match[2] or 1))

    def __str__(self) -> str:
        """As `parse` takes it."""
        return str(self.window_px) if self.passes == 1 else f"{self.window_px}x{self.passes}"

    @property
    def halo_px(self) -> int:
        """Pixels beyond a window that its labels depend on."""
        return self.passes * (self.window_px // 2)

    def of_core(self, labels: Labels, outer: Window, core: Window) -> Labels:
        """Smoothed labels of a window.

        Parameters
        ----------
        labels
            Of `outer`.
        outer
            `core` and `halo_px` more on each side, as far as the raster reaches.
        core
            The window.

        Returns
        -------
        numpy.ndarray
            uint8, shape (core.height, core.width).
        """
        for _ in range(self.passes):
            labels = majority(labels, self.window_px)
        return np.ascontiguousarray(labels[core.slices(outer)])


def majority(labels: Labels, window_px: int) -> Labels:
    """The label that most pixels in the window around each pixel have; see `Smoothing`.

    Parameters
    ----------
    labels
        Shape (y, x), uint8, 255 where there is none.
    window_px
        Side of the window, odd, at most `MAX_WINDOW_PX`.

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
