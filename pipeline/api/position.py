"""Where the pixels of an array lie: on the grid of the raster that it is a slice of, and on the ground."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import rioxarray  # noqa: F401  (registers the .rio accessor)
import xarray as xr
from rioxarray.exceptions import MissingSpatialDimensionError

from engine.grid import Window
from pipeline.api.origin import Origin
from pipeline.errors import UsageError
from pipeline.grid.alignment import TOLERANCE_PX
from pipeline.grid.crs import same_crs
from pipeline.grid.georeference import Georeference, GroundControlPoint, Transform, in_pixels

OFFSETS = ("row", "column")
"""Coordinates that hold the pixel offsets in the raster which an array is a slice of."""

_LATITUDE = (("y", "x"), ("latitude", "longitude"), ("lat", "lon"), ("Y", "X"))
_UNPLACED: Transform = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
EXACT_PX = 1e-4
"""Coordinates this near are those of a transform: rounding moves them less, people move them more."""

_UNEVEN = 0.1  # share of a pixel's side that steps between coordinates may differ, as of float32


def spatial_dims(array: xr.DataArray | xr.Dataset) -> tuple[str, str]:
    """Names of the dimensions (y, x): those that rioxarray knows or was told, or lat and lon.

    Raises
    ------
    UsageError
        If there are none.
    """
    try:
        return str(array.rio.y_dim), str(array.rio.x_dim)
    except MissingSpatialDimensionError:
        for y, x in _LATITUDE:
            if y in array.dims and x in array.dims:
                return y, x
    name = getattr(array, "name", None) or "the array"
    raise UsageError(
        f"{name}: none of its dimensions {', '.join(map(str, array.dims))} is known as y or x; "
        "rename them, or name them with array.rio.set_spatial_dims(x_dim=..., y_dim=...)"
    )


@dataclass(frozen=True, slots=True)
class _Lie:
    """Where the pixels of an array lie on the grid of a transform.

    Parameters
    ----------
    row, col
        The first pixel, in pixels.
    down, across
        Steps from a pixel to the next, in pixels.
    drift
        How far the last pixel is from where steps of one pixel lead.
    """

    row: float
    col: float
    down: float
    across: float
    drift: float

    def corner(self, tolerance_px: float) -> tuple[int, int] | None:
        """Whole (row, col) of the first pixel, if each pixel lies on one of the grid; else None."""
        row, col = round(self.row), round(self.col)
        off = max(abs(self.row - row), abs(self.col - col), self.drift)
        return (row, col) if off <= tolerance_px else None

    @property
    def skips(self) -> bool:
        """Whether pixels lie on those of the grid, but leave some out or run backwards."""
        steps = round(self.down), round(self.across)
        off = [abs(self.down - steps[0]), abs(self.across - steps[1])]
        off += [abs(self.row - round(self.row)), abs(self.col - round(self.col))]
        return steps != (1, 1) and 0 not in steps and max(off) <= TOLERANCE_PX


def bounds_of(array: xr.DataArray) -> Window:
    """Where an array (..., y, x) lies on the pixel grid of its raster.

    That is said by the coordinates `row` and `column`, else by the coordinates of a slice whose transform is
    still that of the whole (as after `isel`); any other array is a grid of its own.

    Raises
    ------
    UsageError
        If the array is empty, or was thinned out, flipped or reordered.
    """
    y, x = spatial_dims(array)
    height, width = array.sizes[y], array.sizes[x]
    if array.size == 0:
        raise UsageError(f"{named(array)} has no pixels: its dimensions are {dict(array.sizes)}")
    starts = _offsets(array)
    if starts is None:
        for dim in (y, x):
            _axis(array, dim)  # refuses those that are not even
        starts = _start(array)
    return Window(*starts, height, width)


def _offsets(array: xr.DataArray) -> tuple[int, int] | None:
    """The first pixel by the coordinates `row` and `column`, or None where they are not there."""
    dims = spatial_dims(array)
    starts = []
    for name, dim in zip(OFFSETS, dims, strict=True):
        # a mean of pixels has a mean of offsets, which is none: such an array is another grid
        if name not in array.coords or array.coords[name].dims != (dim,) or array[name].dtype.kind != "i":
            return None
        offsets = array.coords[name].values
        if offsets.size > 1 and not (np.diff(offsets) == 1).all():
            raise UsageError(f"{named(array)} skips pixels along {name!r}; take plain slices without a step")
        starts.append(int(offsets[0]))
    return starts[0], starts[1]


def _start(array: xr.DataArray) -> tuple[int, int]:
    """The first pixel on the grid of the transform that the array came with; (0, 0) for a grid of its own."""
    transform, anchor = _written(array), _anchor(array)
    lie = None if transform is None else _lie(array, transform, anchor)
    if lie is None:
        return 0, 0
    if lie.skips:
        raise UsageError(
            f"{named(array)} leaves out or turns around pixels of its raster, whose blocks it then lacks; "
            "take plain slices without a step, or make it a grid of its own: array.rio.write_transform()"
        )
    corner = lie.corner(TOLERANCE_PX)
    return (0, 0) if corner is None or min(corner) < 0 else corner


def named(array: xr.DataArray) -> str:
    """An array's name in messages."""
    return str(array.name or "the array")


def georeference_of(array: xr.DataArray) -> Georeference:
    """Where an array lies on the ground now, as `rio.to_raster` would write it.

    Exact to the bit where the array lies on the pixels of the raster that it was opened from.

    Raises
    ------
    UsageError
        If its coordinates are not even.
    """
    origin = Origin.of(array) or Origin()
    place, written = origin.georeference, _written(array)
    crs = _crs(array, place.crs_wkt)
    area = place.area_or_point if Origin.of(array) else str(array.attrs.get("AREA_OR_POINT", "Area"))
    rotated_since = written is not None and bool(written[1] or written[3]) and written != place.transform
    if not (rotated_since and Origin.of(array)):
        for transform, anchor in ((place.transform, _anchor(array)), (written, _anchor(array))):
            lie = None if transform is None else _lie(array, transform, anchor)
            corner = None if lie is None else lie.corner(EXACT_PX)
            if corner is not None:
                rpcs = place.rpcs if transform == place.transform else ()
                return _placed(Georeference(crs, transform, (), area, rpcs), corner)
        from_axes = _transform_of_axes(array, written)
        if from_axes is not None:
            return _placed(Georeference(crs, from_axes, (), area), (0, 0))
    points = _points(array) if written in (None, _UNPLACED) else ()
    now = Georeference(crs, written, points, area)
    # what was written or noted after the raster was opened was meant for this very array
    if now.transform not in (place.transform, _UNPLACED) or points != place.gcps:
        return _placed(now, (0, 0))
    return _placed(replace(now, rpcs=place.rpcs), _offsets(array) or (0, 0))


def _placed(place: Georeference, corner: tuple[int, int]) -> Georeference:
    """The georeference from a pixel on; pixels that are their own coordinates are not placed at all."""
    shifted = place.shifted(*corner)
    return replace(shifted, transform=None) if shifted.transform == _UNPLACED else shifted


def whole_of(array: xr.DataArray) -> Origin:
    """The origin of an array: what it remembers, or what it says of the raster that it is a slice of."""
    remembered = Origin.of(array)
    if remembered is not None:
        return remembered
    area = str(array.attrs.get("AREA_OR_POINT", "Area"))
    place = Georeference(_crs(array, None), _written(array), _points(array), area)
    return Origin(place, corner=_anchor(array) == 0)


def _crs(array: xr.DataArray, before: str | None) -> str | None:
    """WKT of the CRS now; the text that it had before where it still is the same."""
    crs = array.rio.crs
    wkt = None if crs is None else str(crs.to_wkt())
    return before if same_crs(wkt, before) else wkt


def _points(array: xr.DataArray) -> tuple[GroundControlPoint, ...]:
    points = array.rio.get_gcps() or ()
    return tuple(GroundControlPoint(p.row, p.col, p.x, p.y, p.z or 0.0) for p in points)


def _written(array: xr.DataArray) -> Transform | None:
    """The transform that is written in an array: in its grid mapping, or in an attribute, as by stackstac."""
    mapping = array.coords.get(array.rio.grid_mapping)
    text = None if mapping is None else mapping.attrs.get("GeoTransform")
    try:
        if text is not None:
            c, a, b, f, d, e = (float(v) for v in (text.split() if isinstance(text, str) else text))
            transform = a, b, c, d, e, f
        else:
            a, b, c, d, e, f = (float(v) for v in array.attrs["transform"][:6])
            transform = a, b, c, d, e, f
    except (KeyError, TypeError, ValueError):
        return None
    return transform if np.isfinite(transform).all() else None


def _anchor(array: xr.DataArray) -> float:
    """What of a pixel its coordinates name: 0.5 its centre, 0.0 its upper-left corner, as of stackstac."""
    origin = Origin.of(array)
    if origin is not None:
        return 0.0 if origin.corner else 0.5
    if "spec" not in array.attrs or (transform := _written(array)) is None:
        return 0.5
    lie = _lie(array, transform, 0.0)
    return 0.5 if lie is None or lie.corner(EXACT_PX) is None else 0.0


def _axis(array: xr.DataArray, dim: str) -> npt.NDArray[np.float64] | None:
    """Coordinates along a dimension, in even steps; None where there are none.

    Raises
    ------
    UsageError
        If their steps differ.
    """
    if dim not in array.coords or array.coords[dim].dtype.kind not in "fiu":
        return None
    coordinate = array.coords[dim].values
    values: npt.NDArray[np.float64] = coordinate.astype(np.float64)
    if len(values) > 1:
        steps = np.diff(values)
        step = (values[-1] - values[0]) / len(steps)
        kind = coordinate.dtype if coordinate.dtype.kind == "f" else np.dtype(np.float64)
        rounding = 4 * float(np.finfo(kind).eps) * float(np.abs(values).max())
        if not step or not (np.abs(steps - step) <= _UNEVEN * abs(step) + rounding).all():
            raise UsageError(
                f"{named(array)} has coordinates {dim!r} in uneven steps: it skips or reorders pixels; "
                "take plain slices, or bring it onto an even grid first, such as with array.interp"
            )
    return values


def _lie(array: xr.DataArray, transform: Transform, anchor: float) -> _Lie | None:
    """Where an array's coordinates lie on the grid of a transform; None where they do not say it."""
    a, b, _, d, e, _ = transform
    if not a * e - b * d:
        return None  # its pixels have no area
    y, x = spatial_dims(array)
    sizes = array.sizes[y], array.sizes[x]
    down, across = _axis(array, y), _axis(array, x)
    if down is not None and across is not None:
        if b or d:
            return None
        first = in_pixels(transform, across[0], down[0])
        last = in_pixels(transform, across[-1], down[-1])
    elif "xc" in array.coords and "yc" in array.coords and array.coords["xc"].dims == (y, x):
        # centres of a rotated raster, as rioxarray has them
        corners = [(float(array["xc"][i, i]), float(array["yc"][i, i])) for i in (0, -1)]
        first, last = (in_pixels(transform, *corner) for corner in corners)
    else:
        return None
    steps = [
        (end - start) / (size - 1) if size > 1 else 1.0
        for start, end, size in zip(first, last, reversed(sizes), strict=True)
    ]
    drift = max(abs(step - 1) * (size - 1) for step, size in zip(steps, reversed(sizes), strict=True))
    return _Lie(first[1] - anchor, first[0] - anchor, steps[1], steps[0], drift)


def _transform_of_axes(array: xr.DataArray, written: Transform | None) -> Transform | None:
    """The transform that coordinates along both axes amount to, as `rio.transform` computes it; else None."""
    y, x = spatial_dims(array)
    down, across = _axis(array, y), _axis(array, x)
    if down is None or across is None:
        return None
    sides = (written[4], written[0]) if written is not None else (None, None)
    starts: list[Any] = []
    for values, side in ((down, sides[0]), (across, sides[1])):
        step = (values[-1] - values[0]) / (len(values) - 1) if len(values) > 1 else side
        if step is None:
            return None  # a single pixel does not say how large it is
        starts.append((float(values[0] - step / 2), float(step)))
    (f, e), (c, a) = starts
    return a, 0.0, c, 0.0, e, f
