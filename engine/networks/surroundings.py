"""The input images of a network: pixels scaled to 0..1, reflected beyond the raster's edge.

A pixel beyond the edge is a reflection within the cell at the edge and that cell's halo. So each
position has one value, whatever chunk or window is evaluated.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.arrays import F32
from engine.grid import Window
from engine.kernel import BandStatistics, Patch


def image(patch: Patch, window: Window, cell_px: int, halo_px: int, statistics: BandStatistics) -> F32:
    """A window as a network's input: (band, y, x), float32 in 0 to 1.

    Parameters
    ----------
    patch
        Pixels around the window, as far as the raster has them.
    window
        The window, which may reach beyond the raster.
    cell_px, halo_px
        Side of the cells, and how far beyond the cell at the raster's edge reflected pixels are taken from.
    statistics
        Invalid pixels become the band's mean; wide dtypes are scaled.
    """
    bounds = patch.bounds
    rows = _sources(window.row, window.row_end, bounds.row, bounds.row_end, cell_px, halo_px)
    cols = _sources(window.col, window.col_end, bounds.col, bounds.col_end, cell_px, halo_px)
    row, col = int(rows.min()), int(cols.min())
    used = Window(row, col, int(rows.max()) + 1 - row, int(cols.max()) + 1 - col).slices(patch.outer)
    pixels, valid = patch.pixels[:, *used], patch.valid[used]
    mean, white = statistics.mean, np.float32(255)
    if statistics.scaling is None:
        scaled = np.divide(pixels, white, dtype=np.float32, casting="unsafe")
    else:
        low, gain = statistics.scaling.low, statistics.scaling.gain
        with np.errstate(invalid="ignore"):  # only invalid pixels are NaN
            scaled = np.clip((pixels - low[:, None, None]) * gain[:, None, None], 0, 255).astype(np.float32)
        scaled /= white
        mean = np.clip((mean - low) * gain, 0, 255)
    if not valid.all():
        np.copyto(scaled, (mean.astype(np.float32) / white)[:, None, None], where=~valid)
    for axis, indices in ((1, rows - row), (2, cols - col)):
        if (np.diff(indices) != 1).any():
            scaled = scaled.take(indices, axis)
    return scaled


def _sources(
    start: int, stop: int, first: int, end: int, cell_px: int, halo_px: int
) -> npt.NDArray[np.int64]:
    """For each index from `start` to `stop`, the pixel from `first` to `end` that it is taken from."""
    wanted = np.arange(start, stop)
    top_end = min((first // cell_px + 1) * cell_px + halo_px, end)
    bottom = max((end - 1) // cell_px * cell_px - halo_px, first)
    above = first + _reflected(wanted - first, top_end - first)
    below = bottom + _reflected(wanted - bottom, end - bottom)
    return np.where(wanted < first, above, np.where(wanted < end, wanted, below))


def _reflected(index: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """Indices into an axis of `size`, reflected at its ends until they lie within it."""
    if size == 1:
        return np.zeros_like(index)
    period = 2 * (size - 1)
    folded = index % period
    return np.where(folded < size, folded, period - folded)
