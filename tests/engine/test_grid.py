"""The pixel grid: windows, cuts at absolute multiples, chunk sides."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.grid import CELL_PX, Window, chunk_side, split, tiles
from tests.strategies import windows, windows_in

STARTS = st.integers(0, 5000)
LENGTHS = st.integers(1, 5000)
SIDES = st.integers(1, 2000)


@pytest.mark.parametrize(("height", "width"), [(0, 1), (1, 0), (-3, 4)])
def test_a_window_without_pixels_is_refused_with_its_size(height, width):
    with pytest.raises(ValueError, match=f"{width} x {height} px"):
        Window(0, 0, height, width)


def test_a_window_knows_its_ends_and_its_number_of_pixels():
    window = Window(3, 5, 2, 7)
    assert (window.row_end, window.col_end, window.pixels) == (5, 12, 14)


@pytest.mark.parametrize(
    ("other", "shared", "holds"),
    [
        (Window(0, 0, 9, 9), Window(2, 3, 4, 5), False),
        (Window(4, 5, 2, 3), Window(4, 5, 2, 3), True),
        (Window(2, 3, 4, 5), Window(2, 3, 4, 5), True),
        (Window(5, 7, 4, 5), Window(5, 7, 1, 1), False),
        (Window(6, 3, 4, 5), None, False),
        (Window(2, 8, 4, 5), None, False),
    ],
)
def test_what_two_windows_share(other, shared, holds):
    window = Window(2, 3, 4, 5)
    assert window.overlaps(other) == (shared is not None)
    assert window.holds(other) == holds
    if shared is not None:
        assert window.shared(other) == other.shared(window) == shared


def test_windows_are_values():
    assert Window(1, 2, 3, 4) == Window(1, 2, 3, 4)
    assert len({Window(1, 2, 3, 4), Window(1, 2, 3, 4)}) == 1
    assert min(Window(1, 0, 9, 9), Window(0, 5, 1, 1)).row == 0
    with pytest.raises(AttributeError):
        Window(1, 2, 3, 4).row = 0


@given(windows().flatmap(lambda b: st.tuples(st.just(b), windows_in(b))), st.integers(0, 60))
def test_a_window_grows_on_every_side_as_far_as_the_bounds_allow(pair, px):
    bounds, window = pair
    grown = window.grow(px, bounds)
    assert grown.row == max(bounds.row, window.row - px)
    assert grown.col == max(bounds.col, window.col - px)
    assert grown.row_end == min(bounds.row_end, window.row_end + px)
    assert grown.col_end == min(bounds.col_end, window.col_end + px)


@given(windows().flatmap(lambda b: st.tuples(st.just(b), windows_in(b))))
def test_slices_pick_the_window_out_of_an_array_that_begins_elsewhere(pair):
    bounds, window = pair
    rows, cols = np.mgrid[bounds.row : bounds.row_end, bounds.col : bounds.col_end]
    part = window.slices(bounds)
    assert rows[part].shape == (window.height, window.width)
    assert (rows[part][0, 0], cols[part][0, 0]) == (window.row, window.col)
    assert (rows[part][-1, -1], cols[part][-1, -1]) == (window.row_end - 1, window.col_end - 1)
    assert window.slices() == window.slices(Window(0, 0, 1, 1))


@pytest.mark.parametrize(
    ("start", "length", "side", "smallest", "pieces"),
    [
        (0, 10, 4, 1, (4, 4, 2)),
        (0, 8, 4, 1, (4, 4)),
        (3, 10, 4, 1, (1, 4, 4, 1)),
        (4, 4, 4, 1, (4,)),
        (0, 3, 4, 1, (3,)),
        (3, 10, 4, 2, (5, 5)),
        (0, 10, 4, 3, (4, 6)),
        (2, 9, 4, 3, (6, 3)),
        (3, 2, 4, 4, (2,)),
        (3, 6, 4, 4, (6,)),
    ],
)
def test_known_cuts(start, length, side, smallest, pieces):
    assert split(start, length, side, smallest) == pieces


@given(STARTS, LENGTHS, SIDES, st.integers(1, 100))
def test_pieces_cover_the_interval_and_are_cut_at_absolute_multiples(start, length, side, smallest):
    pieces = split(start, length, side, smallest)
    assert sum(pieces) == length
    assert min(pieces) >= 1
    cuts = np.cumsum(pieces)[:-1] + start
    assert not (cuts % side).any()


@given(STARTS, LENGTHS, SIDES)
def test_no_multiple_within_the_interval_is_left_uncut(start, length, side):
    cuts = set((np.cumsum(split(start, length, side))[:-1] + start).tolist())
    assert cuts == {m for m in range(0, start + length, side) if m > start}


@given(STARTS, LENGTHS, SIDES, st.integers(1, 100))
def test_no_piece_is_smaller_than_a_halo_where_the_interval_is_not(start, length, side, smallest):
    side = max(side, smallest)
    pieces = split(start, length, side, smallest)
    assert len(pieces) == 1 or min(pieces) >= smallest
    # only what is too small at the ends is merged, so no piece grows beyond reason
    assert max(pieces) <= side + 2 * (smallest - 1)


@given(windows(60, 60), st.integers(1, 40))
def test_tiles_cover_their_bounds_exactly_once_and_stay_in_one_cell(bounds, side):
    count = np.zeros((bounds.height, bounds.width), int)
    found = list(tiles(bounds, side))
    for tile in found:
        count[tile.slices(bounds)] += 1
        assert tile.row // side == (tile.row_end - 1) // side
        assert tile.col // side == (tile.col_end - 1) // side
    assert (count == 1).all()
    assert found == sorted(found)


@given(windows(60, 60).flatmap(lambda b: st.tuples(st.just(b), windows_in(b))), st.integers(1, 40))
def test_a_part_lies_on_the_same_tiles_as_the_whole(pair, side):
    whole, part = pair
    of_whole = {(t.row // side, t.col // side): t for t in tiles(whole, side)}
    for tile in tiles(part, side):
        around = of_whole[tile.row // side, tile.col // side]
        assert tile.grow(0, around) == tile


@given(st.integers(1, 1 << 17), st.sampled_from([1, 3, CELL_PX]))
def test_a_chunk_side_is_rounded_up_to_whole_cells(requested, cell):
    side = chunk_side(requested, cell)
    assert side % cell == 0
    assert requested <= side < requested + cell


@pytest.mark.parametrize("requested", [0, -5])
def test_a_chunk_without_pixels_is_refused_with_its_size(requested):
    with pytest.raises(ValueError, match=f"{requested} px"):
        chunk_side(requested)
