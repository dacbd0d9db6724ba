"""Fitting a codebook: K-Means centres of a sample, or of every pixel, of some rasters.

Of a kernel with classes of its own, the codebook says what they are, and for which bands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.arrays import F64
from engine.codebook import Codebook, Scaling
from engine.colours import Colour
from engine.kernel import (
    MAX_SEGMENTS,
    BandStatistics,
    ClassifyingKernel,
    ClusteringKernel,
    Kernel,
    Vectors,
)
from engine.kmeans_fit import Clustering, cluster
from pipeline.errors import NoValidPixelError, UsageError
from pipeline.events.observer import Advance, ignore_progress
from pipeline.fitting import gathering, sampling
from pipeline.fitting.certificate import fitted
from pipeline.fitting.checkpoint import FitMemory
from pipeline.fitting.collars import Collars
from pipeline.fitting.feature_sets import of_statistics, refuse_without_features
from pipeline.fitting.mean_colours import band_means, common_rgb, refuse_natural
from pipeline.kernels import model_and_device
from pipeline.legend import palette as palettes
from pipeline.legend import true_colour
from pipeline.legend.palette import Palette
from pipeline.source.band_files import band_files
from pipeline.source.bands.fitted import other_order
from pipeline.workers.pool import Pool

if TYPE_CHECKING:
    from pipeline.config import RunConfig

ROBUST_PERCENTILES = (0.5, 99.5)
"""Percentiles of the sample that become 0 and 255 where pixels of wide dtypes are scaled."""

Scale = tuple[float, ...] | str | None


def fit_as_asked(
    config: RunConfig,
    rasters: Sequence[sampling.Pixels],
    kernel: Kernel,
    pool: Pool,
    advance: Advance = ignore_progress,
    memory: FitMemory | None = None,
    collars: Collars | None = None,
    palette: Palette | None = None,
) -> Codebook:
    """One codebook, fitted with the options of a configuration; see `fit_codebook`."""
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
        collars=collars,
        palette=palette,
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
    collars: Collars | None = None,
    palette: Palette | None = None,
) -> Codebook:
    """One codebook, fitted by given workers; see `pipeline.api.fitting.fit` for the options.

    A kernel that has classes of its own needs none of them: nothing is read then.
    ``advance(done, total)`` is called with the progress; `memory` stores results that take long,
    `collars` collects colours at the edges of rasters, and `palette` says which colours classes get
    (by default their mean colours, where bands are red, green and blue).

    Raises
    ------
    RasterError
        If no pixel is valid, or a raster cannot be read.
    UsageError
        If an option is out of range, or the rasters have other bands or dtypes.
    """
    if not 2 <= segments <= MAX_SEGMENTS:
        raise UsageError(f"segments {segments}; K-Means takes 2 to {MAX_SEGMENTS}")
    if method not in ("sample", "exact"):
        raise UsageError(f"fit {method!r}; it is sample or exact")
    check_alike(rasters)
    first = rasters[0]
    check_bands(kernel, first)
    refuse_without_features(kernel, rasters, scale)
    if isinstance(kernel, ClassifyingKernel):
        return palettes.of_fit(_of_classes(kernel, rasters), palette)
    if not isinstance(kernel, ClusteringKernel):
        raise TypeError(f"{type(kernel).__name__} is neither a ClusteringKernel nor a ClassifyingKernel")
    refuse_natural(palette, rasters)
    if method == "exact" and kernel.needs_statistics:
        raise UsageError(
            "--fit exact counts colours, which --method kmeans --features bands clusters; use --fit sample"
        )
    fit = _Fit(rasters, segments, seed, scale, gathering.Resources(pool, advance, memory, collars))
    if method == "exact":
        result = fit.on_every_pixel(kernel)
    else:
        result = fit.with_statistics(kernel) if kernel.needs_statistics else fit.on_sample(kernel)
    _refuse_infinite(result, ", ".join(r.path for r in rasters[:3]))
    codebook = Codebook(
        centres=result.clustering.centres,
        kernel=result.kernel.identity,
        bands=first.bands,
        dtype=first.dtype,
        band_mean=result.statistics.mean,
        scaling=result.statistics.scaling,
        fit={
            **result.report,
            "method": method,
            "seed": seed,
            **_outcome(result.clustering, segments),
            **model_and_device(result.kernel),
            **result.precision,
        },
        band_names=first.given_names if any(first.given_names) else (),
        physical=any(raster.physical for raster in rasters),
    )
    return palettes.of_fit(replace(codebook, mean_colours=fit.mean_colours(codebook, result)), palette)


def _of_classes(kernel: ClassifyingKernel, rasters: Sequence[sampling.Pixels]) -> Codebook:
    """The codebook of a kernel that has classes of its own, for bands such as those of some rasters."""
    first = rasters[0]
    return Codebook(
        centres=np.empty((len(kernel.class_names), 0), np.float32),
        kernel=kernel.identity,
        bands=first.bands,
        dtype=first.dtype,
        band_mean=np.empty(0),
        fit=model_and_device(kernel),
        band_names=first.given_names if any(first.given_names) else (),
        physical=any(raster.physical for raster in rasters),
        names=kernel.class_names,
    )


@dataclass(frozen=True)
class _Result:
    """Clusters, and what the codebook records of how they were found."""

    kernel: ClusteringKernel
    statistics: BandStatistics
    clustering: Clustering
    report: dict[str, Any]
    precision: dict[str, Any] = field(default_factory=dict)
    sample: gathering.Sample | None = None
    pixels: gathering.Sample | None = None


@dataclass(frozen=True)
class _Fit:
    """The three ways to fit: on every pixel, on a sample, and on one that the bands' statistics make."""

    rasters: Sequence[sampling.Pixels]
    segments: int
    seed: int
    scale: Scale
    resources: gathering.Resources

    def on_every_pixel(self, kernel: ClusteringKernel) -> _Result:
        vectors, weights, report = gathering.every_pixel(self.rasters, self.resources)
        return self._on_pixels(kernel, vectors, weights, report)

    def on_sample(self, kernel: ClusteringKernel) -> _Result:
        sample = gathering.sample(self._cells(kernel), kernel, None, self.resources)
        return self._on_pixels(kernel, sample.vectors, None, sample.report)

    def with_statistics(self, kernel: ClusteringKernel) -> _Result:
        cells, quiet = self._cells(kernel), replace(self.resources, advance=ignore_progress)
        # first the pixels of the same cells, of which collars are collected too
        pixels = gathering.sample(cells, of_statistics(kernel), None, quiet)
        statistics = self._statistics(pixels.vectors, None)
        result = fitted(
            kernel,
            lambda other: gathering.sample(cells, other, statistics, replace(self.resources, collars=None)),
            lambda sample, other: sample.again(other, statistics, quiet),
            lambda sample: self._clusters(sample.vectors, None),
        )
        sample = result.sample
        return _Result(
            result.kernel, statistics, result.clustering, sample.report, result.precision, sample, pixels
        )

    def mean_colours(self, codebook: Codebook, result: _Result) -> tuple[Colour, ...]:
        """Mean colour of each class; () where no bands are red, green and blue."""
        rgb = common_rgb(self.rasters)
        if rgb is None:
            return ()
        if result.sample is None:
            return true_colour.of_centres(codebook, rgb)
        means = band_means(
            result.sample, codebook.centres, result.kernel.stride_px, self.resources, result.pixels
        )
        return () if means is None else true_colour.displayed(codebook, rgb, means)

    def _on_pixels(
        self, kernel: ClusteringKernel, vectors: Vectors, weights: F64 | None, report: dict[str, Any]
    ) -> _Result:
        statistics = self._statistics(vectors, weights)
        if statistics.scaling is not None:
            vectors = statistics.scaling.apply(np.asarray(vectors, np.float64))
        return _Result(kernel, statistics, self._clusters(vectors, weights), report)

    def _cells(self, kernel: ClusteringKernel) -> gathering.SampledCells:
        return gathering.SampledCells(self.rasters, self.seed, kernel.sample_px, kernel.sample_vectors)

    def _statistics(self, vectors: Vectors, weights: F64 | None) -> BandStatistics:
        self._refuse_empty(vectors)
        values = np.asarray(vectors, np.float64)
        mean = np.asarray(np.average(values, axis=0, weights=weights))
        return BandStatistics(mean, _scaling(values, self.rasters[0].dtype, self.scale))

    def _clusters(self, vectors: Vectors, weights: F64 | None) -> Clustering:
        self._refuse_empty(vectors)
        return cluster(vectors, self.segments, self.seed, weights)

    def _refuse_empty(self, vectors: Vectors) -> None:
        if len(vectors) == 0:
            raise NoValidPixelError(", ".join(r.path for r in self.rasters[:3]))


def check_bands(kernel: Kernel, raster: sampling.Pixels) -> None:
    """Refuse a raster with another number of bands than a network takes.

    Raises
    ------
    UsageError
        If the numbers differ.
    """
    if kernel.bands is not None and kernel.bands != len(raster.bands):
        some = ",".join(map(str, raster.bands[: kernel.bands]))
        raise UsageError(
            f"{raster.path}: {len(raster.bands)} bands, but the network takes {kernel.bands}; "
            f"choose them with --bands, such as --bands {some}"
        )


def check_alike(rasters: Sequence[sampling.Pixels]) -> None:
    """Refuse rasters with unequal bands or dtypes, or with scaled values and others: no codebook is for both.

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
        found = band_files(raster.path for raster in rasters if len(raster.bands) == 1)
        advice = (
            "choose --bands, run the groups apart, or use --codebook-scope raster"
            if found is None
            else f'they look like bands of scenes: give --stack "{found.stack}" in place of SOURCE'
        )
        raise UsageError(f"one codebook needs equal bands and dtypes, but there are {named}; {advice}")
    for raster in rasters:
        if why := other_order(raster.all_names, rasters[0].all_names):
            raise UsageError(f"{raster.path}: {why}")
    scaled, stored = ([r.path for r in rasters if r.physical is kind] for kind in (True, False))
    if scaled and stored:
        raise UsageError(
            f"one codebook needs values of one kind, but {scaled[0]} declares scales for expressions, and "
            f"{stored[0]} declares none; give it some (gdal_edit -scale -offset), or give --raw-values"
        )


def _scaling(vectors: Vectors, dtype: str, scale: Scale) -> Scaling | None:
    """Scaling of features to 0..255: given limits, robust limits for wide dtypes, or None."""
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


def _refuse_infinite(result: _Result, name: str) -> None:
    """Refuse centres or limits that no number holds: labels of such a codebook mean nothing."""
    scaling = result.statistics.scaling
    limits = () if scaling is None else (scaling.low, scaling.high, scaling.gain)
    numbers = (result.clustering.centres, result.statistics.mean, *limits)
    if not all(np.isfinite(array).all() for array in numbers):
        raise UsageError(
            f"{name}: values are too large to be clustered (their means or squares are not finite); "
            "declare those that stand for nodata, or give limits with --scale LOW,HIGH (scale=)"
        )


def _outcome(clustering: Clustering, segments_asked: int) -> dict[str, Any]:
    return {
        "segments_asked": segments_asked,
        "inertia": clustering.inertia,
        "iterations": clustering.iterations,
        "share": [round(float(s), 6) for s in clustering.share],
    }
