"""Huffman's codes beside the definition, and their limits."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sinks.deflate import codes


def cost(weights):
    """Bits of all symbols in Huffman's own way: the two lightest are joined until one is left."""
    heap, total = sorted(weights), 0
    while len(heap) > 1:
        joined = heapq.heappop(heap) + heapq.heappop(heap)
        total += joined
        heapq.heappush(heap, joined)
    return total


def fibonacci(count):
    numbers = [1, 1]
    while len(numbers) < count:
        numbers.append(numbers[-1] + numbers[-2])
    return numbers[:count]


def space(widths):
    """What share of all codes those of such widths take (Kraft's sum)."""
    return sum(2.0**-width for width in widths if width)


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=60))
def test_no_code_is_shorter_on_the_whole_where_none_is_limited(counts):
    counts = np.array(counts)
    widths = codes._code_widths(counts, 60)
    assert (widths > 0).tolist() == (counts > 0).tolist()
    if (counts > 0).sum() > 1:
        assert counts @ widths == cost(counts[counts > 0].tolist())
        assert space(widths) == 1


@pytest.mark.parametrize("most", [7, 15])
@pytest.mark.parametrize("used", [1, 2, 16, 19, 40])
def test_no_code_is_longer_than_the_format_allows(used, most):
    widths = codes._code_widths(np.array(fibonacci(used)), most)
    assert widths.max() <= most
    assert space(widths) == (1 if used > 1 else 0.5)


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=60))
def test_no_code_is_how_another_begins(counts):
    widths = codes._code_widths(np.array(counts), 15)
    found = codes._codes(widths)
    texts = [f"{code:0{width}b}"[::-1] for code, width in zip(found, widths, strict=True) if width]
    for i, text in enumerate(texts):
        assert not any(other.startswith(text) for other in texts[:i] + texts[i + 1 :])


@given(st.lists(st.sampled_from([0, 0, 0, 5, 15]) | st.just(0), min_size=1, max_size=500))
def test_runs_of_zeros_are_told_as_the_format_does(widths):
    told = []
    for symbol, repeat in zip(*codes._run_lengths(widths), strict=True):
        told += [symbol] if symbol < 16 else [0] * (repeat + {17: 3, 18: 11}[symbol])
        assert repeat <= {17: 7, 18: 127}.get(symbol, 0)
    assert told == widths


def test_distances_are_those_of_the_table_in_the_standard():
    # RFC 1951, 3.2.5
    for back, expected in {
        1: (0, 0, 0), 4: (3, 0, 0), 5: (4, 1, 0), 6: (4, 1, 1), 7: (5, 1, 0), 512: (17, 7, 127),
        513: (18, 8, 0), 24576: (28, 13, 8191), 24577: (29, 13, 0), 32768: (29, 13, 8191),
    }.items():  # fmt: skip
        assert codes._distance(back) == expected
