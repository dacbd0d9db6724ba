"""A georeference's arithmetic: to the bit what each module computed by itself before."""

from __future__ import annotations

import pytest
from affine import Affine
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.grid.alignment import Alignment
from pipeline.grid.area import ring_in_pixels
from pipeline.grid.georeference import Georeference, GroundControlPoint, in_pixels, on_ground
from pipeline.sinks.geozarr import _bounds, axes, grid_mapping

STEPS = st.floats(-1e4, 1e4, allow_subnormal=False) | st.sampled_from([0.0, -0.0, 1, -1, 30])
STARTS = st.floats(-1e8, 1e8, allow_subnormal=False) | st.integers(-(10**7), 10**7)


@st.composite
def transforms(draw):
    """Transforms of every direction: north-up, south-up, rotated, transposed, sheared; whole numbers too."""
    a, b, d, e = (draw(STEPS) for _ in range(4))
    match draw(st.sampled_from(["upright", "transposed", "any"])):
        case "upright":
            b, d = draw(st.sampled_from([(0.0, 0.0), (-0.0, 0.0), (0, 0)]))
        case "transposed":
            a, e = 0.0, 0.0
    scale = a * e - b * d
    assume(abs(scale) > 1e-6)
    return a, b, draw(STARTS), d, e, draw(STARTS)


OFFSETS = st.integers(0, 10**6)


def same(one, other):
    """Equal in every bit and type, as JSON and XML show them."""
    return repr(one) == repr(other)


@given(transforms(), OFFSETS, OFFSETS)
def test_a_part_begins_where_its_first_pixel_lies(transform, row, col):
    assume((row, col) != (0, 0))
    a, b, c, d, e, f = transform
    wanted = (a, b, a * col + b * row + c, d, e, d * col + e * row + f)
    assert same(Georeference("wkt", transform).shifted(row, col).transform, wanted)
    # the field's own library agrees
    assert on_ground(transform, col, row) == Affine(*transform) @ (col, row)


@given(transforms(), st.floats(-1e8, 1e8), st.floats(-1e8, 1e8))
def test_a_ring_in_pixels_is_what_areas_have_always_been(transform, x, y):
    a, b, c, d, e, f = transform
    scale = a * e - b * d
    wanted = ((e * (x - c) - b * (y - f)) / scale, (a * (y - f) - d * (x - c)) / scale)
    assert same(in_pixels(transform, x, y), wanted)
    assert same(ring_in_pixels(((x, y),), transform), (wanted,))


@given(transforms(), transforms())
def test_where_a_raster_lies_on_another_s_grid(transform, other):
    a, b, c, d, e, f = transform
    oa, ob, oc, od, oe, of = other
    scale = oa * oe - ob * od
    wanted = Alignment(
        row=(oa * (f - of) - od * (c - oc)) / scale,
        col=(oe * (c - oc) - ob * (f - of)) / scale,
        height=(oa * e - od * b) / scale,
        width=(oe * a - ob * d) / scale,
        skew=max(abs(oe * b - ob * e) * 300, abs(oa * d - od * a) * 400) / abs(scale),
    )
    assert same(Alignment.of(transform, (300, 400), other), wanted)


@given(transforms(), st.integers(0, 12))
def test_a_level_has_larger_pixels_from_the_same_corner(transform, level):
    a, b, c, d, e, f = transform
    step = 2**level
    points = (GroundControlPoint(3.0, 5.0, 1.0, 2.0, 0.0),)
    coarse = Georeference("wkt", transform, points, "Point").coarsened(step)
    assert same(coarse.transform, (a * step, b * step, c, d * step, e * step, f))
    assert coarse.gcps == (GroundControlPoint(3.0 / step, 5.0 / step, 1.0, 2.0, 0.0),)
    assert (coarse.crs_wkt, coarse.area_or_point) == ("wkt", "Point")


@given(transforms(), st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)))
def test_what_files_say_of_a_transform(transform, shape):
    a, b, c, d, e, f = transform
    corners = [(col, row) for row in (0, shape[0]) for col in (0, shape[1])]
    xs = [a * col + b * row + c for col, row in corners]
    ys = [d * col + e * row + f for col, row in corners]
    assert same(_bounds(transform, shape), [min(xs), min(ys), max(xs), max(ys)])
    place = Georeference(None, transform)
    order = [float(v) for v in (c, a, b, f, d, e)]
    assert grid_mapping(place) == {"GeoTransform": " ".join(map(repr, order))}
    assert same(place.geotransform, tuple(order))
    assert same(place.axes, None if b or d else ((f, e), (c, a)))
    found = axes(place)
    assert same([v[:2] for v in found.values()], [] if b or d else [(f, e), (c, a)])


@pytest.mark.parametrize("place", [Georeference(), Georeference("wkt")])
def test_without_a_transform_there_is_nothing_to_compute(place):
    assert place.axes is place.geotransform is None
    assert place.coarsened(4).transform is place.shifted(3, 4).transform is None
