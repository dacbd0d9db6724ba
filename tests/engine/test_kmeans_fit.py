"""K-Means clustering: as good as scikit-learn's, and the same bits each time."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.kmeans_fit import cluster


def groups(k, each, seed=0, dims=3, spread=1.0):
    """Well separated groups: vectors, in random order, and the group of each."""
    rng = np.random.default_rng(seed)
    middles = rng.permutation(np.arange(k) * 100.0)[:, None] + rng.normal(0, 5, (k, dims))
    which = rng.permutation(np.repeat(np.arange(k), each))
    return middles[which] + rng.normal(0, spread, (k * each, dims)), which


def distances(vectors, centres):
    return ((vectors[:, None] - centres[None].astype(np.float64)) ** 2).sum(axis=2)


def same(one, two):
    return (
        one.centres.tobytes() == two.centres.tobytes()
        and (one.inertia, one.iterations) == (two.inertia, two.iterations)
        and one.share.tobytes() == two.share.tobytes()
    )


def test_the_same_bits_come_out_every_time_and_on_any_thread():
    vectors = np.random.default_rng(1).uniform(0, 255, (20000, 3))
    first = cluster(vectors, 9, 4)
    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(cluster, vectors, 9, 4) for _ in range(3)]
        assert all(same(first, o.result()) for o in others)


def test_another_seed_tries_other_starts():
    vectors = np.random.default_rng(2).uniform(0, 255, (3000, 3))
    found = [cluster(vectors, 12, seed) for seed in range(3)]
    assert len({f.centres.tobytes() for f in found}) > 1
    assert max(f.inertia for f in found) < 1.05 * min(f.inertia for f in found)


def grey_noise(rng):
    return rng.uniform(0, 255, (6000, 1))


def colour_noise(rng):
    return rng.uniform(0, 255, (6000, 3))


def uneven_groups(rng):
    sizes = rng.integers(20, 1500, 9)
    found = [rng.normal(rng.uniform(0, 255, 3), rng.uniform(1, 25), (n, 3)) for n in sizes]
    return rng.permutation(np.concatenate(found))  # as callers give them: in random order


def whole_numbers(rng):
    return rng.integers(0, 12, (6000, 4)).astype(float)


@pytest.mark.parametrize("k", [2, 8])
@pytest.mark.parametrize("kind", [grey_noise, colour_noise, uneven_groups, whole_numbers])
def test_clusters_are_as_tight_as_scikit_learn_s(kind, k):
    assert_tight(kind(np.random.default_rng(3)), k)


def test_many_clusters_are_nearly_as_tight_as_scikit_learn_s():
    # with many clusters each of its own starts ends a little elsewhere, too
    assert_tight(uneven_groups(np.random.default_rng(4)), 20, within=1.03)


def test_clusters_of_real_pixels_are_as_tight_as_scikit_learn_s(rasters):
    path = min(rasters.glob("*.tif"), key=lambda p: p.stat().st_size)
    with rasterio.open(path) as dataset:
        pixels = dataset.read(out_shape=(dataset.count, 100, 100))
    vectors = pixels.reshape(len(pixels), -1).T.astype(float)
    assert_tight(np.random.default_rng(0).permutation(vectors), 8)


def assert_tight(vectors, k, within=1.01):
    from sklearn.cluster import KMeans

    theirs = KMeans(k, n_init=10, random_state=0).fit(vectors).inertia_
    assert cluster(vectors, k, 0).inertia <= within * theirs


def test_groups_that_anyone_can_see_are_found():
    vectors, which = groups(6, 50)
    found = cluster(vectors, 6, 0)
    means = np.array([vectors[which == g].mean(axis=0) for g in range(6)])
    np.testing.assert_allclose(found.centres, means[np.argsort(means.mean(axis=1))], rtol=1e-6)
    np.testing.assert_allclose(found.share, 1 / 6)


@settings(max_examples=25)
@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 99))
def test_what_is_said_of_the_clusters_is_true(k, dims, seed):
    rng = np.random.default_rng(seed)
    vectors, weights = rng.uniform(0, 255, (300, dims)), rng.integers(1, 9, 300).astype(float)
    found = cluster(vectors, k, seed, weights)
    assert found.centres.dtype == np.float32
    to_centres = distances(vectors, found.centres)
    shares = np.bincount(to_centres.argmin(axis=1), weights, minlength=k) / weights.sum()
    np.testing.assert_allclose(found.share, shares)
    assert found.share.sum() == pytest.approx(1)
    assert found.inertia == pytest.approx((weights * to_centres.min(axis=1)).sum(), rel=1e-5)
    assert found.iterations >= 1


@settings(max_examples=25)
@given(st.integers(2, 12), st.integers(0, 99))
def test_centres_stand_in_ascending_order_of_their_mean(k, seed):
    vectors = np.random.default_rng(seed).uniform(-50, 50, (200, 3))
    means = cluster(vectors, k, seed).centres.astype(np.float64).mean(axis=1)
    assert (np.diff(means) >= -1e-5).all()


def test_centres_of_equal_mean_are_ordered_by_their_first_component():
    vectors = np.array([[3.0, 0.0], [0.0, 3.0], [1.0, 2.0], [2.0, 1.0]])
    assert cluster(vectors, 4, 0).centres.tolist() == [[0, 3], [1, 2], [2, 1], [3, 0]]


@settings(max_examples=25)
@given(st.integers(1, 7), st.integers(0, 5), st.integers(0, 99))
def test_each_distinct_vector_has_a_cluster_of_its_own_where_there_are_no_more_than_k(distinct, more, seed):
    rng = np.random.default_rng(seed)
    values = rng.permutation(100)[:distinct, None] * np.array([1.0, 2.0])
    vectors = values[np.concatenate([np.arange(distinct), rng.integers(0, distinct, 40)])]
    found = cluster(vectors, distinct + more, seed)
    assert found.centres.tolist() == sorted(values.tolist())
    assert found.inertia == 0
    times = np.unique(vectors[:, 0], return_counts=True)[1]
    np.testing.assert_allclose(found.share, times / times.sum())


def test_rare_values_that_come_late_still_get_their_clusters():
    vectors = np.zeros((30000, 1))
    vectors[-2:] = [[50], [90]]
    found = cluster(vectors, 3, 0)
    assert found.centres.ravel().tolist() == [0, 50, 90]


@settings(max_examples=20)
@given(st.integers(0, 99), st.integers(2, 6))
def test_a_weight_counts_as_so_many_repetitions(seed, k):
    vectors, _ = groups(k, 20, seed)
    weights = np.random.default_rng(seed).integers(1, 6, len(vectors))
    weighted = cluster(vectors, k, seed, weights.astype(float))
    repeated = cluster(np.repeat(vectors, weights, axis=0), k, seed)
    np.testing.assert_allclose(weighted.centres, repeated.centres, rtol=1e-6)
    np.testing.assert_allclose(weighted.share, repeated.share)
    assert weighted.inertia == pytest.approx(repeated.inertia)


def test_one_far_vector_gets_a_cluster_of_its_own():
    vectors = np.append(np.random.default_rng(5).normal(0, 1, (500, 2)), [[1000.0, 1000.0]], axis=0)
    found = cluster(vectors, 3, 0)
    assert found.centres[-1].tolist() == [1000, 1000]


def test_a_single_vector_is_a_clustering():
    found = cluster(np.array([[4.0, 6.0]]), 5, 0)
    assert (found.centres.tolist(), found.share.tolist(), found.inertia) == ([[4, 6]], [1], 0)


def test_the_vectors_that_are_given_stay_as_they_are():
    vectors = np.random.default_rng(6).uniform(0, 255, (100, 2))
    before = vectors.copy()
    cluster(vectors, 4, 0)
    np.testing.assert_array_equal(vectors, before)


def test_no_vectors_are_refused():
    with pytest.raises(ValueError, match="no vectors"):
        cluster(np.empty((0, 3)), 4, 0)


@pytest.mark.parametrize("cores", [1, 3, None])
def test_starts_that_run_beside_each_other_give_the_same_bits(cores, monkeypatch):
    vectors = np.random.default_rng(5).random((3000, 4)).astype(np.float32)
    here = cluster(vectors, 6, seed=1)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    there = cluster(vectors, 6, seed=1)
    assert there.centres.tobytes() == here.centres.tobytes()
    assert (there.inertia, there.iterations) == (here.inertia, here.iterations)
