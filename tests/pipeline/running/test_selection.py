"""Runs with `--nodata`, `--valid` and expressions in units: taken up, verified, planned, on every road."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import rasterio

from engine.codebook import Codebook
from pipeline import cli
from pipeline.api.arrays import open_raster
from pipeline.commands.inspect import describe
from pipeline.commands.plan.plan import plan
from pipeline.config import RunConfig, build
from pipeline.config_file import load_file
from pipeline.errors import UsageError
from pipeline.running.run import run
from pipeline.source import bad_blocks
from tests.rasters import noise, spoil, write_geotiff

NDVI = "(nir-red)/(nir+red)"
SIDE = 1100
TILES = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
OPTIONS = [
    {"nodata": "1"},
    {"bands": "red,nir", "valid": "(qa & 4) == 0 and qa != 7"},
    {"bands": f"{NDVI},where(qa in (1,2),red,nir)**0.5", "valid": "nir > 0.001", "nodata": "3,4,none"},
    {"bands": NDVI, "raw_values": True},
]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(bad_blocks, "RETRY_AFTER_S", (0.0,))


def scene(path, pixels, units=((1e-4, -0.01), (2e-4, -0.02), (1, 0)), **profile):
    """A raster of red and nir, which have scales, and qa."""
    write_geotiff(path, pixels, **{**TILES, **profile})
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("red", "nir", "qa")
        dataset.scales, dataset.offsets = zip(*units, strict=True)
    return path


@pytest.fixture(scope="module")
def pixels():
    found = noise(3, SIDE, SIDE, low=0, high=9, dtype="int16")
    found[:2] += noise(2, SIDE, SIDE, seed=1, low=0, high=1000, dtype="int16")
    return found


@pytest.fixture(scope="module")
def source(pixels, tmp_path_factory):
    return scene(tmp_path_factory.mktemp("source") / "scene.tif", pixels)


def segmented(sources, out, **options):
    sources = [sources] if not isinstance(sources, (list, tuple)) else sources
    values = {"sources": [str(s) for s in sources], "chunk_size": 512, "workers": "2", "resolution": 2}
    config = build({**values, "out": str(out), "segments": 4, **options})
    report = run(config)
    assert not report.failed, report.failed
    return report


def labels(out, name="scene"):
    with rasterio.open(out / f"{name}.tif") as dataset:
        return dataset.read(1)


def codebook(out):
    return Codebook.load(out / "codebook.npz")


# What labels are


def test_nodata_and_conditions_are_as_if_the_pixels_were_nodata_in_the_file(pixels, source, tmp_path):
    ok = ((pixels[2] & 4) == 0) & (pixels[2] != 7)
    holes = np.where(ok, pixels[:2] + 1, 0).astype("int16")
    plain = write_geotiff(tmp_path / "scene.tif", holes, nodata=0)
    (tmp_path / "s").mkdir()
    shifted = scene(tmp_path / "s" / "scene.tif", np.stack([*(pixels[:2] + 1), pixels[2]]).astype("int16"))
    segmented(plain, tmp_path / "plain")
    segmented(shifted, tmp_path / "valid", bands="1,2", valid=OPTIONS[1]["valid"])
    np.testing.assert_array_equal(labels(tmp_path / "valid"), labels(tmp_path / "plain"))
    np.testing.assert_array_equal(codebook(tmp_path / "valid").centres, codebook(tmp_path / "plain").centres)
    bare = write_geotiff(tmp_path / "s" / "bare.tif", holes)
    segmented(bare, tmp_path / "bare", nodata="0")
    np.testing.assert_array_equal(labels(tmp_path / "bare", "bare"), labels(tmp_path / "plain"))
    assert codebook(tmp_path / "bare").content_hash == codebook(tmp_path / "plain").content_hash


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_stack_and_a_mosaic_have_the_labels_of_the_raster(pixels, source, tmp_path, options):
    segmented(source, tmp_path / "whole", **options)
    bands = {}
    for i, name in enumerate(("red", "nir", "qa")):
        bands[name] = str(write_geotiff(tmp_path / f"{name}.tif", pixels[i]))
        with rasterio.open(source) as dataset, rasterio.open(bands[name], "r+") as band:
            band.scales, band.offsets = dataset.scales[i : i + 1], dataset.offsets[i : i + 1]
    run_of = {"chunk_size": 1024, "workers": "1", "resolution": 2, "segments": 4, **options}
    assert not run(build({"stack": bands, "out": str(tmp_path / "stack"), **run_of})).failed
    np.testing.assert_array_equal(labels(tmp_path / "stack", "stack"), labels(tmp_path / "whole"))
    (tmp_path / "t").mkdir()
    with rasterio.open(source) as dataset:
        move = dataset.transform * dataset.transform.translation(0, 512)
        tiles = [
            scene(tmp_path / "t" / "a.tif", pixels[:, :512]),
            scene(tmp_path / "t" / "b.tif", pixels[:, 512:], transform=move),
        ]
    segmented(tiles, tmp_path / "mosaic", mosaic=True, **options)
    np.testing.assert_array_equal(labels(tmp_path / "mosaic", "mosaic"), labels(tmp_path / "whole"))


def test_an_array_has_the_pixels_and_validity_of_the_run(source, tmp_path):
    options = {"nodata": "3,4,none", "valid": "nir > 0.001 and qa != 7"}
    segmented(source, tmp_path / "o", resolution=1, **options)
    array = open_raster(source, chunk_size=512, **options)
    np.testing.assert_array_equal(array.coords["valid"].values, labels(tmp_path / "o") != 255)
    some = open_raster(source, bands=[2], **options)
    assert some.shape[0] == 1
    assert str(some.dtype) == "int16"
    with pytest.raises(UsageError, match="--valid"):
        open_raster(source, valid="nir >")


def test_an_index_of_a_real_landsat_scene_is_that_of_reflectances_where_the_condition_is_true(
    rasters, tmp_path
):
    folder = rasters.parent / "awkward" / "xarray-spatial"
    if not folder.is_dir():
        pytest.skip(f"no Landsat scene here: {folder} is absent")
    stored, files = {}, {}
    for name, number in (("red", 4), ("nir", 5)):
        files[name] = str(shutil.copy(folder / f"LC80030172015001LGN00_B{number}.tiff", tmp_path))
        with rasterio.open(files[name], "r+") as dataset:
            dataset.scales, dataset.offsets = (2e-5,), (-0.1,)
            stored[name] = dataset.read(1).astype("f8")
    options = {"bands": NDVI, "valid": "red > 0.01 and nir > 0.01", "segments": 3, "resolution": 1}
    out = tmp_path / "o"
    assert not run(build({"stack": files, "out": str(out), "scale": "-1,1", **options})).failed
    red, nir = (stored[name] * 2e-5 - 0.1 for name in ("red", "nir"))
    found, ok = labels(out, "stack"), (red > 0.01) & (nir > 0.01)
    np.testing.assert_array_equal(found != 255, ok)
    assert 0 < ok.sum() < ok.size
    index, centres = ((nir - red) / (nir + red))[ok].astype("f4"), codebook(out).centre_values[:, 0]
    assert (np.diff(centres) > 0).all()
    nearest = np.abs(index[:, None] - centres).argmin(axis=1)
    assert (nearest == found[ok]).mean() > 0.9999  # but for pixels half way between two


# Roads that other runs take


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_run_is_verified_planned_taken_up_and_its_bad_chunks_are_done_again(
    pixels, tmp_path, capsys, options
):
    sound = scene(tmp_path / "sound.tif", pixels)
    source = tmp_path / "scene.tif"
    shutil.copy(sound, source)
    spoil(source, 3, 3)
    out = tmp_path / "out"
    segmented(source, out, on_bad_chunk="nodata", **options)
    damaged = labels(out)
    assert cli.main(["verify", str(out), "--progress", "none", "--workers", "1"]) == 0
    assert "nothing recomputed" not in capsys.readouterr().out
    # done before: the same options are the same run, and others are another
    assert segmented(source, out, on_bad_chunk="nodata", **options).skipped == ["scene"]
    for other in ({**options, "nodata": "5"}, {**options, "valid": "qa > 2"}):
        with pytest.raises(UsageError, match=r"holds another run: (nodata|valid) "):
            segmented(source, out, on_bad_chunk="nodata", **other)
    shutil.copy(sound, source)
    assert cli.main(["run", "--retry-bad", str(out), "--progress", "none"]) == 0
    segmented(source, tmp_path / "whole", codebook=str(out / "codebook.npz"), **options)
    np.testing.assert_array_equal(labels(out), labels(tmp_path / "whole"))
    assert (damaged != labels(out)).any()
    values = {"sources": [str(source)], "workers": "1", "chunk_size": 512, **options}
    assert plan(build(values)).seconds > 0


def test_options_stand_in_a_file_and_in_run_json(source, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(
        "nodata: [3, 4, null]\nvalid: qa not in (1, 2)\nraw-values: true\nbands: [nir]\n"
    )
    arguments = ["run", str(source), "-o", str(tmp_path / "y"), "--progress", "none", "--segments", "3"]
    assert cli.main([*arguments, "--config", str(tmp_path / "c.yaml")]) == 0
    arguments[3] = str(tmp_path / "z")
    asked = ["--nodata", "3,4,none", "--valid", "qa not in (1,2)", "--raw-values", "--bands", "nir"]
    assert cli.main([*arguments, *asked]) == 0
    np.testing.assert_array_equal(labels(tmp_path / "y"), labels(tmp_path / "z"))
    written = load_file(str(tmp_path / "y" / "run.json"))[0]
    assert (written["nodata"], written["valid"], written["raw_values"]) == (
        [3, 4, None],
        "qa not in(1,2)",
        True,
    )
    assert build(written).meaning == build(load_file(str(tmp_path / "z" / "run.json"))[0]).meaning


def test_what_cannot_be_done_is_one_line_that_names_the_option(source, tmp_path, capsys):
    cases = (
        (["--valid", "scl in (4)"], 1, "has no band 'scl'; it has red, nir, qa: change --valid"),
        (["--valid", "qa in"], 2, "--valid: expression 'qa in'"),
        (["--nodata", "1,2"], 1, "--nodata has 2 values for 3 bands (without alpha); give 1 or 3"),
        (["--nodata", "x"], 2, "--nodata 'x': give VALUE or VALUE,VALUE,..."),
        (["--nodata", "1e9"], 1, "no pixel of int16 can have this value"),
    )
    for i, (options, code, text) in enumerate(cases):
        arguments = ["run", str(source), "-o", str(tmp_path / str(i)), "--progress", "plain", *options]
        assert cli.main(arguments) == code
        said = capsys.readouterr().err
        assert text in said
        assert len([line for line in said.splitlines() if text in line]) == 1
    # where nothing is valid, that is what is said
    arguments = ["run", str(source), "-o", str(tmp_path / "n"), "--progress", "plain", "--valid", "qa > 99"]
    assert cli.main(arguments) == 1
    assert "no valid pixel" in capsys.readouterr().err


# What a codebook remembers


def test_a_codebook_in_units_is_for_values_in_units(source, pixels, tmp_path):
    segmented(source, tmp_path / "o", bands=NDVI, resolution=1)
    book = codebook(tmp_path / "o")
    assert book.physical
    assert "of float32, of value * scale + offset" in describe(str(tmp_path / "o" / "codebook.npz"))
    named = {"codebook": str(tmp_path / "o" / "codebook.npz"), "resolution": 1}
    segmented(source, tmp_path / "again", **named)
    np.testing.assert_array_equal(labels(tmp_path / "again"), labels(tmp_path / "o"))
    bare = scene(tmp_path / "scene.tif", pixels, ((1, 0),) * 3)
    # numbers that declare no scale are refused, and so are those whose scale is turned off
    for path, options in ((bare, {}), (source, {"raw_values": True})):
        report = run(
            build({"sources": [str(path)], "out": str(tmp_path / f"r{len(options)}"), **named, **options})
        )
        assert "its numbers are not scaled" in str(report.failed["scene"])
    # floats without a scale are in units themselves
    red, nir = pixels[0] * 1e-4 - 0.01, pixels[1] * 2e-4 - 0.02
    (tmp_path / "f").mkdir()
    floats = scene(tmp_path / "f" / "scene.tif", np.stack([red, nir, pixels[2]]), ((1, 0),) * 3)
    segmented(floats, tmp_path / "fo", **named)
    np.testing.assert_array_equal(labels(tmp_path / "fo"), labels(tmp_path / "o"))


def test_a_codebook_of_stored_numbers_is_for_stored_numbers(source, pixels, tmp_path):
    segmented(source, tmp_path / "o", bands=NDVI, raw_values=True)
    book = codebook(tmp_path / "o")
    assert not book.physical
    named = {"codebook": str(tmp_path / "o" / "codebook.npz")}
    report = run(build({"sources": [str(source)], "out": str(tmp_path / "r"), **named}))
    assert "it declares scales" in str(report.failed["scene"])
    assert "--raw-values" in str(report.failed["scene"])
    segmented(source, tmp_path / "again", raw_values=True, **named)
    np.testing.assert_array_equal(labels(tmp_path / "again"), labels(tmp_path / "o"))


def test_one_codebook_is_not_fitted_on_scaled_and_stored_numbers(source, pixels, tmp_path):
    bare = scene(tmp_path / "bare.tif", pixels, ((1, 0),) * 3)
    values = {"sources": [str(source), str(bare)], "out": str(tmp_path / "o"), "bands": NDVI}
    with pytest.raises(UsageError, match="one codebook needs values of one kind") as caught:
        run(build(values))
    assert str(source) in str(caught.value)
    assert str(bare) in str(caught.value)
    assert not run(build({**values, "raw_values": True, "out": str(tmp_path / "p")})).failed


def test_centres_are_printed_as_values_of_the_bands(source, tmp_path):
    segmented(source, tmp_path / "o", bands=f"{NDVI},red*1", resolution=1)
    book = codebook(tmp_path / "o")
    values = book.centre_values
    assert np.abs(values[:, 0]).max() < 100
    assert (values[:, 1] < 0.2).all()
    lines = describe(str(tmp_path / "o" / "codebook.npz")).splitlines()
    last = [float(v) for v in lines[-1].split()[-2:]]
    np.testing.assert_allclose(last, values[-1], rtol=1e-3)


# Runs from before there were these options


def forgotten(out):
    """Make a run look as one that was made before there were these options."""
    for path in [out / "run.json", *out.glob("scene.json")]:
        content = json.loads(path.read_text())
        for options in (content.get("config", {}), content.get("parameters", {})):
            for name in ("nodata", "valid", "raw_values"):
                options.pop(name, None)
        path.write_text(json.dumps(content))


@pytest.mark.parametrize("options", [{}, {"bands": "2,1"}, {"bands": NDVI, "raw_values": True}], ids=str)
def test_a_run_of_before_is_taken_up_verified_and_repeated(source, tmp_path, capsys, options):
    out = tmp_path / "o"
    segmented(source, out, **options)
    forgotten(out)
    config = str(out / "run.json")
    assert cli.main(["run", "--config", config, "-o", str(tmp_path / "same"), "--progress", "none"]) == 0
    np.testing.assert_array_equal(labels(tmp_path / "same"), labels(out))
    assert cli.main(["verify", str(out), "--progress", "none", "--workers", "1"]) == 0
    assert "nothing recomputed" not in capsys.readouterr().out
    assert segmented(source, out, **options).skipped == ["scene"]
    assert cli.main(["verify", str(out), "--progress", "none", "--workers", "1"]) == 0
    assert "nothing recomputed" not in capsys.readouterr().out


def test_a_run_of_before_with_expressions_on_scaled_bands_is_not_mixed_with_units(source, tmp_path):
    out = tmp_path / "o"
    segmented(source, out, bands=NDVI, raw_values=True)
    before = labels(out)
    forgotten(out)
    values = {"sources": [str(source)], "out": str(out), "segments": 4, "resolution": 2, "bands": NDVI}
    report = run(build({**values, "chunk_size": 512}))
    assert "--raw-values" in str(report.failed["scene"])
    np.testing.assert_array_equal(labels(out), before)


def test_plain_runs_have_the_codebook_that_they_had(source, tmp_path):
    assert RunConfig().raw_values is False
    segmented(source, tmp_path / "o")
    meta = json.loads(np.load(tmp_path / "o" / "codebook.npz")["meta"].tobytes())
    assert "physical" not in meta
