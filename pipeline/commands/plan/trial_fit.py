"""Fits for a plan: as the run fits, but some rasters where each has its own, and parts where all counts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from engine.codebook import Codebook
from engine.grid import tiles
from engine.kernel import Kernel
from pipeline.config import RunConfig
from pipeline.errors import RasterError
from pipeline.fitting.codebook import check_alike, fit_as_asked
from pipeline.running.inputs import Input, sampled
from pipeline.source.view import View
from pipeline.workers.pool import Pool

_LIMIT_S = 3.0
_PART_PX = 2048
_PARTS = 12


@dataclass(frozen=True)
class Fits:
    """What was fitted, and what fits take.

    Parameters
    ----------
    inputs
        Rasters that have a codebook, with it.
    spent_s
        Seconds that were spent here.
    first_s
        Seconds of the fit with which the run begins.
    each_s
        Seconds of each further one.
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
    start = time.perf_counter()
    if saved is not None:
        return Fits([(one, saved) for one in inputs])
    if config.codebook_scope == "batch":
        found, seconds = _fitted_all(config, kernel, list(inputs), pool)
        return Fits(found, time.perf_counter() - start, seconds)
    pairs: list[tuple[Input, Codebook]] = []
    seconds, error = 0.0, None
    for one in _spread(inputs):
        try:
            found, one_s = _fitted_all(config, kernel, [one], pool)
        except RasterError as refused:
            error = error or refused
            continue
        pairs += found
        seconds += one_s
        if time.perf_counter() - start > _LIMIT_S:
            break
    if not pairs:
        raise error or RasterError(", ".join(i.view.path for i in inputs[:3]), "cannot be fitted on")
    each = seconds / len(pairs)
    return Fits(pairs, time.perf_counter() - start, each, each)


def _spread(inputs: Sequence[Input]) -> list[Input]:
    """All of them, in an order in which the first few lie far apart."""
    step = max(1, round(len(inputs) * 0.6180339887498949))
    order = dict.fromkeys(i * step % len(inputs) for i in range(len(inputs)))
    return [inputs[i] for i in [*order, *(j for j in range(len(inputs)) if j not in order)]]


def _fitted_all(
    config: RunConfig, kernel: Kernel, inputs: list[Input], pool: Pool
) -> tuple[list[tuple[Input, Codebook]], float]:
    """A codebook of all that can be fitted on, and the seconds that the run will take for it."""
    while True:
        check_alike([one.view for one in inputs])
        try:
            codebook, seconds = _fitted(config, kernel, sampled(inputs), pool)
        except RasterError as error:
            rest = [one for one in inputs if one.view.path != error.path]
            if not rest or len(rest) == len(inputs):
                raise
            inputs = rest
            continue
        return [(one, codebook) for one in inputs], seconds


def _fitted(config: RunConfig, kernel: Kernel, views: Sequence[View], pool: Pool) -> tuple[Codebook, float]:
    parts = _parts(views) if config.fit == "exact" else views
    start = gathered = time.perf_counter()

    def advance(_done: int, _total: int) -> None:
        nonlocal gathered
        gathered = time.perf_counter()

    codebook = fit_as_asked(config, parts, kernel, pool, advance)
    more = sum(v.region.pixels for v in views) / sum(v.region.pixels for v in parts)
    if parts is views:
        more = 1.0
    return codebook, (gathered - start) * more + (time.perf_counter() - gathered)


def _parts(views: Sequence[View]) -> Sequence[View]:
    """All pixels, or where these are many, parts far apart."""
    total = sum(-(-v.region.pixels // _PART_PX**2) for v in views)
    if total <= 2 * _PARTS:
        return views
    every = (replace(view, region=part) for view in views for part in tiles(view.region, _PART_PX))
    return list(islice(every, 0, None, total // _PARTS))
