"""Compiled loops over pixels: block means and nearest centres.

Arithmetic is element-wise IEEE in a fixed order, without fast-math, so results are bit-identical
on every machine, for any array shape and any number of threads. All loops release the GIL.
Numba compiles them once and caches them beside this file (or in the user's cache folder).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.codebook import Scaling
from engine.jit import compiled

_RUN = 512  # pixels per pass: their distances fit into the first-level cache


@compiled
def _nearest(  # noqa: C901, PLR0912  (numba vectorises loops only within one function)
    values: Any, low: Any, gain: Any, centres: Any, valid: Any, out: Any
) -> None:
    """Write the index of the nearest centre of each column of `values` (D, n) into `out` (n,).

    Ties go to the lowest index; invalid columns get 255.
    """
    dims, n = values.shape
    scaled = low.shape[0] > 0
    run = np.empty((dims, _RUN), np.float32)
    best = np.empty(_RUN, np.float32)
    dist = np.empty(_RUN, np.float32)
    label = np.empty(_RUN, np.uint8)
    for start in range(0, n, _RUN):
        size = min(_RUN, n - start)
        for d in range(dims):
            if scaled:
                for i in range(size):
                    x = (np.float64(values[d, start + i]) - low[d]) * gain[d]
                    run[d, i] = np.float32(min(max(x, 0.0), 255.0))
            else:
                for i in range(size):
                    run[d, i] = np.float32(values[d, start + i])
        for k in range(centres.shape[0]):
            for d in range(dims):
                c = centres[k, d]
                if d == 0:
                    for i in range(size):
                        y = run[d, i] - c
                        dist[i] = y * y
                else:
                    for i in range(size):
                        y = run[d, i] - c
                        dist[i] += y * y
            if k == 0:
                for i in range(size):
                    best[i] = dist[i]
                    label[i] = 0
            else:
                for i in range(size):
                    closer = dist[i] < best[i]
                    best[i] = dist[i] if closer else best[i]
                    label[i] = np.uint8(k) if closer else label[i]
        for i in range(size):
            out[start + i] = label[i] if valid[start + i] else np.uint8(255)


@compiled
def _block_sums(
    pixels: Any, valid: Any, row: int, col: int, block: int, line: Any, seen: Any, sums: Any, counts: Any
) -> None:
    """Add the valid pixels of each block into `sums` (band, by, bx) and `counts` (by, bx).

    `row` and `col` are the offset of the array's first pixel within the first block. Rows are first
    summed into one line, which vectorises; each block then sums its columns of that line. `line` (band, x),
    of the dtype of `sums`, and `seen` (x,) are zeros.
    """
    bands, height, width = pixels.shape
    zero = sums.dtype.type(0)
    for y in range(height):
        for x in range(width):
            seen[x] += np.int32(valid[y, x])
        for b in range(bands):
            for x in range(width):
                line[b, x] += sums.dtype.type(pixels[b, y, x]) if valid[y, x] else zero
        if (y + row + 1) % block == 0 or y == height - 1:
            by = (y + row) // block
            for bx in range(counts.shape[1]):
                start, stop = max(0, bx * block - col), min(width, (bx + 1) * block - col)
                for x in range(start, stop):
                    counts[by, bx] += seen[x]
                for b in range(bands):
                    total = zero
                    for x in range(start, stop):
                        total += line[b, x]
                    sums[b, by, bx] = total
            line[:] = zero
            seen[:] = 0


@compiled
def _spread(blocks: Any, valid: Any, row: int, col: int, block: int, out: Any) -> None:
    """Write its block's label to each valid pixel of `out`, 255 to the others."""
    height, width = out.shape
    line = np.empty(width, np.uint8)
    for y in range(height):
        if y == 0 or (y + row) % block == 0:
            by = (y + row) // block
            for x in range(width):
                line[x] = blocks[by, (x + col) // block]
        for x in range(width):
            out[y, x] = line[x] if valid[y, x] else np.uint8(255)


def nearest(
    values: npt.NDArray[Any],
    centres: npt.NDArray[np.float32],
    valid: npt.NDArray[np.bool_],
    scaling: Scaling | None = None,
) -> npt.NDArray[np.uint8]:
    """Index of the nearest centre (squared Euclidean distance in float32, ties to the lowest).

    Parameters
    ----------
    values
        Shape (D, ...), any real dtype: unscaled features.
    centres
        Shape (K, D), K at most 254.
    valid
        Shape (...), True where a value is valid.
    scaling
        Converts `values` to the scale of the centres; None if they have it already.

    Returns
    -------
    numpy.ndarray
        uint8, shape (...); 255 where invalid.

    Raises
    ------
    ValueError
        If values and centres have other numbers of dimensions, as those of a codebook of another kernel.
    """
    if centres.shape[1:] != (len(values),):  # the compiled loop does not check it
        raise ValueError(f"centres of shape {centres.shape} for vectors of {len(values)} values")
    none = np.empty(0, np.float64)
    low, gain = (scaling.low, scaling.gain) if scaling else (none, none)
    out = np.empty(valid.shape, np.uint8)
    flat = np.ascontiguousarray(values).reshape(len(values), -1)
    _nearest(flat, low, gain, centres, np.ascontiguousarray(valid).reshape(-1), out.reshape(-1))
    return out


def block_means(
    pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_], row: int, col: int, block: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Means of the valid pixels of each block, and which blocks have any.

    Integers of up to 32 bits are summed exactly; floats in float64, row by row.

    Parameters
    ----------
    pixels
        Shape (band, y, x).
    valid
        Shape (y, x), True where valid.
    row, col
        Position of the first pixel in its block, 0 to block - 1.
    block
        Side of a block in pixels.

    Returns
    -------
    means
        Shape (band, by, bx), float64; 0 where a block has no valid pixel.
    seen
        Shape (by, bx), True where a block has a valid pixel.
    """
    bands, height, width = pixels.shape
    shape = (-(-(height + row) // block), -(-(width + col) // block))
    sums = np.zeros((bands, *shape), _sum_dtype(pixels.dtype))
    counts = np.zeros(shape, np.int64)
    # Numba takes long to compile what makes arrays or works on whole ones
    line, line_counts = np.zeros((bands, width), sums.dtype), np.zeros(width, np.int32)
    _block_sums(pixels, valid, row, col, block, line, line_counts, sums, counts)
    seen = counts > 0
    return sums / np.maximum(counts, 1), seen


def _sum_dtype(dtype: np.dtype[Any]) -> type[Any]:
    """Dtype in which the sum of at most 32 x 32 pixels is exact; float64 if no integer dtype fits."""
    if dtype.kind not in "iu" or dtype.itemsize > 4:
        return np.float64
    return np.int32 if dtype.itemsize <= 2 else np.int64


def spread(
    blocks: npt.NDArray[np.uint8], valid: npt.NDArray[np.bool_], row: int, col: int, block: int
) -> npt.NDArray[np.uint8]:
    """Labels of pixels from labels of their blocks; the inverse of `block_means`' geometry.

    Returns
    -------
    numpy.ndarray
        uint8, the shape of `valid`; 255 where invalid.
    """
    out = np.empty(valid.shape, np.uint8)
    _spread(blocks, valid, row, col, block, out)
    return out
