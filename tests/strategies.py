"""Hypothesis strategies: windows, patches of pixels with their validity, codebooks."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from engine.block_kmeans import BlockKMeans
from engine.codebook import Codebook, Scaling
from engine.grid import Window
from engine.kernel import Patch

DTYPES = ("uint8", "uint16", "int16", "float32", "float64")


@st.composite
def windows(draw, most=40, farthest=100):
    """A window anywhere."""
    row, col = draw(st.integers(0, farthest)), draw(st.integers(0, farthest))
    return Window(row, col, draw(st.integers(1, most)), draw(st.integers(1, most)))


@st.composite
def windows_in(draw, bounds, step=1):
    """A window within another, which begins and ends on multiples of `step` or at its edges."""
    row, row_end = draw(_stretches(bounds.row, bounds.row_end, step))
    col, col_end = draw(_stretches(bounds.col, bounds.col_end, step))
    return Window(row, col, row_end - row, col_end - col)


def _stretches(start, end, step):
    cuts = sorted({start, end, *range(-(-start // step) * step, end, step)})
    places = st.tuples(st.integers(0, len(cuts) - 2), st.integers(1, len(cuts) - 1))
    return places.map(lambda p: (cuts[p[0]], cuts[max(p[1], p[0] + 1)]))


@st.composite
def patches(draw, bounds=None, most=40):
    """A whole small raster as one patch: any dtype, holes; what is invalid holds rubbish."""
    bounds = bounds or draw(windows(most))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, 4)), bounds.height, bounds.width)
    if dtype.kind == "f":
        pixels = rng.normal(0, 10.0 ** draw(st.integers(-2, 4)), shape).astype(dtype)
    else:
        info = np.iinfo(dtype)
        few = draw(st.booleans())  # few values make ties
        pixels = rng.integers(0, 4, shape) if few else rng.integers(info.min, info.max + 1, shape)
        pixels = pixels.astype(dtype)
    valid = rng.random(shape[1:]) < draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    if dtype.kind == "f":
        pixels[:, ~valid] = np.nan
    return Patch(pixels, valid, bounds, bounds, bounds)


@st.composite
def codebooks(draw, patch, resolution):
    """A codebook for a patch's bands and dtype: some of its own pixels as centres, so that ties occur."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    bands, k = len(patch.pixels), draw(st.integers(1, 12))
    scaled = draw(st.booleans())
    values = np.nan_to_num(patch.pixels.reshape(bands, -1).astype(np.float64))
    centres = values[:, rng.integers(0, values.shape[1], k)].T
    low = values.min(axis=1) + rng.random(bands)
    scaling = Scaling(low, low + rng.integers(0, 3, bands) * (np.ptp(values, axis=1) + 1)) if scaled else None
    if scaling is not None:
        centres = scaling.apply(centres)
    centres = centres[np.argsort(centres.mean(axis=1), kind="stable")].astype(np.float32)
    return codebook(centres, resolution, str(patch.pixels.dtype), scaling)


def codebook(centres, resolution=1, dtype="uint8", scaling=None, **more):
    """A codebook of given centres (K, D)."""
    centres = np.asarray(centres, np.float32)
    bands = centres.shape[1]
    return Codebook(
        centres=centres,
        kernel=BlockKMeans(resolution).identity,
        bands=tuple(range(1, bands + 1)),
        dtype=dtype,
        band_mean=np.zeros(bands),
        scaling=scaling,
        **more,
    )
