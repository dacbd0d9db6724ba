"""A fingerprint covers all that labels depend on, and nothing else; a change during a run is noticed."""

from __future__ import annotations

import os
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import zarr
from rasterio.enums import Resampling

from pipeline.config import RunConfig
from pipeline.process import retry
from pipeline.running.inputs import open_inputs
from pipeline.running.run import run
from pipeline.source import unchanged
from pipeline.source.gdal import transient
from pipeline.source.opening import open_numbered
from pipeline.tasks import assembling
from pipeline.workers.pool import Workers, open_pool
from tests.rasters import from_file, noise, write_geotiff, write_vrt

SHAPE = (90, 80)
NODATA = '<PAMDataset><PAMRasterBand band="1"><NoDataValue>7</NoDataValue></PAMRasterBand></PAMDataset>'
WORLD = "2\n0\n0\n-2\n100\n200\n"
COLOURS = (
    '<PAMDataset><PAMRasterBand band="1"><ColorInterp>Palette</ColorInterp>'
    '<ColorTable><Entry c1="{}" c2="9" c3="9" c4="255"/></ColorTable></PAMRasterBand></PAMDataset>'
)


def mark(path):
    return unchanged.together([unchanged.mark_of(open_numbered(str(path)))]).fingerprint


@pytest.fixture
def files(tmp_path):
    """A GeoTIFF, a VRT of it, a VRT of that, and some others."""
    write_geotiff(tmp_path / "a.tif", noise(1, *SHAPE))
    write_vrt(tmp_path / "in.vrt", SHAPE, ("Byte", from_file("a.tif")))
    write_vrt(tmp_path / "out.vrt", SHAPE, ("Byte", from_file("in.vrt")))
    write_geotiff(tmp_path / "bare.tif", noise(1, *SHAPE), crs=None, transform=None)
    for driver, name in (("ENVI", "e.bil"), ("PNG", "p.png")):
        size = {"height": SHAPE[0], "width": SHAPE[1], "count": 1, "dtype": "uint8"}
        with rasterio.open(tmp_path / name, "w", driver=driver, **size) as dataset:
            dataset.write(noise(1, *SHAPE))
    with (tmp_path / "e.bil").open("ab") as file:
        file.write(bytes(100))
    write_geotiff(tmp_path / "coded.tif", noise(1, *SHAPE))
    (tmp_path / "coded.tif.aux.xml").write_text(COLOURS.format(1))
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.write(tmp_path / "a.tif", "a.tif")
    return tmp_path


def other_pixels(folder):
    write_geotiff(folder / "a.tif", noise(1, *SHAPE, seed=1))


def other_archive(folder):
    other_pixels(folder)
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        archive.write(folder / "a.tif", "a.tif")


def mask(folder):
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False),
        rasterio.open(folder / "a.tif", "r+") as dataset,
    ):
        dataset.write_mask(np.eye(*SHAPE, dtype=np.uint8) * 255)
    assert (folder / "a.tif.msk").exists()


def other_mask(folder):
    with rasterio.open(folder / "a.tif.msk", "r+") as dataset:
        dataset.write(np.full((1, *SHAPE), 255, np.uint8))


def text(name, content):
    return lambda folder: (folder / name).write_text(content)


def replaced(name, old, new):
    def change(folder):
        before = (folder / name).read_text()
        assert old in before
        (folder / name).write_text(before.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("a.tif", other_pixels),
        ("in.vrt", other_pixels),
        ("out.vrt", other_pixels),
        ("vrt://a.tif?bands=1", other_pixels),
        ("/vsizip/z.zip/a.tif", other_archive),
        ("a.tif", mask),
        ("in.vrt", mask),
        ("out.vrt", mask),
        ("a.tif", text("a.tif.aux.xml", NODATA)),
        ("out.vrt", text("a.tif.aux.xml", NODATA)),
        ("out.vrt", replaced("in.vrt", "a.tif", "bare.tif")),
        ("bare.tif", text("bare.tfw", WORLD)),
        ("bare.tif", text("bare.wld", WORLD)),
        ("e.bil", replaced("e.hdr", "header offset = 0", "header offset = 9")),
        ("coded.tif", text("coded.tif.aux.xml", COLOURS.format(2))),
    ],
)
def test_whatever_labels_depend_on_is_in_the_fingerprint(files, monkeypatch, name, change):
    monkeypatch.chdir(files)
    before = mark(name)
    assert len(before) == 64
    assert mark(name) == before
    change(files)
    assert mark(name) != before


def test_a_mask_that_changes_counts(files):
    mask(files)
    before = [mark(files / name) for name in ("a.tif", "in.vrt", "out.vrt")]
    other_mask(files)
    assert not set(before) & {mark(files / name) for name in ("a.tif", "in.vrt", "out.vrt")}


def test_metadata_of_a_large_store_counts(tmp_path):
    """Of many files only some are looked into, and the one that says what is nodata may not be among them."""
    array = zarr.create_array(
        str(tmp_path / "s.zarr"),
        shape=(200, 200),
        chunks=(10, 10),
        dtype="u1",
        zarr_format=2,
        fill_value=1,
        filters=None,
        compressors=None,
    )
    array[...] = 5
    before = mark(tmp_path / "s.zarr")
    replaced(".zarray", '"fill_value": 1', '"fill_value": 2')(tmp_path / "s.zarr")
    assert mark(tmp_path / "s.zarr") != before


def look_at(path):
    """What QGIS and gdalinfo write when they look at a raster: statistics, beside it or into a VRT."""
    with warnings.catch_warnings(), rasterio.open(path) as dataset:
        warnings.simplefilter("ignore")
        dataset.statistics(1)


def overviews(path):
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.nearest)
    assert Path(f"{path}.ovr").exists()


@pytest.mark.parametrize("name", ["a.tif", "in.vrt", "out.vrt", "p.png", "e.bil", "bare.tif", "coded.tif"])
def test_statistics_and_overviews_are_not(files, name):
    before = mark(files / name)
    (files / "before").mkdir()
    for path in files.glob("*.*"):
        if path.suffix in (".vrt", ".tif", ".png", ".bil"):
            size = path.stat().st_size, path.stat().st_mtime_ns
            look_at(path)
            written = Path(f"{path}.aux.xml").exists()
            assert written or size != (path.stat().st_size, path.stat().st_mtime_ns), path
    overviews(files / "a.tif")
    assert mark(files / name) == before


def test_a_mosaic_and_a_stack_have_fingerprints_of_all_their_files(tmp_path):
    paths = []
    for i in range(3):
        place = rasterio.transform.from_origin(100.0 * i, 0, 1, 1)
        paths.append(str(write_geotiff(tmp_path / f"t{i}.tif", noise(1, 50, 100, seed=i), transform=place)))
    same = [str(write_geotiff(tmp_path / f"s{i}.tif", noise(1, 50, 100, seed=i))) for i in range(3)]

    def prints():
        with open_pool(Workers("threads", 1)) as pool:
            configs = [
                RunConfig(sources=tuple(paths), mosaic=True),
                RunConfig(stack=tuple(zip("abc", same, strict=True))),
                RunConfig(stack=tuple(zip("abc", same, strict=True)), bands=(1, 2)),
            ]
            return [open_inputs(one, pool, 512).inputs[0] for one in configs]

    before = prints()
    for one in before:
        # what is opened again is what was opened
        unchanged.refuse(one.view.raster, one.mark._replace(stamp=""), tolerant=False)
    write_geotiff(paths[1], noise(1, 50, 100, seed=9), transform=rasterio.transform.from_origin(100, 0, 1, 1))
    (tmp_path / "s2.tif.aux.xml").write_text(NODATA)
    after = prints()
    assert [a.fingerprint == b.fingerprint for a, b in zip(before, after, strict=True)] == [
        False,
        False,
        True,
    ]


# During a run


def settings(out, *sources, **options):
    options = {"segments": 3, "chunk_size": 512, "workers": "1", **options}
    return RunConfig(sources=tuple(map(str, sources)), out=str(out), **options)


def meanwhile(monkeypatch, change, name):
    """Have something happen when all of a raster is labelled and nothing of it is published."""
    real = assembling.assemble

    def assemble(job):
        if job.name == name:
            change()
        return real(job)

    monkeypatch.setattr(assembling, "assemble", assemble)
    monkeypatch.setattr(unchanged, "_AGAIN_S", (0.0, 0.0))


def labels_of(out):
    files = (p for p in Path(out).rglob("*") if p.is_file() and p.suffix != ".json")
    return {str(p.relative_to(out)): p.read_bytes() for p in files if "run.log" not in p.name}


def test_an_input_that_changes_during_the_run_fails_and_the_others_go_on(tmp_path, monkeypatch):
    first, last = (write_geotiff(tmp_path / n, noise(3, 600, 600, seed=3)) for n in ("a.tif", "b.tif"))
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        meanwhile(patch, lambda: write_geotiff(first, noise(3, 600, 600, seed=4)), "a")
        report = run(settings(out, first, last))
    said = report.failed["a"]
    assert said.startswith(f"{first}: the input changed while the run was going on")
    assert "run the same command again" in said
    assert report.done == ["b"]
    assert report.exit_code == 1
    assert not list(out.glob("a.*"))
    assert not (out / ".partial").exists()
    report = run(settings(out, first, last))
    assert (report.done, report.skipped) == (["a"], ["b"])


@pytest.mark.parametrize("scope", ["batch", "raster"])
def test_a_codebook_of_what_is_there_no_more_goes_with_it(tmp_path, monkeypatch, scope):
    path = write_geotiff(tmp_path / "a.tif", noise(3, 600, 600, seed=3))
    with monkeypatch.context() as patch:
        meanwhile(patch, lambda: write_geotiff(path, noise(3, 600, 600, seed=4, high=99)), "a")
        assert run(settings(tmp_path / "out", path, codebook_scope=scope)).failed
    run(settings(tmp_path / "out", path, codebook_scope=scope))
    run(settings(tmp_path / "undisturbed", path, codebook_scope=scope))
    assert labels_of(tmp_path / "out") == labels_of(tmp_path / "undisturbed")


def test_an_input_that_goes_during_the_run_is_named(tmp_path, monkeypatch):
    path = write_geotiff(tmp_path / "a.tif", noise(3, 600, 600))
    meanwhile(monkeypatch, path.unlink, "a")
    said = run(settings(tmp_path / "out", path)).failed["a"]
    assert "changed while the run was going on" in said
    assert "no such file" in said


def test_a_source_of_a_vrt_and_a_tile_of_a_mosaic_count_too(tmp_path, monkeypatch):
    tiles = []
    for i in range(4):
        place = rasterio.transform.from_origin(300.0 * i, 0, 1, 1)
        tiles.append(write_geotiff(tmp_path / f"t{i}.tif", noise(1, 600, 300, seed=i), transform=place))
    vrt = write_vrt(tmp_path / "v.vrt", (600, 300), ("Byte", from_file("t2.tif")))

    def change():
        with rasterio.open(tiles[2], "r+") as dataset:
            dataset.write(np.full((1, 600, 300), len(list(tmp_path.iterdir())), np.uint8))

    meanwhile(monkeypatch, change, "v")
    assert "changed while" in run(settings(tmp_path / "out", vrt)).failed["v"]
    meanwhile(monkeypatch, change, "mosaic")
    said = run(settings(tmp_path / "many", *tiles, mosaic=True)).failed["mosaic"]
    assert f"(the file written last is {tiles[2]})" in said


def test_files_that_are_only_touched_or_looked_at_have_not_changed(tmp_path, monkeypatch):
    paths = []
    for i in range(3):
        place = rasterio.transform.from_origin(300.0 * i, 0, 1, 1)
        paths.append(write_geotiff(tmp_path / f"t{i}.tif", noise(1, 600, 300, seed=i), transform=place))

    def change():
        for path in paths:
            os.utime(path)
            look_at(path)

    meanwhile(monkeypatch, change, "mosaic")
    assert run(settings(tmp_path / "out", *paths, mosaic=True)).done == ["mosaic"]


def test_tiles_that_nobody_wrote_to_are_not_looked_into_again(tmp_path, monkeypatch):
    paths = []
    for i in range(3):
        place = rasterio.transform.from_origin(300.0 * i, 0, 1, 1)
        paths.append(write_geotiff(tmp_path / f"t{i}.tif", noise(1, 600, 300, seed=i), transform=place))
    looked = []

    def change():
        monkeypatch.setattr(unchanged, "fingerprint", looked.append)

    meanwhile(monkeypatch, change, "mosaic")
    assert run(settings(tmp_path / "out", *paths, mosaic=True)).done == ["mosaic"]
    assert not looked


def test_a_server_that_is_away_at_the_end_spoils_nothing(tmp_path, monkeypatch):
    path = write_geotiff(tmp_path / "a.tif", noise(1, 60, 60))
    raster = open_numbered(str(path))
    gone = replace(raster, path="http://127.0.0.1:9/a.tif")
    # it is asked again as often as any server, and not again after that
    monkeypatch.setattr(transient, "REMOTE_PAUSES_S", (0.01, 0.01))
    paused = []
    monkeypatch.setattr(retry.time, "sleep", paused.append)
    unchanged.refuse(gone, unchanged.Mark("0" * 64), tolerant=False)
    assert not set(paused) & {*unchanged._AGAIN_S}
