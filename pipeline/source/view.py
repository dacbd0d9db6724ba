"""The part of a raster that a run is about: a window of its grid, and an area of interest in it.

Pixels outside still feed halos and blocks, so that labels inside are those of a run on the whole
raster; they only get no label, and no fit samples them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from engine.codebook import Band
from engine.grid import Window
from pipeline.errors import MissedError, RasterError, one_line
from pipeline.grid.area import (
    Area,
    Interest,
    all_around,
    cells_around,
    full_turn,
    reprojected,
    ring_in_pixels,
)
from pipeline.grid.georeference import Georeference
from pipeline.legend.true_colour import Rgb, red_green_blue
from pipeline.source.bands.fitted import all_names, given_names
from pipeline.source.raster import Raster
from pipeline.source.reading import ReadContext


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
    def given_names(self) -> tuple[str, ...]:
        """What its file calls these bands; "" where it does not say."""
        return given_names(self.raster)

    @property
    def all_names(self) -> tuple[tuple[str, ...], ...]:
        """Everything that its file calls each of these bands."""
        return all_names(self.raster)

    @property
    def rgb(self) -> Rgb | None:
        """Indices of its red, green and blue band; None where there are none."""
        colours = getattr(self.raster, "colours", ()) or ("",) * len(self.bands)
        return red_green_blue(self.bands, [self.given_names, colours], self.dtype)

    @property
    def dtype(self) -> str:
        """Dtype of the pixels."""
        return self.raster.dtype

    @property
    def physical(self) -> bool | None:
        """Whether values are scaled as the files declare; see `Raster.physical`."""
        return self.raster.physical

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
        return self.raster.read(window, ReadContext(bad=[] if self.tolerant else None))

    def inside(self, window: Window) -> npt.NDArray[np.bool_] | None:
        """True where labels are wanted, shape of the window; None for everywhere."""
        return None if self.area is None else self.area.mask(window)


def crop(view: View, wanted: Interest | None, cell_px: int) -> View:
    """A view's part that an interest covers: whole cells of the raster's grid, and the area in them.

    Raises
    ------
    RasterError
        If the raster has no transform; a `MissedError` if the interest misses it.
    """
    if wanted is None:
        return view
    place = view.raster.georeference
    if place.transform is None:
        raise RasterError(view.path, f"has no transform to place {wanted.what} on it; warp it first")
    polygons = wanted.polygons
    if wanted.crs_wkt and not place.crs_wkt:
        raise RasterError(
            view.path, f"has no CRS to place {wanted.what} on it; assign one (gdal_edit -a_srs)"
        )
    if wanted.crs_wkt and place.crs_wkt:
        try:
            polygons = tuple(reprojected(p, wanted.crs_wkt, place.crs_wkt) for p in polygons)
        except (CPLE_BaseError, RasterioError) as error:
            said = f"{wanted.what} cannot be brought into its CRS ({one_line(error)}); check its coordinates"
            raise RasterError(view.path, said) from error
    if (turn := full_turn(place.crs_wkt)) is not None:
        polygons = all_around(polygons, turn, place.transform, (view.raster.height, view.raster.width))
    area = Area(tuple(tuple(ring_in_pixels(r, place.transform) for r in p) for p in polygons))
    region = cells_around(area, view.bounds, cell_px)
    if region is None:
        raise MissedError(view.path, f"{wanted.what} misses this raster; check its coordinates and CRS")
    return replace(view, region=region, area=area)
