"""Fitting a codebook: a sample or every pixel of some rasters becomes frozen K-Means centres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.clustering import Clustering, cluster
from engine.codebook import Codebook, Scaling
from engine.kernel import MAX_SEGMENTS, BandStatistics, Kernel, Vectors
from engine.kmeans import BlockKMeans
from pipeline.errors import NoValidPixelError, UsageError
from pipeline.events.observer import Advance, ignore_progress
from pipeline.fitting import gathering, sampling
from pipeline.fitting.certificate import fitted
from pipeline.fitting.checkpoint import FitMemory
from pipeline.kernels import provenance
from pipeline.workers.pool import Pool

if TYPE_CHECKING:
    from pipeline.config import RunConfig

ROBUST_PERCENTILES = (0.5, 99.5)
"""Shares of the sample between which pixels of wide dtypes are scaled to 0..255."""


Scale = tuple[float, ...] | str | None


def fit_as_asked(
    config: RunConfig,
    rasters: Sequence[sampling.Pixels],
    kernel: Kernel,
    pool: Pool,
    advance: Advance = ignore_progress,
    memory: FitMemory | None = None,
) -> Codebook:
    """Fit one codebook as a configuration says; see `fit_codebook`."""
    return fit_codebook(
        rasters,
        kernel,
        config.segments,
        seed=config.seed,
        method=config.fit,
        scale=config.scale,
        pool=pool,
        advance=advance,
        memory=memory,
    )


def fit_codebook(
    rasters: Sequence[sampling.Pixels],
    kernel: Kernel,
    segments: int,
    *,
    seed: int,
    method: str,
    scale: Scale,
    pool: Pool,
    advance: Advance = ignore_progress,
    memory: FitMemory | None = None,
) -> Codebook:
    """Fit one codebook with given workers; see `fit`.

    `advance` hears of progress; `memory` keeps what takes long to find.
    """
    if not 2 <= segments <= MAX_SEGMENTS:
        raise UsageError(f"segments {segments}; K-Means takes 2 to {MAX_SEGMENTS}")
    if method not in ("sample", "exact"):
        raise UsageError(f"fit {method!r}; it is sample or exact")
    check_alike(rasters)
    first = rasters[0]
    check_bands(kernel, first)

    hands = gathering.Hands(pool, ignore_progress, memory)
    heard = gathering.Hands(pool, advance, memory)

    def sample(by: Kernel, known: BandStatistics | None, by_whom: gathering.Hands) -> gathering.Sample:
        places = gathering.SampledCells(rasters, seed, kernel.sample_px, kernel.sample_vectors)
        return gathering.sample(places, by, known, by_whom)

    def clusters(vectors: Vectors, weights: Any = None) -> Clustering:
        _refuse_empty(vectors, rasters)
        return cluster(vectors, segments, seed, weights)

    vectors: Vectors
    weights = None
    if method == "exact":
        if kernel.needs_statistics:
            raise UsageError("--fit exact counts colours, which --method kmeans clusters; use --fit sample")
        vectors, weights, report = gathering.every_pixel(rasters, heard)
    else:
        # of a network, pixels first, from the same cells: what stands for invalid ones has to be known
        early = (BlockKMeans(1), None, hands) if kernel.needs_statistics else (kernel, None, heard)
        seen = sample(*early)
        vectors, report = seen.vectors, seen.report
    _refuse_empty(vectors, rasters)
    values = np.asarray(vectors, np.float64)
    statistics = BandStatistics(
        np.asarray(np.average(values, axis=0, weights=weights)), _scaling(values, first.dtype, scale)
    )
    precision: dict[str, Any] = {}
    if kernel.needs_statistics:
        by = fitted(
            kernel,
            lambda other: sample(other, statistics, heard),
            lambda part, other: part.again(other, statistics, hands),
            lambda taken: clusters(taken.vectors),
        )
        kernel, report, found, precision = by.kernel, by.sample.report, by.clustering, by.precision
    else:
        found = clusters(vectors if statistics.scaling is None else statistics.scaling.apply(values), weights)
    return Codebook(
        centres=found.centres,
        kernel=kernel.identity,
        bands=first.bands,
        dtype=first.dtype,
        band_mean=statistics.mean,
        scaling=statistics.scaling,
        fit={
            **report,
            "method": method,
            "seed": seed,
            **_outcome(found, segments),
            **provenance(kernel),
            **precision,
        },
    )


def check_bands(kernel: Kernel, raster: sampling.Pixels) -> None:
    """A network takes a given number of bands.

    Raises
    ------
    UsageError
        If the raster has another number.
    """
    if kernel.bands is not None and kernel.bands != len(raster.bands):
        some = ",".join(map(str, raster.bands[: kernel.bands]))
        raise UsageError(
            f"{raster.path}: {len(raster.bands)} bands, but the network takes {kernel.bands}; "
            f"choose them with --bands, such as --bands {some}"
        )


def check_alike(rasters: Sequence[sampling.Pixels]) -> None:
    """One codebook needs equal band counts and dtypes.

    Raises
    ------
    UsageError
        If they differ; names the groups.
    """
    groups: dict[tuple[int, str], list[str]] = {}
    for raster in rasters:
        groups.setdefault((len(raster.bands), raster.dtype), []).append(raster.path)
    if len(groups) > 1:
        named = "; ".join(
            f"{count} band{'s' if count > 1 else ''} of {dtype}: {paths[0]}"
            + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
            for (count, dtype), paths in groups.items()
        )
        raise UsageError(
            f"one codebook needs equal bands and dtypes, but there are {named}; "
            "choose --bands, run the groups apart, or use --codebook-scope raster"
        )


def _refuse_empty(vectors: Vectors, rasters: Sequence[sampling.Pixels]) -> None:
    if len(vectors) == 0:
        raise NoValidPixelError(", ".join(r.path for r in rasters[:3]))


def _scaling(vectors: Vectors, dtype: str, scale: Scale) -> Scaling | None:
    """How features become 0..255: as given, by robust limits for wide dtypes, or not at all."""
    if scale == "none" or (scale is None and dtype == "uint8"):
        return None
    dims = vectors.shape[1]
    if scale is None:
        low, high = np.percentile(vectors, ROBUST_PERCENTILES, axis=0)
        return Scaling(low.astype(np.float64), high.astype(np.float64))
    given = scale if isinstance(scale, str) else ",".join(map(str, scale))
    if isinstance(scale, str) or not scale or len(scale) % 2:
        raise UsageError(f"--scale {given}: give LOW,HIGH once or for each band, or none")
    limits = np.asarray(scale, np.float64).reshape(-1, 2)
    if len(limits) not in (1, dims):
        raise UsageError(f"--scale gives {len(limits)} pairs of limits for {dims} bands; give 1 or {dims}")
    low, high = np.broadcast_to(limits, (dims, 2)).T.copy()
    if not (np.isfinite(limits).all() and (high > low).all()):
        raise UsageError(f"--scale {given}: each low limit must be below its high, and both numbers")
    return Scaling(low, high)


def _outcome(found: Clustering, asked: int) -> dict[str, Any]:
    return {
        "segments_asked": asked,
        "inertia": found.inertia,
        "iterations": found.iterations,
        "share": [round(float(s), 6) for s in found.share],
    }
