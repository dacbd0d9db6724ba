"""Metrics: each equals its plain definition, and what is counted window by window is what the whole has."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import adjusted_rand_score, f1_score, jaccard_score

from engine import metrics
from engine.grid import Window, tiles


def matrices(most=5, largest=30):
    """Confusion matrices: few classes and labels, some of which have no pixels; at least one pixel in all."""
    shapes = st.tuples(st.integers(1, most), st.integers(1, most))
    numbers = st.one_of(st.just(0), st.integers(0, largest))
    return shapes.flatmap(lambda s: arrays.arrays(np.int64, s, elements=numbers)).filter(lambda m: m.any())


def pixels_of(confusion):
    """A class and a label for each pixel that a matrix counts."""
    classes, labels = np.indices(confusion.shape)
    return (np.repeat(v.ravel(), confusion.ravel()) for v in (classes, labels))


def best_by_trying(confusion):
    """Most pixels that any one-to-one matching gets right."""
    table = confusion if confusion.shape[0] <= confusion.shape[1] else confusion.T
    rows = range(len(table))
    return max(
        sum(table[i, j] for i, j in zip(rows, p, strict=False))
        for p in itertools.permutations(range(table.shape[1]), len(table))
    )


@given(matrices())
def test_matching_is_the_best_of_all_and_no_label_has_two_classes(confusion):
    label_of = metrics.one_to_one(confusion)
    used = label_of[label_of >= 0]
    assert len(used) == min(confusion.shape) == len(set(used))
    right = sum(confusion[c, label] for c, label in enumerate(label_of) if label >= 0)
    assert right == best_by_trying(confusion)
    assert metrics.accuracy(confusion, label_of) == pytest.approx(right / confusion.sum())


@given(matrices(), st.randoms())
def test_figures_do_not_depend_on_the_numbers_of_labels(confusion, random):
    order = list(range(confusion.shape[1]))
    random.shuffle(order)
    other = confusion[:, order]
    for figure in (
        lambda m: metrics.accuracy(m, metrics.one_to_one(m)),
        metrics.adjusted_rand,
        metrics.many_to_one_accuracy,
    ):
        assert figure(confusion) == pytest.approx(figure(other))


@given(matrices())
def test_adjusted_rand_is_that_of_pairs(confusion):
    classes, labels = pixels_of(confusion)
    assert metrics.adjusted_rand(confusion) == pytest.approx(adjusted_rand_score(classes, labels), abs=1e-12)


def test_adjusted_rand_of_more_pairs_than_64_bits_count():
    small = np.array([[5, 1], [2, 7]])
    large = metrics.adjusted_rand(small * 10**11)
    pairs, n = small / small.sum(), small.sum() * 10**11
    rows, columns = pairs.sum(axis=1), pairs.sum(axis=0)
    by_chance = (rows**2).sum() * (columns**2).sum()
    limit = ((pairs**2).sum() - by_chance) / (((rows**2).sum() + (columns**2).sum()) / 2 - by_chance)
    assert large == pytest.approx(limit, abs=10 / n)


@given(matrices())
def test_each_label_called_by_its_commonest_class(confusion):
    classes, labels = pixels_of(confusion)
    named = metrics.many_to_one(confusion)[labels]
    assert metrics.many_to_one_accuracy(confusion) == pytest.approx((named == classes).mean())
    assert (metrics.many_to_one(confusion)[~confusion.any(axis=0)] == -1).all()


@given(matrices())
def test_figures_of_classes_are_those_of_their_pixels(confusion):
    label_of = metrics.one_to_one(confusion)
    classes, labels = pixels_of(confusion)
    iou = metrics.iou(confusion, label_of)
    precision, recall = metrics.precision(confusion, label_of), metrics.recall(confusion, label_of)
    f1 = metrics.f1(precision, recall)
    for c, label in enumerate(label_of):
        true, said = classes == c, (labels == label) & (label >= 0)
        if not (true | said).any():
            assert np.isnan([iou[c], f1[c]]).all()
            continue
        assert iou[c] == pytest.approx(jaccard_score(true, said))
        assert f1[c] == pytest.approx(f1_score(true, said, zero_division=0))
        assert np.isnan(precision[c]) if not said.any() else precision[c] == pytest.approx(true[said].mean())
        assert np.isnan(recall[c]) if not true.any() else recall[c] == pytest.approx(said[true].mean())


def test_what_is_all_one_class_is_no_perfect_map():
    confusion = np.array([[90, 0], [10, 0]])  # all labelled as background, a tenth of it is something else
    iou = metrics.iou(confusion, metrics.one_to_one(confusion))
    np.testing.assert_allclose(iou, [0.9, 0])
    assert metrics.adjusted_rand(confusion) == 0


def edges(values, known):
    """Boundary pixels by a plain reading: a pixel unlike its right or lower neighbour, both known."""
    found = np.zeros(values.shape, bool)
    for row, col in np.ndindex(values.shape):
        for other in ((row, col + 1), (row + 1, col)):
            if other[0] < values.shape[0] and other[1] < values.shape[1] and known[row, col] and known[other]:
                found[row, col] |= values[row, col] != values[other]
    return found


@st.composite
def scenes(draw, most=24):
    """Labels, classes and where both are known, in patches."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape, side = draw(st.tuples(st.integers(1, most), st.integers(1, most))), draw(st.integers(1, 6))
    coarse = rng.integers(0, draw(st.integers(1, 4)), (2, *(-(-n // side) for n in shape)))
    labels, classes = coarse.repeat(side, axis=1).repeat(side, axis=2)[:, : shape[0], : shape[1]]
    return np.roll(labels, 1, axis=0), classes, rng.random(shape) < draw(st.sampled_from([0.7, 1]))


@settings(max_examples=60, deadline=None)
@given(scenes(), st.sampled_from([0, 1, math.sqrt(2), 2, 2.5, 5, 40]))
def test_boundaries_are_those_within_a_distance(scene, tolerance):
    labels, classes, known = scene
    ours, theirs = edges(labels, known), edges(classes, known)
    expected = []
    for mine, other in ((ours, theirs), (theirs, ours)):
        near = distance_transform_edt(~other) <= tolerance if other.any() else np.zeros_like(mine)
        expected += [(mine & near).sum(), mine.sum()]
    whole = slice(None), slice(None)
    assert list(metrics.boundary_hits(labels, classes, known, whole, tolerance)) == expected


@settings(max_examples=60, deadline=None)
@given(scenes(), st.sampled_from([0, 1, 2, 2.5, 5]), st.integers(1, 30))
def test_boundaries_of_windows_add_up_to_those_of_the_whole(scene, tolerance, side):
    labels, classes, known = scene
    bounds = Window(0, 0, *labels.shape)
    total = np.zeros(4, np.int64)
    for window in tiles(bounds, side):
        outer = window.grow(metrics.boundary_halo_px(tolerance), bounds)
        parts = (values[outer.slices()] for values in (labels, classes, known))
        total += metrics.boundary_hits(*parts, window.slices(outer), tolerance)
    whole = slice(None), slice(None)
    np.testing.assert_array_equal(total, metrics.boundary_hits(labels, classes, known, whole, tolerance))


def test_boundary_f1_of_equal_and_of_no_boundaries():
    assert metrics.boundary_f1(np.array([7, 7, 9, 9])) == 1
    assert metrics.boundary_f1(np.array([0, 7, 0, 9])) == metrics.boundary_f1(np.array([0, 0, 0, 9])) == 0
    assert math.isnan(metrics.boundary_f1(np.zeros(4, np.int64)))


# Olofsson et al. 2014, tables 8 and 9: deforestation, forest gain, stable forest, stable non-forest
SAMPLE = np.array(
    [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
).T  # a column for each map class
MAPPED = np.array([200_000, 150_000, 3_200_000, 6_450_000])


def test_area_adjusted_figures_are_those_of_the_paper():
    found = metrics.area_adjusted(SAMPLE, np.arange(4), MAPPED)

    def shown(estimate):
        return np.round(estimate.value, 2).tolist(), np.round(1.96 * estimate.error, 2).tolist()

    assert shown(found.accuracy) == (0.95, 0.02)
    assert shown(found.users) == ([0.88, 0.73, 0.93, 0.96], [0.07, 0.1, 0.04, 0.02])
    assert shown(found.producers)[0] == [0.75, 0.85, 0.93, 0.96]
    assert found.area.value[0] * 10e6 == pytest.approx(235_086, abs=1)
    assert 1.96 * found.area.error[0] * 10e6 == pytest.approx(68_418, rel=0.01)
    assert found.unsampled == 0


@given(matrices(), st.randoms())
def test_a_sample_in_proportion_to_the_map_is_not_adjusted(confusion, random):
    confusion = confusion * 2  # no stratum of one pixel
    label_of = metrics.one_to_one(confusion)
    found = metrics.area_adjusted(confusion, label_of, confusion.sum(axis=0) * random.randint(1, 9))
    assert found.accuracy.value == pytest.approx(metrics.accuracy(confusion, label_of))
    np.testing.assert_allclose(found.users.value, metrics.precision(confusion, label_of))
    matched = label_of >= 0
    np.testing.assert_allclose(found.producers.value[matched], metrics.recall(confusion, label_of)[matched])
    np.testing.assert_allclose(found.area.value, confusion.sum(axis=1) / confusion.sum())
    for estimate in (found.accuracy, found.users, found.producers, found.area, found.strata):
        low, high = estimate.interval
        known = ~np.isnan(estimate.error)
        assert (np.asarray(low <= high)[known]).all()
        assert ((low >= 0) & (high <= 1))[known].all()


def test_errors_of_producers_accuracies_are_those_of_a_ratio_of_sample_means():
    found = metrics.area_adjusted(SAMPLE, np.arange(4), MAPPED)
    weights = MAPPED / MAPPED.sum()
    for c in range(4):
        residuals = []  # of each pixel of each stratum: right - ratio * of the class
        for label, counts in enumerate(SAMPLE.T):
            of_class = np.repeat(np.arange(4) == c, counts)
            residuals.append((of_class & (label == c)) - found.producers.value[c] * of_class)
        total = sum(w * np.var(r, ddof=1) / len(r) * w for w, r in zip(weights, residuals, strict=True))
        assert found.producers.error[c] == pytest.approx(np.sqrt(total) / found.area.value[c])


def test_strata_without_a_sample_say_nothing_and_are_named():
    confusion = np.array([[8, 1, 0], [2, 0, 0]])
    found = metrics.area_adjusted(confusion, np.array([0, 1]), np.array([100, 50, 50]))
    assert found.unsampled == 0.5
    assert found.accuracy.value == pytest.approx(0.8)
    assert np.isnan(found.users.value[1])
    assert np.isnan(found.strata.value[1:]).all()
    nothing = metrics.area_adjusted(confusion * 0, np.array([0, 1]), np.array([100, 50, 50]))
    assert np.isnan(nothing.accuracy.value)


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(5)
    true = np.array([[0.8, 0.1, 0.3], [0.2, 0.9, 0.7]])  # of each map label the shares of the classes
    mapped = np.array([700_000, 200_000, 100_000])
    label_of = np.array([0, 1])
    weights = mapped / mapped.sum()
    accuracy = true[0, 0] * weights[0] + true[1, 1] * weights[1]
    held = 0
    for _ in range(400):
        sample = np.array([rng.multinomial(100, shares) for shares in true.T]).T
        low, high = metrics.area_adjusted(sample, label_of, mapped).accuracy.interval
        held += low <= accuracy <= high
    assert 0.91 < held / 400 < 0.98
