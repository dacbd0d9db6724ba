"""Mean colours of classes, from the pixels of the fit's sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engine.arrays import F32, F64
from engine.block_kmeans import BlockKMeans
from engine.block_loops import nearest
from engine.kernel import MAX_RESOLUTION
from pipeline.errors import UsageError
from pipeline.events.observer import ignore_progress
from pipeline.fitting import gathering
from pipeline.fitting.sampling import Pixels
from pipeline.legend.palette import NATURAL, NOT_NATURAL, Palette
from pipeline.legend.true_colour import Rgb


def common_rgb(rasters: Sequence[Pixels]) -> Rgb | None:
    """Indices of the red, green and blue band of some rasters; None where one has none, or has others."""
    kinds = {raster.rgb for raster in rasters}
    return kinds.pop() if len(kinds) == 1 else None


def refuse_natural(palette: Palette | None, rasters: Sequence[Pixels], *, each: bool = False) -> None:
    """Refuse natural colours of rasters that have none.

    Parameters
    ----------
    palette
        What is asked for.
    rasters
        That a codebook is to be fitted on, or one of `each`.

    Raises
    ------
    UsageError
        Then; names a raster.
    """
    if palette is None or palette.source != NATURAL:
        return
    for fitted in [[raster] for raster in rasters] if each else [rasters]:
        if fitted and common_rgb(fitted) is None:
            path = next((raster.path for raster in fitted if raster.rgb is None), fitted[0].path)
            raise UsageError(f"{path}: {NOT_NATURAL}")


def band_means(
    sample: gathering.Sample,
    centres: F32,
    stride_px: int,
    resources: gathering.Resources,
    pixels: gathering.Sample | None = None,
) -> F64 | None:
    """Mean of each band over the blocks of pixels where features were sampled, of each class.

    Parameters
    ----------
    sample
        Features, whose hashes say where they lie.
    centres
        Shape (K, D).
    stride_px
        Pixels from one feature to the next: the side of a block.
    resources
        Read the pixels again, of which the sample has none.
    pixels
        A sample of the same cells, which may be that of the blocks.

    Returns
    -------
    numpy.ndarray or None
        Shape (K, B), float64; None where blocks of this side cannot be averaged.
    """
    if stride_px > MAX_RESOLUTION:
        return None
    # blocks lie on the grid of the features, and the same hash picks them
    blocks = pixels
    if blocks is None or (blocks.stride_px, blocks.places) != (stride_px, sample.places):
        quiet = replace(resources, advance=ignore_progress, collars=None)
        blocks = sample.again(BlockKMeans(stride_px), None, quiet)
    labels, values = [], []
    for (_, features), (_, block_means) in zip(sample.cells, blocks.cells, strict=True):
        _, here, there = np.intersect1d(features.hashes, block_means.hashes, return_indices=True)
        vectors = np.ascontiguousarray(features.vectors[here].T)
        labels.append(nearest(vectors, centres, np.ones(len(here), bool)))
        values.append(np.asarray(block_means.vectors[there], np.float64))
    label, value = np.concatenate(labels), np.concatenate(values)
    counts = np.bincount(label, minlength=len(centres))
    # in a fixed order, as everything that a codebook holds
    sums = np.stack([np.bincount(label, band, len(centres)) for band in value.T], axis=1)
    overall = value.mean(axis=0) if len(value) else np.zeros(value.shape[1])
    return np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], overall)
