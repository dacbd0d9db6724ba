"""The compiled loop that resamples pixels: means by the weights of `engine.resampling`.

Sums are taken in the order of the source's pixels, in float64 and without fast-math, so a mean has the same
bytes in every window, on every machine. The loop releases the GIL.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.jit import compiled


@compiled
def weighted_means(pixels: Any, rows: Any, row_weights: Any, cols: Any, col_weights: Any, means: Any) -> None:
    """Write the mean by weight of the pixels that are numbers into `means`, NaN where none has a weight.

    Parameters
    ----------
    pixels
        Shape (y, x), float64; NaN where a pixel does not count.
    rows, row_weights
        First row of each result, shape (h,), and weights from there on, shape (h, k). What has a weight has
        to be within `pixels`.
    cols, col_weights
        The same of columns.
    means
        Shape (h, w), float64; written.
    """
    height, width = means.shape
    across = pixels.shape[1]
    # each column of the rows that a row of results is made of comes first: that vectorises, and is done once
    totals = np.empty(across)
    weights = np.empty(across)
    for y in range(height):
        totals[:] = 0.0
        weights[:] = 0.0
        for i in range(row_weights.shape[1]):
            share = row_weights[y, i]
            if share == 0.0:
                continue
            line = pixels[rows[y] + i]
            for c in range(across):
                value = line[c]
                counts = value == value  # noqa: PLR0124  (not NaN)
                totals[c] += share * value if counts else 0.0
                weights[c] += share if counts else 0.0
        for x in range(width):
            total = 0.0
            weight = 0.0
            for j in range(col_weights.shape[1]):
                share = col_weights[x, j]
                if share != 0.0:
                    total += share * totals[cols[x] + j]
                    weight += share * weights[cols[x] + j]
            means[y, x] = total / weight if weight > 0.0 else np.nan
