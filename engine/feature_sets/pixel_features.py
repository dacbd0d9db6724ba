"""Compiled loops from pixels to features: CIELAB, and means and deviations in windows.

Values are whole numbers (fixed point where they were none), and so are their sums: the result does not depend
on where a loop begins, nor on the processor. Square roots and divisions are IEEE's.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from engine import colours
from engine.arrays import F32, F64
from engine.feature_sets.feature_set import DEVIATION_WEIGHT, WINDOW_PX, FeatureSet
from engine.jit import compiled

_UNITS = 128  # of a fixed-point number make 1
_LEVELS = 1 << 16  # of linear light
_F_BITS = 18  # of the cube roots

Limits = tuple[F64, F64]
"""Value of each band that becomes 0, and factor to 0..255."""


def pixel_features(
    feature_set: FeatureSet,
    pixels: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    core: tuple[slice, slice],
    limits: Limits | None,
) -> F32:
    """Features of each pixel of a part of an array.

    Parameters
    ----------
    feature_set
        Which; not `FeatureSet.is_bands`.
    pixels
        Shape (band, y, x): the part, and as much around it as the features depend on, or as there is.
    valid
        Shape (y, x), True where a pixel counts.
    core
        The part.
    limits
        Scaling of the pixels to 0..255; None where they are bytes that need none.

    Returns
    -------
    numpy.ndarray
        float32, shape (D, y, x) of the part; anything where invalid.

    Raises
    ------
    ValueError
        If such pixels have no such features.
    """
    # the compiled loops do not check it
    if why := feature_set.why_not(len(pixels), pixels.dtype.name, scaled=limits is not None):
        raise ValueError(why)
    if feature_set.lab:
        values, units = _lab_of(pixels), _UNITS
    elif limits is None:
        values, units = pixels, 1
    else:
        values, units = _scaled_of(pixels, valid, limits), _UNITS
    if not feature_set.texture:
        return values[:, *core].astype(np.float32) / np.float32(units)
    rows, cols = core
    channels, _, width = values.shape
    out = np.empty((channels + 1, rows.stop - rows.start, cols.stop - cols.start), np.float32)
    # room beyond both ends, where nothing counts
    padded = width + 2 * (WINDOW_PX // 2)
    _texture(
        values,
        valid,
        WINDOW_PX // 2,
        rows.start,
        cols.start,
        1 if feature_set.lab else channels,
        np.float64(units),
        np.float64(DEVIATION_WEIGHT),
        np.zeros((channels, padded), np.int32),
        np.zeros(padded, np.float64),
        np.zeros(padded, np.int32),
        out,
    )
    return out


def lab_of(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """CIELAB of sRGB, both of shape (3, y, x); within 0.1 of the exact values."""
    return _lab_of(pixels) / _UNITS


def _lab_of(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    out = np.empty(pixels.shape, np.int16)
    _lab(pixels, *_tables(), out)
    return out


def _scaled_of(
    pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_], limits: Limits
) -> npt.NDArray[np.int16]:
    out = np.empty(pixels.shape, np.int16)
    _scaled(pixels, valid, *limits, np.float64(_UNITS), out)
    return out


@functools.cache
def _tables() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int32]]:
    """Linear light (colour, value, X Y Z) of each value of each colour, and CIELAB's function of their sums.

    Rounded to whole numbers, which are the same wherever the last bits of a cube root differ.
    """
    to_xyz = colours.TO_XYZ / colours.WHITE[:, None]
    light = to_xyz.T[:, None] * colours.linear(np.arange(256) / 255)[:, None]
    light = np.rint(light * (_LEVELS - 1)).astype(np.uint32)
    most = int(light[:, -1].sum(axis=0).max())
    sums = np.minimum(np.arange(most + 1) / (_LEVELS - 1), 1)
    return light, np.rint(colours.cube_root(sums) * (1 << _F_BITS)).astype(np.int32)


@compiled
def _lab(pixels: Any, light: Any, root: Any, out: Any) -> None:
    """Write CIELAB into `out`, in units of 1 / 128."""
    _, height, width = pixels.shape
    half = np.int32(1 << 10)
    for y in range(height):
        red, green, blue = pixels[0, y], pixels[1, y], pixels[2, y]
        for x in range(width):
            r, g, b = light[0, red[x]], light[1, green[x]], light[2, blue[x]]
            fx, fy, fz = root[r[0] + g[0] + b[0]], root[r[1] + g[1] + b[1]], root[r[2] + g[2] + b[2]]
            # 18 bits less 7 of the units
            out[0, y, x] = ((116 * fy + half) >> 11) - 2048
            out[1, y, x] = (500 * (fx - fy) + half) >> 11
            out[2, y, x] = (200 * (fy - fz) + half) >> 11


@compiled
def _scaled(pixels: Any, valid: Any, low: Any, gain: Any, units: Any, out: Any) -> None:
    """Write values scaled to 0..255, in `units`; 0 where invalid."""
    bands, height, width = pixels.shape
    for band in range(bands):
        for y in range(height):
            for x in range(width):
                value = (np.float64(pixels[band, y, x]) - low[band]) * gain[band]
                value = min(max(value, 0.0), 255.0) * units + 0.5
                out[band, y, x] = np.int16(value) if valid[y, x] else np.int16(0)


@compiled
def _texture(
    values: Any,
    valid: Any,
    radius: int,
    top: int,
    left: int,
    seen: int,
    units: float,
    weight: float,
    sums: Any,
    squares: Any,
    counts: Any,
    out: Any,
) -> None:
    """Write means of the windows into `out`, and last the deviation of the first `seen` channels.

    `sums` (channel, x), `squares` (x,) and `counts` (x,) are zeros. They sum the columns of a window's rows,
    from `radius` before the first column to as much after the last: a row more and one less for each step.
    """
    channels, height, _ = values.shape
    _, rows, width = out.shape
    total, square, count = np.empty(width, np.int32), np.empty(width), np.empty(width, np.int32)
    share = np.empty(width)
    for i in range(rows):
        y = top + i
        first = y - radius if i == 0 else y + radius
        for line in range(max(first, 0), min(y + radius + 1, height)):
            _add(values, valid, line, radius, seen, np.int32(1), sums, squares, counts)
        if i > 0 and y - radius - 1 >= 0:
            _add(values, valid, y - radius - 1, radius, seen, np.int32(-1), sums, squares, counts)
        _row_sums(counts, left, radius, count)
        _row_sums(squares, left, radius, square)
        for x in range(width):
            number = np.float64(max(count[x], np.int32(1)))
            square[x] *= number
            share[x] = 1 / (number * units)
        for c in range(channels):
            _row_sums(sums[c], left, radius, total)
            mean = out[c, i]
            for x in range(width):
                mean[x] = np.float32(np.float64(total[x]) * share[x])
            if c < seen:
                for x in range(width):
                    square[x] -= np.float64(total[x]) * np.float64(total[x])
        deviation = out[channels, i]
        for x in range(width):
            deviation[x] = np.float32(weight * np.sqrt(square[x] / seen) * share[x])


@compiled
def _row_sums(columns: Any, left: int, radius: int, out: Any) -> None:
    """Write the sums of the columns of each window into `out`, from that which begins at `left`."""
    width = out.size
    first, last = columns[left : left + width], columns[left + 2 * radius : left + 2 * radius + width]
    for x in range(width):
        out[x] = first[x] + last[x]
    for k in range(left + 1, left + 2 * radius):
        column = columns[k : k + width]
        for x in range(width):
            out[x] += column[x]


@compiled
def _add(
    values: Any, valid: Any, y: int, radius: int, seen: int, sign: Any, sums: Any, squares: Any, counts: Any
) -> None:
    """Add a row to the columns, or take it away with a `sign` of -1."""
    channels, _, width = values.shape
    here, count, square = valid[y], counts[radius : radius + width], squares[radius : radius + width]
    for x in range(width):
        count[x] += sign if here[x] else np.int32(0)
    for c in range(channels):
        line, total = values[c, y], sums[c, radius : radius + width]
        for x in range(width):
            total[x] += sign * np.int32(line[x]) if here[x] else np.int32(0)
        if c < seen:
            for x in range(width):
                value = np.float64(line[x]) if here[x] else 0.0
                square[x] += sign * value * value
