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
_RUN = 256  # vectors whose distances to a group of centres stay in the first-level cache
_GROUP = 8
_START_SAMPLE = 8192
_START_VALUES = 1 << 20
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
    """Nearest centre (K, D) of each column of `x` (D, n), and its squared distance."""
    dims, n = x.shape
    count = centres.shape[0]
    sums = np.empty((min(_GROUP, count), _RUN))
    for start in range(0, n, _RUN):
        size = min(_RUN, n - start)
        best, label = distances[start : start + size], labels[start : start + size]
        best[:] = np.inf
        label[:] = 0
        for first in range(0, count, _GROUP):
            group = min(_GROUP, count - first)
            sums[:] = 0.0
            # each line is read once for a group of centres: lines are many more than the caches hold
            for d in range(dims):
                line = x[d, start : start + size]
                for k in range(group):
                    c, run = centres[first + k, d], sums[k]
                    for i in range(size):
                        t = line[i] - c
                        run[i] += t * t
            # choices without branches, which processors do several at a time
            for k in range(group):
                run = sums[k]
                for i in range(size):
                    closer = run[i] < best[i]
                    best[i] = run[i] if closer else best[i]
                    label[i] = first + k if closer else label[i]


@numba.njit(nogil=True, cache=True)
def _means(rows: Any, weights: Any, labels: Any, distances: Any, centres: Any) -> None:
    """Move each centre to the mean of its vectors, the rows of (n, D), in place."""
    n, dims = rows.shape
    k = centres.shape[0]
    sums = np.zeros((k, dims))
    mass = np.zeros(k)
    for i in range(n):
        mass[labels[i]] += weights[i]
        into, row, weight = sums[labels[i]], rows[i], weights[i]
        for d in range(dims):
            into[d] += weight * row[d]
    for c in range(k):
        if mass[c] > 0:
            centres[c] = sums[c] / mass[c]
        else:
            # an empty cluster takes the vector that is worst served, so K clusters stay K
            worst = np.argmax(distances * weights)
            centres[c] = rows[worst]
            distances[worst] = 0.0


@numba.njit(nogil=True, cache=True)
def _lloyd(
    x: Any, rows: Any, weights: Any, centres: Any, iterations: int, labels: Any, distances: Any
) -> tuple[float, int]:
    """Iterate in place until no label changes; gives the inertia and the number of iterations.

    The vectors are given twice: as columns, for distances, and as rows, for means.
    """
    before = np.full(x.shape[1], -1, np.int64)
    done = 0
    for iteration in range(iterations):
        done = iteration + 1
        _assign(x, centres, labels, distances)
        if np.array_equal(labels, before):
            break
        before[:] = labels
        _means(rows, weights, labels, distances, centres)
    _assign(x, centres, labels, distances)
    inertia = 0.0
    for i in range(x.shape[1]):
        inertia += weights[i] * distances[i]
    return inertia, done


@numba.njit(nogil=True, cache=True)
def _reached(x: Any, weights: Any, closest: Any, index: int, found: Any) -> float:
    """Squared distances to the nearest centre if vector `index` became one; gives their weighted sum."""
    dims, n = x.shape
    found[:] = 0.0
    for d in range(dims):
        c, line = x[d, index], x[d]
        for i in range(n):
            t = line[i] - c
            found[i] += t * t
    total = 0.0
    for i in range(n):
        found[i] = min(found[i], closest[i])
        total += weights[i] * found[i]
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
    k = min(k, _distinct(vectors, k))
    rows = np.ascontiguousarray(vectors)
    x = np.ascontiguousarray(np.asarray(vectors, np.float64).T)
    w = np.ones(len(vectors)) if weights is None else np.ascontiguousarray(weights, np.float64)
    labels, distances = np.empty(len(w), np.int64), np.empty(len(w))
    few = min(_START_SAMPLE, max(1024, _START_VALUES // x.shape[0]))
    if _distinct(vectors[:few], k) < k:
        few = len(w)
    part, part_w = np.ascontiguousarray(x[:, :few]), w[:few]
    first = part, rows[:few], part_w
    room = labels[:few], distances[:few]
    best: tuple[float, F64] | None = None
    for start in range(STARTS):
        centres = _plus_plus(part, part_w, k, np.random.default_rng([seed, start]))
        inertia, _ = _lloyd(*first, centres, _START_ITERATIONS, *room)
        if best is None or inertia < best[0]:
            best = inertia, centres
    assert best is not None
    centres = best[1]
    inertia, iterations = _lloyd(x, rows, w, centres, _ITERATIONS, labels, distances)
    order = np.lexsort((*centres.T[::-1], centres.mean(axis=1)))
    share = np.bincount(labels, weights=w, minlength=k)[order] / w.sum()
    return Clustering(centres[order].astype(np.float32), float(inertia), int(iterations), share)


def _distinct(x: F32 | F64, enough: int) -> int:
    """Number of distinct vectors, counted no further than needed to know that it is enough."""
    size = 4 * enough
    while True:
        found = len(np.unique(x[:size], axis=0))
        if found >= enough or size >= len(x):
            return found
        size *= 8
