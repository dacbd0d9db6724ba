"""What reviews found, so that it stays mended."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio

import pipeline
from pipeline.cli import main
from pipeline.config import RunConfig, build
from pipeline.errors import UsageError
from pipeline.kernels import kernel_for_run
from pipeline.tasks.job import job_of
from pipeline.tasks.labelling import _dask_block_px
from tests.rasters import noise, write_geotiff
from tests.strategies import codebook


@pytest.fixture
def raster(tmp_path):
    return write_geotiff(tmp_path / "r.tif", noise(3, 600, 700), tiled=True, compress="deflate")


def test_overwrite_does_not_delete_the_run_s_own_inputs(tmp_path):
    from rasterio.transform import from_origin

    tiles = [
        write_geotiff(
            tmp_path / f"t{i}.tif", noise(3, 64, 64), transform=from_origin(500000 + 32 * i, 5.8e6, 0.5, 0.5)
        )
        for i in range(2)
    ]
    out = tmp_path / "o"
    assert main(["run", *map(str, tiles), "-o", str(out), "--segments", "3"]) == 0
    made = [out / "t0.tif", out / "t1.tif"]
    before = [f.read_bytes() for f in made]
    code = main(["run", *map(str, made), "-o", str(out), "--mosaic", "--overwrite", "--segments", "2"])
    assert code == 2
    assert [f.read_bytes() for f in made] == before


def test_write_does_not_replace_the_raster_that_it_labels(raster, tmp_path):
    before = raster.read_bytes()
    array = pipeline.open_raster(raster)
    labels = pipeline.segment(array, pipeline.fit(array, segments=3))
    with pytest.raises(UsageError, match="would overwrite the raster"):
        pipeline.write(labels, raster)
    assert raster.read_bytes() == before
    (tmp_path / "folder.tif").mkdir()
    with pytest.raises(UsageError, match="a folder of this name"):
        pipeline.write(labels, tmp_path / "folder.tif")
    # labels that were computed already are as good
    pipeline.write(labels.compute(), tmp_path / "labels.tif")
    with rasterio.open(tmp_path / "labels.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), labels.compute().values)


@pytest.mark.parametrize("workers", ["threads:2", "processes:2"])
def test_a_damaged_raster_fails_alone_in_other_processes_too(raster, tmp_path, capfd, workers):
    data = raster.read_bytes()
    bad = tmp_path / "bad.tif"
    bad.write_bytes(data[: len(data) * 2 // 3])
    out = tmp_path / "o"
    code = main(["run", str(bad), str(raster), "-o", str(out), "--workers", workers, "--progress", "none"])
    said = capfd.readouterr().err
    assert code == 1
    assert (out / "r.tif").exists()
    assert not (out / "bad.tif").exists()
    assert "Traceback" not in said
    assert "network" not in said  # a file that is cut short here is no broken connection
    assert [line for line in said.splitlines() if line.startswith(f"{bad}: ")]


def test_windows_of_many_bands_are_labelled_in_smaller_pieces(tmp_path):
    source = write_geotiff(tmp_path / "many.tif", noise(40, 64, 64, dtype="float64"))
    from pipeline.source.opening import open_any
    from pipeline.source.view import View

    config = RunConfig(out=str(tmp_path))
    view = View.whole(open_any(str(source)))
    job = job_of(config, "many", view, kernel_for_run(config), codebook(np.zeros((2, 40))), tmp_path)
    assert job.chunk_px == 2048
    assert _dask_block_px(job, shared=False) == 512


def test_yaml_takes_one_source_and_a_plain_number_of_workers():
    config = build({"sources": "a.tif", "workers": 2})
    assert (config.sources, config.workers) == (("a.tif",), "2")
