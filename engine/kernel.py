"""The kernel protocol: the contract between the chunk graph and the mathematics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from engine.grid import Window

if TYPE_CHECKING:
    from engine.codebook import Codebook, Scaling

NODATA = 255
"""Value of a pixel without a label."""

MAX_SEGMENTS = 254
"""Labels are 0 to K - 1 in uint8, with 255 for nodata."""

MAX_RESOLUTION = 32
"""Side of the largest pixel block that is clustered."""

Pixels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float64] | npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Patch:
    """Pixels with their position on the raster's grid.

    Parameters
    ----------
    pixels
        Shape (band, y, x), any real dtype.
    valid
        Shape (y, x), bool, True where a pixel is valid.
    outer
        Window of the arrays, in absolute pixels.
    core
        Window within `outer` that labels or features are computed for; the rest is halo.
    bounds
        Window of the whole raster (or of the available slice of it): there are no pixels outside.
    """

    pixels: Pixels
    valid: Mask
    outer: Window
    core: Window
    bounds: Window

    def __post_init__(self) -> None:
        shape = (self.outer.height, self.outer.width)
        if self.pixels.shape[1:] != shape or self.valid.shape != shape:
            raise ValueError(
                f"patch of {shape} px with pixels of {self.pixels.shape[1:]} and a mask of {self.valid.shape}"
            )


@dataclass(frozen=True, slots=True)
class Features:
    """Feature vectors of a patch's core, one for each block or network cell with valid pixels.

    Parameters
    ----------
    vectors
        Shape (n, D), float64 or float32.
    rows, cols
        Shape (n,), int64: position of each vector on the absolute feature grid.
    """

    vectors: Vectors
    rows: npt.NDArray[np.int64]
    cols: npt.NDArray[np.int64]


@dataclass(frozen=True)
class BandStatistics:
    """Statistics of the bands from the fit's sample; a network needs them before its first image.

    Parameters
    ----------
    mean
        Shape (B,), float64, in pixel values: replaces invalid pixels in the input of a network.
    scaling
        Scaling of pixel values to 0..255, or None where they have that range already.
    """

    mean: npt.NDArray[np.float64]
    scaling: Scaling | None


Places = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Rows and columns on the absolute feature grid."""

Select = Callable[[Mask, int, int], Places]
"""Picks some of the positions where a mask is True; features are computed only for these.

Called with the mask, shape (y, x), and the row and column of its first element on the feature grid.
"""


def every(mask: Mask, row: int, col: int) -> Places:
    """The `Select` that picks all positions, row by row."""
    rows, cols = np.nonzero(mask)
    return rows + row, cols + col


@runtime_checkable
class Kernel(Protocol):
    """Turns a patch and a codebook into labels: a `ClusteringKernel` or a `ClassifyingKernel`.

    A kernel is a frozen dataclass that pickles in a few bytes; a network is loaded once per process, by
    its name. Its labels do not depend on how a raster is cut into cores.
    """

    @property
    def halo_px(self) -> int:
        """Width of the margin around a core that its labels depend on, in pixels."""

    @property
    def stride_px(self) -> int:
        """Pixels from one label, or from one feature, to the next: 1 if each pixel has its own."""

    @property
    def cell_px(self) -> int:
        """Side of a cell, the unit of compute: a multiple of `engine.grid.CELL_PX`."""

    @property
    def window_px(self) -> int:
        """Side of the windows that a costly kernel labels in one thread: a multiple of `cell_px`."""

    @property
    def costly(self) -> bool:
        """True if a cell takes long enough to spread the cells of one window over threads."""

    @property
    def device(self) -> str:
        """Device that it computes on: ``cpu``, or a torch device."""

    @property
    def bands(self) -> int | None:
        """Number of bands that the kernel needs, or None for any number."""

    @property
    def identity(self) -> dict[str, Any]:
        """All that its labels depend on beside the codebook's arrays, as JSON values.

        Under `name` stands the method that makes it, under `features` the length of its vectors where
        they are none of pixels (0 without any), under `feature_set` which of pixels they are where they
        are not the bands' values. It is part of the codebook and its hash, and the
        kernel is made again from it.
        """

    def labels(self, patch: Patch, codebook: Codebook) -> Labels:
        """Labels of the patch's core, shape (core.height, core.width), 255 where invalid.

        A core begins and ends at multiples of `cell_px`, if the kernel is not costly of `stride_px`, or where
        the raster does.
        """


@runtime_checkable
class ClusteringKernel(Kernel, Protocol):
    """A kernel whose labels are the clusters of its features; a fit finds their centres in a sample."""

    @property
    def sample_px(self) -> int:
        """Side of the cells that a fit samples, chosen to see many places for what reading them costs."""

    @property
    def sample_vectors(self) -> int:
        """Approximate number of feature vectors in a fit's sample."""

    @property
    def needs_statistics(self) -> bool:
        """True if features are computed with the bands' statistics, and clustered as they are.

        Otherwise a feature is a value of each band, which the fit scales as it scales pixels.
        """

    def features(self, patch: Patch, statistics: BandStatistics | None, select: Select) -> Features:
        """Features whose position lies in the patch's core, of those that `select` picks."""


@runtime_checkable
class ClassifyingKernel(Kernel, Protocol):
    """A kernel that knows its classes, such as a threshold or a classifier: there is nothing to fit."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of labels 0 to K - 1; part of `identity` where they are not always the same."""
