"""Doing a part again: exactly the chunks that a bad block can reach, and the labels of the others."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from engine.grid import Window, tiles
from pipeline.config import RunConfig
from pipeline.errors import RasterError
from pipeline.running.run import run
from pipeline.source.reading import BadBlock
from pipeline.tasks.redo import affected, labels_of, open_labels
from tests.rasters import noise, write_geotiff
from tests.strategies import windows


@given(st.lists(windows(60, 300), max_size=4), windows(200, 60), st.integers(1, 70), st.integers(0, 80))
def test_chunks_are_affected_if_their_halo_touches_a_bad_block(bad, region, chunk_px, halo_px):
    found = affected([BadBlock(w, "f", "r") for w in bad], region, chunk_px, halo_px)
    everywhere = Window(0, 0, 10_000, 10_000)
    plane = np.zeros((500, 500), bool)
    for window in bad:
        plane[window.slices()] = True
    expected = [
        chunk
        for chunk in tiles(Window(0, 0, region.height, region.width), chunk_px)
        if plane[
            Window(chunk.row + region.row, chunk.col + region.col, chunk.height, chunk.width)
            .grow(halo_px, everywhere)
            .slices()
        ].any()
    ]
    assert found == expected


def test_a_chunk_that_could_not_be_labelled_affects_no_other():
    bad = BadBlock(Window(512, 512, 512, 512), "f", "killed", "chunk")
    assert affected([bad], Window(0, 0, 2000, 2000), 512, 100) == [bad.window]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    pixels = noise(1, 700, 900)
    pixels[:, 100:200, 100:200] = 0
    return write_geotiff(tmp_path_factory.mktemp("r") / "r.tif", pixels, nodata=0)


@pytest.mark.parametrize(("format_", "version"), [("cog", 3), ("zarr", 3), ("zarr", 2)])
def test_labels_of_an_output_are_what_was_written(source, tmp_path, format_, version):
    run(RunConfig(sources=(str(source),), out=str(tmp_path / "c"), progress="none"))
    with rasterio.open(tmp_path / "c" / "r.tif") as dataset:
        expected = dataset.read(1)
    assert (expected == 255).any()
    options = {"codebook": str(tmp_path / "c" / "codebook.npz"), "format": format_, "zarr_version": version}
    run(RunConfig(sources=(str(source),), out=str(tmp_path / "o"), progress="none", **options))
    labels = open_labels(tmp_path / "o" / ("r.tif" if format_ == "cog" else "r.zarr"), Window(5, 5, 700, 900))
    for window in tiles(Window(0, 0, 700, 900), 300):
        found = labels_of(labels, window)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected[window.slices()])


def test_an_output_of_another_size_or_kind_is_refused(source, tmp_path):
    with pytest.raises(RasterError, match="--overwrite"):
        open_labels(source, Window(0, 0, 700, 901))
    wide = write_geotiff(tmp_path / "w.tif", noise(1, 70, 90, dtype="uint16"))
    with pytest.raises(RasterError, match="--overwrite"):
        open_labels(wide, Window(0, 0, 70, 90))
