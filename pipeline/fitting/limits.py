"""Whether a codebook's limits are those of a raster: pixels far outside all get the outermost labels."""

from __future__ import annotations

from itertools import islice

import numpy as np

from engine.block_loops import block_means
from engine.codebook import Codebook
from engine.kernel import ClusteringKernel, Kernel
from pipeline.errors import RasterError
from pipeline.fitting.feature_sets import of_statistics
from pipeline.fitting.sampling import Pixels, cells

MOST = 0.5
"""A larger share outside the limits means other units or scaling, not a brighter scene."""

_CELLS = 4


def share_outside(pixels: Pixels, codebook: Codebook, kernel: Kernel) -> float | None:
    """Share of the blocks of a few cells with a band outside the limits that a codebook was fitted on.

    Parameters
    ----------
    pixels
        A raster with the codebook's bands. The cells are chosen by hash, as those of a fit.
    codebook
        With or without limits.
    kernel
        That of the codebook.

    Returns
    -------
    float or None
        0 to 1; None for a codebook without limits, or if no pixel is valid or the cells cannot be read.
    """
    scaling = codebook.scaling
    if scaling is None:
        return None
    low, high = (limit[:, None, None] for limit in (scaling.low, scaling.high))
    # the limits are those of the blocks or pixels that made the statistics; blocks spread less
    side = of_statistics(kernel).stride_px if isinstance(kernel, ClusteringKernel) else 1
    outside = total = 0
    for cell in islice(cells([pixels], codebook.fit.get("seed", 0), kernel.cell_px), _CELLS):
        try:
            values, valid = pixels.read(cell.window)
        except (RasterError, MemoryError):
            continue  # the run says so where it labels them
        if (inside := pixels.inside(cell.window)) is not None:
            valid = valid & inside
        values, valid = block_means(values, valid, cell.window.row % side, cell.window.col % side, side)
        outside += int(np.count_nonzero(((values < low) | (values > high)).any(axis=0) & valid))
        total += int(np.count_nonzero(valid))
    return outside / total if total else None
