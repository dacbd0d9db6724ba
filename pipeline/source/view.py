"""The part of a raster that a run is about: a window of its grid, and an area of interest in it.

Pixels outside still feed halos and blocks, so that labels inside are those of a run on the whole
raster; they only get no label, and no fit samples them.
"""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.codebook import Band
from engine.grid import Window
from pipeline.source import bad_blocks
from pipeline.source.raster import Georeference, Raster

Ring = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Area:
    """Polygons in absolute pixel coordinates (column, row), of which a pixel is inside by its centre.

    Parameters
    ----------
    polygons
        Of each polygon its outer ring, then its holes.
    """

    polygons: tuple[tuple[Ring, ...], ...]

    @property
    def digest(self) -> str:
        """Tells one area from another."""
        return hashlib.sha256(repr(self.polygons).encode()).hexdigest()

    def mask(self, window: Window) -> npt.NDArray[np.bool_]:
        """True where a pixel of the window is inside; shape (height, width)."""
        from rasterio.features import geometry_mask
        from rasterio.transform import Affine

        shapes = [{"type": "Polygon", "coordinates": p} for p in self.polygons]
        inside: npt.NDArray[np.bool_] = geometry_mask(
            shapes,
            out_shape=(window.height, window.width),
            transform=Affine.translation(window.col, window.row),
            invert=True,
        )
        return inside


@dataclass(frozen=True)
class View:
    """A raster, the window of it that gets labels, and where in the window.

    Parameters
    ----------
    raster
        The raster.
    region
        Whole cells of the raster's grid (as far as it reaches).
    area
        Where in the region labels are wanted, or None for everywhere.
    tolerant
        Whether blocks that cannot be decoded are invalid pixels and no error.
    """

    raster: Raster
    region: Window
    area: Area | None = None
    tolerant: bool = False

    @classmethod
    def whole(cls, raster: Raster) -> View:
        """All of a raster."""
        return cls(raster, raster.bounds)

    @property
    def path(self) -> str:
        """Name for messages."""
        return self.raster.path

    @property
    def bounds(self) -> Window:
        """All pixels that there are."""
        return self.raster.bounds

    @property
    def bands(self) -> tuple[Band, ...]:
        """Band numbers, names or expressions."""
        return self.raster.bands

    @property
    def dtype(self) -> str:
        """Dtype of the pixels."""
        return self.raster.dtype

    @property
    def identity(self) -> tuple[Any, ...]:
        """What seeds the hash sample."""
        return self.raster.identity

    @property
    def georeference(self) -> Georeference:
        """The georeference of the region."""
        return self.raster.georeference.shifted(self.region.row, self.region.col)

    def read(self, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Pixels (band, y, x) and validity (y, x) of a window."""
        with bad_blocks.tolerating() if self.tolerant else nullcontext():
            return self.raster.read(window)

    def inside(self, window: Window) -> npt.NDArray[np.bool_] | None:
        """True where labels are wanted, shape of the window; None for everywhere."""
        return None if self.area is None else self.area.mask(window)
