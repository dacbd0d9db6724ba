"""Smoothing of labels by the majority in a window (a mode filter)."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from engine.grid import Window
from engine.kernel import Labels

MAX_WINDOW_PX = 255
"""Side of the widest window: its pixels are counted in 16 bits."""

MAX_REACH_PX = 2048
"""How far all passes may reach together: so much of its neighbours a window is read with."""


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
        from engine.labels.majority import majority  # compiled: it takes a while to load

        for _ in range(self.passes):
            labels = majority(labels, self.window_px)
        return np.ascontiguousarray(labels[core.slices(outer)])
