"""Bad blocks on the ground: exactly where rasterio and GDAL put the same pixels."""

from __future__ import annotations

import json

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from rasterio.crs import CRS
from rasterio.transform import GCPTransformer

from engine.grid import Window
from pipeline.grid.georeference import Georeference, GroundControlPoint
from pipeline.out.bad_map import geojson
from pipeline.source.reading import BadBlock

WINDOW = Window(20, 30, 40, 50)
BLOCK = BadBlock(WINDOW, "r.tif", "why")
TRANSFORM = (0.5, 0.0, 500000.0, 0.0, -0.5, 5800000.0)
DEGREES = (0.001, 0.0, 10.0, 0.0, -0.001, 50.0)
OWN = "+proj=tmerc +lat_0=10 +lon_0=33 +k=0.99 +x_0=5 +y_0=7 +ellps=GRS80 +units=m"


def opened(tmp_path, blocks, georeference):
    """CRS, polygons and fields of the file, as OGR reads it."""
    path = tmp_path / "r.bad.geojson"
    path.write_text(json.dumps(geojson(blocks, georeference, "r")))
    meta, _, shapes, fields = pyogrio.raw.read(path)
    return meta["crs"], shapely.from_wkb(shapes), dict(zip(meta["fields"], fields, strict=True))


def corners(transform):
    rows, cols = (WINDOW.row, WINDOW.row_end), (WINDOW.col, WINDOW.col_end)
    return [rasterio.Affine(*transform) * (cols[j], rows[i]) for i, j in ((0, 0), (0, 1), (1, 1), (1, 0))]


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32633", TRANSFORM),
        ("EPSG:32633", (0.5, 0.1, 5e5, 0.2, -0.5, 5.8e6)),
        ("EPSG:32633", (0.5, 0.0, 5e5, 0.0, 0.5, 5.8e6)),
        ("EPSG:31467", TRANSFORM),  # its axes are northing and easting
        ("ESRI:102001", TRANSFORM),
        ("EPSG:32633+5773", TRANSFORM),
        (OWN, TRANSFORM),
        ("EPSG:4326", DEGREES),
        ("EPSG:4258", DEGREES),
    ],
)
def test_polygons_lie_on_the_block_in_the_raster_s_crs(tmp_path, crs, transform):
    wkt = CRS.from_user_input(crs).to_wkt()
    found, (shape,), _ = opened(tmp_path, [BLOCK], Georeference(wkt, transform))
    assert CRS.from_user_input(found) == CRS.from_wkt(wkt)
    wanted = shapely.Polygon(corners(transform))
    assert shape.symmetric_difference(wanted).area == pytest.approx(0, abs=1e-9 * wanted.area)
    assert shape.exterior.is_ccw


@pytest.mark.parametrize("transform", [TRANSFORM, None])
def test_without_a_crs_there_is_one_that_is_not_reprojected(tmp_path, transform):
    found, (shape,), _ = opened(tmp_path, [BLOCK], Georeference(transform=transform))
    assert found.startswith("LOCAL_CS")
    x, y = zip(*corners(transform or (1, 0, 0, 0, -1, 0)), strict=True)
    assert shape.bounds == (min(x), min(y), max(x), max(y))


def test_with_control_points_edges_are_bent_as_gdal_bends_the_raster(tmp_path):
    known = tuple(
        GroundControlPoint(r, c, 10 + c * 1e-3 + r * r * 1e-6, 50 - r * 1e-3 + c * c * 1e-6, 0.0)
        for r in (0, 50, 100)
        for c in (0, 60, 120)
    )
    crs = CRS.from_epsg(4326).to_wkt()
    found, (shape,), _ = opened(tmp_path, [BLOCK], Georeference(crs, gcps=known))
    assert found == "EPSG:4326"
    with GCPTransformer(
        [rasterio.control.GroundControlPoint(p.row, p.col, p.x, p.y) for p in known]
    ) as place:
        for row, col in ((20, 30), (20, 80), (60, 80), (60, 30), (40, 30), (20, 55)):
            point = shapely.Point(*place.xy(row, col, offset="ul"))
            assert shape.exterior.distance(point) < 1e-9
        # a straight edge would miss its middle
        ends = [place.xy(20, col, offset="ul") for col in (30, 80)]
        assert shapely.LineString(ends).distance(shapely.Point(*place.xy(20, 55, offset="ul"))) > 1e-4
        assert shape.contains(shapely.Point(*place.xy(40, 55, offset="ul")))


def test_properties_say_what_and_where(tmp_path):
    chunk = BadBlock(Window(0, 0, 512, 512), "s.tif", "killed", "chunk", "some\ntrace")
    _, shapes, fields = opened(tmp_path, [BLOCK, chunk, BLOCK], Georeference(transform=TRANSFORM))
    assert len(shapes) == 2
    assert {k: list(v) for k, v in fields.items()} == {
        "raster": ["r", "r"],
        "row": [0, 20],
        "col": [0, 30],
        "height": [512, 40],
        "width": [512, 50],
        "path": ["s.tif", "r.tif"],
        "reason": ["killed", "why"],
        "kind": ["chunk", "source block"],
        "traceback": ["some\ntrace", None],
    }


def test_nothing_bad_is_no_feature():
    assert geojson([], Georeference(), "r")["features"] == []


def test_values_are_plain_json():
    text = json.dumps(geojson([BLOCK], Georeference(transform=TRANSFORM), "r"), allow_nan=False)
    assert np.isfinite(json.loads(text)["features"][0]["geometry"]["coordinates"]).all()
