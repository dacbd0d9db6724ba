"""`score`: one confusion matrix over the rasters that a reference covers, whatever its grid, CRS and form."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyogrio.raw import write as write_vector
from rasterio.features import rasterize, shapes
from rasterio.transform import Affine
from rasterio.warp import calculate_default_transform, reproject, transform_geom
from rasterio.warp import transform as transform_points

from engine import metrics
from engine.grid import Window
from pipeline import cli
from pipeline.commands.score import score as score_command
from pipeline.commands.score.laid import Grid
from pipeline.commands.score.raster_reference import RasterReference
from pipeline.commands.score.vector_reference import VectorReference
from pipeline.config import RunConfig
from pipeline.errors import StorageError
from pipeline.running.run import run
from pipeline.sinks.sink import sink_of
from tests.rasters import PLACE, noise, spoil, write_geotiff

SHAPE = (330, 290)
TRANSFORM, CRS = PLACE["transform"], PLACE["crs"]


def patches(count, seed):
    """Numbers below `count` in patches of 13 pixels, with single pixels between."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, count, [-(-n // 13) for n in SHAPE]).repeat(13, axis=0).repeat(13, axis=1)
    speckle = rng.random(SHAPE) < 0.05
    return np.where(speckle, rng.integers(0, count, SHAPE), coarse[: SHAPE[0], : SHAPE[1]])


def scene(path, seed, transform=TRANSFORM, **profile):
    """A raster of patches of a few colours, with a nodata corner."""
    colours = noise(3, 6, seed=seed, low=20, high=230)
    pixels = colours[:, patches(6, seed)]
    pixels[:, :40, :50] = 0
    return write_geotiff(path, pixels, nodata=0, transform=transform, **profile)


def classes_of(seed):
    """Classes 3, 4, 5 and 9 in patches; 255 is none."""
    classes = np.array([3, 4, 5, 9], np.uint8)[patches(4, seed)]
    classes[100:140, 20:90] = 255
    return classes


def make(sources, out, **options):
    report = run(
        RunConfig(sources=tuple(map(str, sources)), out=str(out), resolution=1, segments=6, **options)
    )
    assert not report.failed, report.failed
    return out


BESIDE = TRANSFORM * Affine.translation(SHAPE[1] + 40, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two rasters side by side, with a gap between."""
    folder = tmp_path_factory.mktemp("scored")
    scene(folder / "a.tif", 1)
    scene(folder / "b.tif", 2, BESIDE)
    return folder


@pytest.fixture(scope="module")
def out(folder):
    """A run on both rasters."""
    return make([folder / "a.tif", folder / "b.tif"], folder / "out")


@pytest.fixture(scope="module")
def one(folder, out):
    """The first of them alone."""
    return make([folder / "a.tif"], folder / "one", codebook=str(out / "codebook.npz"))


@pytest.fixture
def said(capsys):
    """Runs the command in this process; gives its exit code, stdout and stderr."""

    def call(*arguments):
        capsys.readouterr()
        try:
            code = cli.main(["score", *map(str, arguments), "--progress", "none"])
        except SystemExit as error:
            code = error.code
        found = capsys.readouterr()
        assert "Traceback" not in found.out + found.err
        return code, found.out, found.err

    return call


@pytest.fixture
def score(said):
    def call(*arguments, code=0):
        found, text, errors = said(*arguments, "--json")
        assert found == code, errors
        return json.loads(text)

    return call


@pytest.fixture
def refused(said):
    def call(*arguments):
        code, text, error = said(*arguments)
        assert (code, text, error.count("\n")) == (2, "", 1), (code, text, error)
        return error

    return call


def labels_of(out, name):
    with rasterio.open(out / name) as dataset:
        return dataset.read(1)


def confusion_of(classes, labels, values=(3, 4, 5, 9), segments=6):
    both = (classes != 255) & (labels != 255)
    return [[int(((classes == v) & (labels == k) & both).sum()) for k in range(segments)] for v in values]


def polygons(path, classes, transform=TRANSFORM, crs=CRS, to=None):
    """A file of the patches of classes, with their class as a name."""
    features = []
    for shape, value in shapes(classes, classes != 255, transform=transform):
        geometry = transform_geom(crs, to, shape) if to else shape
        features.append({"type": "Feature", "properties": {"class": f"c{int(value)}"}, "geometry": geometry})
    named = {
        "type": "name",
        "properties": {"name": str(to or crs).replace("EPSG:", "urn:ogc:def:crs:EPSG::")},
    }
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": named, "features": features}))
    return path


def layer(path, geometries, values, crs=CRS, **options):
    """A GeoPackage of geometries with an attribute `kind`."""
    kinds = {g.geom_type for g in geometries}
    write_vector(
        path,
        shapely.to_wkb(np.array(geometries, object)),
        [np.array(values)],
        ["kind"],
        geometry_type=kinds.pop() if len(kinds) == 1 else "Unknown",
        crs=crs,
        **{"driver": "GPKG", **options},
    )
    return path


def test_a_reference_on_the_same_grid(one, score, tmp_path):
    classes, labels = classes_of(5), labels_of(one, "a.tif")
    reference = write_geotiff(tmp_path / "r.tif", classes, nodata=255)
    found = score(one, "--reference", reference)
    expected = np.array(confusion_of(classes, labels))
    assert found["confusion"] == expected.tolist()
    assert found["pixels"] == expected.sum()
    assert found["classes"] == [3, 4, 5, 9]
    label_of = metrics.one_to_one(expected)
    assert found["matching"] == {str(c): int(k) for c, k in zip((3, 4, 5, 9), label_of, strict=True)}
    assert found["accuracy"] == pytest.approx(metrics.accuracy(expected, label_of))
    both = (classes != 255) & (labels != 255)
    hits = metrics.boundary_hits(labels, classes, both, (slice(None), slice(None)), 2)
    assert found["boundary_f1"] == pytest.approx(metrics.boundary_f1(hits))
    assert found["left_out"] == {
        "without_label": int(((classes != 255) & (labels == 255)).sum()),
        "without_class": int(((classes == 255) & (labels != 255)).sum()),
    }
    assert found["rasters"] == ["a"]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(30, 400), st.integers(1, 3), st.sampled_from([0, 2, 7.5]), st.booleans())
def test_figures_do_not_depend_on_windows_or_workers(
    one, score, monkeypatch, tmp_path, side, workers, tolerance, warped
):
    transform = TRANSFORM * Affine.rotation(7) * Affine.scale(1.3) if warped else TRANSFORM
    reference = write_geotiff(tmp_path / "r.tif", classes_of(6), nodata=255, transform=transform)
    arguments = one, "--reference", reference, "--tolerance", tolerance
    monkeypatch.setattr(score_command, "_WINDOW_PX", 4096)
    whole = score(*arguments)
    monkeypatch.setattr(score_command, "_WINDOW_PX", side)
    assert score(*arguments, "--workers", f"threads:{workers}") == whole


def test_several_rasters_are_one_set(out, score, tmp_path):
    """Labels are matched once: image by image each would have a matching of its own."""
    wide = np.full((SHAPE[0], 2 * SHAPE[1] + 40), 255, np.uint8)
    first, second = classes_of(7), classes_of(8)
    wide[:, : SHAPE[1]], wide[:, SHAPE[1] + 40 :] = first, second
    found = score(out, "--reference", write_geotiff(tmp_path / "r.tif", wide, nodata=255))
    tables = [confusion_of(c, labels_of(out, n)) for c, n in ((first, "a.tif"), (second, "b.tif"))]
    assert found["confusion"] == np.sum(tables, axis=0).tolist()
    assert found["rasters"] == ["a", "b"]


def test_rasters_elsewhere_are_named_and_not_counted(out, score, tmp_path):
    classes = classes_of(9)
    found = score(out, "--reference", write_geotiff(tmp_path / "r.tif", classes, nodata=255))
    assert (found["rasters"], found["elsewhere"]) == (["a"], ["b"])
    assert found["confusion"] == confusion_of(classes, labels_of(out, "a.tif"))


def test_a_part_of_a_raster(one, score, tmp_path):
    classes = classes_of(10)[50:200, 80:250]
    transform = TRANSFORM * Affine.translation(80, 50)
    found = score(
        one, "--reference", write_geotiff(tmp_path / "r.tif", classes, nodata=255, transform=transform)
    )
    assert found["confusion"] == confusion_of(classes, labels_of(one, "a.tif")[50:200, 80:250])
    with rasterio.open(one / "a.tif") as dataset:
        labelled = int((dataset.read(1) != 255).sum())
    assert found["left_out"]["without_class"] == labelled - found["pixels"]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("case", ["coarser", "geographic", "rotated", "alpha"])
def test_another_grid_is_warped_by_nearest(one, score, tmp_path, case, dtype):
    classes = classes_of(11)
    profile = {"transform": TRANSFORM, "crs": CRS, "nodata": 255}
    pixels = classes.astype(dtype)
    if case == "coarser":
        pixels, profile["transform"] = pixels[::3, ::3], TRANSFORM * Affine.scale(3)
    elif case == "rotated":
        profile["transform"] = TRANSFORM * Affine.rotation(12)
    elif case == "geographic":
        height, width = classes.shape
        bounds = rasterio.transform.array_bounds(height, width, TRANSFORM)
        transform, width, height = calculate_default_transform(CRS, "EPSG:4326", width, height, *bounds)
        warped = np.full((height, width), 255, dtype)
        reproject(
            pixels,
            warped,
            src_transform=TRANSFORM,
            src_crs=CRS,
            dst_transform=transform,
            dst_crs="EPSG:4326",
            src_nodata=255,
            dst_nodata=255,
        )
        pixels, profile = warped, {"transform": transform, "crs": "EPSG:4326", "nodata": 255}
    elif case == "alpha":
        profile["transform"] = TRANSFORM * Affine.translation(0.4, 0.3)
        opaque = (pixels != 255) * np.iinfo(dtype).max if dtype != "float32" else (pixels != 255) * 255.0
        pixels, profile["nodata"] = np.stack([pixels, opaque.astype(dtype)]), None
        profile["alpha"] = "yes"
    reference = write_geotiff(tmp_path / "r.tif", pixels, **profile)
    if case == "alpha":
        with rasterio.open(reference, "r+") as dataset:
            dataset.colorinterp = [rasterio.enums.ColorInterp.gray, rasterio.enums.ColorInterp.alpha]
    plain = pixels[0] if pixels.ndim == 3 else pixels
    rows, cols = np.indices(SHAPE) + 0.5  # each centre, in pixels of the reference
    x, y = transform_points(CRS, profile["crs"], *(v.ravel() for v in TRANSFORM @ (cols, rows)))
    cols, rows = (np.floor(v).astype(int).reshape(SHAPE) for v in ~profile["transform"] @ np.array([x, y]))
    inside = (rows >= 0) & (rows < plain.shape[0]) & (cols >= 0) & (cols < plain.shape[1])
    expected = np.where(
        inside, plain[rows.clip(0, plain.shape[0] - 1), cols.clip(0, plain.shape[1] - 1)], 255
    )
    found = score(one, "--reference", reference)
    assert found["confusion"] == confusion_of(expected, labels_of(one, "a.tif"))


@pytest.mark.parametrize("options", [{"format": "zarr"}, {"format": "zarr", "zarr_version": 2}])
def test_labels_in_other_formats_have_the_same_score(folder, one, score, tmp_path, options):
    other = make([folder / "a.tif"], tmp_path / "o", codebook=str(one / "codebook.npz"), **options)
    reference = write_geotiff(tmp_path / "r.tif", classes_of(12), nodata=255)
    expected, found = (score(out, "--reference", reference) for out in (one, other))
    assert found | {"out": ""} == expected | {"out": ""}


@pytest.mark.parametrize("to", [None, "EPSG:4326", "EPSG:3857"])
def test_polygons_are_burnt_as_their_raster_was(one, score, tmp_path, to):
    classes = classes_of(13)
    found = score(
        one, "--reference", polygons(tmp_path / "p.geojson", classes, to=to), "--attribute", "class"
    )
    expected = confusion_of(classes, labels_of(one, "a.tif"))
    assert found["classes"] == ["c3", "c4", "c5", "c9"]
    assert set(found["matching"]) == {"c3", "c4", "c5", "c9"}
    if to is None:
        assert found["confusion"] == expected
    else:  # corners of pixels come back with the last digits of another CRS, never a centre
        assert np.abs(np.subtract(found["confusion"], expected)).max() <= 2


def test_points_are_pixels_and_whole_numbers_are_classes(one, score, tmp_path):
    rng = np.random.default_rng(3)
    places = np.unique(2 * rng.integers(30, 140, (400, 2)), axis=0)  # none beside another
    labels = labels_of(one, "a.tif")
    classes = np.full(SHAPE, 255, np.uint8)
    values = rng.integers(8, 12, len(places))
    classes[tuple(places.T)] = values
    points = [shapely.Point(TRANSFORM * (col + 0.3, row + 0.8)) for row, col in places]
    missing = [np.nan, *values[1:].astype(float)]  # one has no class
    classes[tuple(places[0])] = 255
    found = score(
        one, "--reference", layer(tmp_path / "p.gpkg", points, missing), "--attribute", "kind", "--strata"
    )
    assert found["classes"] == ["8", "9", "10", "11"]
    assert found["confusion"] == confusion_of(classes, labels, range(8, 12))
    assert found["pixels"] == len(places) - 1
    assert found["boundary_f1"] is None
    mapped = np.bincount(labels[labels != 255], minlength=6)
    assert [row["mapped_pixels"] for row in found["strata"]] == mapped.tolist()
    table = np.array(found["confusion"])
    adjusted = metrics.area_adjusted(table, metrics.one_to_one(table), mapped)
    assert found["area_adjusted"]["accuracy"] == pytest.approx(float(adjusted.accuracy.value))
    assert found["area_adjusted"]["accuracy_ci95"] == pytest.approx(
        [float(v) for v in adjusted.accuracy.interval]
    )
    assert found["area_adjusted"]["per_class"]["9"]["area_share"] == pytest.approx(adjusted.area.value[1])


def test_of_polygons_that_overlap_the_last_counts_in_every_window(one, score, tmp_path, monkeypatch):
    left, bottom = TRANSFORM * (0, 330)
    boxes = [
        shapely.box(left + x, bottom + y, left + x + 70, bottom + y + 90)
        for x in (0, 30, 60)
        for y in (0, 40)
    ]
    star = shapely.Point(left + 70, bottom + 80).buffer(50, quad_segs=3000)  # large: cut before it is burnt
    hollow = star.difference(shapely.Point(left + 70, bottom + 80).buffer(20))
    shapes_ = [*boxes, hollow]
    kinds = ["meadow", "wood", "wood", "meadow", "road", "meadow", "lake"]
    reference = layer(tmp_path / "p.gpkg", shapes_, kinds)
    codes = {"lake": 0, "meadow": 1, "road": 2, "wood": 3}
    burnt = [(s, codes[k]) for s, k in zip(shapes_, kinds, strict=True)]
    classes = rasterize(burnt, SHAPE, fill=255, transform=TRANSFORM, dtype="uint8")
    monkeypatch.setattr(score_command, "_WINDOW_PX", 64)
    found = score(one, "--reference", reference, "--attribute", "kind")
    assert found["classes"] == list(codes)
    assert found["confusion"] == confusion_of(classes, labels_of(one, "a.tif"), range(4))


def test_shapes_around_the_whole_earth_are_cut_to_the_surroundings(one, score, tmp_path):
    west, east = shapely.box(-179, -85, 15, 85), shapely.box(15, -85, 179, 85)
    reference = layer(tmp_path / "p.gpkg", [west, east], ["west", "east"], crs="EPSG:4326")
    found = score(one, "--reference", reference, "--attribute", "kind")
    columns = np.arange(SHAPE[1]) + 0.5
    labels = labels_of(one, "a.tif")
    east_of = np.broadcast_to(TRANSFORM.c + columns * TRANSFORM.a > 500_000, SHAPE)  # of the zone's meridian
    assert found["pixels"] == int((labels != 255).sum())
    assert sum(found["confusion"][found["classes"].index("east")]) == int((east_of & (labels != 255)).sum())


def test_an_attribute_chooses_the_layer_that_has_it(one, score, tmp_path):
    square = shapely.box(*(TRANSFORM * (0, 330)), *(TRANSFORM * (290, 0)))
    halves = [shapely.box(*(TRANSFORM * (0, 330)), *(TRANSFORM * (100, 0))), square]
    file = layer(tmp_path / "p.gpkg", halves[::-1], ["rest", "left"], layer="truth")
    write_vector(
        file,
        shapely.to_wkb(np.array([square], object)),
        [np.array(["x"])],
        ["other"],
        geometry_type="Polygon",
        crs=CRS,
        driver="GPKG",
        layer="extra",
        append=True,
    )
    assert score(one, "--reference", file, "--attribute", "kind")["classes"] == ["left", "rest"]


def test_names_of_the_header_are_shown_and_kept_to(one, score, refused, tmp_path):
    classes = patches(3, 4).astype(np.uint8)
    reference = write_geotiff(tmp_path / "r.tif", classes, nodata=255)
    names = "".join(f"<Category>{name}</Category>" for name in ("water", "wood &amp; bush", "road"))
    aux = tmp_path / "r.tif.aux.xml"
    band = f'<PAMRasterBand band="1"><CategoryNames>{names}</CategoryNames></PAMRasterBand>'
    aux.write_text(f"<PAMDataset>{band}</PAMDataset>")
    found = score(one, "--reference", reference)
    assert found["class_names"] == ["water", "wood & bush", "road"]
    assert found["per_class"]["1"]["name"] == "wood & bush"
    classes[5:40, 100:140] = 3
    write_geotiff(reference, classes, nodata=255)
    aux.write_text(f"<PAMDataset>{band}</PAMDataset>")
    assert "holds class 3, but names 3 classes (0 to 2)" in refused(one, "--reference", reference)


def test_labels_of_another_run_are_a_reference(one, score):
    found = score(one, "--reference", one / "a.tif")
    assert (found["accuracy"], found["mean_iou"], found["ari"], found["boundary_f1"]) == (1, 1, 1, 1)
    assert found["class_names"] == [found["label_names"][c] for c in found["classes"]]


def test_a_reference_without_a_place_is_laid_pixel_by_pixel(one, out, score, refused, tmp_path):
    classes = classes_of(14)
    reference = tmp_path / "r.png"
    Image.fromarray(classes).save(reference)
    found = score(one, "--reference", reference)
    assert found["confusion"] == confusion_of(classes, labels_of(one, "a.tif"))
    assert "no place" in refused(out, "--reference", reference)  # of which of the two is it?
    Image.fromarray(classes[1:]).save(reference)
    assert "r.png: does not overlap" in refused(one, "--reference", reference)


def test_labels_without_a_crs(folder, score, refused, tmp_path):
    bare = make([scene(tmp_path / "s.tif", 1, crs=None)], tmp_path / "o")
    classes = classes_of(15)
    coarse = write_geotiff(
        tmp_path / "r.tif", classes[::2, ::2], nodata=255, crs=None, transform=TRANSFORM * Affine.scale(2)
    )
    expected = confusion_of(classes[::2, ::2].repeat(2, 0).repeat(2, 1), labels_of(bare, "s.tif"))
    assert score(bare, "--reference", coarse)["confusion"] == expected
    assert "have a CRS" in refused(bare, "--reference", write_geotiff(tmp_path / "c.tif", classes))


def test_255_is_no_class_unless_the_header_says_otherwise(one, score, refused, tmp_path):
    classes = classes_of(16)
    undeclared = score(one, "--reference", write_geotiff(tmp_path / "a.tif", classes))
    assert undeclared["classes"] == [3, 4, 5, 9]
    declared = score(one, "--reference", write_geotiff(tmp_path / "b.tif", classes, nodata=3))
    assert declared["classes"] == [4, 5, 9, 255]
    wide = score(one, "--reference", write_geotiff(tmp_path / "c.tif", classes.astype(np.uint16)))
    assert wide["classes"] == [3, 4, 5, 9, 255]
    mask = np.where(classes == 3, 255, 0).astype(np.uint8)
    assert "beside 255" in refused(one, "--reference", write_geotiff(tmp_path / "d.tif", mask))
    assert score(one, "--reference", write_geotiff(tmp_path / "e.tif", mask, nodata=7))["classes"] == [0, 255]


def bad_references(folder):
    """What cannot be a reference, its attribute, and what the error says of it."""
    classes = classes_of(1)
    far = TRANSFORM * Affine.translation(10**6, 10**6)
    point = shapely.Point(TRANSFORM * (100, 100))
    line = shapely.LineString([TRANSFORM * (10, 10), TRANSFORM * (100, 100)])
    yield write_geotiff(folder / "far.tif", classes, transform=far), None, "does not overlap"
    yield write_geotiff(folder / "nothing.tif", np.full(SHAPE, 255, np.uint8), nodata=255), None, "overlap"
    yield write_geotiff(folder / "rgb.tif", noise(3, *SHAPE)), None, "3 bands"
    yield (
        write_geotiff(folder / "part.tif", np.full(SHAPE, 0.37, np.float32)),
        None,
        "holds 0.37; classes are whole",
    )
    measured = noise(1, *SHAPE, low=0, high=60_000, dtype="uint16")
    yield write_geotiff(folder / "measured.tif", measured), None, "more than 1000 values"
    for dtype in ("complex64", "complex_int16"):
        file = write_geotiff(folder / f"{dtype}.tif", classes.astype(np.complex64), dtype=dtype)
        yield file, None, "whole numbers"
    yield folder / "absent.tif", None, "no such file"
    yield folder / "absent.gpkg", "kind", "no such vector file"
    (folder / "text.gpkg").write_text("no vector")
    yield folder / "text.gpkg", "kind", "not a vector file that OGR can read"
    yield folder / "text.gpkg", None, "--attribute"
    yield folder / "rgb.tif", "kind", "not a vector file that OGR can read"
    (folder / "empty.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    yield folder / "empty.geojson", "kind", "'kind'"
    yield layer(folder / "p.gpkg", [point], ["x"]), "sort", "no attribute 'sort'; it has kind"
    yield layer(folder / "null.gpkg", [point], [np.nan]), "kind", "with a class in 'kind'"
    yield layer(folder / "line.gpkg", [line], ["x"]), "kind", "holds LineString"
    yield layer(folder / "away.gpkg", [shapely.Point(0, 0)], ["x"]), "kind", "does not overlap"
    many = [shapely.Point(TRANSFORM * (x % 200 + 60, x // 200 + 60)) for x in range(1500)]
    yield layer(folder / "many.gpkg", many, list(range(1500))), "kind", "1500 values"


def test_what_is_no_reference_is_refused_in_one_line(one, refused, tmp_path):
    for path, attribute, why in bad_references(tmp_path):
        options = [] if attribute is None else ["--attribute", attribute]
        error = refused(one, "--reference", path, *options)
        assert why in error, (path.name, error)
        assert path.name in error


@pytest.mark.parametrize("tolerance", ["-1", "nan", "65", "two"])
def test_a_tolerance_that_is_none_is_refused(one, refused, tmp_path, tolerance):
    reference = write_geotiff(tmp_path / "r.tif", classes_of(2), nodata=255)
    assert f"{tolerance!r} is not a distance" in refused(
        one, "--reference", reference, f"--tolerance={tolerance}"
    )


def test_a_folder_without_a_run_is_refused(tmp_path, refused):
    reference = write_geotiff(tmp_path / "r.tif", classes_of(2), nodata=255)
    assert "no run stands there" in refused(tmp_path, "--reference", reference)


def test_labels_of_different_codebooks_are_no_set(folder, score, refused, tmp_path):
    two = make([folder / "a.tif", folder / "b.tif"], tmp_path / "o", codebook_scope="raster")
    wide = noise(SHAPE[0], 2 * SHAPE[1] + 40, low=0, high=3)
    assert "codebooks of their own" in refused(two, "--reference", write_geotiff(tmp_path / "r.tif", wide))
    left = write_geotiff(tmp_path / "l.tif", wide[:, : SHAPE[1]])
    assert score(two, "--reference", left)["rasters"] == ["a"]


def test_a_damaged_raster_fails_alone(folder, said, tmp_path):
    both = make([folder / "a.tif", folder / "b.tif"], tmp_path / "o")
    wide = noise(SHAPE[0], 2 * SHAPE[1] + 40, low=0, high=3)
    reference = write_geotiff(tmp_path / "r.tif", wide)
    spoil(both / "b.tif", row=0, col=0)
    code, text, error = said(both, "--reference", reference, "--json")
    found = json.loads(text)
    assert code == 1
    assert "b.tif" in error
    assert (found["rasters"], list(found["failed"])) == (["a"], ["b"])
    expected = confusion_of(wide[:, : SHAPE[1]], labels_of(both, "a.tif"), range(3))
    assert found["confusion"] == expected
    spoil(reference, row=0, col=0)
    assert said(both, "--reference", reference)[0] == 1


def test_figures_and_picture_stand_in_out_and_no_raster_is_overwritten(folder, said, tmp_path):
    named = make([scene(tmp_path / "score.tif", 1)], tmp_path / "o")
    before = {p.name: p.read_bytes() for p in named.iterdir() if p.is_file()}
    reference = write_geotiff(tmp_path / "r.tif", classes_of(3), nodata=255)
    code, text, _ = said(named, "--reference", reference, "--strata")
    assert code == 0
    assert f"picture   {named / 'score (2).png'}" in text
    found = json.loads((named / "score (2).json").read_text())
    assert f"accuracy  {found['accuracy']:.3f}" in text
    assert "commonest class" in text
    with Image.open(named / "score (2).png") as picture:
        shares = np.asarray(picture.convert("L"))
    assert (shares < 100).any()
    assert {p.name: p.read_bytes() for p in named.iterdir() if p.name in before} == before
    assert cli.main(["verify", str(named), "--progress", "none"]) == 0


def test_an_out_that_cannot_be_written_is_scored_all_the_same(one, said, tmp_path, monkeypatch):
    def full(path, *_):
        raise StorageError(f"{path}: cannot write (No space left on device)")

    monkeypatch.setattr(score_command, "write_json", full)
    reference = write_geotiff(tmp_path / "r.tif", classes_of(3), nodata=255)
    code, text, error = said(one, "--reference", reference)
    assert code == 0
    assert "picture" not in text
    assert "warning" in error
    assert "No space left" in error


def test_fewer_labels_than_classes(folder, score, tmp_path):
    few = tmp_path / "few"
    run(RunConfig(sources=(str(folder / "a.tif"),), out=str(few), resolution=1, segments=2))
    found = score(few, "--reference", write_geotiff(tmp_path / "r.tif", classes_of(4), nodata=255))
    assert len(found["matching"]) == 2
    assert [c["label"] for c in found["per_class"].values()].count(None) == 2
    matched = [c["iou"] for c in found["per_class"].values() if c["label"] is not None]
    assert found["mean_iou"] == pytest.approx(sum(matched) / 4)


def test_laid_references_travel_to_worker_processes(one, tmp_path):
    with rasterio.open(one / sink_of("a.tif").raster) as dataset:
        grid = Grid.of(dataset)
    classes = classes_of(5)
    window = Window(10, 20, 90, 110)
    warped = TRANSFORM * Affine.scale(1.5)
    for reference in (
        RasterReference.open(str(write_geotiff(tmp_path / "r.tif", classes, transform=warped))),
        VectorReference.open(str(polygons(tmp_path / "p.geojson", classes)), "class"),
    ):
        laid = reference.lay(grid)
        here, there = laid.read(window), pickle.loads(pickle.dumps(laid)).read(window)
        np.testing.assert_array_equal(here.values, there.values)
        np.testing.assert_array_equal(here.known, there.known)
