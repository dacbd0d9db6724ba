"""A reference laid onto the grid of a label raster, read window by window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from engine.grid import Window
from pipeline.grid.georeference import Georeference

MOST_CLASSES = 1000
"""Values of a reference that are still taken for classes."""

OPTION = "--reference"

_LATTICE = 33


class NoOverlapError(Exception):
    """A reference says nothing of a raster; the message says why, after the reference's name."""


@dataclass(frozen=True)
class Grid:
    """The pixel grid of a label raster.

    Parameters
    ----------
    height, width
        In pixels.
    place
        Where it lies on the ground.
    """

    height: int
    width: int
    place: Georeference

    @property
    def bounds(self) -> Window:
        """All of it."""
        return Window(0, 0, self.height, self.width)

    @classmethod
    def of(cls, dataset: Any) -> Grid:
        """That of an open dataset; one with ground control points has a place that is no transform."""
        gcps, gcp_crs = dataset.gcps
        crs = gcp_crs if gcps else dataset.crs
        a, b, c, d, e, f = map(float, dataset.transform[:6])
        transform = None if dataset.transform.is_identity else (a, b, c, d, e, f)
        return cls(dataset.height, dataset.width, Georeference(crs.to_wkt() if crs else None, transform))


@dataclass(frozen=True)
class Classes:
    """Classes of a window.

    Parameters
    ----------
    values
        The class of each pixel, as a number of the reference's.
    known
        Where it has one.
    left_out
        Whether some were left out for a value that no header declares.
    """

    values: npt.NDArray[np.int64]
    known: npt.NDArray[np.bool_]
    left_out: bool = False


class Laid(Protocol):
    """A reference on the grid of one raster: a small value that is passed to every task."""

    @property
    def box(self) -> Window:
        """The part of the raster outside which the reference has no classes."""

    def read(self, window: Window) -> Classes:
        """The classes of a window of the raster."""


class Reference(Protocol):
    """What labels are compared with."""

    @property
    def path(self) -> str:
        """Its file."""

    @property
    def placed(self) -> bool:
        """Whether it says where it lies."""

    def lay(self, grid: Grid) -> Laid:
        """Lay it onto a grid.

        Raises
        ------
        NoOverlapError
            If it has nothing there.
        """

    def class_of(self, value: int) -> int | str:
        """The class that a number of `Classes.values` stands for."""

    def name_of(self, value: int) -> str:
        """What that class is called."""


def lattice(height: int, width: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Columns and rows of points all over a raster: its edges alone miss a pole inside."""
    cols, rows = np.meshgrid(np.linspace(0, width, _LATTICE), np.linspace(0, height, _LATTICE))
    return cols, rows


def box_of(points: npt.NDArray[np.float64], margin: float, bounds: Window) -> Window | None:
    """The window around points (column, row), within bounds; all of them where some point is nowhere.

    Parameters
    ----------
    points
        Shape (n, 2).
    margin
        Pixels more on each side.
    bounds
        The raster.
    """
    if not np.isfinite(points).all():
        return bounds
    low, high = np.floor(points.min(axis=0) - margin), np.ceil(points.max(axis=0) + margin)
    col, row = (int(v) for v in np.maximum(low, (bounds.col, bounds.row)))
    col_end, row_end = (int(v) for v in np.minimum(high, (bounds.col_end, bounds.row_end)))
    return Window(row, col, row_end - row, col_end - col) if row < row_end and col < col_end else None
