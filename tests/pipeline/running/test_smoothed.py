"""Runs with smoothing: what they make, and what becomes of it when another one is asked for."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio

from engine.grid import Window, tiles
from engine.labels.majority import majority
from engine.labels.smoothing import Smoothing
from pipeline import cli
from pipeline.api.fitting import fit
from pipeline.config import RunConfig, build
from pipeline.config_file import load_file
from pipeline.durable.ledger import RAW_STAGE
from pipeline.errors import StorageError, UsageError
from pipeline.kernels import kernel_from_codebook
from pipeline.running.run import run
from pipeline.sinks import parts
from pipeline.sinks.sink import sink_of
from pipeline.source import bad_blocks
from pipeline.source.opening import open_segmentable
from pipeline.source.view import View
from pipeline.tasks import labelling, raw_units, smoothing, units
from pipeline.tasks.job import Job
from tests.rasters import noise, spoil, write_geotiff

SIDE = 700
TILED = {"tiled": True, "blockxsize": 256, "blockysize": 256}
OPTIONS = {"segments": 4, "resolution": 2, "chunk_size": 512}


@pytest.fixture
def source(tmp_path):
    pixels = noise(3, SIDE, SIDE)
    pixels[:, 500:530, 40:90] = 0
    return write_geotiff(tmp_path / "scene.tif", pixels, nodata=0, compress="deflate", **TILED)


def contents(out):
    """Every file of labels and what shows them."""
    files = [p for p in out.rglob("*") if p.is_file() and p.suffix not in (".json", ".jsonl")]
    return {str(p.relative_to(out)): p.read_bytes() for p in files if ".partial" not in p.parts}


def labels_of(out, name="scene"):
    with rasterio.open(out / f"{name}.tif") as dataset:
        return dataset.read(1)


def done(source, out, **options):
    report = run(RunConfig(sources=(str(source),), out=str(out), **{**OPTIONS, **options}))
    assert not report.failed, report.failed
    return report


def test_labels_are_the_majority_of_those_without_smoothing(source, tmp_path):
    done(source, tmp_path / "plain")
    done(source, tmp_path / "smooth", smooth="5x2")
    plain, smooth = labels_of(tmp_path / "plain"), labels_of(tmp_path / "smooth")
    assert (plain != smooth).mean() > 0.2
    np.testing.assert_array_equal(smooth, majority(majority(plain, 5), 5))
    codebooks = [(tmp_path / out / "codebook.npz").read_bytes() for out in ("plain", "smooth")]
    assert codebooks[0] == codebooks[1]
    assert json.loads((tmp_path / "smooth" / "scene.json").read_text())["parameters"]["smooth"] == "5x2"
    assert cli.main(["verify", str(tmp_path / "smooth"), "--progress", "none"]) == 0


@pytest.mark.parametrize("smooth", [[], "4", "3x", 1e300, {"px": 3}])
def test_a_record_of_what_is_no_smoothing_is_told_by_verify(source, tmp_path, smooth, capsys):
    out = tmp_path / "o"
    done(source, out, smooth="3")
    record = json.loads((out / "scene.json").read_text())
    record["parameters"]["smooth"] = smooth
    (out / "scene.json").write_text(json.dumps(record))
    assert cli.main(["verify", str(out), "--progress", "none"]) == 1
    assert f"{out / 'scene.json'}: says nothing of parameters" in capsys.readouterr().err
    # and the labels are made again
    assert done(source, out, smooth="3").done == ["scene"]


def test_labels_in_an_extent_are_those_of_the_whole_raster(source, tmp_path):
    done(source, tmp_path / "whole", smooth="9")
    with rasterio.open(source) as dataset:
        left, bottom, right, top = dataset.window_bounds(((512, 700), (512, 700)))
    book = str(tmp_path / "whole" / "codebook.npz")
    done(source, tmp_path / "part", smooth="9", extent=(left, bottom, right, top), codebook=book)
    np.testing.assert_array_equal(labels_of(tmp_path / "part"), labels_of(tmp_path / "whole")[512:, 512:])


def test_another_smoothing_makes_the_labels_again_with_the_codebook_that_is_there(source, tmp_path):
    out = tmp_path / "o"
    done(source, out)
    for smooth in ("3", "7x2", None):
        assert done(source, out, smooth=smooth).done == ["scene"]
        assert done(source, out, smooth=smooth).skipped == ["scene"]
        done(source, tmp_path / f"fresh{smooth}", smooth=smooth)
        for name in ("scene.tif", "codebook.npz", "scene.png", "scene.qml"):
            assert (out / name).read_bytes() == (tmp_path / f"fresh{smooth}" / name).read_bytes()
        assert cli.main(["verify", str(out), "--progress", "none"]) == 0


def test_run_json_repeats_it_and_an_option_wins(source, tmp_path):
    done(source, tmp_path / "o", smooth="3")
    values, _ = load_file(str(tmp_path / "o" / "run.json"))
    run(build({**values, "out": str(tmp_path / "again")}, recorded=values.keys()))
    run(build({**values, "out": str(tmp_path / "none"), "smooth": "none"}, recorded=values.keys()))
    np.testing.assert_array_equal(labels_of(tmp_path / "again"), labels_of(tmp_path / "o"))
    done(source, tmp_path / "plain")
    np.testing.assert_array_equal(labels_of(tmp_path / "none"), labels_of(tmp_path / "plain"))


@pytest.mark.parametrize("smooth", [None, "9x2"])
def test_chunks_that_smoothing_reaches_are_made_again_with_a_bad_one(source, tmp_path, smooth, monkeypatch):
    monkeypatch.setattr(bad_blocks, "RETRY_AFTER_S", (0.0,))
    whole = source.read_bytes()
    spoil(source, 2, 2)  # rows and columns 512 to 700: the first of the last chunk
    out = tmp_path / "o"
    done(source, out, smooth=smooth, on_bad_chunk="nodata")
    book = out / "codebook.npz"
    damaged = labels_of(out)
    source.write_bytes(whole)
    done(source, tmp_path / "fresh", smooth=smooth, codebook=str(book))
    assert cli.main(["run", "--retry-bad", str(out), "--progress", "none"]) == 0
    fresh = labels_of(tmp_path / "fresh")
    np.testing.assert_array_equal(labels_of(out), fresh)
    beyond = (damaged != fresh)[:512].any() or (damaged != fresh)[:, :512].any()
    assert beyond == (smooth is not None)


def test_a_window_that_is_wider_than_all_rasters_is_refused(source, tmp_path, capsys):
    small = write_geotiff(tmp_path / "small.tif", noise(3, 40, 8))
    arguments = ["-o", str(tmp_path / "p"), "--smooth", "9", "--progress", "none"]
    for command in ("run", "plan"):
        assert cli.main([command, str(small), *arguments]) == 2
        said = f"--smooth 9: the window is wider than {small}, which has 8 x 40 px; give a smaller one"
        assert said in capsys.readouterr().err
    assert not (tmp_path / "p").exists()
    # beside a larger one it is a strip or a tile at the edge, and smoothed as any
    plain, smooth = tmp_path / "plain", tmp_path / "smooth"
    for out, text in ((plain, "none"), (smooth, "9x2")):
        report = run(RunConfig(sources=(str(source), str(small)), out=str(out), smooth=text, **OPTIONS))
        assert sorted(report.done) == ["scene", "small"]
    expected = majority(majority(labels_of(plain, "small"), 9), 9)
    np.testing.assert_array_equal(labels_of(smooth, "small"), expected)


def test_labels_in_polygons_are_those_of_the_whole_raster(source, tmp_path):
    done(source, tmp_path / "whole", smooth="9x2")
    with rasterio.open(source) as dataset:
        corners = [dataset.xy(row, col) for row, col in [(90, 80), (130, 600), (620, 500), (560, 130)]]
    ring = [*corners, corners[0]]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    shape = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "properties": {}, "geometry": shape}
    aoi = tmp_path / "a.geojson"
    aoi.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]}))
    book = str(tmp_path / "whole" / "codebook.npz")
    done(source, tmp_path / "part", smooth="9x2", aoi=str(aoi), codebook=book)
    part, whole = labels_of(tmp_path / "part"), labels_of(tmp_path / "whole")
    inside = part != 255
    assert 0.3 < inside.mean() < 0.6
    assert inside[300:305, 300:305].all()
    np.testing.assert_array_equal(part[inside], whole[inside])
    assert cli.main(["verify", str(tmp_path / "part"), "--progress", "none"]) == 0


def test_labels_of_a_network_in_an_extent_are_those_of_the_whole_raster(tmp_path):
    source = write_geotiff(tmp_path / "scene.tif", noise(3, 1100, 1300))
    options = {"method": "cnn", "resolution": 8, "segments": 3, "smooth": "5", "device": "cpu"}
    done(source, tmp_path / "whole", **options)
    with rasterio.open(source) as dataset:
        left, bottom, right, top = dataset.window_bounds(((512, 1024), (512, 1024)))
    options |= {"extent": (left, bottom, right, top), "codebook": str(tmp_path / "whole" / "codebook.npz")}
    done(source, tmp_path / "part", **options)
    whole, part = labels_of(tmp_path / "whole"), labels_of(tmp_path / "part")
    np.testing.assert_array_equal(part, whole[512:1024, 512:1024])


def test_passes_that_reach_beyond_a_chunks_neighbours_are_the_same(tmp_path):
    source = write_geotiff(tmp_path / "scene.tif", noise(3, 1300, 1700))
    smooth = "255x6"  # 762 px
    for chunk in (512, 2048):
        done(source, tmp_path / str(chunk), smooth=smooth, chunk_size=chunk, segments=3)
    np.testing.assert_array_equal(labels_of(tmp_path / "512"), labels_of(tmp_path / "2048"))


@pytest.mark.parametrize("format_", ["cog", "zarr"])
def test_a_run_that_ends_while_it_smooths_labels_nothing_again(tmp_path, monkeypatch, format_):
    source = write_geotiff(tmp_path / "scene.tif", noise(3, 1300, 1100))
    options = {"smooth": "7x2", "format": format_, "workers": "1"}
    done(source, tmp_path / "fresh", **options)
    out, real, made = tmp_path / "o", units.write_unit, []

    def write(job, stage, unit, labels, beside=()):
        if len(made) == 4:
            raise StorageError("full")
        made.append(unit)
        return real(job, stage, unit, labels, beside)

    with monkeypatch.context() as patch:
        patch.setattr(units, "write_unit", write)
        with pytest.raises(StorageError, match="full"):
            done(source, out, **options)
    raw = sorted((out / ".partial" / "scene" / "raw").rglob("*.raw"))
    assert len(raw) == 9
    raw[5].write_bytes(raw[5].read_bytes()[:-1])
    labelled, graph_labels = [], labelling.graph_labels

    def label(job, window):
        labelled.append(window)
        return graph_labels(job, window)

    monkeypatch.setattr(labelling, "graph_labels", label)
    done(source, out, **options)
    assert [(w.row, w.col) for w in labelled] == [(512, 1024)]
    assert contents(out) == contents(tmp_path / "fresh")


def test_a_chunk_that_kills_its_worker_is_nodata_and_noted(source, tmp_path):
    view = View.whole(open_segmentable(source))
    codebook = fit(str(source), segments=3)
    kernel = kernel_from_codebook(codebook)
    sink = sink_of("scene.tif")
    job = Job("scene", view, kernel, codebook, 512, tmp_path, sink, smoothing=Smoothing(5))
    windows = list(tiles(view.bounds, 512))
    for window in windows[:-1]:
        smoothing.label_raw(job, window, {})
    done_ = smoothing.blank_raw(job, windows[-1], "took its worker with it")
    assert (done_.stage, done_.chunks, done_.bad_chunks) == (RAW_STAGE, 1, 1)
    labels = {}
    for window in windows:
        smoothing.smooth_window(job, window, {})
        unit = job.unit(window)
        labels[unit] = raw_units.bad_of(job.folder, unit)
    assert [bool(bad) for bad in labels.values()] == [False, False, False, True]
    assert labels[1, 1][0]["reason"] == "took its worker with it"
    assert [p.name for p in (job.folder / "bad").iterdir()] == ["00001_00001.json"]
    part = parts.read_index(parts.part_path(job.folder, job.stages[0], (1, 1)))
    assert part.histogram[255] == 188 * 188


def test_what_a_task_reads_does_not_grow_with_the_raster(tmp_path, monkeypatch):
    decoded, most = [], []
    real = raw_units._decoded

    def note(path, data, tile):
        decoded.append(tile.pixels)
        return real(path, data, tile)

    monkeypatch.setattr(raw_units, "_decoded", note)
    for side in (1536, 2560):
        source = write_geotiff(tmp_path / f"{side}.tif", noise(1, side, side))
        view = View.whole(open_segmentable(source))
        codebook = fit(str(source), segments=2)
        kernel, sink = kernel_from_codebook(codebook), sink_of("scene.tif")
        job = Job("scene", view, kernel, codebook, 512, tmp_path / f"o{side}", sink, smoothing=Smoothing(9))
        for window in tiles(view.bounds, 512):
            smoothing.label_raw(job, window, {})
        read = []
        for window in tiles(view.bounds, 512):
            decoded.clear()
            smoothing.smooth_window(job, window, {})
            read.append(sum(decoded))
        most.append(max(read))
    # a chunk and the tiles of 256 px around it
    assert most == [1024 * 1024] * 2


@pytest.mark.parametrize("cut", [0, 5, -1])
def test_a_raw_unit_that_is_not_whole_is_told(tmp_path, cut):
    labels = noise(300, 280)
    window = Window(-3, 0, 300, 280)
    raw_units.write(tmp_path, (0, 0), window, labels, [])
    out = raw_units.nothing(Window(0, 10, 200, 100))
    raw_units.read_into(out, Window(0, 10, 200, 100), tmp_path, (0, 0))
    np.testing.assert_array_equal(out, labels[3:203, 10:110])
    path = raw_units.path_of(tmp_path, (0, 0))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(StorageError, match=r"0\.raw: not what was written; run the same command again"):
        raw_units.read_into(out, window, tmp_path, (0, 0))


@pytest.mark.parametrize("smooth", ["4", "-3", "1000", "3x", "yes"])
@pytest.mark.parametrize("command", ["run", "plan"])
def test_what_is_no_smoothing_is_one_line_and_exit_code_2(source, tmp_path, capsys, command, smooth):
    assert cli.main([command, str(source), "-o", str(tmp_path / "o"), "--smooth", smooth]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "--smooth" in said
    assert "odd" in said
    assert not (tmp_path / "o").exists()


def test_an_array_is_smoothed_and_a_wrong_window_refused(source):
    from pipeline import open_raster, segment

    array = open_raster(source)
    codebook = fit(array, segments=3)
    plain, smooth = (segment(array, codebook, smooth=s).values for s in (None, 5))
    np.testing.assert_array_equal(smooth, majority(plain, 5))
    with pytest.raises(UsageError, match="smooth=4: a window of 4 px; give an odd one"):
        segment(array, codebook, smooth=4)


def test_the_plan_tells_the_halo(source, tmp_path, capsys):
    arguments = ["plan", str(source), "-o", str(tmp_path / "o"), "--resolution", "1", "--progress", "none"]
    halos = []
    for options in ([], ["--smooth", "7x2"]):
        assert cli.main([*arguments, *options, "--json"]) == 0
        halos.append(json.loads(capsys.readouterr().out)["halo_px"])
    assert halos[1] == halos[0] + 6
