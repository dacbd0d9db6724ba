"""Tags of a georeference are those that GDAL writes for it, though GDAL is asked once for many corners."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from pipeline.grid.georeference import Georeference, GroundControlPoint
from pipeline.sinks import tiff

WKT = CRS.from_epsg(32633).to_wkt()
SIDES = st.sampled_from([0.5, 1.0, 10.0]) | st.floats(1e-6, 1e3)
ZEROS = st.sampled_from([0.0, -0.0])
CORNERS = ZEROS | st.floats(-1e7, 1e7)


@settings(max_examples=300)
@given(
    side=SIDES,
    height=SIDES,
    shears=st.tuples(ZEROS | st.just(0.1), ZEROS),
    corner=st.tuples(CORNERS, CORNERS),
    south_up=st.booleans(),
    crs=st.sampled_from([WKT, None]),
    area_or_point=st.sampled_from(["Area", "Point"]),
)
def test_tags_are_those_of_gdal(side, height, shears, corner, south_up, crs, area_or_point):
    e = height if south_up else -height
    transform = (side, shears[0], corner[0], shears[1], e, corner[1])
    georeference = Georeference(crs, transform, area_or_point=area_or_point)
    assert tiff.geo_tags(georeference) == tiff._of_gdal(georeference)


@pytest.mark.parametrize(
    "georeference",
    [
        Georeference(),
        Georeference(WKT),
        Georeference(WKT, gcps=tuple(GroundControlPoint(r, c, c, -r, 0) for r in (0, 9) for c in (0, 7))),
    ],
)
def test_what_has_no_transform_is_as_gdal_writes_it(georeference):
    assert tiff.geo_tags(georeference) == tiff._of_gdal(georeference)


def test_of_many_corners_gdal_writes_one():
    tiff._upright.cache_clear()
    for i in range(20):
        tiff.geo_tags(Georeference(WKT, (1.0, 0.0, float(i), 0.0, -1.0, -5.0 * i)))
    assert tiff._upright.cache_info().misses == 1
