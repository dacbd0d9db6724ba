"""Damaged rasters: exactly what cannot be decoded is invalid, whatever window is asked for."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio._err import CPLE_OutOfMemoryError
from rasterio.errors import RasterioIOError

from engine.grid import Window, tiles
from pipeline.config import RunConfig
from pipeline.errors import DamageError, LostError, RasterError
from pipeline.fitting.codebook import fit_codebook
from pipeline.fitting.gathering import count_colours
from pipeline.graph.label_graph import label_window
from pipeline.kernels import kernel_from_options
from pipeline.process import retry
from pipeline.running.run import run
from pipeline.source import bad_blocks
from pipeline.source.aoi import interest
from pipeline.source.bad_blocks import UNIT_PX
from pipeline.source.gdal import dataset_opening, handles, transient
from pipeline.source.joined import mosaic_building, stack
from pipeline.source.opening import open_any, open_segmentable
from pipeline.source.reading import BadBlock, ReadContext
from pipeline.source.view import View, crop
from pipeline.workers.pool import Workers, open_pool
from tests.rasters import PLACE, from_file, noise, spoil, write_geotiff, write_vrt
from tests.strategies import windows_in

HEIGHT, WIDTH = 170, 200
BOUNDS = Window(0, 0, HEIGHT, WIDTH)
TILES = {"tiled": True, "blockxsize": 64, "blockysize": 64}
MIDDLE = Window(64, 64, 64, 64)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(bad_blocks, "RETRY_AFTER_S", (0.0, 0.0))


def tolerated(raster, window):
    """Pixels, validity and bad blocks of a window."""
    bad = []
    pixels, valid = raster.read(window, ReadContext(bad=bad))
    return pixels, valid, bad


def hole(*holes, bounds=BOUNDS):
    """True where one of some windows is."""
    inside = np.zeros((bounds.height, bounds.width), bool)
    for window in holes:
        inside[window.slices()] = True
    return inside


def touches(one, other):
    return bool((hole(one) & hole(other)).any())


def check(raster, sound, holes, window):
    """A window is the sound raster's but for the holes, and names those that it touches."""
    pixels, valid, bad = tolerated(raster, window)
    here = hole(*holes)[window.slices()]
    good, was_valid = (array[..., *window.slices()] for array in sound)
    np.testing.assert_array_equal(valid, was_valid & ~here)
    np.testing.assert_array_equal(pixels[:, valid], good[:, valid])
    assert not pixels[:, here].any()
    assert {b.window for b in bad} == {h for h in holes if touches(h, window)}
    assert len(bad) == len({b.window for b in bad})


# GeoTIFFs of every layout

LAYOUTS = {
    "tiles of pixels, deflate": {**TILES, "interleave": "pixel", "compress": "deflate"},
    "tiles of bands, lzw": {**TILES, "interleave": "band", "compress": "lzw"},
    "strips of pixels, zstd": {"blockysize": 10, "interleave": "pixel", "compress": "zstd"},
    "strips of bands, deflate": {"blockysize": 7, "interleave": "band", "compress": "deflate"},
    "rows, lzma": {"blockysize": 1, "interleave": "pixel", "compress": "lzma"},
    "one strip, deflate": {"blockysize": HEIGHT, "interleave": "pixel", "compress": "deflate"},
    "tiles of jpeg": {**TILES, "interleave": "pixel", "compress": "jpeg", "photometric": "ycbcr"},
    "tiles of webp": {**TILES, "interleave": "pixel", "compress": "webp", "photometric": "rgb"},
    "uint16": {**TILES, "compress": "deflate", "dtype": "uint16", "nodata": 7},
    "float32": {**TILES, "compress": "zstd", "dtype": "float32", "predictor": 3},
    "alpha": {**TILES, "compress": "deflate", "photometric": "rgb", "alpha": "yes", "count": 4},
}


@pytest.fixture(scope="module", params=LAYOUTS)
def damaged(request, tmp_path_factory):
    """A raster with two bad blocks, its pixels and validity while it was sound, and the blocks."""
    profile = dict(LAYOUTS[request.param])
    dtype, count = profile.pop("dtype", "uint8"), profile.pop("count", 3)
    path = tmp_path_factory.mktemp("r") / "r.tif"
    pixels = noise(count, HEIGHT, WIDTH, dtype=dtype, high=200)
    if count == 4:
        pixels[3] = np.where(noise(HEIGHT, WIDTH, seed=3) > 30, 255, 0)
    write_geotiff(path, pixels, **profile)
    sound = open_any(path).read(BOUNDS)
    height, width = open_any(path).block_shape
    holes = []
    last = (HEIGHT - 1) // height, (WIDTH - 1) // width
    # the last block is cut by the raster's edge; in a file of one block it is the first one too
    for row, col in {(min(1, last[0]), min(1, last[1])), last}:
        spoil(path, row, col, 2 if profile.get("interleave") == "band" else 1)
        holes.append(Window(row * height, col * width, height, width).grow(0, BOUNDS))
    return open_any(path), sound, holes


@settings(max_examples=20)
@given(st.data())
def test_exactly_the_bad_blocks_are_invalid_in_every_window(damaged, data):
    raster, sound, holes = damaged
    check(raster, sound, holes, data.draw(windows_in(BOUNDS)))


def test_all_at_once_is_each_block_alone(damaged):
    raster, sound, holes = damaged
    check(raster, sound, holes, BOUNDS)


def test_reasons_are_gdal_s_own_words_and_the_file_is_named(damaged):
    raster, _, holes = damaged
    _, _, bad = tolerated(raster, BOUNDS)
    assert {b.path for b in bad} == {raster.path}
    for block in bad:
        assert block.reason
        assert "\n" not in block.reason
        assert "previous exception" not in block.reason
        # the same whatever window met it
        part = (
            block.window.grow(-1, BOUNDS)
            if min(block.window.height, block.window.width) > 2
            else block.window
        )
        assert tolerated(raster, part)[2] == [block]
    assert len(bad) == len(holes)


def test_without_tolerance_a_bad_block_fails_the_read(damaged):
    raster, _, holes = damaged
    with pytest.raises(DamageError, match="cannot read rows"):
        raster.read(holes[0])
    raster.read(holes[0], ReadContext(bad=[]))
    with pytest.raises(DamageError):
        raster.read(holes[0])


# Where the blocks are not known: squares of the absolute grid


def square_holes(inside):
    """The squares that touch some pixels."""
    return [w for w in tiles(BOUNDS, UNIT_PX) if inside[w.slices()].any()]


@pytest.fixture(scope="module", params=["in the file", "beside it"])
def masked(request, tmp_path_factory):
    """A raster with a mask of which a block is bad."""
    path = tmp_path_factory.mktemp("r") / "r.tif"
    within = request.param == "in the file"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=within):
        write_geotiff(path, noise(3, HEIGHT, WIDTH), compress="deflate", **TILES)
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(np.where(noise(HEIGHT, WIDTH, seed=3) > 30, 255, 0).astype(np.uint8))
    sound = open_any(path).read(BOUNDS)
    assert not sound[1].all()
    # an open handle would remember the mask beside it
    handles.forget(str(path))
    spoil(f"GTIFF_DIR:2:{path}" if within else f"{path}.msk", 1, 2)
    return open_any(path), sound


@settings(max_examples=20)
@given(st.data())
def test_where_a_mask_cannot_be_decoded_pixels_are_invalid(masked, data):
    raster, (good, was_valid) = masked
    window = data.draw(windows_in(BOUNDS))
    pixels, valid, bad = tolerated(raster, window)
    here = hole(Window(64, 128, 64, 64))[window.slices()]
    np.testing.assert_array_equal(valid, was_valid[window.slices()] & ~here)
    np.testing.assert_array_equal(pixels, good[:, *window.slices()])
    assert bool(bad) == here.any()


@pytest.fixture(scope="module")
def through_vrt(tmp_path_factory):
    """A VRT that shows a raster with a bad tile, shifted by (10, 20); and what it shows."""
    folder = tmp_path_factory.mktemp("v")
    pixels = noise(1, HEIGHT, WIDTH)
    spoil(write_geotiff(folder / "r.tif", pixels, compress="deflate", **TILES))
    size = f'xSize="{WIDTH - 20}" ySize="{HEIGHT - 10}"'
    source = from_file("r.tif").replace(
        "</SimpleSource>",
        f'<SrcRect xOff="0" yOff="0" {size}/><DstRect xOff="20" yOff="10" {size}/></SimpleSource>',
    )
    shown = np.zeros_like(pixels)
    shown[:, 10:, 20:] = pixels[:, :-10, :-20]
    return open_any(write_vrt(folder / "r.vrt", (HEIGHT, WIDTH), ("Byte", source))), shown


@settings(max_examples=20)
@given(st.data())
def test_behind_a_vrt_the_squares_that_touch_a_bad_block_are_invalid(through_vrt, data):
    raster, shown = through_vrt
    holes = square_holes(hole(Window(74, 84, 64, 64)))
    assert len(holes) == 4
    check(raster, (shown, np.ones((HEIGHT, WIDTH), bool)), holes, data.draw(windows_in(BOUNDS)))


def test_a_vrt_whose_source_is_gone_fails_for_gdal_may_read_zeros_there(tmp_path):
    write_geotiff(tmp_path / "r.tif", noise(1, 64, 64))
    raster = open_any(write_vrt(tmp_path / "r.vrt", (64, 64), ("Byte", from_file("r.tif"))))
    (tmp_path / "r.tif").unlink()
    bad = []
    with pytest.raises(RasterError, match="No such file") as caught:
        raster.read(raster.bounds, ReadContext(bad=bad))
    assert not isinstance(caught.value, DamageError)
    assert bad == []


@settings(max_examples=10)
@given(st.data())
def test_of_a_file_of_one_stream_all_below_the_fault_is_invalid(stream, data):
    raster, pixels, first = stream
    window = data.draw(windows_in(Window(0, 0, *pixels.shape[1:])))
    found, valid, bad = tolerated(raster, window)
    np.testing.assert_array_equal(
        valid, np.broadcast_to((np.arange(pixels.shape[1]) < first)[window.slices()[0], None], valid.shape)
    )
    np.testing.assert_array_equal(found, np.where(valid, pixels[:, *window.slices()], 0))
    assert bool(bad) == (window.row_end > first)


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """A PNG, large enough to be read by rows, that is rubbish from its middle on."""
    path = tmp_path_factory.mktemp("p") / "r.png"
    pixels = noise(1, 700, 900)
    with rasterio.open(path, "w", driver="PNG", width=900, height=700, count=1, dtype="uint8") as dataset:
        dataset.write(pixels)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 64] = b"\xff" * 64
    path.write_bytes(raw)
    raster = open_any(path)
    assert raster.driver == "PNG"
    valid = tolerated(raster, raster.bounds)[1]
    first = int(valid[:, 0].sum())
    assert 0 < first < 400
    assert first % UNIT_PX == 0
    return raster, pixels, first


@pytest.mark.parametrize("shards", [None, (1, 128, 128)])
def test_chunks_of_a_zarr_store(tmp_path, shards):
    path = tmp_path / "r.zarr"
    array = zarr.create_array(
        path, shape=(2, HEIGHT, WIDTH), chunks=(1, 64, 64), shards=shards, dtype="uint8",
        dimension_names=["band", "y", "x"],
    )  # fmt: skip
    pixels = noise(2, HEIGHT, WIDTH)
    array[:] = pixels
    file = path / "c/1" / ("0/0" if shards else "1/1")
    raw = bytearray(file.read_bytes())
    # the index of a shard ends it, and tells where all of its chunks are
    raw[-8:] = b"\xff" * 8
    raw[:8] = b"\xff" * 8
    file.write_bytes(raw)
    holes = list(tiles(Window(0, 0, 128, 128), 64)) if shards else [MIDDLE]
    sound = pixels, np.ones((HEIGHT, WIDTH), bool)
    for window in (BOUNDS, Window(0, 0, 64, 64), Window(100, 100, 70, 70), Window(127, 127, 1, 1)):
        check(open_any(path), sound, holes, window)


# Rasters made of others


def test_a_palette(tmp_path):
    path = write_geotiff(
        tmp_path / "r.tif",
        noise(1, HEIGHT, WIDTH, high=3),
        compress="deflate",
        photometric="palette",
        **TILES,
    )
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {i: (10 * i, 20 * i, 30 * i, 255) for i in range(4)})
    good, _ = open_segmentable(path).read(BOUNDS)
    spoil(path)
    pixels, valid, bad = tolerated(open_segmentable(path), BOUNDS)
    np.testing.assert_array_equal(valid, ~hole(MIDDLE))
    np.testing.assert_array_equal(pixels[:, valid], good[:, valid])
    assert [b.window for b in bad] == [MIDDLE]


def test_an_expression(tmp_path):
    path = spoil(write_geotiff(tmp_path / "r.tif", noise(2, HEIGHT, WIDTH), compress="deflate", **TILES))
    _, valid, bad = tolerated(open_segmentable(path, ["b1/b2"]), Window(50, 50, 100, 100))
    np.testing.assert_array_equal(valid, ~hole(MIDDLE)[50:150, 50:150])
    assert [b.window for b in bad] == [MIDDLE]


def placed_at(row, col, size=0.5):
    x, y = PLACE["transform"] * (col, row)
    return {"transform": rasterio.transform.from_origin(x, y, size, size), "compress": "deflate", **TILES}


def mosaic_with_a_bad_tile(folder, overlap="first"):
    """Two files beside each other that share 20 columns; the second has a bad tile."""
    pixels = noise(1, HEIGHT, 2 * WIDTH - 20)
    first = write_geotiff(folder / "a.tif", pixels[:, :, :WIDTH], **placed_at(0, 0))
    second = write_geotiff(folder / "b.tif", pixels[:, :, WIDTH - 20 :], **placed_at(0, WIDTH - 20))
    joined = mosaic_building.build([open_any(first), open_any(second)], overlap, "m")
    return joined, pixels, spoil(second, 1, 0)


@pytest.mark.parametrize("overlap", ["first", "nearest-centre"])
def test_a_bad_tile_of_a_mosaic_lies_where_the_file_does(tmp_path, overlap):
    joined, pixels, second = mosaic_with_a_bad_tile(tmp_path, overlap)
    found, valid, bad = tolerated(joined, joined.bounds)
    # what the other file has of it is taken from there
    expected = ~hole(Window(64, WIDTH, 64, 44), bounds=joined.bounds)
    np.testing.assert_array_equal(valid, expected)
    np.testing.assert_array_equal(found[:, valid], pixels[:, valid])
    assert [(b.window, b.path) for b in bad] == [(Window(64, WIDTH - 20, 64, 64), str(second))]
    for window in tiles(joined.bounds, 50):
        np.testing.assert_array_equal(tolerated(joined, window)[1], expected[window.slices()])


@pytest.mark.parametrize("how", ["gone", "no raster"])
def test_a_file_of_a_mosaic_that_cannot_be_opened_any_more_is_invalid(tmp_path, how):
    joined, pixels, second = mosaic_with_a_bad_tile(tmp_path)
    second.unlink()
    if how == "no raster":
        second.write_text("hello")
    found, valid, bad = tolerated(joined, Window(0, 100, HEIGHT, 200))
    assert valid[:, :100].all()
    assert not valid[:, 100:].any()
    np.testing.assert_array_equal(found[:, :, :100], pixels[:, :, 100:200])
    assert [(b.window, b.path) for b in bad] == [(Window(0, WIDTH - 20, HEIGHT, WIDTH), str(second))]
    with pytest.raises(RasterError, match="m: tile "):
        joined.read(joined.bounds)


def test_a_layer_of_a_stack_counts_in_pixels_of_the_stack(tmp_path):
    fine = write_geotiff(tmp_path / "a.tif", noise(1, HEIGHT, WIDTH), **placed_at(0, 0))
    coarse = write_geotiff(tmp_path / "b.tif", noise(1, HEIGHT, WIDTH, seed=1), **placed_at(-4, -8, 1.0))
    joined = stack.build([("a", open_any(fine)), ("b", open_any(coarse))], "s")
    good, was_valid = joined.read(joined.bounds)
    spoil(coarse, 0, 1)
    spoil(fine, 2, 0)
    # a block of the coarse file begins 4 rows above the stack
    holes = [Window(0, 120, 124, 80), Window(128, 0, 42, 64)]
    for window in (joined.bounds, Window(100, 100, 50, 50), Window(0, 0, 130, 130)):
        pixels, valid, bad = tolerated(joined, window)
        np.testing.assert_array_equal(valid, was_valid[window.slices()] & ~hole(*holes)[window.slices()])
        np.testing.assert_array_equal(pixels[:, valid], good[:, *window.slices()][:, valid])
        assert {b.window for b in bad} == {h for h in holes if touches(h, window)}


# What is no damage


class Failing:
    """A dataset whose reads fail some times."""

    def __init__(self, dataset, errors):
        self._dataset, self._errors = dataset, errors

    def read(self, *arguments, **options):
        if self._errors:
            raise self._errors.pop()
        return self._dataset.read(*arguments, **options)

    def __getattr__(self, name):
        return getattr(self._dataset, name)


def fail(monkeypatch, errors):
    real = dataset_opening.open_dataset
    monkeypatch.setattr(
        dataset_opening, "open_dataset", lambda path, **options: Failing(real(path, **options), errors)
    )


@pytest.mark.parametrize("failures", range(1, 4))
def test_a_read_that_fails_for_a_moment_damages_nothing(tmp_path, monkeypatch, failures):
    raster = open_any(write_geotiff(tmp_path / "r.tif", noise(1, 64, 64)))
    fail(monkeypatch, [RasterioIOError("Input/output error") for _ in range(failures)])
    _, valid, bad = tolerated(raster, raster.bounds)
    assert valid.all()
    assert bad == []


def chained(error, because):
    try:
        raise error from because
    except RasterioIOError as raised:
        return raised


@pytest.mark.parametrize(
    "error",
    [
        RasterioIOError("HTTP response code: 503"),
        chained(RasterioIOError("Read failed"), CPLE_OutOfMemoryError(3, 2, "no memory")),
    ],
)
def test_networks_and_lack_of_memory_are_no_damage(tmp_path, monkeypatch, error):
    raster = open_any(write_geotiff(tmp_path / "r.tif", noise(1, 64, 64)))
    fail(monkeypatch, [error] * 99)
    with pytest.raises(RasterError) as caught:
        raster.read(raster.bounds, ReadContext(bad=[]))
    assert not isinstance(caught.value, DamageError)


def test_a_remote_raster_is_never_damaged(monkeypatch, tmp_path):
    raster = open_any(write_geotiff(tmp_path / "r.tif", noise(1, 64, 64)))
    monkeypatch.setattr(transient, "REMOTE_PAUSES_S", (0.0,))
    monkeypatch.setattr(handles, "is_remote", lambda _: True)
    fail(monkeypatch, [RasterioIOError("IReadBlock failed")] * 99)
    with pytest.raises(RasterError) as caught:
        raster.read(raster.bounds, ReadContext(bad=[]))
    assert not isinstance(caught.value, DamageError)


@pytest.mark.parametrize("when", ["before", "in between"])
def test_a_file_that_is_gone_is_not_damaged(tmp_path, monkeypatch, when):
    path = write_geotiff(tmp_path / "r.tif", noise(1, HEIGHT, WIDTH), compress="deflate", **TILES)
    raster = open_any(spoil(path))
    if when == "before":
        path.unlink()
    else:
        monkeypatch.setattr(retry.time, "sleep", lambda _: path.unlink(missing_ok=True))
    bad = []
    with pytest.raises(LostError, match=str(path)):
        raster.read(raster.bounds, ReadContext(bad=bad))
    assert bad == []


def test_too_many_open_files_lose_no_file(tmp_path, monkeypatch):
    joined, _, second = mosaic_with_a_bad_tile(tmp_path)
    second.unlink()
    denied = OSError(errno.EMFILE, "Too many open files")
    real = Path.open

    def refuse(path, *arguments, **options):
        if path == second:
            raise denied
        return real(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(RasterError, match="too many open files"):
        joined.read(joined.bounds, ReadContext(bad=[]))


# Labels

SIDE = Window(0, 0, 600, 1100)
BAD = Window(256, 512, 256, 256)
KERNELS = {
    "kmeans of pixels": ("kmeans", 1, 0),
    "kmeans of blocks that divide it": ("kmeans", 4, 0),
    "kmeans of blocks that it cuts": ("kmeans", 3, 2),
    "network": ("cnn", 4, None),
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A sound raster and a damaged copy."""
    folder = tmp_path_factory.mktemp("s")
    y, x = np.mgrid[: SIDE.height, : SIDE.width]
    pixels = np.stack([100 + 60 * np.sin(x / (20 + 9 * b)) * np.cos(y / (31 - 7 * b)) for b in range(3)])
    pixels = (pixels + noise(3, SIDE.height, SIDE.width, high=30)).astype(np.uint8)
    profile = {
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "deflate",
        "interleave": "pixel",
    }
    sound, damaged = (write_geotiff(folder / f"{n}.tif", pixels, **profile) for n in ("sound", "damaged"))
    spoil(damaged, 1, 2)
    return open_segmentable(sound), open_segmentable(damaged)


def fitted(view, kernel):
    with open_pool(Workers("threads", 1)) as pool:
        return fit_codebook([view], kernel, 5, seed=0, method="sample", scale=None, pool=pool)


def labelled(view, kernel, codebook, side, chunk_px):
    """Labels of a view, window by window, and the bad blocks that were met."""
    labels, found = np.empty((view.bounds.height, view.bounds.width), np.uint8), []
    for window in tiles(view.bounds, side):
        lazy = label_window(view, kernel, codebook, window, chunk_px, found)
        labels[window.slices()] = lazy.compute(scheduler="sync")
    return labels, found


@pytest.mark.parametrize("name", KERNELS)
def test_labels_of_a_damaged_raster_are_those_of_any_chunking(scene, name):
    sound, damaged = scene
    method, resolution, reach = KERNELS[name]
    kernel = kernel_from_options(method, resolution)
    codebook = fitted(View.whole(sound), kernel)
    good, _ = labelled(View.whole(sound), kernel, codebook, 2048, 2048)
    view = replace(View.whole(damaged), tolerant=True)
    first, found = labelled(view, kernel, codebook, 2048, 2048)
    assert {b.window for b in found} == {BAD}
    for side, chunk_px in ((1024, 512), (512, 512)):
        labels, found = labelled(view, kernel, codebook, side, chunk_px)
        np.testing.assert_array_equal(labels, first)
        assert {b.window for b in found} == {BAD}
    inside = hole(BAD, bounds=SIDE)
    np.testing.assert_array_equal(first == 255, inside)
    # beyond that, nothing can know of it
    far = ~hole(BAD.grow(kernel.halo_px if reach is None else reach, SIDE), bounds=SIDE)
    np.testing.assert_array_equal(first[far], good[far])


def test_labels_of_a_damaged_raster_computed_by_threads(scene):
    _, damaged = scene
    kernel = kernel_from_options("kmeans", 4)
    view = replace(View.whole(damaged), tolerant=True)
    codebook = fitted(view, kernel)
    found = []
    lazy = label_window(view, kernel, codebook, SIDE, 512, found)
    assert (lazy.compute(scheduler="threads", num_workers=4) == 255).sum() == BAD.pixels
    assert {b.window for b in found} == {BAD}
    with pytest.raises(RasterError):
        label_window(View.whole(damaged), kernel, codebook, SIDE, 512).compute(scheduler="sync")


def test_a_fit_does_not_see_bad_blocks(scene):
    _, damaged = scene
    view = replace(View.whole(damaged), tolerant=True)
    assert fitted(view, kernel_from_options("kmeans", 4)).fit["pixels_seen"] == SIDE.pixels - BAD.pixels
    assert count_colours(view, SIDE)[1].sum() == SIDE.pixels - BAD.pixels
    with pytest.raises(RasterError):
        fitted(View.whole(damaged), kernel_from_options("kmeans", 4))
    with pytest.raises(RasterError):
        count_colours(View.whole(damaged), SIDE)


def test_an_area_of_interest_keeps_the_tolerance(scene):
    view = replace(View.whole(scene[0]), tolerant=True)
    x, y = PLACE["transform"] * (10, 10)
    assert crop(view, interest((x, y - 5, x + 5, y), None), 512).tolerant


# Runs


def test_a_run_labels_all_but_the_bad_block(scene, tmp_path):
    sound, damaged = (r.path for r in scene)
    good = run(RunConfig(sources=(sound,), out=str(tmp_path / "g"), progress="none"))
    assert good.exit_code == 0
    codebook = str(tmp_path / "g" / "codebook.npz")
    same = RunConfig(sources=(damaged,), out=str(tmp_path / "o"), codebook=codebook, progress="none")
    failed = run(same)
    assert failed.exit_code == 1
    assert "cannot read" in failed.failed["damaged"]
    assert not list((tmp_path / "o").glob("*.tif"))
    # the same folder: what is done stays done with another choice
    assert run(same.model_copy(update={"on_bad_chunk": "nodata"})).exit_code == 0
    with (
        rasterio.open(tmp_path / "g" / "sound.tif") as one,
        rasterio.open(tmp_path / "o" / "damaged.tif") as other,
    ):
        expected, labels = one.read(1), other.read(1)
    expected[BAD.slices()] = 255
    np.testing.assert_array_equal(labels, expected)


# As JSON


def test_blocks_of_a_chunk_are_sorted_and_each_once():
    a, b = BadBlock(Window(0, 5, 5, 5), "f", "r"), BadBlock(Window(0, 0, 5, 5), "f", "r")
    chunk = BadBlock(Window(0, 0, 512, 512), "f", "killed", "chunk", "trace\nback")
    far = BadBlock(Window(512, 0, 5, 5), "f", "r")
    found = bad_blocks.of_chunk([a, chunk, far, b, a, replace(b, reason="s")], Window(0, 0, 512, 512))
    assert bad_blocks.from_json(found) == [b, chunk, a]
    assert found[0] == {
        "row": 0, "col": 0, "height": 5, "width": 5,
        "path": "f", "reason": "r", "kind": "source block", "traceback": None,
    }  # fmt: skip
    assert bad_blocks.of_chunk([far], Window(0, 0, 512, 512)) == []
