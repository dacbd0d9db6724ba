"""What a kernel is: the contract between the chunk graph and the mathematics."""

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
"""Label of a pixel that has none."""

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
    """Pixels with their place on the raster's grid.

    Parameters
    ----------
    pixels
        Shape (band, y, x), any real dtype.
    valid
        Shape (y, x), bool, True where a pixel is valid.
    outer
        Where the arrays lie, in absolute pixels.
    core
        The part of `outer` that labels or features are wanted for; the rest is halo.
    bounds
        The whole raster (or the slice of it that there is): beyond it lies nothing.
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
        Shape (n,), int64: where each stands on the absolute feature grid.
    """

    vectors: Vectors
    rows: npt.NDArray[np.int64]
    cols: npt.NDArray[np.int64]


@dataclass(frozen=True)
class BandStatistics:
    """What a fit found of the bands' values, which a network needs before it sees a pixel.

    Parameters
    ----------
    mean
        Shape (B,), float64, in pixel values: shown to a network in place of invalid pixels.
    scaling
        Of pixel values to 0..255, or None where they are that already.
    """

    mean: npt.NDArray[np.float64]
    scaling: Scaling | None


Places = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
"""Rows and columns on the absolute feature grid."""

Select = Callable[[Mask, int, int], Places]
"""Picks some of the places where a mask is True, so that others need no features computed.

Called with the mask, shape (y, x), and the row and column of its first element on the feature grid.
"""


def every(mask: Mask, row: int, col: int) -> Places:
    """The `Select` that picks all places, row by row."""
    rows, cols = np.nonzero(mask)
    return rows + row, cols + col


@runtime_checkable
class Kernel(Protocol):
    """Turns a patch into features, and with a codebook into labels.

    A kernel is a small frozen value that pickles in a few bytes: what is heavy (a network) it
    loads once per process by name.
    """

    @property
    def halo_px(self) -> int:
        """Pixels beyond a core that its labels depend on."""
        ...

    @property
    def stride_px(self) -> int:
        """Pixels from one feature to the next."""
        ...

    @property
    def cell_px(self) -> int:
        """Side of the cell in which labels are computed."""
        ...

    @property
    def block_px(self) -> int:
        """Side of the blocks that threads label at a time if it is costly: a multiple of a cell's."""
        ...

    @property
    def sample_px(self) -> int:
        """Side of the cells that a fit samples: as many as can be had at the cost of reading them."""
        ...

    @property
    def sample_vectors(self) -> int:
        """Feature vectors that a fit takes, about."""
        ...

    @property
    def needs_statistics(self) -> bool:
        """True if features can only be computed once the bands' statistics are known."""
        ...

    @property
    def costly(self) -> bool:
        """True if a cell takes long enough that the cells of one window are worth spreading over threads."""
        ...

    @property
    def device(self) -> str:
        """Device that it computes on: ``cpu``, or a torch device."""
        ...

    @property
    def bands(self) -> int | None:
        """Bands that it takes, or None for any number."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """Name and parameters, as JSON values; goes into the codebook and its hash."""
        ...

    def features(self, patch: Patch, statistics: BandStatistics | None, select: Select) -> Features:
        """Features whose place lies in the patch's core, of those that `select` picks."""
        ...

    def labels(self, patch: Patch, codebook: Codebook) -> Labels:
        """Labels of the patch's core, shape (core.height, core.width), 255 where invalid."""
        ...
