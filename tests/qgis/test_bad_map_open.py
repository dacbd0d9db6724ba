"""The map of bad blocks lies in QGIS on the holes of the labels, however the raster is placed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from engine.grid import Window
from pipeline.config import RunConfig
from pipeline.out.bad_map import geojson
from pipeline.running.run import run
from pipeline.source.opening import open_any
from pipeline.source.reading import BadBlock
from tests.rasters import noise, spoil, write_geotiff

pytestmark = pytest.mark.qgis

OVERLAY = Path(__file__).with_name("overlay.py")
UTM = {"crs": "EPSG:32633"}
POINTS = [
    GroundControlPoint(r, c, 10 + c * 1e-3 + r * 2e-4, 50 - r * 1e-3 + c * c * 2e-7)
    for r in (0, 300, 600)
    for c in (0, 400, 800)
]
PLACES = {
    "projected": {},
    "rotated": {**UTM, "transform": rasterio.Affine(0.5, 0.1, 500000, 0.1, -0.5, 5800000)},
    "geographic": {"crs": "EPSG:4258", "transform": rasterio.Affine(0.001, 0, 10, 0, -0.001, 50)},
    "crs of its own": {"crs": CRS.from_string("+proj=tmerc +lat_0=40 +lon_0=9 +x_0=5 +ellps=GRS80 +units=m")},
    "no crs": {"crs": None},
    "no place": {"crs": None, "transform": None},
    "control points": {"crs": "EPSG:4326", "transform": None, "gcps": POINTS},
}


@pytest.fixture(scope="module")
def shares(qgis_python, outside, tmp_path_factory):
    folder = tmp_path_factory.mktemp("q")
    pairs = []
    for name, place in PLACES.items():
        path = folder / f"{name}.tif"
        write_geotiff(
            path, noise(1, 600, 800), tiled=True, blockxsize=128, blockysize=128, compress="deflate", **place
        )
        spoil(path, 1, 3)
        report = run(
            RunConfig(sources=(str(path),), out=str(folder / "o"), on_bad_chunk="nodata", overwrite=True)
        )
        assert report.exit_code == 0
        labels, polygons = folder / f"{name}.labels.tif", folder / f"{name}.bad.geojson"
        (folder / "o" / f"{name}.tif").rename(labels)
        bad = BadBlock(Window(128, 384, 128, 128), str(path), "undecodable")
        polygons.write_text(json.dumps(geojson([bad], open_any(path).georeference, name)))
        pairs += [labels, polygons]
    return dict(zip(PLACES, json.loads(outside(qgis_python, OVERLAY, *pairs)), strict=True))


@pytest.mark.parametrize("name", PLACES)
def test_polygons_lie_on_what_has_no_label(shares, name):
    assert shares[name] == {"features": 1, "reasons": ["undecodable"], "inside": 1.0, "around": 1.0}
