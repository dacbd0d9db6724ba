"""What no raster may ask of a machine, and what it may."""

from __future__ import annotations

import cProfile
import struct

import pytest
import rasterio
import zarr

from engine.grid import Window
from pipeline.config import RunConfig
from pipeline.errors import RasterError
from pipeline.running.run import run
from pipeline.source import limits
from pipeline.source.opening import open_segmentable
from tests.rasters import from_file, noise, write_geotiff, write_vrt


def refused(path):
    with pytest.raises(RasterError) as caught:
        open_segmentable(path)
    return str(caught.value)


def claim(path, width, height, rows=1, tile=None):
    """A GeoTIFF's header that claims a size, with nothing behind it."""
    blocks = [(322, 3, tile), (323, 3, tile), (324, 4, 200), (325, 4, 64)] if tile else []
    blocks = blocks or [(273, 4, 200), (278, 4, rows), (279, 4, 64)]
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1), *blocks]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in sorted(tags))
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    path.write_bytes(head.ljust(264, b"\0"))
    return path


@pytest.mark.parametrize(
    ("width", "height"), [(2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (1, 2**31 - 1), (10**6, 10**6)]
)
@pytest.mark.parametrize("kind", ["strips", "tiles", "vrt", "zarr"])
def test_a_claim_with_next_to_nothing_behind_it_is_refused(tmp_path, width, height, kind):
    path = tmp_path / "r.tif"
    if kind == "vrt":
        write_geotiff(tmp_path / "s.tif", noise(1, 64, 64))
        path = write_vrt(tmp_path / "r.vrt", (height, width), ("Byte", from_file("s.tif")))
    elif kind == "zarr":
        path = tmp_path / "r.zarr"
        zarr.create_array(str(path), shape=(height, width), chunks=(512, 512), dtype="uint8")
    else:
        claim(path, width, height, tile=512 if kind == "tiles" else None)
    report = run(RunConfig(sources=(str(path),), out=str(tmp_path / "o"), workers="1"))
    (said,) = report.failed.values()
    assert report.exit_code == 1
    if kind in ("vrt", "zarr"):
        assert f"claims {width} x {height} px, behind which there are" in said


def test_an_empty_sparse_raster_of_65536_pixels_a_side_may_claim_them(tmp_path):
    profile = {"width": 65536, "height": 65536, "count": 1, "dtype": "uint8", "tiled": True}
    with rasterio.open(tmp_path / "s.tif", "w", blockxsize=512, blockysize=512, sparse_ok=True, **profile):
        pass
    assert open_segmentable(tmp_path / "s.tif").pixels == 2**32
    write_geotiff(tmp_path / "r.tif", noise(1, 64, 64))
    path = write_vrt(tmp_path / "r.vrt", (65536, 65536), ("Byte", from_file("r.tif")))
    assert open_segmentable(path).pixels == 2**32


def test_a_large_sparse_raster_has_a_table_and_may_claim_what_it_says(tmp_path):
    profile = {"width": 2**18, "height": 2**18, "count": 1, "dtype": "uint8", "tiled": True}
    with rasterio.open(tmp_path / "s.tif", "w", blockxsize=512, blockysize=512, sparse_ok=True, **profile):
        pass
    assert open_segmentable(tmp_path / "s.tif").pixels == 2**36


@pytest.mark.parametrize("through", ["itself", "a VRT"])
def test_a_block_that_memory_does_not_hold_is_refused(tmp_path, through):
    path = claim(tmp_path / "r.tif", 60000, 60000, tile=60000 // 16 * 16)
    if through == "a VRT":
        path = write_vrt(tmp_path / "r.vrt", (9, 9), ("Byte", from_file("r.tif")))
    assert "more than 256 MiB; rewrite it in tiles" in refused(path)


def test_chunks_and_shards_that_memory_does_not_hold_are_refused(tmp_path):
    side = 1 << 15
    zarr.create_array(str(tmp_path / "a.zarr"), shape=(side, side), chunks=(side, side), dtype="uint8")
    zarr.create_array(
        str(tmp_path / "b.zarr"), shape=(side, side), chunks=(1, 1), shards=(side, side), dtype="uint8"
    )
    for name in "ab":
        assert "is stored in blocks of" in refused(tmp_path / f"{name}.zarr")


def test_regions_beyond_what_a_run_can_do():
    limits.refuse_region("r", Window(0, 0, 1 << 22, 1 << 22), 4)
    limits.refuse_region("r", Window(0, 0, 1 << 22, 1 << 22), 4096)
    for height, width, size in (
        (1 << 22, (1 << 22) + 1, 4),
        (1, (1 << 35) + 1, 4),
        (512, 512, 4097),
        (9, 9, 8193),
    ):
        with pytest.raises(RasterError):
            limits.refuse_region("r", Window(0, 0, height, width), size)


def test_a_raster_of_too_many_bands_is_done_with_some_of_them(tmp_path):
    pixels = noise(512, 512).astype("float64")
    with rasterio.open(
        tmp_path / "r.tif",
        "w",
        width=512,
        height=512,
        count=520,
        dtype="float64",
        interleave="band",
        sparse_ok=True,
    ) as dataset:
        dataset.write(pixels, 1)
    for bands, code in ((None, 1), ((1,), 0)):
        config = RunConfig(sources=(str(tmp_path / "r.tif"),), out=str(tmp_path / f"o{code}"), bands=bands)
        report = run(config)
        assert report.exit_code == code
        assert all("choose some of its bands" in said for said in report.failed.values())


def test_bytes_behind_a_claim_are_counted_only_as_far_as_needed():
    def endless():
        while True:
            yield 1 << 20

    limits.refuse_claim("r", 1 << 20, 1 << 20, endless())


def test_the_header_of_thousands_of_bands_takes_some_calls_of_each(tmp_path):
    size = {"width": 16, "height": 16, "count": 5000, "dtype": "uint8"}
    with rasterio.open(tmp_path / "r.tif", "w", interleave="band", sparse_ok=True, **size):
        pass
    with cProfile.Profile() as profile:
        assert len(open_segmentable(tmp_path / "r.tif").bands) == 5000
    # what looks at all bands for each of them makes 5,000 calls a band
    assert sum(entry.callcount for entry in profile.getstats()) < 200 * 5000
