"""`verify`: a sound OUT passes, and whatever is altered, missing, undone or mislabelled is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.block_kmeans import BlockKMeans
from engine.grid import Window
from pipeline import cli
from pipeline.check import recomputed
from pipeline.check.recomputed import Recipe
from pipeline.check.seams import Seams
from pipeline.commands.verify.raster_report import RasterReport
from pipeline.commands.verify.verify import Verification
from pipeline.config import RunConfig
from pipeline.durable.checksums import checksum
from pipeline.durable.lock import FolderLock
from pipeline.errors import RasterError
from pipeline.events.progress import Silent
from pipeline.graph import label_graph as graph_labels
from pipeline.running.run import run
from pipeline.source import bad_blocks
from pipeline.source.gdal.raster import open_header
from pipeline.source.view import View
from pipeline.workers.pool import Workers, open_pool
from tests.rasters import noise, write_geotiff

FORMS = {
    "cog": {},
    "zarr3": {"format": "zarr"},
    "zarr2": {"format": "zarr", "zarr_version": 2},
}


def scene(path, shape=(1100, 900), seed=0):
    """A raster of slopes and noise with a nodata corner."""
    pixels = noise(3, *shape, seed=seed, low=1, high=60)
    pixels += (np.arange(shape[1]) // 8).clip(0, 190).astype(np.uint8)
    pixels[:, :200, :300] = 0
    return write_geotiff(path, pixels, nodata=0)


def make(sources, out, **options):
    report = run(RunConfig(sources=tuple(map(str, sources)), out=str(out), **options))
    assert not report.failed, report.failed
    return out


@pytest.fixture
def verify(capsys, monkeypatch):
    """Runs the command in this process; gives its exit code, stdout and stderr."""
    monkeypatch.setattr(bad_blocks, "RETRY_AFTER_S", (0.0,))

    def call(*arguments):
        capsys.readouterr()
        code = cli.main(["verify", *map(str, arguments), "--progress", "none"])
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        return code, said.out, said.err

    return call


def wrong(out, sample=0):
    """What is wrong with each raster of OUT."""
    with open_pool(Workers("threads", 1)) as pool:
        return [w for v in Verification(out, sample, pool, Silent()).reports() for w in v.wrong]


@pytest.fixture(scope="module", params=FORMS)
def finished(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    source = scene(folder / "scene.tif")
    return make([source], folder / "out", chunk_size=512, segments=5, **FORMS[request.param])


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of a finished OUT that a test may spoil."""
    return shutil.copytree(finished, tmp_path / "copy")


@pytest.fixture
def cog(tmp_path):
    """A finished OUT of COGs that a test may spoil, with its input."""
    return make([scene(tmp_path / "scene.tif")], tmp_path / "out", chunk_size=512, segments=5)


# What is sound


def test_a_finished_run_passes_with_a_line_a_raster_and_a_total(verify, finished):
    code, said, err = verify(finished)
    assert (code, err) == (0, "")
    line, total = said.splitlines()
    assert line.startswith("scene: ok; windows recomputed: ")
    assert "seam score" in line
    assert "1 rasters ok, 0 wrong" in total


@pytest.mark.parametrize(
    "options",
    [
        {"resolution": 3, "chunk_size": 1024},
        {"resolution": 1, "codebook_scope": "raster"},
        {"extent": (500030.0, 5799500.0, 500300.0, 5799950.0)},
        {"mosaic": True, "output_tiles": 512},
        {"mosaic": True, "format": "zarr"},
        {"method": "cnn", "resolution": 16, "bands": (1, 2, 3)},
        {"bands": (3, 1), "fit": "exact"},
    ],
    ids=str,
)
def test_whatever_the_options_a_finished_run_passes(verify, tmp_path, options):
    alone = options.get("mosaic") or options.get("method")
    names = ["a.tif"] if alone else ["a.tif", "b.tif"]
    sources = [scene(tmp_path / name, seed=i) for i, name in enumerate(names)]
    out = make(sources, tmp_path / "out", segments=4, **options)
    code, said, err = verify(out, "--json")
    found = json.loads(said)
    assert (code, err, found["ok"]) == (0, "", True)
    assert all(r["ok"] and r["recomputed"] and not r["notes"] for r in found["rasters"]), found
    assert len(found["rasters"]) == len(list(out.glob("*.json"))) - 1


def test_an_area_of_interest_and_a_saved_codebook_pass(verify, tmp_path):
    source = scene(tmp_path / "a.tif")
    first = make([source], tmp_path / "first", segments=4)
    area = tmp_path / "area.geojson"
    ring = [[500010, 5799990], [500400, 5799900], [500300, 5799600], [500010, 5799990]]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    area.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]}))
    out = make([source], tmp_path / "out", aoi=str(area), codebook=str(first / "codebook.npz"))
    code, said, _ = verify(out)
    assert code == 0
    assert "windows recomputed: 0" not in said


def test_a_raster_without_place_and_one_of_a_cell_pass(verify, tmp_path):
    path = write_geotiff(
        tmp_path / "bare.tif", noise(3, 70, 50), crs=None, transform=rasterio.Affine.identity()
    )
    code, said, _ = verify(make([path], tmp_path / "out", segments=3))
    assert code == 0
    assert said.startswith("bare: ok; windows recomputed: 1\n")


# What is altered or gone


STYLES = (".qml", ".aux.xml")


def files_of(out):
    """Every file of a raster in OUT but its record and styles."""
    named = [p for p in out.rglob("*") if p.is_file() and p.parent != out]
    named += [p for p in out.glob("scene.*") if p.is_file() and p.suffix != ".json"]
    return sorted(p for p in named if not p.name.endswith(STYLES))


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_flipped_bit_in_any_file_is_found(finished, data):
    # the copy is of the module: each example puts back what it altered
    file = data.draw(st.sampled_from(files_of(finished)))
    raw = file.read_bytes()
    at, bit = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 7))
    altered = bytearray(raw)
    altered[at] ^= 1 << bit
    file.write_bytes(altered)
    try:
        (said,) = wrong(finished)
    finally:
        file.write_bytes(raw)
    named = finished / file.relative_to(finished).parts[0]
    assert said.startswith(f"{named}: not what was written")


def test_any_missing_file_is_named(verify, copy):
    others = ("run.json", "run.log.jsonl", *STYLES)
    tops = [p for p in copy.iterdir() if not p.name.endswith(others)]
    assert len(tops) >= 4
    for path in tops:
        aside = path.rename(copy.parent / "aside")
        code, _, err = verify(copy, "--sample", "0")
        assert code == 1
        assert str(path) in err
        aside.rename(path)
    assert verify(copy)[0] == 0


def test_a_missing_and_an_added_part_of_a_store_are_found(copy):
    stores = list(copy.glob("*.zarr"))
    if not stores:
        pytest.skip("a COG has no parts")
    part = next(p for p in stores[0].rglob("*") if p.is_file() and "labels" in p.parts)
    data = part.read_bytes()
    part.unlink()
    assert len(wrong(copy)) == 1
    part.write_bytes(data)
    (stores[0] / "stranger").write_bytes(b"")
    assert len(wrong(copy)) == 1


def test_an_altered_codebook_is_named(verify, copy):
    path = copy / "codebook.npz"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)
    code, _, err = verify(copy)
    assert code == 1
    assert "codebook.npz" in err


def edited(path, change):
    """Rewrite a JSON file."""
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_styles_are_people_s_to_change(verify, cog):
    qml = cog / "scene.qml"
    qml.write_text(qml.read_text().replace("Segment 1", "Roofs"))
    (cog / "scene.tif.aux.xml").unlink()
    code, said, err = verify(cog)
    assert (code, err) == (0, "")
    assert "note: scene.tif.aux.xml is gone; note: scene.qml was edited since" in said


def move_pixels(record):
    record["labels"]["0"] += 1
    record["labels"]["1"] -= 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.pop("kernel"), "says nothing of kernel"),
        (lambda r: r.pop("versions"), "says nothing of versions"),
        (lambda r: r.update(versions={}), "says nothing of the versions"),
        (lambda r: r["input"].pop("fingerprint"), "fingerprint"),
        (lambda r: r.pop("checksums"), "says nothing of checksums"),
        (lambda r: r["checksums"].pop("scene.qml"), "no checksum of scene.qml"),
        (lambda r: r.update(seam_score=9.9), "says seam_score 9.9, not "),
        (lambda r: r.pop("seam_score_error"), "says seam_score_error None, not "),
        (lambda r: r.update(codebook_hash="0" * 64), "the record says codebook 000000000000"),
        (lambda r: r["kernel"].update(resolution=9), "its kernel is not that of the codebook"),
        (lambda r: r["parameters"].update(segments=9), "segments 9, but 5 in run.json"),
        (lambda r: r["parameters"].pop("seed"), "seed None, but 0 in run.json"),
        (lambda r: r["parameters"].update(chunk_size=0), "chunk size"),
        (lambda r: r["parameters"].update(stride_px=0), "says nothing of the kernel's cells and stride"),
        (lambda r: r["parameters"].update(cell_px="512"), "says nothing of the kernel's cells and stride"),
        (lambda r: r["parameters"].update(cell_px=1024), "says seam_score"),
        (lambda r: r.update(region=[0, 0, 1099, 900]), "counts 990000 pixels of 989100"),
        (lambda r: r.update(region=[0, 0, 900, 1100]), "900 x 1100 px, not 1100 x 900"),
        (lambda r: r.update(region=[0, 0, 0, 0]), "damaged"),
        (lambda r: r["input"].update(transform=[0.5, 0, 500001, 0, -0.5, 5800000]), "transform"),
        (lambda r: r["input"].update(crs_wkt=None), "not the CRS of its record"),
        (lambda r: r["input"].update(crs_wkt="nonsense"), "not the CRS of its record"),
        (move_pixels, "pixels of label 0, where its record says"),
        (lambda r: r.update(labels={"x": 1}), "damaged"),
        (lambda r: r.update(labels={"999": 990000}, nodata_pixels=0), "damaged"),
    ],
)
def test_a_record_that_is_not_whole_or_not_true_is_named(verify, copy, change, said):
    edited(copy / "scene.json", change)
    code, _, err = verify(copy)
    assert code == 1
    assert said in err
    assert "scene" in err
    assert len(err.splitlines()) == 1


def test_a_record_of_before_says_by_its_kernel_where_seams_may_be(verify, copy):
    edited(copy / "scene.json", lambda r: [r["parameters"].pop(name) for name in ("cell_px", "stride_px")])
    code, said, err = verify(copy)
    assert (code, err) == (0, "")
    assert "scene: ok" in said


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "\udcff", "[" * 5000])
def test_a_record_that_is_no_record_is_named(verify, copy, text):
    (copy / "scene.json").write_bytes(text.encode(errors="surrogateescape"))
    code, _, err = verify(copy)
    assert code == 1
    assert err.startswith(f"scene: {copy / 'scene.json'}")


# Labels that are wrong although the checksums are right


def with_checksum(out, name):
    """Have the record agree with an altered file."""
    edited(out / "scene.json", lambda r: r["checksums"].update({name: checksum(out / name)}))


def rewrite(path, change):
    """Alter labels of full resolution in place, in tiles that decode."""
    with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        labels = dataset.read(1)
        change(labels)
        dataset.write(labels, 1)
    with_checksum(path.parent, path.name)


def exchange(labels):
    """Exchange two whole blocks of the run, so that the counts of labels stay."""
    (r, c), (s, d) = (np.argwhere(labels[::4, ::4] == label)[0] * 4 for label in (0, 4))
    labels[r : r + 4, c : c + 4], labels[s : s + 4, d : d + 4] = 4, 0


def test_an_overview_that_is_not_the_mode_is_named(verify, cog):
    rewrite(cog / "scene.tif", exchange)
    code, _, err = verify(cog)
    assert code == 1
    assert "scene.tif: level 1, rows 0 to 549, columns 0 to 449: not the mode of the level below" in err


def test_a_label_beyond_k_is_named(verify, cog):
    rewrite(cog / "scene.tif", lambda labels: labels.__setitem__((801, 801), 5))
    code, _, err = verify(cog)
    assert code == 1
    assert f"{cog / 'scene.tif'}: labels of 5 or more, where K is 5" in err


def test_tiles_that_do_not_decode_are_named_with_their_window(verify, cog):
    path = cog / "scene.tif"
    raw = bytearray(path.read_bytes())
    raw[-5000:-4000] = bytes(1000)
    path.write_bytes(raw)
    with_checksum(cog, path.name)
    code, _, err = verify(cog)
    assert code == 1
    assert f"{path}: cannot read level 0, rows 0 to 1099" in err


def test_labels_that_the_input_does_not_give_are_found_by_the_sample(verify, tmp_path, monkeypatch):
    source = write_geotiff(tmp_path / "scene.tif", noise(3, 1100, 900))
    with monkeypatch.context() as patch:
        real = graph_labels.label_window
        patch.setattr(graph_labels, "label_window", lambda *a, **k: 7 - real(*a, **k))
        out = make([source], tmp_path / "out", chunk_size=512)
    assert verify(out, "--sample", "0")[0] == 0
    code, _, err = verify(out)
    assert code == 1
    assert f"{out / 'scene.tif'}: level 0, rows " in err
    assert f"not the labels that {source} gives" in err
    edited(out / "scene.json", lambda r: r["versions"].update(numpy="1.0"))
    code, said, _ = verify(out)
    assert code == 0
    assert "note: made with other versions" in said


# What cannot be proved, and what is not done


def test_a_changed_or_missing_input_is_a_note_and_no_failure(verify, cog, tmp_path):
    source = tmp_path / "scene.tif"
    scene(source, seed=1)
    code, said, _ = verify(cog)
    assert code == 0
    assert "note: nothing recomputed, for the input has changed since" in said
    source.unlink()
    code, said, _ = verify(cog)
    assert code == 0
    assert "note: nothing recomputed, for the input is not there" in said
    assert verify(cog, "--sample", "0")[1].count("note") == 0


def test_polygons_that_changed_since_are_a_note(verify, tmp_path):
    aoi = tmp_path / "a.geojson"

    def write(x):
        ring = [[0, 0], [x, 0], [x, -300], [0, -300], [0, 0]]
        feature = {
            "type": "Feature",
            "properties": {},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }
        crs = {"type": "name", "properties": {"name": "EPSG:32633"}}
        aoi.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]}))

    write(200)
    place = {"crs": "EPSG:32633", "transform": rasterio.transform.from_origin(0, 0, 1, 1)}
    source = write_geotiff(tmp_path / "a.tif", noise(1, 400, 400), **place)
    out = make([source], tmp_path / "out", segments=3, aoi=str(aoi))
    assert "note" not in verify(out)[1]
    write(100)
    code, said, _ = verify(out)
    assert code == 0
    assert "note: nothing recomputed" in said
    assert "a.geojson: its polygons have changed since" in said


def test_a_mosaic_that_lacks_a_tile_now_is_a_note(verify, tmp_path):
    source = scene(tmp_path / "a.tif")
    out = make([source], tmp_path / "out", mosaic=True, output_tiles=512, segments=3)
    source.unlink()
    code, said, _ = verify(out)
    assert code == 0
    assert said.count("note: nothing recomputed") == len(list(out.glob("mosaic*.tif")))


def test_rasters_that_are_not_done_are_named(verify, tmp_path):
    sources = [scene(tmp_path / n, (300, 300)) for n in ("a.tif", "b.tif", "c.tif", "d.tif")]
    out = make(sources, tmp_path / "out", segments=3)

    def interrupt(value):
        value["rasters"][1]["state"] = "waiting"
        value["rasters"][2].update(state="failed", error="it broke")
        value["rasters"][3].update(state="skipped", reason="no raster")

    edited(out / "run.json", interrupt)
    code, said, err = verify(out)
    assert code == 1
    assert said.startswith("a: ok")
    assert "d: skipped in the run; note: no raster" in said
    assert "1 rasters ok, 2 wrong, 1 skipped" in said
    b, c = err.splitlines()
    assert b.startswith(f"b: {sources[1]}: not done yet")
    assert c.startswith(f"c: {sources[2]}: failed in the run (it broke)")
    assert b.endswith("; run the same command again")
    (out / ".partial").mkdir()
    lock = FolderLock(out / ".partial")
    try:
        assert verify(out)[2].splitlines()[0].endswith("; wait for the run at work there")
    finally:
        lock.release()


def test_a_folder_without_a_run_is_a_usage_error(verify, tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        code, _, err = verify(path)
        assert code == 2
        assert "no run stands there" in err


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.pop("rasters"),
        lambda v: v.update(rasters=[1]),
        lambda v: v.update(format="other"),
        lambda v: v["config"].update(segments="many"),
        lambda v: v["config"].update(stranger=1),
        lambda v: v["rasters"][0].update(name="../scene"),
        lambda v: v["rasters"][0].update(codebook_hash="0"),
    ],
)
def test_a_damaged_run_json_is_named(verify, copy, change):
    edited(copy / "run.json", change)
    code, _, err = verify(copy)
    assert code == 1
    assert "run.json" in err
    assert len(err.splitlines()) == 1


def test_what_is_no_number_of_windows_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["verify", "x", "--sample", "-1"])
    assert ended.value.code == 2
    assert "number of windows" in capsys.readouterr().err


@pytest.mark.parametrize("display", ["bar", "plain", "json"])
def test_every_display_shows_it(capsys, finished, display):
    assert cli.main(["verify", str(finished), "--progress", display]) == 0
    assert "scene: ok" in capsys.readouterr().out


# The sample


@pytest.mark.parametrize("chunk", [512, 1024, 2048])
def test_the_sample_is_cut_otherwise_than_the_run_and_repeats(tmp_path, chunk):
    raster = open_header(write_geotiff(tmp_path / "x.tif", noise(1, 3000, 4000)))
    recipe = Recipe(Path("x"), View.whole(raster), BlockKMeans(4), None, chunk)
    windows = list(recipe.windows(40, "seed"))
    assert windows == list(recipe.windows(40, "seed"))
    assert len(windows) == len(set(windows)) > 5
    assert all(w.grow(0, raster.bounds) == w and w.row % 512 == w.col % 512 == 0 for w in windows)
    assert recipe.side_px != chunk
    assert any(w.row // chunk != (w.row_end - 1) // chunk for w in windows)


def test_the_sample_ends_when_its_time_is_over(tmp_path, monkeypatch):
    monkeypatch.setattr(recomputed, "_BUDGET_S", -1.0)
    raster = open_header(write_geotiff(tmp_path / "x.tif", noise(1, 3000, 4000)))
    recipe = Recipe(Path("x"), View.whole(raster), BlockKMeans(4), None, 2048)
    assert len(list(recomputed._in_time(recipe, 40, "seed"))) == 1


def test_a_window_within_a_part_that_begins_amid_the_raster_stays_inside(tmp_path):
    raster = open_header(write_geotiff(tmp_path / "x.tif", noise(1, 3000, 4000)))
    region = Window(1024, 2048, 700, 512)
    recipe = Recipe(Path("x"), View(raster, region), BlockKMeans(4), None, 2048)
    for window in recipe.windows(9, "seed"):
        assert window.grow(0, region) == window


def test_seams_are_noted_where_they_are_plain():
    assert "seam score 3.00" in RasterReport("x", "done", seams=Seams(9999, 2999, 999.0, 1.0)).text()
    assert RasterReport("x", "done", seams=Seams(9, 2, 1.0, 1.0)).as_json()["seam_score"] == 1.5


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


def places(value, path=()):
    """Where a JSON value can be replaced: every key and index in it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*path, key)
        yield from places(one, (*path, key))


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_no_json_makes_it_fail_otherwise_than_in_a_line(finished, data):
    path = finished / data.draw(st.sampled_from(["scene.json", "run.json"]))
    raw = path.read_bytes()
    value = json.loads(raw)
    *outer, last = data.draw(st.sampled_from(list(places(value))))
    inner = value
    for key in outer:
        inner = inner[key]
    inner[last] = data.draw(JSON)
    path.write_text(json.dumps(value))
    try:
        with open_pool(Workers("threads", 1)) as pool:
            said = [v.text() for v in Verification(finished, 1, pool, Silent()).reports()]
    except RasterError as error:
        said = [str(error)]
    finally:
        path.write_bytes(raw)
    assert all(len(line.splitlines()) == 1 for line in said)
