"""Colours and names of classes: in all that a run writes, when it is started again, and in other rasters."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from PIL import Image

from engine.codebook import Codebook
from engine.colours import to_hex
from pipeline.commands.verify.verify import Verification
from pipeline.config import RunConfig, build
from pipeline.config_file import load_file
from pipeline.errors import UsageError
from pipeline.events.progress import Silent
from pipeline.legend.label_style import LabelStyle
from pipeline.running.run import run
from pipeline.source import bad_blocks
from pipeline.tasks import labelling, publishing
from pipeline.workers.pool import Workers, open_pool
from tests.rasters import level_arrays, noise, spoil, write_geotiff

RECOLOURED = "label,colour,name\n0,#102030,Wald & Wiese\n2,#fefefe\n"


@pytest.fixture
def source(tmp_path):
    return write_geotiff(tmp_path / "scene.tif", noise(3, 520, 600, seed=4), photometric="RGB", tiled=True)


@pytest.fixture
def palette(tmp_path):
    path = tmp_path / "palette.csv"
    path.write_text(RECOLOURED, encoding="utf-8")
    return path


def done(source, out, **options):
    report = run(
        RunConfig(sources=(str(source),), out=str(out), chunk_size=512, **{"segments": 3, **options})
    )
    assert not report.failed, report.failed
    return report


def style_of(out):
    return LabelStyle.of_codebook(Codebook.load(out / "codebook.npz"))


def files_of(out):
    """Every file but records, the log, and the codebook."""
    files = (p for p in out.rglob("*") if p.is_file())
    return {str(p.relative_to(out)): p.read_bytes() for p in files if not p.name.startswith("run.")} | {
        "scene.json": b""
    }


def problems(out):
    with open_pool(Workers("threads", 1)) as pool:
        reports = list(Verification(str(out), 1, pool, Silent()).reports())
    assert all(report.ok for report in reports), [report.wrong for report in reports]
    return [note for report in reports for note in report.notes]


def shown(out):
    """Colours and names of labels 0, 1, 2 in each file that has them, by what has them."""
    labels = out / "scene.tif"
    with rasterio.open(labels) as dataset:
        found = {"colour table": [dataset.colormap(1)[i][:3] for i in range(3)]}
    with rasterio.open(labels, overview_level=0) as dataset:
        found["overview"] = [dataset.colormap(1)[i][:3] for i in range(3)]
    sidecar = ET.parse(f"{labels}.aux.xml").getroot()
    rows = [[f.text for f in row] for row in sidecar.iter("Row")]
    found["attribute table"] = [tuple(map(int, row[2:5])) for row in rows]
    found["attribute names"] = [row[5] for row in rows]
    found["categories"] = [c.text for c in sidecar.iter("Category")]
    entries = list(ET.parse(labels.with_suffix(".qml")).getroot().iter("paletteEntry"))
    found["qml"] = [tuple(bytes.fromhex(e.get("color")[1:])) for e in entries]
    found["qml names"] = [e.get("label") for e in entries]
    with Image.open(labels.with_suffix(".png")) as image:
        found["quicklook"] = [tuple(image.getpalette()[3 * i : 3 * i + 3]) for i in range(3)]
    return found


def assert_shown(out, style):
    for what, values in shown(out).items():
        expected = style.names if "names" in what or what == "categories" else style.colours
        assert values == list(expected), what


def test_classes_have_the_mean_colours_of_their_pixels_in_all_files(source, tmp_path):
    done(source, tmp_path / "o")
    style = style_of(tmp_path / "o")
    assert style.colours != LabelStyle.of(3).colours
    with rasterio.open(source) as scene, rasterio.open(tmp_path / "o" / "scene.tif") as file:
        pixels, labels = scene.read(), file.read(1)
    means = [pixels[:, labels == label].mean(axis=1) for label in range(3)]
    np.testing.assert_allclose(style.colours, means, atol=12)
    assert_shown(tmp_path / "o", style)


def test_a_file_of_colours_and_names_is_in_all_files(source, palette, tmp_path):
    done(source, tmp_path / "o", palette=str(palette))
    style = style_of(tmp_path / "o")
    assert (style.colours[0], style.colours[2]) == ((16, 32, 48), (254, 254, 254))
    assert style.names == ("Wald & Wiese", "Segment 1", "Segment 2")
    assert_shown(tmp_path / "o", style)


def test_a_zarr_store_has_them_too(source, palette, tmp_path):
    done(source, tmp_path / "o", palette=str(palette), format="zarr")
    style = style_of(tmp_path / "o")
    for group in ("labels", "1/labels"):
        attributes = json.loads((tmp_path / "o" / "scene.zarr" / group / "zarr.json").read_text())[
            "attributes"
        ]
        assert attributes["flag_colors"].split() == [to_hex(c) for c in style.colours]
        assert attributes["flag_meanings"].split() == ["Wald_&_Wiese", "Segment_1", "Segment_2"]
    with rasterio.open(tmp_path / "o" / "scene.vrt") as dataset:
        assert [dataset.colormap(1)[i][:3] for i in range(3)] == list(style.colours)


@pytest.mark.parametrize("options", [{}, {"format": "zarr"}, {"codebook_scope": "raster"}])
def test_another_palette_on_finished_labels_makes_the_files_of_a_run_with_it(
    source, palette, tmp_path, options, monkeypatch
):
    done(source, tmp_path / "new", palette=str(palette), **options)
    done(source, tmp_path / "o", **options)
    assert files_of(tmp_path / "o") != files_of(tmp_path / "new")
    monkeypatch.setattr(labelling, "graph_labels", None)  # nothing is labelled again
    assert done(source, tmp_path / "o", palette=str(palette), **options).done == ["scene"]
    assert files_of(tmp_path / "o") == files_of(tmp_path / "new")
    assert problems(tmp_path / "o") == []
    assert done(source, tmp_path / "o", palette=str(palette), **options).skipped == ["scene"]
    # a run that asks for none leaves them as they are
    assert done(source, tmp_path / "o", **options).skipped == ["scene"]


def test_names_given_to_the_codebook_are_taken_up_by_the_same_run(source, tmp_path):
    out = tmp_path / "o"
    done(source, out)
    labels = level_arrays(out / "scene.tif")
    names = ("Wald", "Feld", "Dach")
    replace(Codebook.load(out / "codebook.npz"), names=names).save(out / "codebook.npz")
    assert any("other names or colours" in note for note in problems(out))
    assert done(source, out).done == ["scene"]
    assert shown(out)["categories"] == list(names)
    assert all((a == b).all() for a, b in zip(labels, level_arrays(out / "scene.tif"), strict=True))
    assert problems(out) == []


def test_a_raster_s_own_codebook_may_get_names(source, tmp_path):
    out = tmp_path / "o"
    done(source, out, codebook_scope="raster")
    own = out / "scene.codebook.npz"
    replace(Codebook.load(own), names=("a", "b", "c")).save(own)
    assert problems(out)
    assert done(source, out, codebook_scope="raster").done == ["scene"]
    assert shown(out)["categories"] == ["a", "b", "c"]
    assert problems(out) == []


def test_other_rasters_get_the_codebook_s_colours_and_names(source, palette, tmp_path):
    done(source, tmp_path / "a", palette=str(palette))
    (tmp_path / "more").mkdir()
    other = write_geotiff(tmp_path / "more" / "scene.tif", noise(3, 300, 900), photometric="RGB")
    book = tmp_path / "a" / "codebook.npz"
    run(RunConfig(sources=(str(other),), out=str(tmp_path / "b"), codebook=str(book)))
    assert_shown(tmp_path / "b", style_of(tmp_path / "a"))
    # unless others are asked for, which the named codebook does not get
    before = book.read_bytes()
    run(RunConfig(sources=(str(other),), out=str(tmp_path / "c"), codebook=str(book), palette="distinct"))
    assert style_of(tmp_path / "c") == LabelStyle.of(3, (), ["Wald & Wiese", "Segment 1", "Segment 2"])
    assert book.read_bytes() == before


def test_names_given_in_out_stay_when_the_named_codebook_has_none(source, tmp_path):
    done(source, tmp_path / "a")
    book, out = tmp_path / "a" / "codebook.npz", tmp_path / "b"

    def again():
        return run(RunConfig(sources=(str(source),), out=str(out), codebook=str(book)))

    again()
    style = LabelStyle(((1, 2, 3), (4, 5, 6), (7, 8, 9)), ("a", "b", "c"))
    given = replace(Codebook.load(out / "codebook.npz"), names=style.names, colours=style.colours)
    given.save(out / "codebook.npz")
    again()
    assert again().skipped == ["scene"]
    assert_shown(out, style)


def test_of_the_named_codebook_and_that_in_out_the_one_that_was_changed_counts(source, palette, tmp_path):
    done(source, tmp_path / "a", palette=str(palette))
    book, out = tmp_path / "a" / "codebook.npz", tmp_path / "b"

    def again(**options):
        return run(RunConfig(sources=(str(source),), out=str(out), codebook=str(book), **options))

    again()
    given = LabelStyle(((1, 2, 3), (4, 5, 6), (7, 8, 9)), ("a", "b", "c"))
    replace(Codebook.load(book), names=given.names, colours=given.colours).save(out / "codebook.npz")
    assert again().done == ["scene"]
    assert_shown(out, given)
    assert again().skipped == ["scene"]
    assert style_of(out) == given
    newer = LabelStyle(((9, 2, 3), (9, 5, 6), (9, 8, 9)), ("x", "y", "z"))
    replace(Codebook.load(book), names=newer.names, colours=newer.colours).save(book)
    again()
    assert_shown(out, newer)
    # colours that one run asked for stay when the next does not ask
    again(palette="distinct")
    assert again().skipped == ["scene"]
    assert style_of(out).colours == LabelStyle.of(3).colours


def test_run_json_is_of_use_in_another_folder(source, palette, tmp_path, monkeypatch):
    done(source, tmp_path / "a")
    (tmp_path / "a" / "codebook.npz").rename(tmp_path / "book.npz")
    monkeypatch.chdir(tmp_path)
    run(RunConfig(sources=("scene.tif",), out="b", codebook="book.npz", palette="palette.csv"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "palette.csv").write_text("0,#abcdef,other")
    values, _ = load_file(str(tmp_path / "b" / "run.json"))
    run(build({**values, "out": "c"}, recorded=values.keys()))
    assert files_of(tmp_path / "b") == files_of(tmp_path / "elsewhere" / "c")


def test_a_style_that_somebody_edited_stays(source, tmp_path):
    out = tmp_path / "o"
    done(source, out)
    (out / "scene.qml").write_text("mine")
    done(source, out, palette="distinct")
    assert (out / "scene.qml").read_text() == "mine"
    assert problems(out) == []
    with rasterio.open(out / "scene.tif") as dataset:
        assert dataset.colormap(1)[0][:3] == LabelStyle.of(3).colours[0]


def test_run_json_repeats_the_colours(source, palette, tmp_path):
    done(source, tmp_path / "a", palette=str(palette))
    assert done(source, tmp_path / "a").skipped  # it does not ask for any, and changes none
    values, recorded = load_file(str(tmp_path / "a" / "run.json"))
    assert recorded
    run(build({**values, "out": str(tmp_path / "b")}, recorded=values.keys()))
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


@pytest.mark.parametrize("at", ["assembled", "recorded"])
def test_work_in_progress_gets_the_colours_that_the_codebook_has_by_then(source, tmp_path, monkeypatch, at):
    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    name = {"assembled": "finish", "recorded": "publish"}[at]
    with monkeypatch.context() as patch:
        patch.setattr(publishing, name, kill)
        with pytest.raises(Killed):
            done(source, tmp_path / "o", workers="1")
    assert (tmp_path / "o" / ".partial" / "scene" / "scene.tif").exists()
    done(source, tmp_path / "o", palette="distinct", workers="1")
    done(source, tmp_path / "new", palette="distinct", workers="1")
    assert files_of(tmp_path / "o") == files_of(tmp_path / "new")
    assert_shown(tmp_path / "o", LabelStyle.of(3))


def test_outputs_of_before_there_were_colours_are_as_they_were(source, tmp_path):
    """Neither the codebook nor the record of such a run says anything of colours."""
    out = tmp_path / "o"
    done(source, out, palette="distinct")
    book = Codebook.load(out / "codebook.npz")
    replace(book, mean_colours=()).save(out / "codebook.npz")
    record = json.loads((out / "scene.json").read_text())
    assert "style" not in record
    before = files_of(out)
    assert done(source, out).skipped == ["scene"]
    assert files_of(out) == before
    # and may have natural ones now: K-Means' centres are colours
    assert done(source, out, palette="natural").done == ["scene"]
    assert style_of(out).colours != LabelStyle.of(3).colours
    assert_shown(out, style_of(out))


def test_the_map_of_what_is_bad_outlives_other_colours(source, tmp_path, monkeypatch):
    monkeypatch.setattr(bad_blocks, "RETRY_AFTER_S", (0.0,))
    profile = {
        "photometric": "RGB",
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
    }
    spoil(write_geotiff(source, noise(3, 700, 900, seed=4), **profile), 1, 1)
    done(source, tmp_path / "o", on_bad_chunk="nodata")
    bad = (tmp_path / "o" / "scene.bad.geojson").read_bytes()
    done(source, tmp_path / "o", on_bad_chunk="nodata", palette="distinct")
    assert (tmp_path / "o" / "scene.bad.geojson").read_bytes() == bad
    assert json.loads((tmp_path / "o" / "scene.json").read_text())["bad_chunks"] == 1
    problems(tmp_path / "o")


def test_damaged_labels_are_made_anew_and_not_coloured(source, tmp_path):
    done(source, tmp_path / "new", palette="distinct")
    done(source, tmp_path / "o")
    labels = tmp_path / "o" / "scene.tif"
    data = bytearray(labels.read_bytes())
    data[-2000] ^= 255
    record = (tmp_path / "o" / "scene.json").stat()
    labels.write_bytes(data)
    os.utime(labels, ns=(record.st_mtime_ns, record.st_mtime_ns))  # decay leaves no trace
    done(source, tmp_path / "o", palette="distinct")
    assert files_of(tmp_path / "o") == files_of(tmp_path / "new")


def test_what_cannot_be_had_is_refused_before_anything_is_touched(source, palette, tmp_path):
    grey = write_geotiff(tmp_path / "grey.tif", noise(1, 60, 70))
    done(grey, tmp_path / "o")
    before = files_of(tmp_path / "o")
    for wrong, options in (
        ("natural", {}),
        (str(tmp_path / "none.csv"), {}),
        (str(palette), {"segments": 2}),
    ):
        with pytest.raises(UsageError, match=r"red, green and blue|cannot read|palette.csv:3: label 2"):
            done(grey, tmp_path / "o", palette=wrong, overwrite=True, **options)
    assert files_of(tmp_path / "o") == before


def test_natural_colours_of_a_saved_codebook_that_has_none_are_refused(tmp_path):
    grey = write_geotiff(tmp_path / "grey.tif", noise(1, 60, 70))
    done(grey, tmp_path / "o")
    with pytest.raises(UsageError, match="red, green and blue"):
        done(grey, tmp_path / "o", palette="natural")
