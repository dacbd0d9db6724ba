"""K-Means clustering: k-means++ starts, Lloyd's iterations, the same bits everywhere.

Sources: S. Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28 (1982);
D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007,
with greedy candidate selection as in scikit-learn. A library is not used here because its
centres differ in the last bits, and once by a different solution, between one and two threads
of BLAS; these loops add in a fixed order on one thread.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

STARTS = 8
_START_SAMPLE = 8192
_START_ITERATIONS = 20
_ITERATIONS = 300


@dataclass(frozen=True)
class Clustering:
    """Result of `cluster`.

    Parameters
    ----------
    centres
        Shape (K, D), float32, ascending by mean. K is smaller than asked for where there are
        fewer distinct vectors.
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


@numba.njit(nogil=True, cache=True)
def _assign(x: Any, centres: Any, labels: Any, distances: Any) -> None:
    n, dims = x.shape
    for i in range(n):
        best = np.inf
        chosen = 0
        for k in range(centres.shape[0]):
            d = 0.0
            for j in range(dims):
                t = x[i, j] - centres[k, j]
                d += t * t
                if d >= best:
                    break
            if d < best:
                best = d
                chosen = k
        labels[i] = chosen
        distances[i] = best


@numba.njit(nogil=True, cache=True)
def _lloyd(  # noqa: C901, PLR0912  (one compiled loop)
    x: Any, weights: Any, centres: Any, iterations: int, labels: Any, distances: Any
) -> tuple[float, int]:
    """Iterate in place until no label changes; gives the inertia and the number of iterations."""
    n, dims = x.shape
    k = centres.shape[0]
    before = np.full(n, -1, np.int64)
    done = 0
    for iteration in range(iterations):
        done = iteration + 1
        _assign(x, centres, labels, distances)
        changed = False
        for i in range(n):
            if labels[i] != before[i]:
                changed = True
                before[i] = labels[i]
        if not changed:
            break
        sums = np.zeros((k, dims))
        mass = np.zeros(k)
        for i in range(n):
            mass[labels[i]] += weights[i]
            for j in range(dims):
                sums[labels[i], j] += weights[i] * x[i, j]
        for c in range(k):
            if mass[c] > 0:
                for j in range(dims):
                    centres[c, j] = sums[c, j] / mass[c]
            else:
                # an empty cluster takes the vector that is worst served, so K clusters stay K
                worst = 0
                for i in range(n):
                    if distances[i] * weights[i] > distances[worst] * weights[worst]:
                        worst = i
                for j in range(dims):
                    centres[c, j] = x[worst, j]
                distances[worst] = 0.0
    _assign(x, centres, labels, distances)
    inertia = 0.0
    for i in range(n):
        inertia += weights[i] * distances[i]
    return inertia, done


def _plus_plus(x: F64, weights: F64, k: int, rng: np.random.Generator) -> F64:
    """Greedy k-means++ centres, shape (k, D)."""
    labels, nearest = np.empty(len(x), np.int64), np.empty(len(x))
    trials = 2 + int(math.log(k))

    def distances(point: F64) -> F64:
        _assign(x, point[None], labels, nearest)
        return nearest.copy()

    centres = [x[_draw(weights, rng)]]
    closest = distances(centres[0])
    while len(centres) < k:
        candidates = [x[_draw(weights * closest, rng)] for _ in range(trials)]
        reached = [np.minimum(closest, distances(c)) for c in candidates]
        # math.fsum: exact, so the choice cannot depend on how a sum is vectorised
        best = min(range(trials), key=lambda i: math.fsum(weights * reached[i]))
        centres.append(candidates[best])
        closest = reached[best]
    return np.array(centres)


def _draw(weights: F64, rng: np.random.Generator) -> int:
    """An index drawn in proportion to weight."""
    total = np.cumsum(weights)
    return int(np.searchsorted(total, rng.random() * total[-1], side="right").clip(0, len(weights) - 1))


def cluster(vectors: F32 | F64, k: int, seed: int, weights: F64 | None = None) -> Clustering:
    """Cluster vectors into at most `k` groups.

    Starts are run on the first vectors (callers give them in hash order, so these are a random
    part), the best of them is refined on all.

    Parameters
    ----------
    vectors
        Shape (n, D), n at least 1.
    k
        Number of clusters, at least 1.
    seed
        Seeds the starts.
    weights
        Shape (n,), positive; how often each vector stands for a pixel (default 1).

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
    x = np.ascontiguousarray(vectors, np.float64)
    w = np.ones(len(x)) if weights is None else np.ascontiguousarray(weights, np.float64)
    k = min(k, _distinct(x, k))
    labels, distances = np.empty(len(x), np.int64), np.empty(len(x))
    part, part_w = _start_sample(x, w, k)
    part_labels, part_distances = np.empty(len(part), np.int64), np.empty(len(part))
    best: tuple[float, F64] | None = None
    for start in range(STARTS):
        centres = _plus_plus(part, part_w, k, np.random.default_rng([seed, start]))
        inertia, _ = _lloyd(part, part_w, centres, _START_ITERATIONS, part_labels, part_distances)
        if best is None or inertia < best[0]:
            best = inertia, centres
    assert best is not None
    centres = best[1]
    inertia, iterations = _lloyd(x, w, centres, _ITERATIONS, labels, distances)
    order = np.lexsort((*centres.T[::-1], centres.mean(axis=1)))
    share = np.bincount(labels, weights=w, minlength=k)[order] / w.sum()
    return Clustering(centres[order].astype(np.float32), float(inertia), int(iterations), share)


def _distinct(x: F64, enough: int) -> int:
    """Number of distinct vectors, counted no further than needed to know that it is enough."""
    size = 4 * enough
    while True:
        found = len(np.unique(x[:size], axis=0))
        if found >= enough or size >= len(x):
            return found
        size *= 8


def _start_sample(x: F64, weights: F64, k: int) -> tuple[F64, F64]:
    """The vectors that starts are tried on: the first, or all where those lack K distinct ones."""
    if _distinct(x[:_START_SAMPLE], k) >= k:
        return x[:_START_SAMPLE], weights[:_START_SAMPLE]
    return x, weights
