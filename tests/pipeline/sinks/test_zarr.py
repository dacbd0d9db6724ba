"""The Zarr store as its readers see it: the labels are the COG's, at every level."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from pipeline.api.arrays import labels_like, open_raster
from pipeline.api.writing import write
from pipeline.config import RunConfig
from pipeline.durable import files as durable
from pipeline.errors import StorageError, UsageError
from pipeline.running import codebooks
from pipeline.running.run import run
from pipeline.sinks.pyramid import level_shapes, stages
from pipeline.sinks.sink import sink_of
from pipeline.sinks.zarr_store import shard_px
from pipeline.tasks import publishing
from tests.rasters import label_array, level_arrays, noise, patchy_labels, write_geotiff
from tests.strategies import codebook
from tests.survive.commands import Command, HeldCommand

ROOT = Path(__file__).resolve().parents[3]
CODES = {"multiscales": "d35379db", "proj": "f17cb550", "spatial": "689b58e2"}


def zarr_levels(store):
    """Labels of every level as zarr reads them, full resolution first."""
    group = zarr.open_group(store, mode="r")
    return [group[one["asset"]][:] for one in group.attrs["multiscales"]["layout"]]


def content(folder):
    """Hash of each file below a folder."""
    files = sorted(p for p in Path(folder).rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def assert_same_levels(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def opened(store, group=None):
    return xr.open_zarr(store, group=group, mask_and_scale=False, consolidated=None, chunks=None)


def segmented(source, out, **options):
    """The label file or store of a run."""
    report = run(RunConfig(sources=(str(source),), out=str(out), segments=5, **options))
    assert not report.failed, report.failed
    suffix = ".zarr" if options.get("format") == "zarr" else ".tif"
    return Path(out) / f"{source.stem}{suffix}"


# Labels

SHAPES = [(1, 1), (512, 512), (511, 513), (513, 2), (1, 1025), (1200, 700), (700, 2100)]


@pytest.mark.parametrize("version", [3, 2])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_store_of_any_shape_holds_the_cog_s_labels_at_every_level(tmp_path, shape, version):
    labels = label_array(patchy_labels(*shape, holes=shape != (1, 1)))
    expected = level_arrays(write(labels, tmp_path / "l.tif", chunk_size=512))
    store = write(labels, tmp_path / "z.zarr", chunk_size=512, zarr_version=version)
    assert_same_levels(zarr_levels(store), expected)
    assert_same_levels(level_arrays(tmp_path / "z.vrt"), expected)


@settings(max_examples=12)
@given(
    shape=st.tuples(st.integers(1, 2300), st.integers(1, 2300)),
    chunk=st.sampled_from([512, 1024, 1536, 2048, 3584]),
    version=st.sampled_from([3, 2]),
    seed=st.integers(0, 99),
)
def test_the_labels_do_not_depend_on_chunks(tmp_path_factory, shape, chunk, version, seed):
    folder = tmp_path_factory.mktemp("case")
    labels = label_array(patchy_labels(*shape, seed=seed))
    expected = level_arrays(write(labels, folder / "l.tif"))
    store = write(labels, folder / "z.zarr", chunk_size=chunk, zarr_version=version)
    assert_same_levels(zarr_levels(store), expected)
    assert_same_levels(level_arrays(folder / "z.vrt"), expected)


@given(
    shape=st.tuples(st.integers(1, 100_000), st.integers(1, 100_000)),
    chunk=st.integers(1, 12).map(lambda n: 512 * n),
)
def test_a_shard_is_one_unit_of_whole_chunks_at_every_level(shape, chunk):
    shapes = level_shapes(*shape)
    for stage in stages(*shape, chunk):
        for step in range(stage.levels):
            side = shard_px(stage, step)
            assert side % 512 == 0
            if stage.rows * stage.cols > 1:
                assert side == stage.unit_px / 2**step
            height, width = shapes[stage.level + step]
            assert (stage.rows, stage.cols) == (-(-height // side), -(-width // side))


def test_a_store_is_cut_into_cells_and_shards_of_a_chunk(tmp_path):
    labels = label_array(patchy_labels(2500, 1200))
    three = zarr.open_group(write(labels, tmp_path / "a.zarr", chunk_size=1024), mode="r")
    assert (three["labels"].chunks, three["labels"].shards) == ((512, 512), (1024, 1024))
    assert (three["1/labels"].chunks, three["1/labels"].shards) == ((512, 512), (512, 512))
    two = zarr.open_group(write(labels, tmp_path / "b.zarr", zarr_version=2), mode="r")
    assert (two.metadata.zarr_format, two["labels"].chunks, two["labels"].shards) == (2, (512, 512), None)


@pytest.mark.parametrize("version", [3, 2])
def test_chunks_without_labels_take_no_room(tmp_path, version):
    labels = np.full((1024, 3072), 255, np.uint8)
    labels[:512, 1536:2048] = 3
    store = write(label_array(labels), tmp_path / "z.zarr", chunk_size=1024, zarr_version=version)
    pixels = [p for p in (store / "labels").rglob("*") if p.is_file() and p.name.isdecimal()]
    assert len(pixels) == 1
    np.testing.assert_array_equal(zarr_levels(store)[0], labels)
    np.testing.assert_array_equal(level_arrays(tmp_path / "z.vrt")[0], labels)


def test_a_shard_is_a_tiff_of_its_own_labels(tmp_path):
    labels = patchy_labels(1500, 1100)
    store = write(label_array(labels), tmp_path / "z.zarr", chunk_size=1024)
    with rasterio.open(store / "labels" / "c" / "1" / "0") as shard:
        assert (shard.driver, shard.nodata, shard.block_shapes) == ("GTiff", 255, [(512, 512)])
        np.testing.assert_array_equal(shard.read(1), labels[1024:, :1024])


# Runs


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A raster of slopes and noise with a hole."""
    pixels = noise(3, 1100, 1700, high=60) + np.linspace(0, 150, 1700).astype(np.uint8)
    pixels[:, 300:700, 100:400] = 0
    return write_geotiff(tmp_path_factory.mktemp("source") / "r.tif", pixels, nodata=0)


@pytest.fixture(scope="module")
def cog_levels(source, tmp_path_factory):
    return level_arrays(segmented(source, tmp_path_factory.mktemp("cog")))


def test_a_run_writes_the_same_bytes_with_any_workers(source, cog_levels, tmp_path):
    options = {"format": "zarr", "chunk_size": 512}
    first = segmented(source, tmp_path / "a", workers="1", **options)
    assert_same_levels(zarr_levels(first), cog_levels)
    expected = content(first)
    for workers in ("threads:3", "processes:2"):
        other = segmented(source, tmp_path / workers, workers=workers, **options)
        assert content(other) == expected
        for beside in ("r.vrt", "r.qml", "r.png"):
            assert (other.parent / beside).read_bytes() == (first.parent / beside).read_bytes()


@pytest.mark.parametrize("options", [{"chunk_size": 1024}, {"chunk_size": 4096}, {"zarr_version": 2}])
def test_a_run_has_the_cog_s_labels_in_every_chunking_and_version(source, cog_levels, tmp_path, options):
    store = segmented(source, tmp_path / "o", format="zarr", **options)
    assert_same_levels(zarr_levels(store), cog_levels)
    assert sorted(p.name for p in store.parent.iterdir()) == [
        *("codebook.npz", "r.json", "r.png", "r.qml", "r.vrt", "r.zarr", "run.json", "run.log.jsonl"),
    ]
    record = json.loads((store.parent / "r.json").read_text())
    assert record["files"] == ["r.png", "r.qml", "r.vrt", "r.zarr"]
    assert record["nodata_pixels"] == (cog_levels[0] == 255).sum()


def test_the_store_says_nothing_of_times_and_places(source, tmp_path):
    a = segmented(source, tmp_path / "here", format="zarr")
    time.sleep(0.02)
    b = segmented(source, tmp_path / "elsewhere", format="zarr")
    assert content(a) == content(b)
    text = b"".join(p.read_bytes() for p in a.rglob("*.json"))
    assert str(tmp_path).encode() not in text


def listed(out):
    return sorted(path.name for path in out.iterdir())


def labels_in(out):
    return {
        name: found for name, found in content(out).items() if name.startswith(("r.tif", "r.zarr", "r.vrt"))
    }


FORMATS = ({"format": "zarr"}, {"format": "cog"}, {"format": "zarr", "zarr_version": 2})


def test_a_finished_store_is_skipped_and_another_format_takes_its_place(source, tmp_path, monkeypatch):
    def asked(**change):
        return run(RunConfig(sources=(str(source),), out=str(tmp_path / "o"), segments=5, **change))

    fresh = [segmented(source, tmp_path / str(i), **format_) for i, format_ in enumerate(FORMATS)]
    segmented(source, tmp_path / "o", format="zarr")
    monkeypatch.setattr(codebooks, "fit_as_asked", None)  # the codebook stays
    for format_, expected in [*zip(FORMATS, fresh, strict=True), (FORMATS[0], fresh[0])]:
        first = asked(**format_)
        assert [*first.done, *first.skipped] == ["r"]
        assert listed(tmp_path / "o") == listed(expected.parent)
        assert labels_in(tmp_path / "o") == labels_in(expected.parent) != {}
        assert asked(**format_).skipped == ["r"]


def test_labels_in_the_former_format_stay_until_those_in_the_other_are_whole(source, tmp_path, monkeypatch):
    options = {"sources": (str(source),), "out": str(tmp_path / "o"), "segments": 5}
    cog = segmented(source, tmp_path / "o")
    fresh = segmented(source, tmp_path / "fresh", format="zarr")
    moved, usual = [], durable.move

    def torn(here, there):
        moved.append(there.name)
        if len(moved) == 2:
            raise StorageError("full")
        usual(here, there)

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "finish", lambda *_: (_ for _ in ()).throw(StorageError("full")))
        with pytest.raises(StorageError):
            run(RunConfig(**options, format="zarr"))
    assert cog.exists()
    with monkeypatch.context() as patch:
        patch.setattr(durable, "move", torn)
        with pytest.raises(StorageError):
            run(RunConfig(**options, format="zarr"))
    assert run(RunConfig(**options, format="zarr")).done == ["r"]
    assert listed(tmp_path / "o") == listed(tmp_path / "fresh")
    assert content(tmp_path / "o" / "r.zarr") == content(fresh)


def test_another_format_replaces_no_store_of_somebody_else_s(source, tmp_path):
    segmented(source, tmp_path / "o")
    (tmp_path / "o" / "r.zarr").mkdir()
    (tmp_path / "o" / "r.zarr" / "mine").write_text("precious")
    with pytest.raises(UsageError, match=r"r\.zarr exists already"):
        run(RunConfig(sources=(str(source),), out=str(tmp_path / "o"), segments=5, format="zarr"))
    assert (tmp_path / "o" / "r.zarr" / "mine").exists()
    assert (tmp_path / "o" / "r.tif").exists()


def test_a_record_names_nothing_but_outputs_for_deletion(source, tmp_path):
    segmented(source, tmp_path / "o")
    precious = [tmp_path / "precious.tif", tmp_path / "o" / "mine.tif"]
    for path in precious:
        path.write_text("precious")
    record = json.loads((tmp_path / "o" / "r.json").read_text())
    record["files"] += ["../precious.tif", "mine.tif", str(precious[0])]
    (tmp_path / "o" / "r.json").write_text(json.dumps(record))
    run(RunConfig(sources=(str(source),), out=str(tmp_path / "o"), segments=5, format="zarr"))
    assert all(path.read_text() == "precious" for path in precious)
    assert not (tmp_path / "o" / "r.tif").exists()


def test_overwrite_replaces_one_format_by_the_other(source, cog_levels, tmp_path):
    store = segmented(source, tmp_path / "o", format="zarr")
    cog = segmented(source, tmp_path / "o", overwrite=True)
    assert not store.exists()
    assert not store.with_suffix(".vrt").exists()
    assert_same_levels(level_arrays(cog), cog_levels)
    store = segmented(source, tmp_path / "o", overwrite=True, format="zarr", zarr_version=2)
    assert not cog.exists()
    assert_same_levels(zarr_levels(store), cog_levels)


def test_a_store_that_nobody_says_what_it_is_stays_unless_overwrite_is_given(source, tmp_path):
    strange = tmp_path / "r.zarr"
    strange.mkdir()
    (strange / "mine").write_text("precious")
    with pytest.raises(UsageError, match=r"r\.zarr exists already"):
        segmented(source, tmp_path, format="zarr")
    assert (strange / "mine").read_text() == "precious"
    store = segmented(source, tmp_path, format="zarr", overwrite=True)
    assert not (store / "mine").exists()


def test_a_run_json_cannot_have_folders_elsewhere_deleted(source, tmp_path):
    out, victim = tmp_path / "out", tmp_path / "victim.zarr"
    segmented(source, out, format="zarr")
    victim.mkdir()
    state = json.loads((out / "run.json").read_text())
    state["rasters"][0]["name"] = "../victim"
    (out / "run.json").write_text(json.dumps(state))
    with pytest.raises(UsageError, match=r"not a run\.json"):
        segmented(source, out, format="zarr")
    segmented(source, out, format="zarr", overwrite=True)
    assert victim.exists()


def test_a_killed_run_leaves_nothing_under_the_final_name(source, tmp_path, cog_levels):
    options = (source, "--segments", "5", "--format", "zarr", "--chunk-size", "512")
    run = HeldCommand(tmp_path / "o", tmp_path / "log", *options)
    run.hold(1)
    assert (tmp_path / "o" / ".partial" / "r").exists()
    run.signal_group(signal.SIGKILL)
    run.wait()
    assert not (tmp_path / "o" / "r.zarr").exists()
    assert not (tmp_path / "o" / "r.vrt").exists()
    assert Command(tmp_path / "o", tmp_path / "log", *options).wait() == 0
    assert_same_levels(zarr_levels(tmp_path / "o" / "r.zarr"), cog_levels)


def test_a_full_disk_leaves_nothing_under_the_final_name(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        write(label_array(patchy_labels(600, 600)), tmp_path / "z.zarr")
    assert list(tmp_path.iterdir()) == []


def test_sinks_are_small_values_that_pickle():
    for file in ("r.tif", "r.tiff", "r.zarr"):
        sink = sink_of(file)
        assert pickle.loads(pickle.dumps(sink)) == sink
        assert sink.files[-1] == file


def test_a_run_never_imports_zarr_and_a_cog_run_none_of_its_codecs(source, tmp_path):
    code = (
        "import sys; from pipeline.cli import main\n"
        "code = main(['run', sys.argv[1], '-o', sys.argv[2], '--format', sys.argv[3], '--progress', 'none',"
        " '--workers', '1'])\n"
        "print(code, 'zarr' in sys.modules, 'numcodecs' in sys.modules)"
    )
    for format_, expected in (("cog", "0 False False"), ("zarr", "0 False True")):
        done = subprocess.run(
            [sys.executable, "-c", code, source, tmp_path / format_, format_],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.strip() == expected, done.stderr


@pytest.mark.parametrize(("name", "version"), [("l.shp", 3), ("l", 3), ("l.zarr", 4)])
def test_what_cannot_be_written_is_refused(tmp_path, name, version):
    with pytest.raises(UsageError, match=r"suffix|zarr_version"):
        write(label_array(patchy_labels(5, 5)), tmp_path / name, zarr_version=version)
    assert list(tmp_path.iterdir()) == []


# Meaning and place


def placed(tmp_path, **profile):
    """Labels of a raster with some georeference, as (store of version 3, of version 2, the raster)."""
    source = write_geotiff(tmp_path / "s.tif", noise(1, 700, 520), **profile)
    array = open_raster(source)
    labels = labels_like(array, array.data[0] % 5, codebook([[float(i)] for i in range(5)]))
    stores = [write(labels, tmp_path / f"v{v}.zarr", zarr_version=v) for v in (3, 2)]
    write(labels, tmp_path / "cog.tif")
    return stores, source


PLACES = {
    "projected": {"crs": "EPSG:32633", "transform": Affine(0.5, 0, 5e5, 0, -0.5, 5.8e6)},
    "geographic": {"crs": "EPSG:4326", "transform": Affine(1e-4, 0, 12.25, 0, -1e-4, 48.5)},
    "south up": {"crs": "EPSG:32733", "transform": Affine(2, 0, 5e5, 0, 2, 1e6)},
    "without CRS": {"crs": None, "transform": Affine(2, 0, 10, 0, -2, 20)},
    "in feet": {"crs": "EPSG:2263", "transform": Affine(1, 0, 9e5, 0, -1, 2e5)},
}


@pytest.mark.parametrize("profile", PLACES.values(), ids=PLACES)
def test_coordinates_are_pixel_centres_and_the_grid_mapping_has_the_crs(tmp_path, profile):
    stores, source = placed(tmp_path, **profile)
    with rasterio.open(source) as dataset:
        crs, transform = dataset.crs, dataset.transform
    for store in stores:
        for level in (0, 1):
            found = opened(store, group=str(level) if level else None)
            labels, step = found["labels"], 2**level
            assert labels.dims == ("y", "x")
            assert labels.dtype == np.uint8
            columns, rows = np.arange(labels.shape[1]) + 0.5, np.arange(labels.shape[0]) + 0.5
            np.testing.assert_allclose(found["x"], transform.c + transform.a * step * columns, rtol=1e-12)
            np.testing.assert_allclose(found["y"], transform.f + transform.e * step * rows, rtol=1e-12)
            mapping = found[labels.attrs["grid_mapping"]].attrs
            assert found.rio.crs == crs
            if crs:
                assert CRS.from_wkt(mapping["crs_wkt"]) == CRS.from_wkt(mapping["spatial_ref"]) == crs
                assert "grid_mapping_name" in mapping
                assert found["x"].attrs["units"] == found["y"].attrs["units"].replace("north", "east")
            c, a, b, f, d, e = map(float, mapping["GeoTransform"].split())
            assert Affine(a, b, c, d, e, f) == transform * Affine.scale(step)
            assert found.rio.transform().almost_equals(transform * Affine.scale(step), precision=1e-6)


def test_a_rotated_raster_has_its_transform_and_no_coordinates(tmp_path):
    transform = Affine(0.4, 0.3, 5e5, 0.3, -0.4, 5.8e6)
    stores, _ = placed(tmp_path, crs="EPSG:32633", transform=transform)
    for store in stores:
        found = opened(store)
        assert set(found.variables) == {"labels", "spatial_ref"}
        assert found["labels"].attrs["spatial:transform"] == list(transform)[:6]
        left, bottom, right, top = found["labels"].attrs["spatial:bbox"]
        assert (right - left, top - bottom) == pytest.approx((0.4 * 520 + 0.3 * 700, 0.3 * 520 + 0.4 * 700))
        with rasterio.open(store.with_suffix(".vrt")) as dataset:
            assert dataset.transform == transform


def test_ground_control_points_stand_where_rioxarray_and_gdal_read_them(tmp_path):
    points = [GroundControlPoint(r, c, 12 + c / 1e4, 48 - r / 1e4, 7.5) for r in (0, 699) for c in (0, 519)]
    stores, _ = placed(tmp_path, transform=None, crs="EPSG:4326", gcps=points)
    expected = [(p.row, p.col, p.x, p.y, p.z) for p in points]
    for store in stores:
        found = opened(store)
        assert set(found.variables) == {"labels", "spatial_ref"}
        assert "spatial:transform" not in found["labels"].attrs
        assert "proj:code" not in found["labels"].attrs
        assert found["labels"].rio.crs == CRS.from_epsg(4326)
        assert [(p.row, p.col, p.x, p.y, p.z) for p in found["labels"].rio.get_gcps()] == expected
        with rasterio.open(store.with_suffix(".vrt")) as dataset, rasterio.open(tmp_path / "cog.tif") as cog:
            gcps, crs = dataset.gcps
            assert [(p.row, p.col, p.x, p.y, p.z) for p in gcps] == expected
            assert crs == cog.gcps[1] == CRS.from_epsg(4326)


def test_a_raster_without_any_place_has_none(tmp_path):
    stores, _ = placed(tmp_path, crs=None, transform=None)
    for store in stores:
        found = opened(store)
        assert set(found.variables) == {"labels"}
        assert "grid_mapping" not in found["labels"].attrs
        with rasterio.open(store.with_suffix(".vrt")) as dataset:
            assert dataset.crs is None
            assert dataset.transform == Affine.identity()


def test_labels_carry_their_meaning(tmp_path):
    stores, _ = placed(tmp_path)
    for store in stores:
        labels = opened(store)["labels"]
        assert labels.attrs["flag_values"] == [0, 1, 2, 3, 4]
        assert labels.attrs["flag_meanings"].split() == [f"Segment_{i}" for i in range(5)]
        assert labels.attrs["flag_colors"].split()[1] == "#88ccee"
        assert labels.attrs["_FillValue"] == 255
        assert labels.rio.nodata == 255
        masked = xr.open_zarr(store, chunks=None)["labels"]
        assert np.isnan(masked.values).sum() == (labels.values == 255).sum()
        root = zarr.open_group(store, mode="r")
        assert root["labels"].fill_value == 255
        assert len(root.attrs["tilewright_codebook"]) == 64


def test_the_vrt_says_what_the_cog_says(tmp_path):
    stores, _ = placed(tmp_path)
    for store in stores:
        with rasterio.open(store.with_suffix(".vrt")) as vrt, rasterio.open(tmp_path / "cog.tif") as cog:
            assert (vrt.crs, vrt.transform, vrt.shape, vrt.nodata) == (cog.crs, cog.transform, cog.shape, 255)
            assert vrt.overviews(1) == cog.overviews(1)
            assert vrt.tags(1) == cog.tags(1)
            assert vrt.tags()["TILEWRIGHT_CODEBOOK"] == cog.tags()["TILEWRIGHT_CODEBOOK"]
            ours, theirs = vrt.colormap(1), cog.colormap(1)
            assert [ours[i] for i in range(5)] == [theirs[i] for i in range(5)]


def test_a_store_moves_with_its_vrt(tmp_path):
    labels = patchy_labels(900, 900)
    write(label_array(labels), tmp_path / "a" / "z & b.zarr")
    (tmp_path / "a").rename(tmp_path / "b")
    np.testing.assert_array_equal(level_arrays(tmp_path / "b" / "z & b.vrt")[0], labels)


@pytest.mark.parametrize("consolidated", [True, False])
@pytest.mark.parametrize("version", [3, 2])
def test_readers_find_groups_and_arrays_and_no_strangers(tmp_path, version, consolidated):
    store = write(label_array(patchy_labels(1100, 600)), tmp_path / "z.zarr", zarr_version=version)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # zarr warns of files that are no nodes
        group = zarr.open_group(store, mode="r", use_consolidated=consolidated)
        names = {name for name, _ in group.members(max_depth=None)}
    assert names == {"labels", "1", "1/labels", "2", "2/labels"}


def test_the_conventions_are_registered_and_followed(tmp_path):
    (store, _), _ = placed(tmp_path)
    attributes = json.loads((store / "zarr.json").read_text())["attributes"]
    for one in attributes["zarr_conventions"]:
        assert one["uuid"].startswith(CODES[one["name"]])
        assert f"{one['name']}/refs/tags/v0.1/" in one["schema_url"]
    assert {one["name"] for one in attributes["zarr_conventions"]} == set(CODES)
    # beside a layout the root itself may have neither: each level has its own
    assert attributes.keys().isdisjoint({"spatial:transform", "spatial:shape"})
    assert attributes["proj:code"] == "EPSG:32633"
    assert CRS.from_wkt(attributes["proj:wkt2"]) == CRS.from_epsg(32633)
    full, half = attributes["multiscales"]["layout"]
    assert (full["asset"], half["asset"], half["derived_from"]) == ("labels", "1/labels", "labels")
    assert half["transform"]["scale"] == [2, 2]
    assert (full["spatial:shape"], half["spatial:shape"]) == ([700, 520], [350, 260])
    assert half["spatial:transform"] == [1, 0, 500000, 0, -1, 5800000]


# Debian's GDAL, which QGIS 3.22 uses


@pytest.mark.qgis
@pytest.mark.parametrize("version", [3, 2])
def test_debian_s_gdal_reads_the_cog_s_labels_through_the_vrt(tmp_path, version):
    program = Path("/usr/bin/gdalinfo")
    if not program.exists():
        pytest.skip("no /usr/bin/gdalinfo; `make qgis-setup` installs it")
    labels = label_array(patchy_labels(1300, 1100))
    write(labels, tmp_path / "c.tif")
    write(labels, tmp_path / "z.zarr", zarr_version=version, chunk_size=512)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("GDAL_", "PROJ_"))}

    def band(file):
        command = [program, "-json", "-checksum", tmp_path / file]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)["bands"][0]

    ours, theirs = band("z.vrt"), band("c.tif")
    assert len(ours["overviews"]) == 2
    for key in ("checksum", "overviews", "noDataValue", "colorInterpretation", "metadata"):
        assert ours[key] == theirs[key], key
    assert ours["colorTable"]["entries"] == theirs["colorTable"]["entries"][:8]


@pytest.mark.qgis
def test_debian_s_gdal_opens_the_arrays_of_version_2_by_themselves(tmp_path):
    program = Path("/usr/bin/gdalinfo")
    if not program.exists():
        pytest.skip("no /usr/bin/gdalinfo; `make qgis-setup` installs it")
    (_, store), _ = placed(tmp_path)
    command = [program, "-json", f'ZARR:"{store}":/labels']
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["size"] == [520, 700]
    assert found["geoTransform"] == [500000, 0.5, 0, 5800000, 0, -0.5]
    assert "32633" in found["coordinateSystem"]["wkt"]
