"""Rasters in strips: windows as wide as strips, so that these are not decoded once for each chunk."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from engine.grid import Window
from pipeline.config import RunConfig
from pipeline.kernels import kernel_for_run
from pipeline.running import run as run_module
from pipeline.source.gdal.raster import FileRaster
from pipeline.source.opening import open_segmentable
from pipeline.source.view import View
from pipeline.tasks.job import job_of
from tests.rasters import noise, write_geotiff
from tests.strategies import codebook

WIDTH, HEIGHT = 5300, 700


@pytest.fixture(scope="module")
def pixels():
    return noise(3, HEIGHT, WIDTH, seed=8)


@pytest.fixture(scope="module")
def striped(pixels, tmp_path_factory):
    return write_geotiff(tmp_path_factory.mktemp("strips") / "scene.tif", pixels, blockysize=16)


@pytest.fixture(scope="module")
def tiled(pixels, tmp_path_factory):
    path = tmp_path_factory.mktemp("tiles") / "scene.tif"
    return write_geotiff(path, pixels, tiled=True, blockxsize=256, blockysize=256)


def labels(source, out, **options):
    options = {"chunk_size": 512, "workers": "2", "resolution": 3, **options}
    run_module.run(RunConfig(sources=(str(source),), out=str(out), **options))
    return (out / "scene.tif").read_bytes()


@pytest.mark.parametrize("options", [{}, {"method": "cnn", "resolution": 16}], ids=str)
def test_strips_and_tiles_give_the_same_labels(striped, tiled, tmp_path, options):
    assert labels(striped, tmp_path / "a", **options) == labels(tiled, tmp_path / "b", **options)


def test_a_row_of_chunks_is_one_read(striped, tmp_path, monkeypatch):
    config = RunConfig(sources=(str(striped),), out=str(tmp_path / "a"))
    run_module.run(config)
    reads = Counter()
    real = FileRaster.read_masked

    def counted(raster, window, context):
        reads[window.width > 2048] += 1
        return real(raster, window, context)

    monkeypatch.setattr(FileRaster, "read_masked", counted)
    again = {"codebook": str(tmp_path / "a" / "codebook.npz"), "chunk_size": 512, "workers": "1"}
    run_module.run(RunConfig(sources=(str(striped),), out=str(tmp_path / "b"), **again))
    assert reads == {True: 2}


@pytest.mark.parametrize(
    ("width", "block", "dtype", "bands", "wanted"),
    [
        (5300, (16, 5300), "uint8", 3, {5300}),
        (5300, (256, 256), "uint8", 3, {2048, 1204}),
        (20480, (16, 20480), "uint8", 3, {8192, 4096}),  # a third each: no more than 64 MiB at a time
        (20480, (16, 6000), "uint8", 3, {6144, 2048}),
        (20480, (16, 20480), "float64", 7, {2048}),
        (900, (900, 900), "uint8", 1, {900}),
    ],
)
def test_windows_are_as_wide_as_strips_within_bounds(striped, tmp_path, width, block, dtype, bands, wanted):
    config = RunConfig(sources=(str(striped),), out=str(tmp_path))
    raster = open_segmentable(striped)
    raster = replace(raster, block_shape=block, dtype=dtype, bands=tuple(range(1, bands + 1)))
    view = replace(View.whole(raster), region=Window(0, 0, 5000, width))
    job = job_of(config, "scene", view, kernel_for_run(config, None), codebook([[0.0]]), tmp_path)
    found = list(job.windows())
    assert {w.width for w in found} == wanted
    assert sum(w.pixels for w in found) == view.region.pixels
    assert all(w.row % job.chunk_px == 0 and w.col % job.chunk_px == 0 for w in found)
