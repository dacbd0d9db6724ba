"""Reading rasters: pixels and validity as rasterio reads them, headers, retries, errors."""

from __future__ import annotations

import dataclasses
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioIOError
from rasterio.windows import Window as FileWindow

from engine.grid import Window, tiles
from pipeline.errors import RasterError
from pipeline.grid.georeference import Georeference, GroundControlPoint
from pipeline.source import bad_blocks
from pipeline.source.gdal import dataset_opening
from pipeline.source.gdal import handles as module
from pipeline.source.gdal.planes import BandPlanes
from pipeline.source.gdal.raster import open_header
from pipeline.source.gdal.setup import MOST_LISTED
from pipeline.source.opening import open_segmentable
from tests.rasters import from_file, noise, write_geotiff, write_vrt
from tests.strategies import windows_in

DTYPES = [
    "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64",
]  # fmt: skip


@pytest.fixture(autouse=True)
def afresh(monkeypatch):
    """No handle is left of the test before; reads are tried as often as ever, but nobody waits between."""
    monkeypatch.setattr(bad_blocks, "RETRY_AFTER_S", (0.0, 0.0))
    for handle in getattr(module._local, "handles", {}).values():
        handle.close()
    module._local.__dict__.clear()


def whole(path, bands=None):
    """Pixels and validity of all of a raster."""
    header = open_header(path, bands)
    return header.read(header.bounds)


def validity(path):
    return whole(path)[1].astype(int).tolist()


def oracle_pixels(path, bands=None):
    with rasterio.open(path) as dataset:
        colour = [i for i, c in enumerate(dataset.colorinterp, 1) if c != ColorInterp.alpha]
        return dataset.read(bands or colour)


def oracle_validity(path):
    """What rasterio says is valid, with our rule for 8 bits: nodata only where all bands are."""
    with rasterio.open(path) as dataset:
        colour = [i for i, c in enumerate(dataset.colorinterp, 1) if c != ColorInterp.alpha]
        masks, pixels = dataset.read_masks(colour) != 0, dataset.read(colour)
    bits_8 = pixels.dtype.itemsize == 1
    valid = masks.any(axis=0) if bits_8 else masks.all(axis=0)
    return valid & np.isfinite(pixels).all(axis=0)


def opens(path):
    """What a failing read of a file says."""
    with pytest.raises(RasterError) as caught:
        whole(path)
    return one_line_that_names(path, caught.value)


def one_line_that_names(path, error):
    text = str(error)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


# Pixels and validity


@pytest.mark.parametrize("nodata", [None, 7])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_read_as_it_is(tmp_path, dtype, nodata):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 120, (3, 30, 41)).astype(dtype)
    if np.dtype(dtype).kind == "i":
        pixels -= 60
    pixels[:, 5:9, 3:20] = 7
    pixels[0, 20] = 7
    path = write_geotiff(tmp_path / "r.tif", pixels, nodata=nodata)
    header = open_header(path)
    assert (header.dtype, header.nodata) == (dtype, (nodata,) * 3)
    read, valid = header.read(header.bounds)
    assert (read.dtype, valid.dtype) == (np.dtype(dtype), bool)
    np.testing.assert_array_equal(read, pixels)
    np.testing.assert_array_equal(valid, oracle_validity(path))
    assert valid.all() == (nodata is None)


@pytest.mark.parametrize(
    ("what", "wanted"),
    [
        ("of 8 bits with nodata", lambda f: f.dtypes[0] == "uint8" and "nodata" in f.flags),
        ("wider with nodata", lambda f: f.dtypes[0] != "uint8" and "nodata" in f.flags),
        ("with an alpha band", lambda f: "alpha" in f.colours),
        ("with a mask", lambda f: f.flags == {"per_dataset"}),
        ("of floats", lambda f: f.dtypes[0].startswith("float")),
        ("of signed numbers", lambda f: f.dtypes[0] in ("int8", "int16", "int32")),
        ("of more than four bands", lambda f: len(f.dtypes) > 4),
        ("rotated", lambda f: f.transform.b or f.transform.d),
        ("a VRT", lambda f: f.driver == "VRT"),
        ("no GeoTIFF", lambda f: f.driver not in ("GTiff", "VRT")),
    ],
)
def test_real_rasters_are_read_as_rasterio_reads_them(catalogue, what, wanted):
    agreed = 0
    for found in catalogue.some(what, lambda f: f.is_grid_of_numbers and wanted(f) and f.pixels < 3e6):
        try:
            pixels, valid = oracle_pixels(found.path), oracle_validity(found.path)
        except RasterioIOError:
            continue  # a damaged one; what is said of those is tested below
        ours, our_valid = whole(found.path)
        np.testing.assert_array_equal(ours, pixels)
        np.testing.assert_array_equal(our_valid, valid)
        agreed += 1
    assert agreed


@pytest.fixture(scope="module")
def patchwork(tmp_path_factory):
    """A raster with nodata, in tiles, and its pixels and validity."""
    pixels = noise(2, 70, 90, high=9, dtype="int16")
    path = tmp_path_factory.mktemp("raster") / "r.tif"
    write_geotiff(path, pixels, nodata=3, tiled=True, blockxsize=16, blockysize=32)
    return open_header(path), pixels, (pixels != 3).all(axis=0)


@given(data=st.data())
def test_a_window_holds_that_part_of_the_whole(patchwork, data):
    header, pixels, valid = patchwork
    window = data.draw(windows_in(header.bounds))
    part, part_valid = header.read(window)
    np.testing.assert_array_equal(part, pixels[:, *window.slices()])
    np.testing.assert_array_equal(part_valid, valid[window.slices()])


@pytest.mark.parametrize("order", [(1,), (3, 1), (2, 2), (3, 2, 1)])
def test_bands_come_as_they_were_asked_for(tmp_path, order):
    pixels = noise(3, 20, 20)
    path = write_geotiff(tmp_path / "r.tif", pixels)
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("red", None, "blue")
    header = open_header(path, order)
    assert header.bands == order
    assert header.band_names == tuple({1: "red", 2: "band 2", 3: "blue"}[b] for b in order)
    np.testing.assert_array_equal(header.read(header.bounds)[0], pixels[[b - 1 for b in order]])


@pytest.mark.parametrize("bands", [(4,), (1, 9), (0,), (-1,)])
def test_a_band_that_is_not_there_is_refused_with_those_that_are(tmp_path, bands):
    path = write_geotiff(tmp_path / "r.tif", noise(3, 5, 5))
    with pytest.raises(RasterError) as caught:
        open_header(path, bands)
    said = one_line_that_names(path, caught.value)
    assert said == f"has bands 1 to 3, not {bands[-1]}; change --bands"


def rgba(path, alpha, **profile):
    pixels = noise(4, *alpha.shape)
    pixels[3] = alpha
    return write_geotiff(path, pixels, photometric="RGB", alpha="YES", **profile)


def test_alpha_is_no_band_but_says_what_is_valid(tmp_path):
    alpha = np.array([[0, 1, 128, 255]], np.uint8)
    path = rgba(tmp_path / "r.tif", alpha)
    header = open_header(path)
    assert (header.bands, header.alpha_band) == ((1, 2, 3), 4)
    assert validity(path) == [[0, 1, 1, 1]]
    assert whole(path)[0].shape == (3, 1, 4)
    # it stays what it is when fewer bands are wanted, and may itself be asked for
    assert whole(path, (2,))[1].tolist() == [[False, True, True, True]]
    assert whole(path, (1, 4))[0][1].tolist() == alpha.tolist()


def test_alpha_and_nodata_both_make_a_pixel_invalid(tmp_path):
    path = rgba(tmp_path / "r.tif", np.array([[255, 0, 255]], np.uint8))
    with rasterio.open(path, "r+") as dataset:
        dataset.write(np.zeros((3, 1, 1), np.uint8), (1, 2, 3), window=FileWindow(2, 0, 1, 1))
        dataset.nodata = 0
    assert validity(path) == [[1, 0, 0]]


@pytest.mark.parametrize("internal", [True, False])
def test_a_mask_says_what_is_valid_whether_within_or_beside_the_file(tmp_path, internal):
    path = write_geotiff(tmp_path / "r.tif", noise(3, 4, 5))
    mask = np.random.default_rng(0).integers(0, 2, (4, 5)).astype(bool)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask)
    assert (tmp_path / "r.tif.msk").exists() != internal
    np.testing.assert_array_equal(whole(path)[1], mask)
    np.testing.assert_array_equal(oracle_validity(path), mask)


def test_a_mask_of_one_band_of_a_vrt_is_not_overlooked(tmp_path):
    write_geotiff(tmp_path / "m.tif", np.array([[255, 0, 255]], np.uint8))
    write_geotiff(tmp_path / "r.tif", np.array([[1, 2, 3]], np.uint8))
    mask = f'<MaskBand><VRTRasterBand dataType="Byte">{from_file("m.tif")}</VRTRasterBand></MaskBand>'
    path = write_vrt(tmp_path / "r.vrt", (1, 3), ("Byte", mask + from_file("r.tif")))
    np.testing.assert_array_equal(whole(path)[1], oracle_validity(path))
    assert validity(path) == [[1, 0, 1]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_not_finite_is_not_valid(tmp_path, dtype):
    pixels = np.array([[[1, np.nan, 3, 4, 5]], [[1, 2, np.inf, -np.inf, 5]]], dtype)
    assert validity(write_geotiff(tmp_path / "r.tif", pixels)) == [[1, 0, 0, 0, 1]]
    assert validity(write_geotiff(tmp_path / "n.tif", pixels, nodata=5)) == [[1, 0, 0, 0, 0]]
    assert validity(write_geotiff(tmp_path / "m.tif", pixels, nodata=np.nan)) == [[1, 0, 0, 0, 1]]


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_a_grey_of_8_bits_that_is_also_nodata_is_nodata_only_in_all_bands(tmp_path, dtype):
    # a black roof with nodata 0
    pixels = np.array([[[0, 0, 5]], [[0, 9, 0]]], dtype)
    assert validity(write_geotiff(tmp_path / "r.tif", pixels, nodata=0)) == [[0, 1, 1]]
    wide = write_geotiff(tmp_path / "w.tif", pixels.astype("int16"), nodata=0)
    assert validity(wide) == [[0, 0, 0]]


def test_8_bit_bands_of_which_one_has_no_nodata_have_none_in_common(tmp_path):
    write_geotiff(tmp_path / "r.tif", np.array([[[0, 1]], [[0, 2]]], np.uint8))
    nodata = "<NoDataValue>0</NoDataValue>"
    one = write_vrt(
        tmp_path / "one.vrt", (1, 2), ("Byte", nodata + from_file("r.tif")), ("Byte", from_file("r.tif", 2))
    )
    assert validity(one) == [[1, 1]]
    both = write_vrt(
        tmp_path / "both.vrt",
        (1, 2),
        ("Byte", nodata + from_file("r.tif")),
        ("Byte", "<NoDataValue>2</NoDataValue>" + from_file("r.tif", 2)),
    )
    assert validity(both) == [[1, 1]]
    assert open_header(both).nodata == (0, 2)


@pytest.mark.parametrize("value", [b"-99", b"0.5", b"999", b"nan"])
def test_a_nodata_value_that_no_pixel_can_have_is_none(tmp_path, value):
    path = write_geotiff(tmp_path / "r.tif", np.array([[0, 157, 231, 255]], np.uint8), nodata=255)
    # rasterio refuses to write such a value; others do not
    assert path.read_bytes().count(b"255\0") == 1
    path.write_bytes(path.read_bytes().replace(b"255\0", value + b"\0"))
    assert open_header(path).nodata == (None,)
    assert validity(path) == [[1, 1, 1, 1]]


def test_a_float_nodata_is_compared_in_the_pixels_precision(tmp_path):
    pixels = np.array([[0.1, 0.2, 0.3]], np.float32)
    path = write_geotiff(tmp_path / "r.tif", pixels, nodata=0.1)
    assert validity(path) == [[0, 1, 1]]
    lowest = np.finfo(np.float32).min
    path = write_geotiff(tmp_path / "m.tif", np.array([[lowest, 1]], np.float32), nodata=float(lowest))
    assert validity(path) == [[0, 1]]


@pytest.mark.parametrize(
    ("kind", "dtype", "nodata"),
    [
        ("UInt64", "uint64", 2**64 - 1),
        ("Int64", "int64", 2**63 - 1),
        ("Int64", "int64", -(2**63)),
        ("Int64", "int64", 2**53 + 1),
        ("UInt32", "uint32", 2**32 - 1),
    ],
)
def test_large_whole_nodata_values_are_compared_exactly(tmp_path, kind, dtype, nodata):
    near = nodata + 1 if nodata < 0 else nodata - 1
    write_geotiff(tmp_path / "r.tif", np.array([[1, near, nodata]], dtype))
    xml = f"<NoDataValue>{nodata}</NoDataValue>{from_file('r.tif')}"
    path = write_vrt(tmp_path / "r.vrt", (1, 3), (kind, xml))
    with rasterio.open(path) as dataset:
        assert dataset.read_masks(1).tolist() == [[255, 255, 0]]
    assert validity(path) == [[1, 1, 0]]


def test_bands_of_two_dtypes_are_read_in_one_that_holds_both(tmp_path):
    write_geotiff(tmp_path / "a.tif", np.array([[200, 255]], np.uint8))
    write_geotiff(tmp_path / "b.tif", np.array([[-5, -9]], np.int16))
    path = write_vrt(tmp_path / "r.vrt", (1, 2), ("Byte", from_file("a.tif")), ("Int16", from_file("b.tif")))
    assert open_header(path).dtype == "int16"
    assert whole(path)[0].tolist() == [[[200, 255]], [[-5, -9]]]


# Headers


def test_headers_of_real_rasters_say_what_rasterio_says(catalogue):
    for found in catalogue.some("a grid of numbers", lambda f: f.is_grid_of_numbers, most=1000):
        header = open_header(found.path)
        place = header.georeference
        assert (header.width, header.height) == (found.width, found.height)
        assert header.bounds == Window(0, 0, found.height, found.width)
        assert len(header.bands) + (header.alpha_band is not None) == len(found.dtypes)
        assert place.transform == (None if found.transform.is_identity else tuple(found.transform)[:6])
        by_points = found.transform.is_identity and found.gcps > 0
        assert len(place.gcps) == (found.gcps if by_points else 0)
        # ground control points bring the CRS of their own coordinates
        crs = (found.gcp_crs if by_points else found.crs) or None
        assert (crs and CRS.from_wkt(place.crs_wkt)) == crs
        # by its text: a nodata value may be NaN, which is not equal to itself
        assert repr(pickle.loads(pickle.dumps(header))) == repr(header)


def test_what_seeds_the_sample_does_not_know_the_path(tmp_path):
    one = write_geotiff(tmp_path / "one.tif", noise(2, 6, 7))
    two = shutil.copy(one, tmp_path / "two.tif")
    assert open_header(one).identity == open_header(two).identity
    moved = write_geotiff(
        tmp_path / "three.tif", noise(2, 6, 7), transform=rasterio.Affine(2, 0, 0, 0, -2, 0)
    )
    assert open_header(one).identity != open_header(moved).identity
    assert open_header(one).identity != open_header(one, (1,)).identity


def test_complex_pixels_are_refused(tmp_path):
    path = write_geotiff(tmp_path / "r.tif", np.ones((4, 4), np.complex64))
    assert "complex numbers (complex64)" in opens(path)


def test_a_palette_raster_is_looked_at_as_numbers_and_segmented_as_colours(tmp_path):
    path = write_geotiff(tmp_path / "r.tif", noise(1, 4, 4))
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {0: (1, 2, 3), 1: (4, 5, 6)})
    assert open_header(path).palette
    assert open_header(path).band_names == ("band 1",)
    assert open_segmentable(path).band_names == ("red", "green", "blue")


def test_an_alpha_band_alone_is_nothing_to_segment(tmp_path):
    path = write_geotiff(tmp_path / "r.tif", noise(1, 4, 4))
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.alpha]
    assert "alpha band only" in opens(path)


# Errors


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    assert opens(tmp_path / "none.tif") == "no such file; check the name"


def test_an_empty_file_is_said_to_be_empty(tmp_path):
    (tmp_path / "r.tif").touch()
    assert "empty (0 bytes)" in opens(tmp_path / "r.tif")


def test_text_and_folders_are_no_rasters(tmp_path):
    (tmp_path / "text.tif").write_text("not a raster\n" * 9)
    (tmp_path / "folder.tif").mkdir()
    for name in ("text.tif", "folder.tif"):
        assert "not a raster that GDAL can open" in opens(tmp_path / name)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_refused(tmp_path, share):
    raw = write_geotiff(tmp_path / "r.tif", noise(3, 60, 60), compress="deflate").read_bytes()
    path = tmp_path / "cut.tif"
    path.write_bytes(raw[: int(len(raw) * share)])
    opens(path)


def corrupt_tile(path):
    """A raster of which one tile in the middle is rubbish; gives the tile's window."""
    write_geotiff(path, noise(1, 64, 64), tiled=True, blockxsize=16, blockysize=16, compress="deflate")
    with rasterio.open(path) as dataset:
        offset = int(dataset.get_tag_item("BLOCK_OFFSET_2_1", "TIFF", bidx=1))
        size = int(dataset.get_tag_item("BLOCK_SIZE_2_1", "TIFF", bidx=1))
    raw = bytearray(path.read_bytes())
    raw[offset : offset + size] = b"\xff" * size
    path.write_bytes(raw)
    return Window(16, 32, 16, 16)


def test_a_corrupt_tile_fails_where_it_is_and_nowhere_else(tmp_path):
    bad = corrupt_tile(tmp_path / "r.tif")
    header = open_header(tmp_path / "r.tif")
    with pytest.raises(RasterError) as caught:
        header.read(bad)
    said = one_line_that_names(tmp_path / "r.tif", caught.value)
    assert "cannot read rows 16 to 31, columns 32 to 47" in said
    good, valid = header.read(Window(0, 0, 16, 64))
    np.testing.assert_array_equal(good, noise(1, 64, 64)[:, :16])
    assert valid.all()


def test_a_vrt_without_its_source_is_refused(tmp_path):
    path = write_vrt(tmp_path / "r.vrt", (4, 4), ("Byte", from_file("lost.tif")))
    assert "cannot read" in opens(path)


def test_a_vrt_without_its_source_is_not_read_as_zeros_while_another_vrt_is_open(tmp_path):
    # GDAL fails the first time; asked again in a process with an open VRT, it gives zeros and no error
    write_geotiff(tmp_path / "r.tif", noise(1, 4, 4))
    good = write_vrt(tmp_path / "good.vrt", (4, 4), ("Byte", from_file("r.tif")))
    assert whole(good)[0].all()
    path = write_vrt(tmp_path / "r.vrt", (4, 4), ("Byte", from_file("lost.tif")))
    assert "cannot read" in opens(path)


def test_real_files_that_are_broken_are_refused(catalogue):
    if not catalogue.broken:
        pytest.skip("none of the real rasters here is broken")
    for path in catalogue.broken:
        opens(path)


@pytest.mark.parametrize("name", ["", "a" * 300, "a\0b"])
def test_what_cannot_be_a_file_s_name_is_refused_like_any_missing_file(name):
    with pytest.raises(RasterError):
        open_header(name)


# Handles and retries


class Flaky:
    """A dataset whose first reads fail, as those of a network drive do."""

    def __init__(self, dataset, failures):
        self._dataset = dataset
        self._failures = failures

    def read(self, *arguments, **options):
        if self._failures:
            self._failures.pop()
            raise RasterioIOError("Read failed. See previous exception for details.")
        return self._dataset.read(*arguments, **options)

    def __getattr__(self, name):
        return getattr(self._dataset, name)


@pytest.fixture
def flaky(monkeypatch):
    """Makes the next reads fail; gives the list of handles that were opened."""
    opened = []

    def start(failures):
        left, real = [None] * failures, dataset_opening.open_dataset

        def open_flaky(path, **options):
            opened.append(path)
            return Flaky(real(path, **options), left)

        monkeypatch.setattr(dataset_opening, "open_dataset", open_flaky)
        return opened

    return start


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_a_read_that_fails_for_a_moment_is_tried_again_with_a_fresh_handle(tmp_path, flaky, failures):
    pixels = noise(2, 8, 9)
    header = open_header(write_geotiff(tmp_path / "r.tif", pixels))
    opened = flaky(failures)
    np.testing.assert_array_equal(header.read(header.bounds)[0], pixels)
    assert len(opened) == failures + 1


def test_a_read_that_keeps_failing_is_given_up(tmp_path, flaky):
    path = write_geotiff(tmp_path / "r.tif", noise(2, 8, 9))
    header = open_header(path)
    opened = flaky(99)
    with pytest.raises(RasterError, match="damaged or gone") as caught:
        header.read(header.bounds)
    one_line_that_names(path, caught.value)
    assert len(opened) == 3
    assert isinstance(caught.value.__cause__, RasterioIOError)


def test_a_fault_of_ours_is_not_taken_for_a_damaged_file(tmp_path, monkeypatch):
    header = open_header(write_geotiff(tmp_path / "r.tif", noise(2, 8, 9)))

    def fail(*_):
        raise KeyError("bug")

    monkeypatch.setattr(BandPlanes, "_decoded", fail)
    with pytest.raises(KeyError):
        header.read(header.bounds)


def test_a_file_that_changed_is_opened_afresh(tmp_path):
    path = write_geotiff(tmp_path / "r.tif", np.full((4, 4), 1, np.uint8))
    header = open_header(path)
    assert header.read(header.bounds)[0].max() == 1
    write_geotiff(tmp_path / "new.tif", np.full((4, 4), 2, np.uint8))
    (tmp_path / "new.tif").replace(path)
    os.utime(path, (0, 12345))
    assert header.read(header.bounds)[0].min() == 2


def test_few_handles_stay_open_and_the_longest_unused_is_closed(tmp_path):
    most = module._PER_THREAD
    headers = [open_header(write_geotiff(tmp_path / f"{i}.tif", noise(1, 4, 4))) for i in range(most + 5)]
    for header in headers:
        header.read(header.bounds)
    assert [key[0] for key in module._local.handles] == [h.path for h in headers[-most:]]
    headers[5].read(headers[5].bounds)
    held = list(module._local.handles.values())
    headers[0].read(headers[0].bounds)
    assert [handle.closed for handle in held] == [True] + [False] * (most - 1)


def test_a_window_is_read_once_with_its_validity(tmp_path, flaky):
    header = open_header(rgba(tmp_path / "r.tif", np.full((8, 8), 255, np.uint8)))
    opened = flaky(0)
    for _ in range(3):
        header.read(header.bounds)
    assert len(opened) == 1
    assert header.read_stack(header.bounds).shape == (4, 8, 8)


def test_memory_of_a_pixel_counts_its_validity(tmp_path):
    header = open_header(write_geotiff(tmp_path / "r.tif", noise(3, 4, 4, dtype="uint16")))
    assert header.pixel_bytes == header.read_stack(header.bounds).nbytes / header.pixels == 8


# Georeference


def test_a_part_s_georeference_is_shifted_as_rasterio_shifts_it(tmp_path):
    transform = rasterio.Affine(1.5, 0.3, 400000, -0.2, -2.5, 5e6)
    path = write_geotiff(tmp_path / "r.tif", noise(1, 40, 50), transform=transform)
    place = open_header(path).georeference
    with rasterio.open(path) as dataset:
        expected = dataset.window_transform(FileWindow(7, 11, 5, 5))
    assert place.shifted(11, 7).transform == pytest.approx(tuple(expected)[:6], rel=1e-15)
    assert place.shifted(0, 0) is place


def test_ground_control_points_move_with_the_part():
    point = GroundControlPoint(10.5, 20, 7, 8, 9)
    place = Georeference(gcps=(point,))
    assert place.shifted(10, 4).gcps == (dataclasses.replace(point, row=0.5, col=16),)


def test_sources_of_a_vrt_that_meet_inside_a_pixel_are_always_read_in_their_order(tmp_path):
    # as gdalbuildvrt makes them of tiles side by side where it is given another resolution than theirs
    side, made = 300, 330.45
    places = [(row, col) for row in range(4) for col in range(4)]
    bands = []
    for row, col in places:
        write_geotiff(tmp_path / f"{row}{col}.tif", noise(3, side, side, seed=4 * row + col))
    for band in (1, 2, 3):
        xml = "".join(
            from_file(f"{row}{col}.tif", band).replace(
                "</SimpleSource>",
                f'<SrcRect xOff="0" yOff="0" xSize="{side}" ySize="{side}"/><DstRect xOff="{col * made:.4f}" '
                f'yOff="{row * made:.4f}" xSize="{made}" ySize="{made}"/></SimpleSource>',
            )
            for row, col in places
        )
        bands.append(("Byte", xml))
    path = write_vrt(tmp_path / "a.vrt", (int(4 * made), int(4 * made)), *bands)
    header = open_header(path)
    reference = header.read(header.bounds)[0]
    for _ in range(8):
        assert np.array_equal(header.read(header.bounds)[0], reference)
    for window in tiles(header.bounds, 512):
        assert np.array_equal(header.read(window)[0], reference[:, *window.slices()])


def test_few_open_files_are_enough_and_are_never_called_damage(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(40):
        write_geotiff(folder / f"r{i}.tif", noise(3, 40, 50, seed=i))
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2)\n"
        "from pipeline.cli import main; sys.exit(main(sys.argv[2:]))"
    )
    options = ["-k", "3", "--codebook-scope", "raster", "--workers", "threads:2"]
    for limit in (40, 12):
        line = [code, str(limit), "run", str(folder), "-o", str(tmp_path / f"o{limit}"), *options]
        ended = subprocess.run([sys.executable, "-c", *line], capture_output=True, text=True, check=False)
        assert not re.search("damaged|took this folder|Traceback", ended.stderr)
        assert (ended.returncode == 0) == ("40 done" in ended.stderr)
        assert ended.returncode == 0 or (limit == 12 and "oo many open files" in ended.stderr), ended.stderr


READ_BY_THREADS = """
import resource, sys, threading
from concurrent.futures import ThreadPoolExecutor
limit, threads = map(int, sys.argv[1:3])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
from pipeline.source.gdal.setup import configure
configure()
from pipeline.source.gdal.raster import open_header
rasters = [open_header(path) for path in sys.argv[3:]]
together = threading.Barrier(threads)

def read(first):
    together.wait()
    order = rasters[first:] + rasters[:first]
    return sum(int(raster.read(raster.bounds)[0].sum()) for raster in order)

with ThreadPoolExecutor(threads) as pool:
    print(*set(pool.map(read, [i % len(rasters) for i in range(threads)])))
    # and some are left for all else
    assert len([open(sys.argv[3], "rb") for _ in range(8)]) == 8
"""


@pytest.mark.parametrize(
    ("limit", "threads", "kind"), [(256, 40, "tif"), (64, 16, "vrt"), (64, 16, "tif"), (40, 4, "vrt")]
)
def test_few_open_files_are_enough_for_tiles_that_many_threads_read(tmp_path, limit, threads, kind):
    # each thread had as many handles as it liked, beside those that VRTs have of their sources
    pixels = [noise(1, 20, 30, seed=seed) for seed in range(100)]
    paths = [write_geotiff(tmp_path / f"t{i}.tif", tile) for i, tile in enumerate(pixels)]
    if kind == "vrt":
        names = [[path.name for path in paths[i : i + 10]] for i in range(0, 100, 10)]
        bands = [[("Byte", from_file(name)) for name in ten] for ten in names]
        paths = [write_vrt(tmp_path / f"v{i}.vrt", (20, 30), *ten) for i, ten in enumerate(bands)]
    line = [sys.executable, "-c", READ_BY_THREADS, str(limit), str(threads), *map(str, paths)]
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.strip()) == (0, str(sum(int(t.sum()) for t in pixels))), (
        ended.stderr
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_a_process_of_ours_has_as_many_open_files_as_it_may_ask_for():
    code = (
        "import resource; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))\n"
        "from pipeline.source.gdal.setup import configure; configure()\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(hard, 4096) or hard == -1)"
    )
    line = [sys.executable, "-c", code]
    assert subprocess.run(line, capture_output=True, text=True, check=True).stdout == "True\n"


@pytest.mark.parametrize(
    ("name", "said"), [("a.ecw", "GDAL lacks its driver here: convert it"), ("a.tif", "is it complete?")]
)
def test_what_gdal_does_not_know_is_told_from_what_is_cut_short(tmp_path, name, said):
    (tmp_path / name).write_bytes(b"\x65\x02\x02\x02" + bytes(range(256)) * 20)
    with pytest.raises(RasterError, match=re.escape(said)):
        open_header(str(tmp_path / name))


def test_files_beside_a_raster_count_in_a_folder_of_any_size(tmp_path):
    # GDAL finds them by listing a small folder, and asks for each by name in a large one
    headers = []
    for count in (0, MOST_LISTED - 4, MOST_LISTED + 50):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / f"other{number}.txt").touch()
        path = write_geotiff(folder / "r.tif", noise(1, 20, 30), crs=None, transform=None)
        (folder / "r.tfw").write_text("2\n0\n0\n-2\n500\n900\n")
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="NO"), rasterio.open(path, "r+") as dataset:
            dataset.write_mask(np.arange(600).reshape(20, 30) % 7 > 0)
        (folder / "r.tif.aux.xml").write_text(
            '<PAMDataset><PAMRasterBand band="1"><Description>heat</Description></PAMRasterBand></PAMDataset>'
        )
        header = open_header(path)
        stack = header.read(header.bounds)
        headers.append((header.georeference, header.band_names, header.mask_bands, stack[1].tolist()))
    assert headers[0] == headers[1] == headers[2]
    assert headers[0][1] == ("heat",)
    assert headers[0][0].transform == (2, 0, 499, 0, -2, 901)
    assert False in headers[0][3][0]


# A CRS that nobody knows


def with_unknown_crs(path):
    """A GeoTIFF whose CRS has a code that is none of EPSG's."""
    write_geotiff(path, noise(1, 30, 40), crs="EPSG:25832")
    known, unknown = (struct.pack("<4H", 3072, 0, 1, code) for code in (25832, 29999))
    data = path.read_bytes()
    assert data.count(known) == 1
    path.write_bytes(data.replace(known, unknown))
    return path


def test_a_code_that_is_unknown_is_refused_and_named(tmp_path):
    with pytest.raises(RasterError, match="its CRS, EPSG:29999, is not known here"):
        open_header(with_unknown_crs(tmp_path / "r.tif"))


def test_a_code_that_is_unknown_in_a_vrt_is_refused_and_named(tmp_path):
    write_geotiff(tmp_path / "r.tif", noise(1, 30, 40))
    path = write_vrt(
        tmp_path / "r.vrt", (30, 40), ("Byte", from_file("r.tif")), extra="<SRS>EPSG:29999</SRS>"
    )
    with pytest.raises(RasterError, match="its CRS, EPSG:29999, is not known here"):
        open_header(path)


def test_a_local_crs_and_none_are_as_good_as_any(tmp_path):
    local = 'LOCAL_CS["site grid",UNIT["metre",1]]'
    path = write_geotiff(tmp_path / "local.tif", noise(1, 30, 40), crs=local)
    assert open_header(path).georeference.crs_wkt.startswith('LOCAL_CS["site grid"')
    assert open_header(write_geotiff(tmp_path / "none.tif", noise(1, 30, 40), crs=None))
