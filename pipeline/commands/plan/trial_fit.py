"""Fits for a plan, and their times.

A plan fits as the run does, except that it fits only some rasters if each has its own codebook, and reads
only some windows if the fit counts every pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from engine import jit
from engine.codebook import Codebook
from engine.grid import tiles
from engine.kernel import Kernel
from engine.spacing import ALONG
from pipeline.config import RunConfig
from pipeline.errors import RasterError
from pipeline.fitting.codebook import check_alike, fit_as_asked
from pipeline.running.inputs import Input, sampled
from pipeline.source.view import View
from pipeline.workers.pool import Pool

_LIMIT_S = 3.0
_WINDOW_PX = 2048
_WINDOWS = 12


@dataclass(frozen=True)
class Fits:
    """Codebooks for a plan, and the times that fits will take in the run.

    Parameters
    ----------
    inputs
        The rasters that have a codebook, with it.
    spent_s
        Seconds that the plan's own fits took.
    first_s
        Estimated seconds of the fit at the start of the run.
    each_s
        Estimated seconds of each further fit.
    """

    inputs: list[tuple[Input, Codebook]]
    spent_s: float = 0.0
    first_s: float = 0.0
    each_s: float = 0.0


def trial_fits(
    config: RunConfig, kernel: Kernel, inputs: Sequence[Input], saved: Codebook | None, pool: Pool
) -> Fits:
    """Fit as a run would.

    Raises
    ------
    RasterError
        If no raster can be fitted on.
    UsageError
        As `fit_as_asked`.
    """
    start = jit.clock_s()
    if saved is not None:
        return Fits([(raster, saved) for raster in inputs])
    if config.codebook_scope == "batch":
        pairs, seconds = _fitted_all(config, kernel, list(inputs), pool)
        return Fits(pairs, jit.clock_s() - start, seconds)
    pairs = []
    seconds, error = 0.0, None
    for raster in _spread(inputs):
        try:
            fitted, fit_s = _fitted_all(config, kernel, [raster], pool)
        except RasterError as refused:
            error = error or refused
            continue
        pairs += fitted
        seconds += fit_s
        if jit.clock_s() - start > _LIMIT_S:
            break
    if not pairs:
        raise error or RasterError(", ".join(i.view.path for i in inputs[:3]), "cannot be fitted on")
    each = seconds / len(pairs)
    return Fits(pairs, jit.clock_s() - start, each, each)


def _spread(inputs: Sequence[Input]) -> list[Input]:
    """All inputs, in an order in which the first few are far apart."""
    step = max(1, round(len(inputs) * ALONG))
    order = dict.fromkeys(i * step % len(inputs) for i in range(len(inputs)))
    return [inputs[i] for i in [*order, *(j for j in range(len(inputs)) if j not in order)]]


def _fitted_all(
    config: RunConfig, kernel: Kernel, inputs: list[Input], pool: Pool
) -> tuple[list[tuple[Input, Codebook]], float]:
    """The inputs that can be fitted on, with their one codebook, and the seconds that its fit will take.

    Inputs that cannot be read are left out, as in the run.
    """
    while True:
        check_alike([raster.view for raster in inputs])
        try:
            codebook, seconds = _fitted(config, kernel, sampled(inputs), pool)
        except RasterError as error:
            others = [raster for raster in inputs if raster.view.path != error.path]
            if not others or len(others) == len(inputs):
                raise
            inputs = others
            continue
        return [(raster, codebook) for raster in inputs], seconds


def _fitted(config: RunConfig, kernel: Kernel, views: Sequence[View], pool: Pool) -> tuple[Codebook, float]:
    """A codebook, and the estimated seconds of its fit on all of `views`."""
    measured = _some_windows(views) if config.fit == "exact" else views
    start = gathered = jit.clock_s()

    def advance(_done: int, _total: int) -> None:
        nonlocal gathered
        gathered = jit.clock_s()

    codebook = fit_as_asked(config, measured, kernel, pool, advance)
    factor = sum(v.region.pixels for v in views) / sum(v.region.pixels for v in measured)
    if measured is views:
        factor = 1.0
    return codebook, (gathered - start) * factor + (jit.clock_s() - gathered)


def _some_windows(views: Sequence[View]) -> Sequence[View]:
    """The views themselves, or if they are large, windows of them that are far apart."""
    total = sum(-(-v.region.pixels // _WINDOW_PX**2) for v in views)
    if total <= 2 * _WINDOWS:
        return views
    every = (replace(view, region=window) for view in views for window in tiles(view.region, _WINDOW_PX))
    return list(islice(every, 0, None, total // _WINDOWS))
