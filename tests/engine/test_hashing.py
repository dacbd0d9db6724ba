"""Hash sampling: published and pinned values, and choices that no order or partition changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engine import hashing

GOLDEN = 0x9E3779B97F4A7C15
HASHES = hnp.arrays(np.uint64, st.integers(0, 200), elements=st.integers(0, 2**64 - 1))
# few values, so that there are ties
CROWDED = hnp.arrays(np.uint64, st.integers(0, 60), elements=st.integers(0, 5))


def splitmix64(state):
    """The published generator's output for a state, in Python's whole numbers."""
    mask = 2**64 - 1
    z = (state + GOLDEN) & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return z ^ z >> 31


def test_mix_gives_the_published_sequence_of_splitmix64_for_seed_0():
    states = np.array([0, GOLDEN, 2 * GOLDEN % 2**64], np.uint64)
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert hashing.mix(states).tolist() == expected


@given(HASHES)
def test_mix_equals_the_generator_in_whole_numbers(states):
    assert hashing.mix(states).tolist() == [splitmix64(int(s)) for s in states]


def test_known_values_stay():
    # a sample must be the same tomorrow: changing these changes every codebook
    assert hashing.key(0, (100, 200, None, 3, "uint8")) == 0x7160D3DE6DACEBF7
    assert hashing.key() == 0xB4B2797457A0A6E4
    assert hashing.grid_hash(7, [0, 1], [5, 0]).tolist() == [0x3C1A064D259973A5, 0xFBFED51C54440502]


def test_a_key_tells_values_and_their_places_apart():
    keys = [
        hashing.key(*p) for p in [(1,), ("1",), (1.0,), (1, 2), (2, 1), ((1, 2),), (12,), (), (None,), ("",)]
    ]
    assert len(set(keys)) == len(keys)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.integers(0, 2**40))
def test_a_position_s_hash_follows_from_the_seed_and_its_coordinates(seed, row, col):
    expected = splitmix64((splitmix64(row ^ seed) + splitmix64(col)) % 2**64)
    assert hashing.grid_hash(seed, [row], [col]).tolist() == [expected]


def test_a_part_of_a_grid_has_the_hashes_of_the_whole():
    rows, cols = np.arange(30)[:, None], np.arange(40)[None]
    whole = hashing.grid_hash(3, rows, cols)
    assert whole.shape == (30, 40)
    assert whole.dtype == np.uint64
    np.testing.assert_array_equal(hashing.grid_hash(3, rows[10:20], cols[:, 5:9]), whole[10:20, 5:9])


def test_rows_and_columns_do_not_stand_for_each_other():
    n = np.arange(50)
    hashes = hashing.grid_hash(hashing.key(0), n[:, None], n[None])
    assert len(np.unique(hashes)) == 2500


@given(
    hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
    st.integers(1, 500),
)
def test_the_bottom_of_a_mask_is_that_of_its_places_hashes(mask, seed, row, col, k):
    hashes, places, found = hashing.mask_bottom(seed, mask, row, col, k)
    rows, cols = np.nonzero(mask)
    each = hashing.grid_hash(seed, rows + row, cols + col)
    chosen = hashing.bottom(each, k)
    assert hashes.tolist() == each[chosen].tolist()
    assert places.tolist() == np.flatnonzero(mask)[chosen].tolist()
    assert found == len(each)


@pytest.mark.parametrize(("share", "calls"), [(0.0, 4), (0.5, 2), (1e9, 2)])
def test_the_bottom_of_a_mask_is_found_where_hashes_are_not_spread_evenly(monkeypatch, share, calls):
    mask = np.ones((64, 64), bool)
    expected = hashing.mask_bottom(1, mask, 0, 0, 100)
    usual, limits = hashing._hash_mask, []

    def skewed(seed, mask, row, col, limit, hashes, places):
        # a limit that lets too few or too many through at first
        limits.append(limit)
        far = min(int(int(limit) * share), 2**64 - 1) if len(limits) < calls else limit
        return usual(seed, mask, row, col, np.uint64(far), hashes, places)

    monkeypatch.setattr(hashing, "_hash_mask", skewed)
    found = hashing.mask_bottom(1, mask, 0, 0, 100)
    assert [x.tolist() for x in found[:2]] == [x.tolist() for x in expected[:2]]
    assert len(limits) >= calls


@pytest.mark.parametrize("seed", range(5))
def test_the_bottom_of_a_grid_is_spread_over_it(seed):
    hashes = hashing.grid_hash(hashing.key(seed), np.arange(100)[:, None], np.arange(100)[None]).ravel()
    chosen = hashing.bottom(hashes, 1000)
    quadrants = np.bincount(chosen // 5000 * 2 + chosen % 100 // 50, minlength=4)
    assert np.abs(quadrants - 250).max() < 70  # five standard deviations


@given(HASHES | CROWDED, st.integers(0, 250))
def test_bottom_gives_the_smallest_in_order_and_ties_by_position(hashes, k):
    expected = sorted(range(len(hashes)), key=lambda i: (int(hashes[i]), i))[:k]
    assert hashing.bottom(hashes, k).tolist() == expected


@given(HASHES | CROWDED, st.integers(1, 50), st.randoms(use_true_random=False))
def test_bottom_is_the_same_in_any_order(hashes, k, random):
    shuffled = hashes.tolist()
    random.shuffle(shuffled)
    shuffled = np.array(shuffled, np.uint64)
    assert shuffled[hashing.bottom(shuffled, k)].tolist() == hashes[hashing.bottom(hashes, k)].tolist()


@given(HASHES | CROWDED, st.integers(1, 50), st.lists(st.integers(0, 200), max_size=4))
def test_bottom_of_a_union_is_the_bottom_of_its_parts_bottoms(hashes, k, cuts):
    parts = np.split(hashes, sorted(c for c in cuts if c <= len(hashes)))
    merged = np.concatenate([p[hashing.bottom(p, k)] for p in parts])
    assert merged[hashing.bottom(merged, k)].tolist() == hashes[hashing.bottom(hashes, k)].tolist()
