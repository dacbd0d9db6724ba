from __future__ import annotations

import json
import warnings

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin
from rasterio.warp import transform

from engine.grid import Window
from pipeline.cli import main
from pipeline.config import RunConfig
from pipeline.errors import RasterError, StorageError, UsageError
from pipeline.grid.area import Interest
from pipeline.running.run import run
from pipeline.source.aoi import interest
from pipeline.source.gdal.raster import open_header
from pipeline.source.view import View, crop
from pipeline.tasks import publishing
from tests.rasters import noise, write_geotiff


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    """Blobs, 1300 x 1100 px of half a metre from 500000, 5800000 in UTM 33."""
    coarse = noise(3, 28, 33, seed=3).repeat(40, axis=1).repeat(40, axis=2)[:, :1100, :1300]
    return write_geotiff(tmp_path_factory.mktemp("area") / "r.tif", coarse + noise(3, 1100, 1300, high=40))


def labels(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1), dataset.transform


def go(raster, out, **options):
    report = run(RunConfig(sources=(str(raster),), out=str(out), segments=4, **options))
    assert not report.failed, report.failed
    return labels(out / "r.tif")


def geojson(path, *rings, crs=None):
    """A vector file of one polygon, in longitude and latitude unless said otherwise."""
    value = {"type": "FeatureCollection", "features": [
        {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": list(rings)}}
    ]}  # fmt: skip
    if crs:
        value["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(value))
    return str(path)


def ring_of(x0, y0, x1, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


@pytest.mark.parametrize("options", [{"resolution": 3}, {"method": "cnn", "resolution": 8, "device": "cpu"}])
def test_labels_in_an_extent_are_those_of_the_whole_raster(raster, tmp_path, options):
    whole, _ = go(raster, tmp_path / "whole", **options)
    box = (500120.3, 5799600.2, 500480.7, 5799790.4)
    codebook = str(tmp_path / "whole" / "codebook.npz")
    part, place = go(raster, tmp_path / "part", extent=box, codebook=codebook, **options)
    col, row = round((place.c - 500000) / 0.5), round((5800000 - place.f) / 0.5)
    assert row % 512 == col % 512 == 0
    same = whole[row : row + part.shape[0], col : col + part.shape[1]]
    x = 500000 + 0.5 * (np.arange(part.shape[1]) + col + 0.5)
    y = 5800000 - 0.5 * (np.arange(part.shape[0]) + row + 0.5)
    inside = ((x > box[0]) & (x < box[2]))[None] & ((y > box[1]) & (y < box[3]))[:, None]
    np.testing.assert_array_equal(part[inside], same[inside])
    assert (part[~inside] == 255).all()
    assert inside.sum() > 100_000


def test_a_polygon_of_another_crs_is_reprojected_and_its_hole_left_out(raster, tmp_path):
    outer = ring_of(500100, 5799700, 500400, 5799900)
    hole = ring_of(500200, 5799750, 500300, 5799850)
    rings = []
    for ring in (outer, hole):
        lon, lat = transform("EPSG:32633", "EPSG:4326", *zip(*ring, strict=True))
        rings.append([list(p) for p in zip(lon, lat, strict=True)])
    part, place = go(raster, tmp_path / "o", aoi=geojson(tmp_path / "a.geojson", *rings))
    row, col = np.nonzero(part != 255)
    x, y = place.c + 0.5 * (col + 0.5), place.f - 0.5 * (row + 0.5)
    assert x.min() == pytest.approx(500100, abs=1)
    assert x.max() == pytest.approx(500400, abs=1)
    assert y.min() == pytest.approx(5799700, abs=1)
    assert not ((x > 500201) & (x < 500299) & (y > 5799751) & (y < 5799849)).any()
    assert len(row) == pytest.approx((300 * 200 - 100 * 100) * 4, rel=0.01)


def test_the_fit_sees_the_area_alone(tmp_path):
    pixels = np.full((3, 600, 600), 20, np.uint8)
    pixels[:, :, :100] = noise(3, 600, 100, low=100, high=250)
    source = write_geotiff(tmp_path / "r.tif", pixels)
    box = (500100.0, 5799750.0, 500290.0, 5799990.0)
    part, _ = go(source, tmp_path / "o", extent=box)
    # the only value there is one label; had the fit seen the noise, the flat part would still be one of four
    record = json.loads((tmp_path / "o" / "r.json").read_text())
    assert record["fit"]["share"] == [1.0]
    assert set(np.unique(part)) == {0, 255}


def test_an_area_that_misses_the_raster_fails_that_raster_alone(raster, tmp_path):
    report = run(RunConfig(sources=(str(raster),), out=str(tmp_path / "o"), extent=(0.0, 0.0, 10.0, 10.0)))
    assert report.exit_code == 1
    assert "r.tif: --extent misses this raster" in report.failed["r"]
    assert not (tmp_path / "o" / "r.tif").exists()


def test_the_region_is_whole_cells_and_a_pixel_is_inside_by_its_centre(raster):
    view = View.whole(open_header(raster))
    # from the middle of pixel (600, 530) on: that pixel's centre is on the border
    box = (500000 + 0.5 * 530.6, 5800000 - 0.5 * 700, 500000 + 0.5 * 600, 5800000 - 0.5 * 600.4)
    part = crop(view, interest(box, None), 512)
    assert part.region == Window(512, 512, 512, 512)
    inside = part.inside(part.region)
    rows, cols = np.nonzero(inside)
    assert (cols.min() + 512, cols.max() + 512) == (531, 599)
    assert (rows.min() + 512, rows.max() + 512) == (600, 699)


def test_a_rotated_raster_takes_an_extent_too(tmp_path):
    turned = from_origin(500000, 5800000, 0.5, 0.5) @ rasterio.Affine.rotation(30)
    source = write_geotiff(tmp_path / "r.tif", noise(3, 300, 300), transform=turned)
    corner = turned @ (100, 100)
    part, _ = go(
        source, tmp_path / "o", extent=(corner[0] - 10, corner[1] - 10, corner[0] + 10, corner[1] + 10)
    )
    assert (part != 255).sum() == pytest.approx(40 * 40, rel=0.02)
    assert part[100, 100] != 255


@pytest.mark.parametrize(
    ("extent", "aoi", "message"),
    [
        ((1.0, 1.0, 1.0, 2.0), None, "with some area"),
        ((0.0, 0.0, float("nan"), 2.0), None, "with some area"),
        ((0.0, 0.0, 1.0, 1.0), "x.geojson", "give one of them"),
        (None, "nowhere.gpkg", r"nowhere\.gpkg: no such vector file"),
    ],
)
def test_areas_that_make_no_sense_are_refused(extent, aoi, message):
    with pytest.raises(UsageError, match=message):
        interest(extent, aoi)


def test_a_file_that_is_no_vector_file_or_holds_no_polygons_is_refused(tmp_path):
    (tmp_path / "text.geojson").write_text("not json")
    with pytest.raises(UsageError, match=r"not a vector file"):
        interest(None, str(tmp_path / "text.geojson"))
    point = {"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [1, 2]}}
    (tmp_path / "point.geojson").write_text(json.dumps(point))
    with pytest.raises(UsageError, match="holds no polygons"):
        interest(None, str(tmp_path / "point.geojson"))


def test_a_raster_without_a_place_cannot_take_an_area(tmp_path):
    source = write_geotiff(
        tmp_path / "r.tif", noise(1, 50, 50), crs=None, transform=rasterio.Affine.identity()
    )
    with pytest.raises(RasterError, match="has no transform"):
        crop(View.whole(open_header(source)), interest((0.0, 0.0, 9.0, 9.0), None), 512)


@pytest.mark.parametrize(
    "text",
    [
        (
            '<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>a.vrt</SrcDataSource></OGRVRTLayer>'
            "</OGRVRTDataSource>"
        ),
        '{"type": "gdal_streamed_alg", "command_line": "gdal vector pipeline ! read a.geojson"}',
        '{"type": "FeatureCollection", "features": []}',
        "a,b\n1,2\n",
    ],
)
def test_a_vector_that_refers_to_others_or_holds_nothing_is_refused(tmp_path, text):
    for suffix in ("vrt", "gdalg.json", "csv"):
        path = tmp_path / f"a.{suffix}"
        path.write_text(text)
        with pytest.raises(UsageError, match=r"not a vector file|holds no polygons"):
            interest(None, str(path))


def test_coordinates_that_no_place_has_fail_that_raster(raster):
    ring = ((500, 500), (501, 500), (501, 501), (500, 500))
    wanted = Interest(((ring,),), rasterio.CRS.from_epsg(4326).to_wkt(), "--aoi x")
    with pytest.raises(RasterError, match=r"cannot be brought into its CRS"):
        crop(View.whole(open_header(raster)), wanted, 512)


def test_nothing_is_written_beside_a_vector(tmp_path):
    path = tmp_path / "a.gml"
    path.write_text(
        '<gml:FeatureCollection xmlns:gml="http://www.opengis.net/gml"><gml:featureMember><a><g><gml:Polygon>'
        "<gml:outerBoundaryIs><gml:LinearRing><gml:coordinates>0,0 9,0 9,9 0,0</gml:coordinates>"
        "</gml:LinearRing></gml:outerBoundaryIs></gml:Polygon></g></a></gml:featureMember></gml:FeatureCollection>"
    )
    assert interest(None, str(path)).polygons
    assert [p.name for p in tmp_path.iterdir()] == ["a.gml"]


def test_polygons_that_changed_since_are_refused(raster, tmp_path):
    aoi = tmp_path / "a.geojson"
    near, far = (ring_of(500100, y, 500400, 5799900) for y in (5799700, 5799600))
    geojson(aoi, near, crs="EPSG:32633")
    before, _ = go(raster, tmp_path / "o", aoi=str(aoi))
    # the same polygons in other words are the same
    value = json.loads(aoi.read_text())
    value["features"][0]["properties"]["note"] = "surveyed"
    aoi.write_text(json.dumps(value, indent=3))
    go(raster, tmp_path / "o", aoi=str(aoi))
    geojson(aoi, far, crs="EPSG:32633")
    with pytest.raises(
        UsageError, match=r"a.geojson: the polygons of --aoi have changed since the run in .*o"
    ):
        go(raster, tmp_path / "o", aoi=str(aoi))
    np.testing.assert_array_equal(labels(tmp_path / "o" / "r.tif")[0], before)
    after, _ = go(raster, tmp_path / "o", aoi=str(aoi), overwrite=True)
    assert (after != 255).sum() > (before != 255).sum()


def test_polygons_that_changed_before_all_is_done_are_refused_too(raster, tmp_path, monkeypatch):
    aoi = tmp_path / "a.geojson"
    geojson(aoi, ring_of(500100, 5799700, 500400, 5799900), crs="EPSG:32633")
    with monkeypatch.context() as patch:
        patch.setattr(publishing, "publish", _full)
        with pytest.raises(StorageError):
            go(raster, tmp_path / "o", aoi=str(aoi))
    geojson(aoi, ring_of(500100, 5799600, 500400, 5799900), crs="EPSG:32633")
    with pytest.raises(UsageError, match="the polygons of --aoi have changed"):
        go(raster, tmp_path / "o", aoi=str(aoi))


def _full(*_):
    raise StorageError("full")


def globe(path, west, width, side=0.1, crs="EPSG:4326"):
    """A raster of 20 degrees around the equator, from a longitude on."""
    return write_geotiff(path, noise(1, 200, width), crs=crs, transform=from_origin(west, 10, side, side))


def taken(path, wanted):
    """Longitudes of the columns of a raster that have pixels in an area, and the number of these."""
    view = crop(View.whole(open_header(path)), wanted, 512)
    inside = view.inside(view.region)
    cols = np.flatnonzero(inside.any(axis=0)) + view.region.col
    west, side = view.raster.georeference.transform[2], view.raster.georeference.transform[0]
    return {round(west + side * (col + 0.5), 2) for col in cols}, int(inside.sum())


def degrees(first, last):
    return {round(first + 0.05 + 0.1 * i, 2) for i in range(round((last - first) * 10))}


BOTH_SIDES = [[ring_of(175, -5, 180, 5)], [ring_of(-180, -5, -172, 5)]]


def multipolygon(path, rings, crs=None):
    value = {"type": "MultiPolygon", "coordinates": rings}
    collection = {
        "type": "FeatureCollection",
        "features": [{"type": "Feature", "properties": {}, "geometry": value}],
    }
    if crs:
        collection["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(collection))
    return str(path)


@pytest.mark.parametrize(
    ("west", "width", "wanted"),
    [
        (170, 200, degrees(175, 188)),
        (-190, 200, degrees(-185, -172)),
        (0, 3600, degrees(175, 188)),
        (-180, 3600, degrees(175, 180) | degrees(-180, -172)),
        (-180, 100, degrees(-180, -172)),
        (100, 3700, degrees(175, 188)),
        (100, 4700, degrees(175, 188) | degrees(535, 548)),
    ],
)
def test_an_area_that_is_cut_at_the_antimeridian_is_taken_whole(tmp_path, west, width, wanted):
    path = globe(tmp_path / "r.tif", west, width)
    area = interest(None, multipolygon(tmp_path / "a.geojson", BOTH_SIDES))
    assert taken(path, area) == (wanted, 100 * len(wanted))


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:4258", "OGC:CRS84"])
def test_a_grid_from_0_to_360_is_found_by_longitudes_from_minus_180(tmp_path, crs):
    path = globe(tmp_path / "r.tif", 0, 3600, crs=crs)
    assert taken(path, interest((-80, -5, -60, 5), None)) == (degrees(280, 300), 20000)
    assert taken(path, interest((280, -5, 300, 5), None)) == (degrees(280, 300), 20000)
    assert taken(path, interest((-10, -5, 10, 5), None)) == (degrees(0, 10) | degrees(350, 360), 20000)
    file = interest(None, geojson(tmp_path / "a.geojson", ring_of(-80, -5, -60, 5)))
    assert taken(path, file) == (degrees(280, 300), 20000)
    beyond = globe(tmp_path / "b.tif", -180, 3600, crs=crs)
    assert taken(beyond, interest((190, -5, 200, 5), None)) == (degrees(-170, -160), 10000)
    # at the edge, it does not begin again at the other one
    view = crop(View.whole(open_header(beyond)), interest((170, -5, 180, 5), None), 512)
    assert view.region.col == 3072


def test_an_area_across_the_antimeridian_may_be_in_metres(tmp_path):
    # Fiji's map grid, whose middle lies at 178.75 degrees east
    ring = ring_of(1900000, 3900000, 2300000, 4100000)
    file = multipolygon(tmp_path / "a.geojson", [[ring]], "urn:ogc:def:crs:EPSG::3460")
    path = write_geotiff(
        tmp_path / "r.tif", noise(1, 200, 200), crs="EPSG:4326", transform=from_origin(170, -10, 0.1, 0.1)
    )
    columns, count = taken(path, interest(None, file))
    assert columns == degrees(round(min(columns) - 0.05, 2), round(max(columns) + 0.05, 2))
    assert min(columns) < 179
    assert max(columns) > 181
    assert count < 1000


def test_an_area_that_lies_elsewhere_on_the_globe_misses(tmp_path):
    path = globe(tmp_path / "r.tif", 170, 200)
    with pytest.raises(RasterError, match="--extent misses this raster"):
        crop(View.whole(open_header(path)), interest((20, -5, 40, 5), None), 512)
    metres = write_geotiff(tmp_path / "m.tif", noise(1, 50, 50))
    with pytest.raises(RasterError, match="--extent misses this raster"):
        crop(
            View.whole(open_header(metres)),
            interest((500000 - 360, 5799990, 500000 - 350, 5800000), None),
            512,
        )


def layered(path, *layers):
    """A GeoPackage of layers, each with a name, geometries, their kind and CRS; gives its path."""
    for number, (name, shapes, kind, crs) in enumerate(layers):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a layer without a CRS
            pyogrio.raw.write(
                path,
                shapely.to_wkb(np.array(shapes)),
                field_data=[],
                fields=[],
                geometry_type=kind,
                crs=crs,
                layer=name,
                driver="GPKG",
                append=number > 0,
            )
    return str(path)


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    """Two layers of polygons in different CRSs, and two of others."""
    corners = [*transform("EPSG:32633", "EPSG:4326", [500300, 500400], [5799700, 5799750])]
    box = shapely.box(corners[0][0], corners[1][0], corners[0][1], corners[1][1])
    return layered(
        tmp_path_factory.mktemp("layers") / "a.gpkg",
        ("trees", [shapely.Point(0, 0)], "Point", "EPSG:32633"),
        ("fields", [shapely.box(500100, 5799900, 500200, 5799950)], "Polygon", "EPSG:32633"),
        ("roads", [shapely.LineString([(0, 0), (1, 1)])], "LineString", "EPSG:32633"),
        ("lakes: deep", [shapely.MultiPolygon([box])], "MultiPolygon", "EPSG:4326"),
    )


def test_the_polygons_of_all_layers_count_whatever_their_crs(raster, layers):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wanted = interest(None, layers)
    view = crop(View.whole(open_header(raster)), wanted, 512)
    inside = view.inside(view.bounds)
    fields = inside[100:200, 200:400]
    assert fields.all()
    lakes = inside[500:600, 600:800]
    assert lakes[3:-3, 3:-3].all()
    assert inside.sum() == pytest.approx(fields.size + lakes.size, rel=0.02)
    assert "all its layers are used (fields, lakes: deep); --aoi" in wanted.choice


def test_a_layer_can_be_chosen(raster, layers, tmp_path):
    fields = interest(None, f"{layers}:fields")
    assert (fields.polygons, fields.choice) == (interest(None, layers).polygons[:1], "")
    assert len(interest(None, f"{layers}:lakes: deep").polygons) == 1
    with pytest.raises(UsageError, match=r"has no layer 'field'; it has trees, fields, roads, lakes: deep"):
        interest(None, f"{layers}:field")
    with pytest.raises(UsageError, match=r"a\.gpkg:roads: holds no polygons"):
        interest(None, f"{layers}:roads")
    none = ("b", [shapely.box(0, 0, 1, 1)], "Polygon", None)
    mixed = layered(tmp_path / "m.gpkg", ("a", [shapely.box(0, 0, 1, 1)], "Polygon", "EPSG:32633"), none)
    with pytest.raises(UsageError, match=r"m\.gpkg: layer b has no CRS, and others have; say --aoi"):
        interest(None, mixed)


def test_a_run_says_which_layers_it_uses_and_nothing_else(raster, layers, tmp_path, capfd):
    for number, aoi in enumerate((layers, f"{layers}:fields")):
        command = ["run", str(raster), "-o", str(tmp_path / f"o{number}"), "--segments", "4", "--aoi", aoi]
        assert main([*command, "--workers", "1", "--progress", "plain"]) == 0
        said = capfd.readouterr().err
        assert ("all its layers are used (fields, lakes: deep)" in said) is (number == 0)
        assert "layer parameter" not in said
    assert main(["verify", str(tmp_path / "o1")]) == 0
