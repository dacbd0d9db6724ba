import errno

import numpy as np
import pytest
import zarr

from pipeline.errors import DamageError, RasterError
from pipeline.source import bad_blocks
from pipeline.source.zarr.raster import ZarrRaster, open_store

PIXELS = np.arange(64, dtype=np.uint8).reshape(8, 8)


@pytest.fixture
def store(tmp_path):
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(8, 8), chunks=(4, 4), dtype="uint8", dimension_names=("y", "x")
    )
    array[...] = PIXELS
    return open_store(str(tmp_path / "a.zarr"))


def failing(monkeypatch, times, number):
    """Let the first reads of pixels fail; returns how often they were read."""
    calls, real = [], ZarrRaster._read

    def read(self, window, stack):
        calls.append(window)
        if len(calls) <= times:
            raise OSError(number, "the disk stumbles")
        real(self, window, stack)

    monkeypatch.setattr(ZarrRaster, "_read", read)
    monkeypatch.setattr(bad_blocks, "RETRY_AFTER_S", (0.0, 0.0))
    return calls


def test_a_read_that_stumbles_is_tried_again(store, monkeypatch):
    calls = failing(monkeypatch, 2, errno.EIO)
    pixels, valid = store.read(store.bounds)
    assert (pixels[0] == PIXELS).all()
    assert valid.all()
    assert len(calls) == 3


def test_a_store_that_stays_damaged_fails_after_the_last_try(store, monkeypatch):
    calls = failing(monkeypatch, 9, errno.EIO)
    with pytest.raises(DamageError, match=r"a\.zarr: cannot read .*the disk stumbles"):
        store.read(store.bounds)
    assert len(calls) == 3


def test_a_crs_that_cannot_be_resolved_is_refused(store):
    zarr.open_array(store.path, mode="r+").attrs["proj:code"] = "EPSG:29999"
    with pytest.raises(RasterError, match="its CRS cannot be resolved"):
        store.reopened()
