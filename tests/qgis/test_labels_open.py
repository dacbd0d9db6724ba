"""Label files, made by the command line, in the QGIS and GDAL that a person has installed."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from pipeline.commands.demo import scene

pytestmark = pytest.mark.qgis

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "data" / "rgb" / "TCI.tif"
WINDOW = (300, 0, 512, 470)  # col, row, width, height: has nodata and every label in both rasters
TRANSPARENT = (0, 0, 0, 0)


@dataclass(frozen=True)
class Labelled:
    """A raster, its labels, and what the pipeline was asked for."""

    source: Path
    labels: Path
    segments: int

    @property
    def palette(self):
        """(red, green, blue, alpha) of each label, from the file's own colour table."""
        with rasterio.open(self.labels) as dataset:
            table = dataset.colormap(1)
        return [tuple(table[i]) for i in range(self.segments)]


def made_scene(folder):
    image = folder / "scene with a gap.tif"
    scene.write_scene(scene.Scene(1500, 1100), image, folder / "truth.tif")
    return image


@pytest.fixture(scope="module", params=["real", "scene"])
def labelled(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "real" and not REAL.exists():
        pytest.skip("the real raster ../shared/data/rgb/TCI.tif is absent")
    source = REAL if request.param == "real" else made_scene(folder)
    segments, resolution = (6, 1) if request.param == "real" else (13, 4)
    options = ["--segments", str(segments), "--resolution", str(resolution)]
    command = [sys.executable, "-m", "pipeline", "run", source, "-o", folder / "out", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    return Labelled(source, folder / "out" / f"{source.stem}.tif", segments)


@dataclass(frozen=True)
class Seen:
    """What QGIS says of the labels, and its pictures of a window and of the whole."""

    layer: dict
    given: dict
    same_crs: bool
    window: np.ndarray
    whole: np.ndarray


@pytest.fixture(scope="module")
def look(outside, qgis_python, tmp_path_factory):
    def look(case, labels):
        folder = tmp_path_factory.mktemp("seen")
        pictures = folder / "window.png", folder / "whole.png"
        place = ",".join(map(str, WINDOW))
        script = Path(__file__).with_name("look.py")
        said = json.loads(outside(qgis_python, script, labels, case.source, place, *pictures))
        images = [np.asarray(Image.open(p).convert("RGBA")) for p in pictures]
        return Seen(said["labels"], said["input"], said["same_crs"], *images)

    return look


@pytest.fixture(scope="module")
def seen(labelled, look):
    return look(labelled, labelled.labels)


@pytest.fixture(scope="module")
def seen_bare(labelled, look, tmp_path_factory):
    """The same without the .qml: what the colour table and the category names do by themselves."""
    folder = tmp_path_factory.mktemp("bare")
    for suffix in (".tif", ".tif.aux.xml"):
        shutil.copy(labelled.labels.with_suffix(suffix), folder)
    return look(labelled, folder / labelled.labels.name)


def colours_of(picture):
    return {tuple(int(v) for v in c) for c in np.unique(picture.reshape(-1, 4), axis=0)}


def test_labels_are_a_valid_paletted_layer(seen):
    assert seen.layer["valid"]
    assert seen.layer["renderer"] == "paletted"
    assert seen.layer["bands"] == 1


def test_classes_carry_names_and_the_colours_of_the_file(labelled, seen):
    expected = [[i, list(c), f"Segment {i}"] for i, c in enumerate(labelled.palette)]
    assert seen.layer["classes"] == expected
    assert seen.layer["table"][: labelled.segments] == [[i, list(c)] for i, c in enumerate(labelled.palette)]
    assert len(set(labelled.palette)) == labelled.segments


def test_names_and_colours_do_not_need_the_style_file(labelled, seen_bare):
    assert seen_bare.layer["renderer"] == "paletted"
    # TIFF colour tables have 256 entries, so without the .qml QGIS lists the unused ones as well
    named = [c for c in seen_bare.layer["classes"] if c[2].startswith("Segment")]
    assert named == [[i, list(c), f"Segment {i}"] for i, c in enumerate(labelled.palette)]


def test_labels_lie_where_the_input_lies(seen):
    assert seen.same_crs
    assert seen.layer["crs"] == seen.given["crs"]
    assert seen.layer["extent"] == seen.given["extent"]
    assert seen.layer["size"] == seen.given["size"]


def test_overviews_are_pyramids_to_qgis(labelled, seen):
    with rasterio.open(labelled.labels) as dataset:
        factors, width, height = dataset.overviews(1), dataset.width, dataset.height
    assert factors
    assert seen.layer["pyramids"] == [[-(-width // f), -(-height // f)] for f in factors]


@pytest.mark.parametrize("style", ["with style", "without style"])
def test_each_pixel_is_drawn_in_its_label_s_colour(style, labelled, seen, seen_bare):
    col, row, width, height = WINDOW
    with rasterio.open(labelled.labels) as dataset:
        labels = dataset.read(1, window=((row, row + height), (col, col + width)))
    assert set(np.unique(labels)) == {*range(labelled.segments), 255}
    palette = np.zeros((256, 4), np.uint8)
    palette[: labelled.segments] = labelled.palette
    picture = (seen if style == "with style" else seen_bare).window
    np.testing.assert_array_equal(picture, palette[labels])


def test_the_whole_raster_shows_the_palette_and_nothing_else(labelled, seen):
    assert colours_of(seen.whole) == {*labelled.palette, TRANSPARENT}


def test_nodata_is_transparent(labelled, seen):
    assert seen.layer["nodata"] == 255
    with rasterio.open(labelled.labels) as dataset:
        share = float((dataset.read(1) == 255).mean())
    assert share > 0.01
    assert float((seen.whole[..., 3] == 0).mean()) == pytest.approx(share, abs=0.02)


def test_gdal_of_the_system_reads_overviews_colours_and_names(labelled, outside, gdalinfo):
    said = json.loads(outside(gdalinfo, "-json", "-checksum", labelled.labels))
    (band,) = said["bands"]
    assert band["colorInterpretation"] == "Palette"
    assert [tuple(c) for c in band["colorTable"]["entries"][: labelled.segments]] == labelled.palette
    assert band["categories"] == [f"Segment {i}" for i in range(labelled.segments)]
    assert band["noDataValue"] == 255
    assert said["metadata"]["IMAGE_STRUCTURE"]["LAYOUT"] == "COG"
    with rasterio.open(labelled.labels) as dataset:
        levels = len(dataset.overviews(1))
        assert band["checksum"] == dataset.checksum(1)
    for level, overview in enumerate(band["overviews"]):
        with rasterio.open(labelled.labels, overview_level=level) as dataset:
            assert overview["size"] == [dataset.width, dataset.height]
            assert overview["checksum"] == dataset.checksum(1)
    assert len(band["overviews"]) == levels
