"""What a kernel is: the contract between the chunk graph and the mathematics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from engine.grid import Window

if TYPE_CHECKING:
    from engine.codebook import Codebook

NODATA = 255
"""Label of a pixel that has none."""

MAX_SEGMENTS = 254
"""Labels are 0 to K - 1 in uint8, with 255 for nodata."""

Pixels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float64]


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
        Shape (n, D), float64, before the codebook's scaling.
    rows, cols
        Shape (n,), int64: where each stands on the absolute feature grid.
    """

    vectors: Vectors
    rows: npt.NDArray[np.int64]
    cols: npt.NDArray[np.int64]


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
        """Side of the cell in which features are computed and sampled."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """Name and parameters, as JSON values; goes into the codebook and its hash."""
        ...

    def features(self, patch: Patch) -> Features:
        """Features whose place lies in the patch's core."""
        ...

    def labels(self, patch: Patch, codebook: Codebook) -> Labels:
        """Labels of the patch's core, shape (core.height, core.width), 255 where invalid."""
        ...
