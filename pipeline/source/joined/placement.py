"""Where the file of a band lies on a stack's grid; what does not fit there is refused with what to do."""

from __future__ import annotations

import math
import shlex
from fractions import Fraction
from pathlib import Path

from engine.resampling import Axis, Method
from pipeline.errors import RasterError
from pipeline.grid.alignment import TOLERANCE_PX, Alignment
from pipeline.grid.crs import crs_name, other_crs, same_crs
from pipeline.grid.georeference import Transform, on_ground
from pipeline.source.raster import Raster

_FINEST, _COARSEST = 1 / 2048, 1 << 20
"""Sides of pixels, in pixels of the stack: one of the stack is made of some millions at most."""
_FRACTIONS = 64
"""Denominators up to which the ratio of two grids, and their offset, is taken for exact."""
_EXACT_PX = 1e-3
_RESAMPLE = "give --resample (nearest, bilinear or average)"


class _MisfitError(Exception):
    """A raster does not fit a grid: why, and what to do."""

    def __init__(self, why: str, remedy: str) -> None:
        super().__init__(why, remedy)
        self.why = why
        self.remedy = remedy


def axes(raster: Raster, grid: Raster, path: str, resample: Method | None) -> tuple[Axis, Axis]:
    """Where the pixels of a grid lie on a raster, by rows and by columns.

    Parameters
    ----------
    raster
        The raster.
    grid
        The raster whose grid the stack has.
    path
        Name of the stack in messages.
    resample
        As of `stack.build`.

    Raises
    ------
    RasterError
        If the raster does not fit that grid.
    """
    try:
        placed = _transforms(raster, grid)
        if placed is None:
            return _axis(0, 1, raster.height), _axis(0, 1, raster.width)
        return _aligned(raster, grid, *placed, resample)
    except _MisfitError as misfit:
        where = f"{raster.path} does not lie on the grid of {grid.path}"
        raise RasterError(path, f"{where}: {misfit.why}; {misfit.remedy}") from None


def _transforms(raster: Raster, grid: Raster) -> tuple[Transform, Transform] | None:
    """The transforms of two rasters in one CRS; None if they have none and are alike."""
    own, common = raster.georeference, grid.georeference
    if not same_crs(own.crs_wkt, common.crs_wkt):
        raise _MisfitError(other_crs(own.crs_wkt, common.crs_wkt), _warp(raster, grid))
    if own.transform is not None and common.transform is not None:
        return own.transform, common.transform
    if own != common or (raster.height, raster.width) != (grid.height, grid.width):
        why = "without a transform, sizes and control points have to be equal"
        raise _MisfitError(why, _warp(raster, grid))
    return None


def _aligned(
    raster: Raster, grid: Raster, own: Transform, common: Transform, resample: Method | None
) -> tuple[Axis, Axis]:
    size = raster.height, raster.width
    alignment = Alignment.of(own, size, common)
    ratio, corner = alignment.ratio(size), alignment.corner
    sides = sorted((alignment.height, alignment.width))
    said = f"its pixels are {alignment.width:.6g} x {alignment.height:.6g} of those"
    if ratio is None and (alignment.skew > TOLERANCE_PX or sides[0] <= 0):
        raise _MisfitError(f"{said}, or turned", _warp(raster, grid))
    if ratio is None and resample is None:
        raise _MisfitError(said, _RESAMPLE)
    if corner is None and resample is None:
        offset = ", ".join(f"{round(v, 2) + 0.0:.2f}" for v in (alignment.col, alignment.row))
        raise _MisfitError(f"its corner lies at pixel {offset} of it, not at whole ones", _RESAMPLE)
    if not _FINEST <= sides[0] <= sides[1] <= _COARSEST:
        raise _MisfitError(said, "choose another --reference-band, or resample it first (gdalwarp -tr)")
    elsewhere = _MisfitError("it lies elsewhere", "check that it is of this scene")
    # far away, positions are not exact any more
    if not abs(alignment.row) + abs(alignment.col) < 1 << 40:
        raise elsewhere
    row, col = corner or (alignment.row, alignment.col)
    height, width = ratio or (alignment.height, alignment.width)
    down, across = _axis(row, height, raster.height), _axis(col, width, raster.width)
    for axis, pixels in ((down, grid.height), (across, grid.width)):
        first, end = axis.covered(0, pixels)
        if first >= end:
            raise elsewhere
    return down, across


def _axis(start: float, side: float, size: int) -> Axis:
    """An axis of which small fractions are exact, as floats are not."""
    return Axis.of(_exact(start, _EXACT_PX), _exact(side, TOLERANCE_PX / size), size)


def _exact(value: float, tolerance: float) -> Fraction:
    fraction = Fraction(value).limit_denominator(_FRACTIONS)
    return fraction if abs(fraction - Fraction(value)) <= tolerance else Fraction(value)


def _warp(raster: Raster, grid: Raster) -> str:
    """The command that brings a raster to a grid, where a line can say it."""
    crs, transform = crs_name(grid.georeference.crs_wkt), grid.georeference.transform
    turned = transform is None or not math.isclose(abs(transform[1]) + abs(transform[3]), 0)
    if transform is None or turned or not crs.startswith(("EPSG:", "ESRI:")):
        return "warp it to that grid first (gdalwarp)"
    corners = on_ground(transform, 0, 0), on_ground(transform, grid.width, grid.height)
    (left, right), (bottom, top) = (sorted(values) for values in zip(*corners, strict=True))
    extent = " ".join(f"{v:.12g}" for v in (left, bottom, right, top))
    target = f"{Path(raster.path).stem}_warped.tif"
    return (
        f"warp it first: gdalwarp -t_srs {crs} -te {extent} -ts {grid.width} {grid.height} -r bilinear "
        f"{shlex.quote(raster.path)} {shlex.quote(target)}"
    )
