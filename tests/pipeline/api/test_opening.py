"""What `open_raster` opens has the codebook and the labels of a run with the same options."""

from __future__ import annotations

import json

import dask
import numpy as np
import pytest
import rasterio
from rasterio import Affine

import pipeline
from engine.codebook import Codebook
from pipeline.api.arrays import open_raster, segment
from pipeline.config import RunConfig
from pipeline.errors import RasterError, UsageError
from pipeline.running.run import run
from tests.rasters import PLACE, noise, write_geotiff

EXTENT = (500110.0, 5799600.0, 500420.0, 5799890.0)


def raising(*_, **__):
    raise AssertionError("something was computed before it was asked for")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A scene of 3 named bands, the same as single bands and as tiles, and two fields."""
    folder = tmp_path_factory.mktemp("sources")
    pixels = noise(3, 1100, 1300, seed=6)
    pixels[:, 500:700, 200:900] //= 3
    pixels[:, 40:90, 700:760] = 0
    path = write_geotiff(folder / "scene.tif", pixels, nodata=0)
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("red", "nir", "blue")
    for name, band in zip(("red", "nir"), pixels, strict=False):
        write_geotiff(folder / f"{name}.tif", band.astype("uint16"), nodata=0)
    (folder / "tiles").mkdir()
    for row, col in ((0, 0), (0, 700), (600, 0)):  # one is missing
        tile = pixels[:, row : row + 600, col : col + 700]
        transform = PLACE["transform"] * Affine.translation(col, row)
        write_geotiff(folder / "tiles" / f"{row}_{col}.tif", tile, transform=transform)
    ring = [[500050, 5799900], [500400, 5799800], [500200, 5799500], [500050, 5799900]]
    fields = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}},
        "features": [
            {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
        ],
    }
    (folder / "fields.geojson").write_text(json.dumps(fields))
    return folder


CASES = {
    "names": (lambda f: f / "scene.tif", {"bands": "nir,red"}, {"bands": "nir,red"}),
    "numbers": (lambda f: f / "scene.tif", {"bands": [3, 1]}, {"bands": [3, 1]}),
    "expressions": (
        lambda f: f / "scene.tif",
        {"bands": ["red", "(nir-red)/(nir+red)"]},
        {"bands": ["red", "(nir-red)/(nir+red)"]},
    ),
    "stack": (lambda f: {n: f / f"{n}.tif" for n in ("nir", "red")}, {}, {}),
    "stack and expression": (
        lambda f: {n: f / f"{n}.tif" for n in ("nir", "red")}, {"bands": "nir/red"}, {"bands": "nir/red"}
    ),
    "mosaic": (lambda f: sorted((f / "tiles").iterdir()), {"mosaic": True}, {"mosaic": True}),
    "mosaic of a folder": (lambda f: f / "tiles", {"mosaic": True, "overlap": "nearest-centre"},
                           {"mosaic": True, "overlap": "nearest-centre"}),
    "extent": (lambda f: f / "scene.tif", {"extent": EXTENT}, {"extent": EXTENT}),
    "polygons": (lambda f: f / "scene.tif", {"aoi": "fields.geojson"}, {"aoi": "fields.geojson"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_is_opened_has_the_codebook_and_labels_of_a_run(folder, tmp_path, case):
    path, own, options = CASES[case][0](folder), dict(CASES[case][1]), dict(CASES[case][2])
    if "aoi" in own:
        own["aoi"], options["aoi"] = folder / own["aoi"], str(folder / own["aoi"])
    if isinstance(path, dict):
        options["stack"] = [(name, str(file)) for name, file in path.items()]
    else:
        options["sources"] = [str(p) for p in (path if isinstance(path, list) else [path])]
    report = run(RunConfig(out=str(tmp_path / "out"), segments=4, resolution=4, **options))
    assert not report.failed
    with dask.config.set(scheduler=raising):
        array = open_raster(path, **own)
    book = pipeline.fit(array, segments=4, resolution=4)
    assert book.content_hash == Codebook.load(tmp_path / "out" / "codebook.npz").content_hash
    with dask.config.set(scheduler=raising):
        labels = segment(array, book)
    (file,) = (tmp_path / "out").glob("*.tif")
    with rasterio.open(file) as dataset, rasterio.open(pipeline.write(labels, tmp_path / "l.tif")) as ours:
        np.testing.assert_array_equal(labels.values, dataset.read(1))
        np.testing.assert_array_equal(ours.read(1), dataset.read(1))
        assert (ours.transform, ours.crs) == (dataset.transform, dataset.crs)


def test_an_area_stays_where_it_is_in_slices(folder):
    array = open_raster(folder / "scene.tif", extent=EXTENT)
    book = pipeline.fit(array, segments=3)
    whole = segment(array, book)
    cut = {"y": slice(128, 400), "x": slice(64, 500)}
    np.testing.assert_array_equal(segment(array.isel(cut), book).values, whole.isel(cut).values)
    with pytest.raises(UsageError, match="lost its coordinate 'inside', the area"):
        segment(array.drop_vars("inside"), book)


def test_colours_of_a_palette_are_what_a_run_segments(tmp_path):
    path = write_geotiff(tmp_path / "p.tif", noise(1, 50, 60, high=4))
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {i: (9 * i, 20 * i, 255 - i, 255) for i in range(4)})
    assert pipeline.fit(open_raster(path), segments=3).to_bytes() == pipeline.fit(path, segments=3).to_bytes()


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"bands": "swir"}, RasterError, "has no band 'swir'"),
        ({"bands": 7.5}, UsageError, "--bands"),
        ({"extent": (0, 0, 1, 1)}, RasterError, "misses this raster"),
        ({"extent": (0, 0, 1)}, UsageError, "extent= of 3 numbers"),
        ({"extent": EXTENT, "aoi": "x.gpkg"}, UsageError, "give one of them"),
        ({"mosaic": True, "overlap": "last"}, UsageError, "overlap='last'; it is one of first"),
    ],
)
def test_what_cannot_be_opened_is_refused_in_one_line(folder, options, error, said):
    with pytest.raises(error, match=said) as caught:
        open_raster(folder / "scene.tif", **options)
    assert "\n" not in str(caught.value)


def test_several_paths_are_not_guessed_at(folder):
    paths = sorted((folder / "tiles").iterdir())
    with pytest.raises(UsageError, match="3 paths; say mosaic=True"):
        open_raster(paths)
    with pytest.raises(UsageError, match="a mapping of names to paths is a stack"):
        open_raster({"a": paths[0]}, mosaic=True)
