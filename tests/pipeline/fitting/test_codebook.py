"""The fit: the same sample in any cut, exact counts, true reports, and errors that name what differs."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio import Affine

from engine import hashing
from engine.block_kmeans import BlockKMeans
from engine.codebook import Codebook
from engine.grid import Window
from engine.kmeans_fit import cluster
from pipeline.api.arrays import open_raster, segment
from pipeline.api.fitting import fit
from pipeline.errors import NoValidPixelError, RasterError, UsageError
from pipeline.fitting import sampling
from pipeline.fitting.codebook import fit_codebook
from pipeline.workers.pool import Workers, open_pool
from tests.rasters import noise, pixel_array, write_geotiff
from tests.strategies import windows


class Scene:
    """Pixels that are made as they are read: a raster of any size, valid where a function says."""

    dtype = "uint8"
    bands = (1,)
    given_names, all_names = ("",), ((),)
    rgb = None
    physical = None

    def __init__(self, height, width, valid=None, path="scene", transform=None):
        self.bounds = self.region = Window(0, 0, height, width)
        self.path = path
        self.identity = (height, width, transform, 1, "uint8")
        self.valid = valid
        self.read_cells = []

    def inside(self, window):
        """Everywhere."""

    def read(self, window):
        self.read_cells.append((window.row // 512, window.col // 512))
        shape = (window.height, window.width)
        valid = np.full(shape, self.valid is None or self.valid(window.row // 512, window.col // 512))
        rows = np.arange(window.row, window.row_end)[:, None]
        cols = np.arange(window.col, window.col_end)
        return ((rows // 64 * 37 + cols // 64 * 101) % 251).astype(np.uint8)[None], valid


def fitted(rasters, segments=4, workers=1, resolution=16, **options):
    """A codebook by given workers."""
    options = {"seed": 0, "method": "sample", "scale": None, **options}
    with open_pool(Workers("threads", workers)) as pool:
        return fit_codebook(rasters, BlockKMeans(resolution), segments, pool=pool, **options)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A raster of several cells with holes."""
    pixels = noise(3, 1300, 1700, seed=6)
    pixels[:, :600, 300:900] //= 5
    pixels[:, 700:, 1200:] = 0
    return write_geotiff(tmp_path_factory.mktemp("scene") / "scene.tif", pixels, nodata=0)


# The sample


def test_no_chunk_size_nor_number_of_workers_changes_the_codebook(scene):
    from pipeline.api.arrays import ArrayPixels

    found = {
        fitted([ArrayPixels(open_raster(scene, chunk_size=chunk))], workers=workers).to_bytes()
        for chunk, workers in [(512, 1), (512, 3), (1024, 2), (4096, 5)]
    }
    assert len(found) == 1
    assert fit([scene], segments=4, resolution=16).to_bytes() in found


def test_how_far_a_large_sample_reaches_does_not_depend_on_the_workers():
    # few valid cells among many, so that the fit looks at several batches of cells
    books = [fitted([Scene(50_000, 60_000, lambda r, c: (r * 7 + c) % 6 == 0)], workers=w) for w in (1, 3, 5)]
    assert len({b.to_bytes() for b in books}) == 1
    assert books[0].fit["cells_read"] > 2 * sampling.CELLS


def test_another_seed_takes_another_sample():
    one, two = Scene(50_000, 60_000), Scene(50_000, 60_000)
    fitted([one], seed=0)
    fitted([two], seed=1)
    assert len(set(one.read_cells) & set(two.read_cells)) < 10


def test_the_sample_does_not_depend_on_the_path_but_on_the_place(scene, tmp_path):
    copy = shutil.copy(scene, tmp_path / "another name.tif")
    options = {"segments": 4, "resolution": 16}
    assert fit([copy], **options).to_bytes() == fit([scene], **options).to_bytes()
    with rasterio.open(scene) as dataset:
        moved = write_geotiff(
            tmp_path / "m.tif", dataset.read(), nodata=0, transform=Affine(1, 0, 9, 0, -1, 9)
        )
    assert sampling.keys([Scene(9, 9)], 0) != sampling.keys([Scene(9, 9, transform=(1,))], 0)
    assert fit([moved], **options).fit["vectors"] == fit([scene], **options).fit["vectors"]


def test_the_cost_does_not_grow_with_the_raster():
    for side in (10_000, 1_000_000):
        raster = Scene(side, side)
        report = fitted([raster]).fit
        assert report["cells_read"] == len(raster.read_cells) == sampling.CELLS
        assert len(set(raster.read_cells)) == sampling.CELLS


def test_cells_are_looked_at_until_enough_have_valid_pixels():
    raster = Scene(40_000, 40_000, lambda r, c: (r + c) % 5 == 0)
    report = fitted([raster]).fit
    with_data = [c for c in raster.read_cells if sum(c) % 5 == 0]
    assert len(with_data) >= sampling.CELLS
    assert report["pixels_seen"] == len(with_data) * 512 * 512 - sum(
        512 * 512 - h * w for h, w in map(_clipped(raster), with_data)
    )


def _clipped(raster):
    def size(cell):
        return tuple(
            min(512, side - 512 * i)
            for i, side in zip(cell, (raster.bounds.height, raster.bounds.width), strict=True)
        )

    return size


def test_the_only_valid_cell_of_a_large_raster_is_found():
    raster = Scene(9_000, 8_000, lambda r, c: (r, c) == (11, 3))
    book = fitted([raster])
    assert book.fit["pixels_seen"] == 512 * 512
    assert book.fit["cells_read"] == book.fit["cells_total"] == 18 * 16


def test_the_sample_spreads_over_the_raster():
    raster = Scene(100_000, 100_000)
    fitted([raster])
    rows, cols = np.array(raster.read_cells).T
    quadrants = np.bincount((rows > 97) * 2 + (cols > 97), minlength=4)
    assert quadrants.min() >= 6  # of 16 each on average; five standard deviations below is 0


@settings(max_examples=40)
@given(
    st.lists(windows(90, 40), min_size=1, max_size=3),
    st.integers(5, 30),
    st.integers(1, 12),
    st.integers(1, 50),
    st.integers(0, 3),
)
def test_cells_come_in_the_order_of_their_hash_each_once_and_all(bounds, cell, length, strip, seed):
    rasters = []
    for window in bounds:
        rasters.append(Scene(window.height, window.width))
        rasters[-1].bounds = rasters[-1].region = window
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "_LIST_LENGTH", length)
        patch.setattr(sampling, "_STRIP", strip)
        found = list(sampling.cells(rasters, seed, cell))
    keys = sampling.keys(rasters, seed)
    hashes = []
    for one in found:
        row, col = one.window.row // cell, one.window.col // cell
        assert one.key == keys[one.raster]
        hashes.append(int(hashing.grid_hash(one.key, [row], [col])[0]))
    assert hashes == sorted(hashes)
    assert len({(c.raster, c.window) for c in found}) == len(found) == sampling.cells_total(rasters, cell)
    for index, raster in enumerate(rasters):
        pixels = sum(c.window.pixels for c in found if c.raster == index)
        assert pixels == raster.bounds.pixels
    assert found == list(sampling.cells(rasters, seed, cell))


def test_rasters_that_are_alike_are_sampled_apart():
    one, two, three = sampling.keys([Scene(9, 9), Scene(9, 9), Scene(9, 9)], 5)
    assert len({one, two, three}) == 3
    assert sampling.keys([Scene(9, 9)], 5) == [one]
    assert sampling.keys([Scene(9, 8), Scene(9, 9)], 5)[1] == one


def test_a_batch_takes_its_sample_from_all_its_rasters():
    rasters = [Scene(5000, 5000, path=str(i), transform=(i,)) for i in range(4)]
    report = fitted(rasters).fit
    assert all(r.read_cells for r in rasters)
    assert report["pixels_total"] == 4 * 5000 * 5000


def test_a_slice_is_sampled_from_its_own_cells():
    array = pixel_array(noise(1, 300, 400))
    whole, part = fit([array], resolution=4), fit([array[:, 50:, 10:]], resolution=4)
    assert part.fit["pixels_seen"] == 250 * 390
    assert whole.fit["pixels_seen"] == 300 * 400


# What is seen, and what is said of it


@pytest.mark.parametrize("resolution", [4, 16])
@pytest.mark.parametrize(("row", "column"), [(100, 127), (1, 5), (128, 0), (129, 255)])
def test_a_network_is_fitted_on_a_slice_that_begins_anywhere(row, column, resolution):
    array = pixel_array(noise(3, 300, 333), row=row, column=column)
    codebook = fit(array, method="cnn", resolution=resolution, segments=3, device="cpu")
    assert codebook.segments == 3
    assert codebook.fit["pixels_seen"] == 300 * 333


def test_what_is_not_valid_enters_no_fit():
    pixels = np.full((2, 40, 40), 100, np.uint16)
    pixels[:, ::2] = 200
    valid = np.ones((40, 40), bool)
    pixels[:, 8:16] = 60_000
    valid[8:16] = False
    book = fit([pixel_array(pixels, valid)], segments=2, resolution=1, scale="none")
    assert book.centres.tolist() == [[100, 100], [200, 200]]
    assert book.band_mean.tolist() == [150, 150]
    assert book.fit["pixels_seen"] == 40 * 32


def test_the_report_says_what_is_true(tmp_path):
    pixels = noise(2, 120, 90)
    pixels[:, 10:40, 20:50] = 0
    path = write_geotiff(tmp_path / "r.tif", pixels, nodata=0)
    book = fit([path], segments=5, resolution=4, seed=3)
    valid = (pixels != 0).any(axis=0)
    report = book.fit
    assert (report["cells_read"], report["cells_total"]) == (1, 1)
    assert (report["pixels_seen"], report["pixels_total"]) == (int(valid.sum()), 120 * 90)
    assert (report["method"], report["seed"], report["segments_asked"]) == ("sample", 3, 5)
    labels = segment(open_raster(path), book).values
    blocks = labels[::4, ::4]  # one pixel of each block; the hole begins and ends within blocks
    partial = np.where(valid, labels, 0).reshape(30, 4, -1)[:, :, :88].reshape(30, 4, 22, 4).max(axis=(1, 3))
    has_valid = valid[:, :88].reshape(30, 4, 22, 4).any(axis=(1, 3))
    edge = blocks[:, 22]
    seen = np.concatenate([partial[has_valid], edge])
    assert report["vectors"] == len(seen)
    np.testing.assert_allclose(report["share"], np.bincount(seen, minlength=5) / len(seen), atol=1e-6)
    assert sum(report["share"]) == pytest.approx(1, abs=1e-5)


def test_progress_is_heard_to_its_end(scene):
    heard = []
    fitted([Scene(3000, 3000)], advance=lambda done, total: heard.append((done, total)))
    assert [d for d, _ in heard] == list(range(1, 37))
    assert heard[-1] == (36, 36)


def test_fewer_distinct_values_than_labels_give_as_many_labels_as_values():
    pixels = np.repeat(np.array([[[10, 20, 30]]], np.uint8), 5, axis=2)
    book = fit([pixel_array(pixels)], segments=8, resolution=1)
    assert book.centres.ravel().tolist() == [10, 20, 30]
    assert (book.segments, book.fit["segments_asked"]) == (3, 8)


# Exact


@pytest.mark.parametrize("bands", [1, 2, 3])
def test_an_exact_fit_is_that_of_every_pixel_s_colour(bands):
    rng = np.random.default_rng(bands)
    pixels = (rng.integers(0, 9, (bands, 150, 170)) * 25 + 3).astype(np.uint8)
    valid = rng.random((150, 170)) < 0.8
    book = fit([pixel_array(pixels, valid)], segments=6, resolution=7, fit="exact", seed=2)
    colours, counts = np.unique(pixels[:, valid].T, axis=0, return_counts=True)
    packed = np.zeros(len(colours), np.uint64)
    for band in colours.T:
        packed = packed * np.uint64(256) + band.astype(np.uint64)
    order = hashing.bottom(hashing.mix(packed), len(packed))
    expected = cluster(colours[order].astype(float), 6, 2, counts[order].astype(float))
    np.testing.assert_array_equal(book.centres, expected.centres)
    np.testing.assert_allclose(book.fit["share"], expected.share, atol=1e-6)
    np.testing.assert_allclose(book.band_mean, pixels[:, valid].mean(axis=1))
    assert (book.fit["pixels_seen"], book.fit["pixels_total"]) == (int(valid.sum()), 150 * 170)
    assert book.fit["vectors"] == len(colours)


def test_an_exact_fit_of_a_real_raster_is_as_tight_as_scikit_learn_s(rasters):
    from sklearn.cluster import KMeans

    path = min(rasters.glob("*.tif"), key=lambda p: p.stat().st_size)
    array = open_raster(path)[:, :300, :300]
    book = fit([array], segments=6, resolution=1, fit="exact")
    pixels = array.values[:, array.coords["valid"].values].T.astype(float)
    theirs = KMeans(6, n_init=4, random_state=0).fit(pixels)
    assert book.fit["inertia"] <= 1.01 * theirs.inertia_
    shares = np.bincount(segment(array, book).values[array.coords["valid"].values], minlength=6)
    np.testing.assert_allclose(book.fit["share"], shares / shares.sum(), atol=1e-3)


def test_an_exact_fit_does_not_depend_on_chunks_or_workers():
    from pipeline.api.arrays import ArrayPixels

    pixels = noise(3, 900, 700) // 16
    books = [
        fitted([ArrayPixels(pixel_array(pixels, chunks=c))], workers=w, method="exact")
        for c, w in [(512, 1), (2048, 3)]
    ]
    assert books[0].to_bytes() == books[1].to_bytes()


@pytest.mark.parametrize(
    "pixels", [noise(4, 9, 9), noise(1, 9, 9, dtype="uint16"), noise(1, 9, 9, dtype="int8", high=99)]
)
def test_an_exact_fit_of_more_than_it_can_count_is_refused(pixels):
    with pytest.raises(UsageError, match="--fit exact counts colours of 1 to 3 bands of uint8, not"):
        fit([pixel_array(pixels)], fit="exact")


# Scaling


def test_8_bits_are_taken_as_they_are():
    book = fit([pixel_array(noise(2, 30, 30))], segments=3)
    assert book.scaling is None


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int8", "float32"])
def test_wider_dtypes_are_scaled_by_limits_that_few_pixels_exceed(dtype):
    pixels = noise(2, 60, 60, high=100, dtype=dtype)
    pixels[1] += 20
    pixels[:, 0, 0] = 127
    book = fit([pixel_array(pixels)], segments=3, resolution=1)
    np.testing.assert_allclose(book.scaling.low, np.percentile(pixels, 0.5, axis=(1, 2)))
    np.testing.assert_allclose(book.scaling.high, np.percentile(pixels, 99.5, axis=(1, 2)))
    assert (book.centres >= 0).all()
    assert (book.centres <= 255).all()


@pytest.mark.parametrize(
    ("scale", "low", "high"),
    [((10, 90), [10, 10], [90, 90]), ((0, 50, -5, 1e4), [0, -5], [50, 1e4])],
)
@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_limits_that_were_given_are_taken_once_or_for_each_band(scale, low, high, dtype):
    book = fit([pixel_array(noise(2, 30, 30, dtype=dtype))], segments=3, scale=scale)
    assert (book.scaling.low.tolist(), book.scaling.high.tolist()) == (low, high)


def test_no_scaling_can_be_asked_for():
    pixels = np.array([[[1000, 9000]]], np.uint16)
    book = fit([pixel_array(pixels)], segments=2, resolution=1, scale="none")
    assert book.scaling is None
    assert book.centres.tolist() == [[1000], [9000]]


@pytest.mark.parametrize(
    ("scale", "match"),
    [
        ((1, 2, 3, 4, 5, 6), "3 pairs of limits for 2 bands; give 1 or 2"),
        ((5, 5), "each low limit must be below its high"),
        ((0, 9, 8, 3), "each low limit must be below its high"),
        ((float("nan"), 5), ""),
        ((0, float("inf")), ""),
        ((1, 2, 3), ""),
        ("loud", ""),
    ],
)
def test_limits_that_make_no_sense_are_refused(scale, match):
    with pytest.raises(UsageError, match=match or None):
        fit([pixel_array(noise(2, 30, 30))], segments=3, scale=scale)


def test_a_band_of_one_value_is_no_fault():
    pixels = np.stack([np.full((20, 20), 7), np.arange(400).reshape(20, 20)]).astype(np.uint16)
    book = fit([pixel_array(pixels)], segments=3, resolution=1)
    assert np.isfinite(book.centres).all()
    assert (book.centres[:, 0] == 0).all()


# What is refused


def test_a_raster_without_valid_pixels_is_refused(tmp_path):
    path = write_geotiff(tmp_path / "r.tif", np.zeros((1, 30, 30), np.uint8), nodata=0)
    for method in ("sample", "exact"):
        with pytest.raises(NoValidPixelError, match=r"r\.tif: no valid pixel"):
            fit([path], fit=method)


def test_that_no_pixel_is_valid_is_known_in_another_process_too():
    error = pickle.loads(pickle.dumps(NoValidPixelError("r.tif")))
    assert isinstance(error, NoValidPixelError)
    assert isinstance(error, RasterError)
    assert str(error) == "r.tif: no valid pixel (all is nodata); there is nothing to segment"


def test_rasters_of_several_kinds_are_refused_with_an_example_of_each(tmp_path):
    names = {"a": (3, "uint8"), "b": (3, "uint8"), "c": (1, "uint16"), "d": (5, "uint8")}
    paths = [
        write_geotiff(tmp_path / f"{n}.tif", noise(bands, 9, 9, dtype=dtype))
        for n, (bands, dtype) in names.items()
    ]
    with pytest.raises(UsageError) as caught:
        fit(paths)
    said = str(caught.value)
    assert "\n" not in said
    assert f"3 bands of uint8: {tmp_path}/a.tif and 1 more" in said
    assert f"1 band of uint16: {tmp_path}/c.tif" in said
    assert f"5 bands of uint8: {tmp_path}/d.tif" in said
    assert "--codebook-scope raster" in said


@pytest.mark.parametrize(
    "options",
    [
        {"segments": 1},
        {"segments": 255},
        {"resolution": 0},
        {"resolution": 33},
        {"method": "magic"},
        {"fit": "exakt"},
    ],
    ids=str,
)
def test_an_option_that_is_not_right_is_refused_and_not_replaced(options):
    with pytest.raises(UsageError):
        fit([pixel_array(noise(1, 9, 9))], **options)


def test_no_rasters_are_refused():
    with pytest.raises(UsageError, match="no raster"):
        fit([])


def test_a_codebook_keeps_the_bands_it_was_fitted_on(scene, tmp_path):
    book = fit([open_raster(scene, bands=(3, 1))], segments=3)
    assert (book.bands, book.dtype) == ((3, 1), "uint8")
    (tmp_path / "b.npz").write_bytes(book.to_bytes())
    assert Codebook.load(tmp_path / "b.npz").bands == (3, 1)
