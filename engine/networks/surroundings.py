"""What a network is shown of a raster: pixels from 0 to 1, and their reflections beyond the raster's edge.

A pixel beyond the edge is a reflection within the cell that the edge is in, and what surrounds that cell. So
each place has one value, whatever chunk or window is evaluated.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from engine.grid import Window
from engine.kernel import BandStatistics, Patch

F32 = npt.NDArray[np.float32]


def image(patch: Patch, there: Window, cell_px: int, halo_px: int, statistics: BandStatistics) -> F32:
    """A window as a network's input: (band, y, x), float32 in 0 to 1.

    Parameters
    ----------
    patch
        Pixels around the window, as far as there are any.
    there
        The window, which may reach beyond the raster.
    cell_px, halo_px
        Side of the cells, and how far reflections reach beyond the one that the raster's edge is in.
    statistics
        Invalid pixels are shown as the band's mean, wide dtypes scaled.
    """
    bounds = patch.bounds
    rows = _sources(there.row, there.row_end, bounds.row, bounds.row_end, cell_px, halo_px)
    cols = _sources(there.col, there.col_end, bounds.col, bounds.col_end, cell_px, halo_px)
    row, col = int(rows.min()), int(cols.min())
    used = Window(row, col, int(rows.max()) + 1 - row, int(cols.max()) + 1 - col).slices(patch.outer)
    pixels, valid = patch.pixels[:, *used], patch.valid[used]
    mean, white = statistics.mean, np.float32(255)
    if statistics.scaling is None:
        shown = np.divide(pixels, white, dtype=np.float32, casting="unsafe")
    else:
        low, gain = statistics.scaling.low, statistics.scaling.gain
        with np.errstate(invalid="ignore"):  # NaN stands only where a pixel is invalid
            shown = np.clip((pixels - low[:, None, None]) * gain[:, None, None], 0, 255).astype(np.float32)
        shown /= white
        mean = np.clip((mean - low) * gain, 0, 255)
    if not valid.all():
        np.copyto(shown, (mean.astype(np.float32) / white)[:, None, None], where=~valid)
    for axis, wanted in ((1, rows - row), (2, cols - col)):
        if (np.diff(wanted) != 1).any():
            shown = shown.take(wanted, axis)
    return shown


def _sources(
    start: int, stop: int, first: int, end: int, cell_px: int, halo_px: int
) -> npt.NDArray[np.int64]:
    """Where the pixels from `start` to `stop` are taken from, of those there are, from `first` to `end`."""
    wanted = np.arange(start, stop)
    top_end = min((first // cell_px + 1) * cell_px + halo_px, end)
    bottom = max((end - 1) // cell_px * cell_px - halo_px, first)
    above = first + _reflected(wanted - first, top_end - first)
    below = bottom + _reflected(wanted - bottom, end - bottom)
    return np.where(wanted < first, above, np.where(wanted < end, wanted, below))


def _reflected(index: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.int64]:
    """Indices into an axis of `size`, reflected at its ends as often as needed."""
    if size == 1:
        return np.zeros_like(index)
    period = 2 * (size - 1)
    folded = index % period
    return np.where(folded < size, folded, period - folded)
