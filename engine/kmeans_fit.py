"""K-Means clustering: k-means++ starts, Lloyd's iterations, the same bits everywhere.

Sources: S. Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28 (1982);
D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007,
with greedy candidate selection as in scikit-learn. No library is used: with one and with two
BLAS threads, scikit-learn's centres differed in the last bits, and once the whole solution
differed. The loops here add in a fixed order on one thread.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.arrays import F32, F64
from engine.jit import compiled

STARTS = 8
_RUN = 256  # vectors per pass: their distances to a group of centres fit into the first-level cache
_GROUP = 8  # centres per pass over the vectors
_START_SAMPLE = 8192
_START_VALUES = 1 << 20
_START_ITERATIONS = 20
_ITERATIONS = 300

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Clustering:
    """Result of `cluster`.

    Parameters
    ----------
    centres
        Shape (K, D), float32, ascending by mean. K is smaller than requested if there are fewer
        distinct vectors.
    inertia
        Weighted sum of squared distances to the nearest centre.
    iterations
        Lloyd iterations of the final run.
    share
        Shape (K,), share of the weight in each cluster.
    """

    centres: F32
    inertia: float
    iterations: int
    share: F64


# Loops even where an expression would do: Numba takes seconds to compile those of arrays.


@compiled
def _assign(x: Any, centres: Any, labels: Any, distances: Any, sums: Any) -> None:
    """Nearest centre (K, D) of each column of `x` (D, n), and its squared distance.

    `sums` is a buffer, (_GROUP, _RUN).
    """
    dims, n = x.shape
    count = centres.shape[0]
    for start in range(0, n, _RUN):
        size = min(_RUN, n - start)
        best, label = distances[start : start + size], labels[start : start + size]
        best[:] = np.inf
        label[:] = 0
        for first in range(0, count, _GROUP):
            group = min(_GROUP, count - first)
            for k in range(group):
                for i in range(size):
                    sums[k, i] = 0.0
            # each line is read once for a group of centres: all lines together exceed the caches
            for d in range(dims):
                line = x[d, start : start + size]
                for k in range(group):
                    c, run = centres[first + k, d], sums[k]
                    for i in range(size):
                        t = line[i] - c
                        run[i] += t * t
            # conditional moves instead of branches, so that the loop vectorises
            for k in range(group):
                run = sums[k]
                for i in range(size):
                    closer = run[i] < best[i]
                    best[i] = run[i] if closer else best[i]
                    label[i] = first + k if closer else label[i]


@compiled
def _means(rows: Any, weights: Any, labels: Any, distances: Any, centres: Any, sums: Any, mass: Any) -> None:
    """Move each centre to the mean of its vectors, the rows of (n, D), in place.

    `sums` (K, D) and `mass` (K,) are zeros.
    """
    n, dims = rows.shape
    for i in range(n):
        mass[labels[i]] += weights[i]
        into, row, weight = sums[labels[i]], rows[i], weights[i]
        for d in range(dims):
            into[d] += weight * row[d]
    for c in range(mass.size):
        worst = 0
        if mass[c] == 0:
            # an empty cluster moves to the vector with the largest weighted distance, so K stays K
            for i in range(1, n):
                if distances[i] * weights[i] > distances[worst] * weights[worst]:
                    worst = i
            distances[worst] = 0.0
        for d in range(dims):
            centres[c, d] = sums[c, d] / mass[c] if mass[c] > 0 else rows[worst, d]


@compiled
def _inertia(weights: Any, distances: Any) -> float:
    total = 0.0
    for i in range(weights.size):
        total += weights[i] * distances[i]
    return total


def _lloyd(
    x: F64, rows: npt.NDArray[Any], weights: F64, centres: F64, iterations: int
) -> tuple[float, int, Labels]:
    """Move centres in place until no label changes; returns the inertia, how many iterations, and the labels.

    The vectors are passed twice: `x` as columns, for distances, and `rows`, for means.
    """
    n = x.shape[1]
    labels, before, distances = np.empty(n, np.int64), np.full(n, -1), np.empty(n)
    sums = np.empty((_GROUP, _RUN))
    done = 0
    while done < iterations:
        done += 1
        _assign(x, centres, labels, distances, sums)
        if np.array_equal(labels, before):
            break
        before[:] = labels
        _means(rows, weights, labels, distances, centres, np.zeros(centres.shape), np.zeros(len(centres)))
    _assign(x, centres, labels, distances, sums)
    return _inertia(weights, distances), done, labels


@compiled
def _reached(x: Any, weights: Any, closest: Any, index: int, reached: Any) -> float:
    """Fill `reached` with squared distances to the nearest centre if vector `index` became one.

    Returns their weighted sum.
    """
    dims, n = x.shape
    for i in range(n):
        reached[i] = 0.0
    for d in range(dims):
        c, line = x[d, index], x[d]
        for i in range(n):
            t = line[i] - c
            reached[i] += t * t
    total = 0.0
    for i in range(n):
        reached[i] = min(reached[i], closest[i])
        total += weights[i] * reached[i]
    return total


def _plus_plus(x: F64, weights: F64, k: int, rng: np.random.Generator) -> F64:
    """Greedy k-means++ centres, shape (k, D), of the columns of `x`."""
    n = x.shape[1]
    trials = 2 + int(math.log(k))
    chosen = [_draw(weights, rng)]
    closest, reached = np.empty(n), np.empty((trials, n))
    _reached(x, weights, np.full(n, np.inf), chosen[0], closest)
    while len(chosen) < k:
        candidates = [_draw(weights * closest, rng) for _ in range(trials)]
        sums = [_reached(x, weights, closest, c, reached[i]) for i, c in enumerate(candidates)]
        best = int(np.argmin(sums))
        chosen.append(candidates[best])
        closest[:] = reached[best]
    return np.ascontiguousarray(x[:, chosen].T)


def _draw(weights: F64, rng: np.random.Generator) -> int:
    """A random index, drawn with probabilities proportional to the weights."""
    total = np.cumsum(weights)
    return int(np.searchsorted(total, rng.random() * total[-1], side="right").clip(0, len(weights) - 1))


def cluster(vectors: F32 | F64, k: int, seed: int, weights: F64 | None = None) -> Clustering:
    """Clusters of vectors, at most `k` of them.

    `STARTS` k-means++ starts are run on the first vectors only (callers pass them in hash order,
    so the first ones are a random subset); the best is refined on all vectors.

    Parameters
    ----------
    vectors
        Shape (n, D), n at least 1.
    k
        Number of clusters, at least 1.
    seed
        Seed of the starts.
    weights
        Shape (n,), positive: number of pixels that each vector stands for (default 1).

    Returns
    -------
    Clustering
        Centres in ascending order of their mean.

    Raises
    ------
    ValueError
        If there are no vectors.
    """
    if len(vectors) == 0:
        raise ValueError("no vectors to cluster")
    k = min(k, _distinct(vectors, k))
    rows = np.ascontiguousarray(vectors)
    x = np.ascontiguousarray(np.asarray(vectors, np.float64).T)
    w = np.ones(len(vectors)) if weights is None else np.ascontiguousarray(weights, np.float64)
    few_count = min(_START_SAMPLE, max(1024, _START_VALUES // x.shape[0]))
    if _distinct(vectors[:few_count], k) < k:
        few_count = len(w)
    few = np.ascontiguousarray(x[:, :few_count]), rows[:few_count], w[:few_count]

    def started(start: int) -> tuple[float, F64]:
        centres = _plus_plus(few[0], few[2], k, np.random.default_rng([seed, start]))
        return _lloyd(*few, centres, _START_ITERATIONS)[0], centres

    # the first of the best, whichever is done first
    with ThreadPoolExecutor(min(STARTS, os.cpu_count() or 1)) as threads:
        _, centres = min(threads.map(started, range(STARTS)), key=lambda found: found[0])
    inertia, iterations, labels = _lloyd(x, rows, w, centres, _ITERATIONS)
    order = np.lexsort((*centres.T[::-1], centres.mean(axis=1)))
    share = np.bincount(labels, weights=w, minlength=k)[order] / w.sum()
    return Clustering(centres[order].astype(np.float32), float(inertia), int(iterations), share)


def _distinct(x: F32 | F64, enough: int) -> int:
    """Number of distinct vectors; counting stops once `enough` are found."""
    size = 4 * enough
    while True:
        distinct = len(np.unique(x[:size], axis=0))
        if distinct >= enough or size >= len(x):
            return distinct
        size *= 8
