"""Mosaics: many files as one raster, with the pixels, sample and labels of the uncut one."""

from __future__ import annotations

import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from dask.base import tokenize
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp
from rasterio.transform import Affine, from_origin
from rasterio.windows import Window as FileWindow

from engine.codebook import Codebook
from engine.grid import Window
from pipeline.commands.fit import fit_to_file
from pipeline.commands.plan.plan import plan
from pipeline.config import RunConfig, build
from pipeline.config_file import load_file
from pipeline.errors import RasterError, UsageError
from pipeline.running.inputs import open_inputs
from pipeline.running.run import run
from pipeline.source import bad_blocks
from pipeline.source.gdal import handles
from pipeline.source.joined import mosaic_building
from pipeline.source.joined.mosaic import Mosaic
from pipeline.source.opening import open_numbered
from pipeline.workers.pool import Workers, open_pool
from tests.rasters import level_arrays, noise, write_geotiff
from tests.strategies import windows_in

PLACE = from_origin(500000.3, 5800000.7, 0.3, 0.3)


def cut(source, folder, rows, cols):
    """Cut a raster into files; gives their paths, row by row."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with rasterio.open(source) as dataset:
        ys = [dataset.height * i // rows for i in range(rows + 1)]
        xs = [dataset.width * i // cols for i in range(cols + 1)]
        for r in range(rows):
            for c in range(cols):
                window = FileWindow(xs[c], ys[r], xs[c + 1] - xs[c], ys[r + 1] - ys[r])
                profile = dataset.profile | {
                    "width": window.width,
                    "height": window.height,
                    "transform": dataset.window_transform(window),
                }
                paths.append(folder / f"t{r}_{c}.tif")
                with rasterio.open(paths[-1], "w", **profile) as tile:
                    tile.write(dataset.read(window=window))
                    tile.colorinterp = dataset.colorinterp
    return paths


def mosaic_of(paths, overlap="first"):
    return mosaic_building.build((open_numbered(str(p)) for p in paths), overlap, "m")


def labels(out, name):
    return level_arrays(out / f"{name}.tif")


def segmented(sources, out, **options):
    report = run(RunConfig(sources=tuple(map(str, sources)), out=str(out), segments=5, **options))
    assert not report.failed, report.failed
    return report


# Pixels


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A raster of a real shape with nodata and an alpha band, the same cut into 35 tiles, and its pixels."""
    folder = tmp_path_factory.mktemp("mosaic")
    pixels = noise(4, 260, 331)
    pixels[3] = 255
    pixels[3, 100:140, 90:200] = 0
    pixels[:3, 20:90, 30:60] = 0
    source = write_geotiff(
        folder / "whole.tif", pixels, transform=PLACE, nodata=0, photometric="RGB", alpha="YES"
    )
    return source, cut(source, folder / "tiles", 5, 7)


def test_a_mosaic_is_what_was_cut(scene):
    source, tiles = scene
    whole, joined = open_numbered(str(source)), mosaic_of(tiles)
    assert joined.identity == whole.identity
    assert (joined.bands, joined.dtype, joined.georeference) == (whole.bands, whole.dtype, whole.georeference)
    for found, wanted in zip(joined.read(joined.bounds), whole.read(whole.bounds), strict=True):
        np.testing.assert_array_equal(found, wanted)


@settings(max_examples=60)
@given(data=st.data())
def test_any_window_of_a_mosaic_is_that_of_the_uncut_raster(scene, data):
    source, tiles = scene
    whole, joined = open_numbered(str(source)), mosaic_of(data.draw(st.permutations(tiles)))
    window = data.draw(windows_in(whole.bounds))
    pixels, valid = whole.read(window)
    found, here = joined.read(window)
    np.testing.assert_array_equal(here, valid)
    np.testing.assert_array_equal(found[:, valid], pixels[:, valid])
    assert joined.covers(window)


@pytest.mark.parametrize(
    "transform",
    [
        from_origin(1.1, 2.2, 1 / 3, 1 / 7),
        Affine(0.3, 0, 10, 0, 0.3, 20),
        Affine(-0.3, 0, 10, 0, -0.2, 20),
        Affine(0.3, 0.1, 500000, 0.1, -0.3, 6e6),
    ],
)
def test_grids_of_every_direction_are_put_together_exactly(tmp_path, transform):
    source = write_geotiff(tmp_path / "r.tif", noise(1, 90, 101, dtype="int16"), transform=transform)
    tiles = cut(source, tmp_path / "t", 3, 4)
    whole, joined = open_numbered(str(source)), mosaic_of(tiles[::-1])
    assert joined.identity == whole.identity
    np.testing.assert_array_equal(joined.read(joined.bounds)[0], whole.read(whole.bounds)[0])


def test_gaps_are_invalid_and_known_to_be_empty(scene):
    source, tiles = scene
    whole, joined = open_numbered(str(source)), mosaic_of([t for t in tiles if t.name != "t2_3.tif"])
    assert joined.identity == whole.identity
    valid, here = whole.read(whole.bounds)[1], joined.read(joined.bounds)[1]
    gap = Window(104, 141, 52, 48)
    assert not here[gap.slices()].any()
    assert not joined.covers(gap)
    assert not joined.read_stack(gap)[-1].any()
    valid[gap.slices()] = False
    np.testing.assert_array_equal(here, valid)


def test_a_missing_corner_leaves_the_grid_where_it_is(scene):
    source, tiles = scene
    assert mosaic_of(tiles[1:]).identity == open_numbered(str(source)).identity


def test_each_tile_keeps_its_own_nodata_mask_and_alpha(tmp_path):
    def tile(i, pixels, **profile):
        place = from_origin(100 + 4 * i, 50, 1, 1)
        return write_geotiff(tmp_path / f"{i}.tif", np.asarray(pixels, np.uint8), transform=place, **profile)

    row = [[[7, 0, 9, 255]]]
    tiles = [
        tile(0, row, nodata=0),
        tile(1, row, nodata=255),
        tile(2, row),
        tile(3, [[[7, 0, 9, 255]], [[255, 255, 0, 255]]], photometric="MINISBLACK", alpha="YES"),
        tile(4, row),
    ]
    with rasterio.open(tiles[3], "r+") as dataset:
        dataset.colorinterp = [ColorInterp.gray, ColorInterp.alpha]
    with rasterio.open(tiles[4], "r+") as dataset:
        dataset.write_mask(np.array([[False, True, True, True]]))
    joined = mosaic_of(tiles)
    valid = joined.read(joined.bounds)[1].astype(int).reshape(5, 4)
    assert ["".join(map(str, tile)) for tile in valid] == ["1011", "1110", "1111", "1101", "0111"]
    assert len(joined.kinds) == 5


def test_tiles_whose_nodata_is_nan_are_of_one_kind(tmp_path):
    tiles = [
        write_geotiff(
            tmp_path / f"{i}.tif",
            np.full((4, 4), i, np.float32),
            nodata=np.nan,
            transform=from_origin(4 * i, 0, 1, 1),
        )
        for i in range(3)
    ]
    assert len(mosaic_of(tiles).kinds) == 1


# Overlaps


@pytest.fixture
def overlapping(tmp_path):
    """Three tiles of 10 x 10 that overlap by 6, of one value each, the first with a nodata hole."""
    tiles = []
    for i in range(3):
        pixels = np.full((10, 10), i + 1, np.uint16)
        if i == 0:
            pixels[:, 7] = 0
        place = from_origin(4 * i, 0, 1, 1)
        tiles.append(write_geotiff(tmp_path / f"{i}.tif", pixels, nodata=0, transform=place))
    return tiles


def line(raster):
    pixels, valid = raster.read(Window(4, 0, 1, raster.width))
    return "".join(str(p) if v else "." for p, v in zip(pixels[0, 0], valid[0], strict=True))


def test_where_tiles_overlap_the_first_given_wins_where_it_is_valid(overlapping):
    assert line(mosaic_of(overlapping)) == "111111121122223333"
    assert line(mosaic_of(overlapping[::-1])) == "111122223333333333"


def test_or_the_tile_whose_centre_is_nearest(overlapping):
    # centres at 5, 9 and 13; halfway between two, the first given
    assert line(mosaic_of(overlapping, "nearest-centre")) == "111111122223333333"
    assert line(mosaic_of(overlapping[::-1], "nearest-centre")) == "111111122223333333"


@settings(max_examples=30)
@given(data=st.data(), overlap=st.sampled_from(["first", "nearest-centre"]))
def test_overlaps_do_not_depend_on_the_window(tmp_path_factory, data, overlap):
    folder = tmp_path_factory.mktemp("overlap")
    tiles = []
    for i in range(data.draw(st.integers(1, 6))):
        row, col, height, width = (data.draw(st.integers(low, 30)) for low in (0, 0, 1, 1))
        pixels = noise(1, height, width, seed=i, low=0, high=9, dtype="int16")
        place = from_origin(col, -row, 1, 1)
        tiles.append(write_geotiff(folder / f"{i}.tif", pixels, nodata=0, transform=place))
    joined = mosaic_of(tiles, overlap)
    whole = joined.read_stack(joined.bounds)
    window = data.draw(windows_in(joined.bounds))
    np.testing.assert_array_equal(joined.read_stack(window), whole[:, *window.slices()])
    # the oracle goes pixel by pixel
    row, col = data.draw(st.integers(0, joined.height - 1)), data.draw(st.integers(0, joined.width - 1))
    x, y = joined.georeference.transform[2] + col + 0.5, joined.georeference.transform[5] - row - 0.5
    best = None
    for path in tiles:
        with rasterio.open(path) as dataset:
            r, c = dataset.index(x, y)
            if 0 <= r < dataset.height and 0 <= c < dataset.width and (value := dataset.read(1)[r, c]):
                off = (2 * r + 1 - dataset.height) ** 2 + (2 * c + 1 - dataset.width) ** 2
                if best is None or (overlap != "first" and off < best[0]):
                    best = off, value
    pixel = whole[:, row, col]
    assert (pixel[1] == 0) if best is None else (pixel.tolist() == [best[1], 1])


# What does not fit


def refused(paths, *said):
    with pytest.raises(UsageError) as caught:
        mosaic_of(paths)
    text = str(caught.value)
    assert text.startswith("--mosaic: ")
    assert "\n" not in text
    for one in said:
        assert str(one) in text
    return text


def at(x, y, width=0.5, height=0.5):
    return {"transform": from_origin(500000 + x, 5800000 + y, width, height)}


@pytest.mark.parametrize(
    ("profile", "dtype", "bands", "why"),
    [
        ({"crs": "EPSG:32634"}, "uint8", 3, "its CRS is EPSG:32634, not EPSG:32633"),
        ({"crs": None}, "uint8", 3, "its CRS is none"),
        (at(20, 0, 1, 1), "uint8", 3, "its pixel size is 1 x -1, not 0.5 x -0.5"),
        (at(20, 0, 0.5, 0.51), "uint8", 3, "its pixel size is 0.5 x -0.51, not 0.5 x -0.5"),
        (at(20.2, 0.05), "uint8", 3, "its grid offset is 0.40, 0.90 of a pixel"),
        ({"transform": Affine(0.5, 0.1, 500000, 0.1, -0.5, 5800000)}, "uint8", 3, "pixel size"),
        ({"transform": Affine.identity()}, "uint8", 3, "no transform"),
        ({}, "uint8", 1, "it has 1 bands, not 3"),
        ({}, "uint16", 3, "its dtype is uint16, not uint8"),
    ],
)
def test_the_first_tile_that_does_not_fit_is_named_with_the_reason(tmp_path, profile, dtype, bands, why):
    first = write_geotiff(tmp_path / "first.tif", noise(3, 20, 20))
    second = write_geotiff(tmp_path / "second.tif", noise(3, 20, 20), **at(10, 0))
    other = write_geotiff(tmp_path / "other.tif", noise(bands, 20, 20, dtype=dtype), **profile)
    refused([first, second, other, other], f"{other} does not fit {first}: ", why)


def test_a_grid_that_is_off_by_rounding_alone_fits(tmp_path):
    first = write_geotiff(tmp_path / "a.tif", noise(1, 50, 50), transform=from_origin(10, 20, 0.1, 0.1))
    other = write_geotiff(
        tmp_path / "b.tif", noise(1, 50, 50), transform=from_origin(15.0001, 19.9999, 0.10000001, 0.1)
    )
    assert (mosaic_of([first, other]).width, mosaic_of([first, other]).height) == (100, 50)


def test_tiles_at_the_ends_of_the_world_are_refused(tmp_path):
    first = write_geotiff(tmp_path / "a.tif", noise(1, 5, 5), transform=from_origin(0, 0, 1, 1))
    other = write_geotiff(tmp_path / "b.tif", noise(1, 5, 5), transform=from_origin(1e6, 1e6, 1, 1))
    refused([first, other], "1000005 x 1000005 px", "too far apart")


def test_a_mosaic_that_does_not_fit_is_a_fault_of_usage_and_writes_nothing(scene, tmp_path):
    _, tiles = scene
    other = write_geotiff(tmp_path / "other.tif", noise(1, 9, 9))
    config = RunConfig(sources=(*map(str, tiles), str(other)), out=str(tmp_path / "o"), mosaic=True)
    with pytest.raises(UsageError, match=re.escape(str(other))):
        run(config)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("damage", ["gone", "cut", "text"])
def test_a_tile_that_cannot_be_read_fails_the_mosaic_and_is_named(scene, tmp_path, damage):
    source, _ = scene
    tiles = cut(source, tmp_path / "t", 2, 2)
    raw = tiles[3].read_bytes()
    tiles[3].write_bytes({"gone": b"", "cut": raw[: len(raw) // 2], "text": b"no raster"}[damage])
    report = run(RunConfig(sources=tuple(map(str, tiles)), out=str(tmp_path / "o"), mosaic=True))
    assert report.exit_code == 1
    (said,) = report.failed.values()
    assert "mosaic of 4 tiles" in said
    assert f"tile {tiles[3]}: " in said
    assert "\n" not in said
    assert not list((tmp_path / "o").glob("*.tif"))


def test_a_tile_that_goes_away_during_a_run_is_named(scene, tmp_path, monkeypatch):
    monkeypatch.setattr(bad_blocks, "RETRY_AFTER_S", (0.0,))
    source, _ = scene
    tiles = cut(source, tmp_path / "t", 2, 2)
    joined = mosaic_of(tiles)
    tiles[2].unlink()
    with pytest.raises(RasterError, match=re.escape(f"m: tile {tiles[2]}: cannot read rows 0 to")):
        joined.read(joined.bounds)
    assert joined.read(Window(0, 0, 20, 300))[1].any()


# Runs


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A raster of several chunks with holes, cut into 100 ragged tiles, and a run on the uncut one."""
    folder = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:1333, :1571]
    pixels = np.stack([(x * 0.1 + 40 * np.sin(y / (90 + 30 * b))) % 200 for b in range(3)])
    pixels = (pixels + rng.integers(1, 40, pixels.shape)).astype(np.uint8)
    pixels[:, 300:420, 500:900] = 0
    pixels[:, :, -40:] = 0
    profile = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate"}
    source = write_geotiff(folder / "whole.tif", pixels, transform=PLACE, nodata=0, **profile)
    tiles = cut(source, folder / "tiles", 10, 10)
    segmented([source], folder / "out")
    return source, tiles, folder / "out"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunk_size": 512, "workers": "2"},
        {"chunk_size": 512, "workers": "processes:2"},
        {"overlap": "nearest-centre"},
        {"chunk_size": 1024, "resolution": 3},
        {"fit": "exact"},
        {"bands": "b3,(b1-b2)/(b1+b2)"},
        {"extent": (500200, 5799700, 500400, 5799850)},
    ],
)
def test_a_mosaic_of_a_hundred_tiles_has_the_labels_of_the_uncut_raster(large, tmp_path, options):
    source, tiles, _ = large
    alike = {k: v for k, v in options.items() if k in ("resolution", "fit", "bands", "extent")}
    segmented([source], tmp_path / "whole", **alike)
    segmented([tiles[0].parent], tmp_path / "m", mosaic=True, **options)
    found, wanted = labels(tmp_path / "m", "mosaic"), labels(tmp_path / "whole", "whole")
    assert [f.tobytes() for f in found] == [w.tobytes() for w in wanted]
    books = [Codebook.load(tmp_path / o / "codebook.npz").content_hash for o in ("m", "whole")]
    assert books[0] == books[1]


def part_of(name, side):
    r, c = map(int, re.fullmatch(r"mosaic_r(\d{3})_c(\d{3})", name).groups())
    return slice(r * side, (r + 1) * side), slice(c * side, (c + 1) * side)


@pytest.mark.parametrize("side", [512, 1024, 4096])
def test_output_tiles_are_the_parts_of_the_uncut_labels(large, tmp_path, side):
    _, tiles, out = large
    report = segmented([tiles[0].parent], tmp_path / "m", mosaic=True, output_tiles=side, chunk_size=512)
    whole = labels(out, "whole")[0]
    # the uncut raster ends in columns of nodata, of which a whole output tile may consist
    assert len(report.done) + len(report.skipped) == -(-whole.shape[0] // side) * -(-whole.shape[1] // side)
    for name in report.skipped:
        assert (whole[part_of(name, side)] == 255).all()
    for name in report.done:
        rows, cols = part_of(name, side)
        with rasterio.open(tmp_path / "m" / f"{name}.tif") as dataset:
            np.testing.assert_array_equal(dataset.read(1), whole[rows, cols])
            with rasterio.open(out / "whole.tif") as uncut:
                expected = uncut.window_transform(FileWindow(cols.start, rows.start, 1, 1))
            assert tuple(dataset.transform) == pytest.approx(tuple(expected), rel=1e-14)
    assert (tmp_path / "m" / "codebook.npz").read_bytes() == (out / "codebook.npz").read_bytes()


def test_output_tiles_of_an_extent_lie_on_the_grid_of_the_whole(large, tmp_path):
    _, tiles, out = large
    extent = (500200, 5799700, 500400, 5799850)
    options = {"mosaic": True, "output_tiles": 512, "extent": extent}
    report = segmented([tiles[0].parent], tmp_path / "m", codebook=str(out / "codebook.npz"), **options)
    whole = labels(out, "whole")[0]
    assert sorted(report.done) == [f"mosaic_r00{r}_c00{c}" for r in (0, 1) for c in (1, 2)]
    for name in report.done:
        part, place = labels(tmp_path / "m", name)[0], part_of(name, 512)
        inside = part != 255
        assert inside.any()
        np.testing.assert_array_equal(part[inside], whole[place][inside])


@pytest.mark.parametrize("workers", ["2", "processes:1"])
def test_output_tiles_without_pixels_are_passed_over_and_others_done(large, tmp_path, workers):
    _, tiles, _ = large
    # two corners and, in between, a tile of nodata alone
    empty = tmp_path / "empty.tif"
    with rasterio.open(tiles[55]) as dataset, rasterio.open(empty, "w", **dataset.profile) as target:
        target.write(np.zeros(dataset.shape, np.uint8), 1)
    some = [tiles[0], empty, tiles[-2]]
    report = segmented(some, tmp_path / "m", mosaic=True, output_tiles=512, workers=workers)
    assert sorted(report.done) == ["mosaic_r000_c000", "mosaic_r002_c002"]
    assert report.skipped == ["mosaic_r001_c001"]
    assert report.exit_code == 0
    assert len(list((tmp_path / "m").glob("*.tif"))) == 2


def test_a_mosaic_is_done_once_and_notices_a_tile_that_changed(large, tmp_path):
    source, _, _ = large
    tiles = cut(source, tmp_path / "t", 2, 3)
    segmented([tmp_path / "t"], tmp_path / "m", mosaic=True)
    assert segmented([tmp_path / "t"], tmp_path / "m", mosaic=True).skipped == ["mosaic"]
    with rasterio.open(tiles[4], "r+") as dataset:
        dataset.write(np.full((3, 9, 9), 77, np.uint8), window=FileWindow(0, 0, 9, 9))
    with pytest.raises(UsageError, match="the input has changed"):
        segmented([tmp_path / "t"], tmp_path / "m", mosaic=True)


def test_the_run_json_of_a_mosaic_makes_the_same_bytes_again(large, tmp_path):
    _, tiles, _ = large
    segmented([tiles[0].parent], tmp_path / "m", mosaic=True)
    again = build({**load_file(str(tmp_path / "m" / "run.json"))[0], "out": str(tmp_path / "again")})
    assert again.sources == (str(tiles[0].parent),)
    assert not run(again).failed
    assert (tmp_path / "again" / "mosaic.tif").read_bytes() == (tmp_path / "m" / "mosaic.tif").read_bytes()


def test_a_mosaic_does_not_overwrite_its_tiles(tmp_path):
    write_geotiff(tmp_path / "mosaic.tif", noise(1, 9, 9))
    with pytest.raises(UsageError, match=r"mosaic\.tif: the outputs .* would overwrite this input"):
        run(RunConfig(sources=(str(tmp_path),), out=str(tmp_path), mosaic=True))


def test_plan_and_fit_see_the_mosaic_too(large, tmp_path):
    source, tiles, out = large
    folder = (str(tiles[0].parent),)
    found = plan(RunConfig(sources=folder, mosaic=True, chunk_size=512))
    alone = plan(RunConfig(sources=(str(source),), chunk_size=512))
    assert (found.rasters, found.pixels, found.chunks) == (1, alone.pixels, alone.chunks)
    parts = plan(RunConfig(sources=folder, mosaic=True, output_tiles=1024, chunk_size=512))
    assert (parts.rasters, parts.pixels) == (4, alone.pixels)
    fit_to_file(RunConfig(sources=folder, mosaic=True, segments=5, progress="none"), tmp_path / "c.npz")
    books = [Codebook.load(p).content_hash for p in (tmp_path / "c.npz", out / "codebook.npz")]
    assert books[0] == books[1]


# Bounds


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A mosaic of 10,000 tiles that stand in no file."""
    path = write_geotiff(tmp_path_factory.mktemp("many") / "k.tif", noise(3, 4, 4), nodata=0)
    kind = open_numbered(str(path))

    def tile(i):
        transform = (0.5, 0, 64.0 * (i % 100), 0, -0.5, -64.0 * (i // 100))
        place = replace(kind.georeference, transform=transform)
        return replace(kind.moved(f"/data/tiles/tile_{i:05d}.tif", 128, 128), georeference=place)

    return mosaic_building.build((tile(i) for i in range(10_000)), "first", "m")


def test_ten_thousand_tiles_are_small_as_a_task_and_known_once(many):
    packed = pickle.dumps(many)
    assert len(packed) < 200_000
    again = pickle.loads(packed)
    assert isinstance(again, Mosaic)
    assert again.identity == many.identity
    assert pickle.loads(packed) is again
    assert tokenize(again) == tokenize(many)
    assert len(many.kinds) == 1


def test_the_tiles_of_a_window_are_those_that_share_pixels_with_it(many):
    rng = np.random.default_rng(1)
    for _ in range(50):
        row, col = (int(v) for v in rng.integers(0, 12_000, 2))
        height, width = (int(v) for v in rng.integers(1, 600, 2))
        window = Window(row, col, height, width)
        wanted = {
            100 * r + c
            for r in range(row // 128, -(-window.row_end // 128))
            for c in range(col // 128, -(-window.col_end // 128))
        }
        found = [int(i) for i in many.tiles.touching(window)]
        assert [int(many.tiles.ranks[i]) for i in found] == sorted(wanted)
        places = [many.tiles.window(i) for i in found]
        assert {p.row // 128 * 100 + p.col // 128 for p in places} == wanted


def test_handles_stay_few_however_many_tiles_a_window_touches(scene):
    source, _ = scene
    joined = mosaic_of(cut(source, source.parent / "more", 13, 11))
    joined.read(joined.bounds)
    assert len(handles._local.handles) <= handles._PER_THREAD


def test_options_of_a_mosaic_belong_to_a_mosaic():
    for options in ({"overlap": "nearest-centre"}, {"output_tiles": 512}):
        with pytest.raises(UsageError, match="belong to --mosaic"):
            RunConfig(sources=("a",), **options)
    with pytest.raises(UsageError, match="multiple of 512"):
        RunConfig(sources=("a",), mosaic=True, output_tiles=700)
    with pytest.raises(UsageError, match="codebook"):
        RunConfig(sources=("a",), mosaic=True, output_tiles=512, codebook_scope="raster")
    with pytest.raises(UsageError, match="leave SOURCE and --mosaic out"):
        RunConfig(stack="a=b", mosaic=True)


def test_opening_a_mosaic_says_how_far_it_is(scene):
    _, tiles = scene
    heard = []
    with open_pool(Workers("threads", 1)) as pool:
        config = RunConfig(sources=tuple(map(str, tiles)), mosaic=True)
        opened = open_inputs(config, pool, 512, advance=lambda done, total: heard.append((done, total)))
    assert heard == [(i, 35) for i in range(1, 36)]
    assert [one.source.name for one in opened.inputs] == ["mosaic"]
    assert opened.inputs[0].source.files == tuple(map(str, tiles))


def test_output_tiles_are_whole_cells_of_the_kernel(tmp_path):
    source = write_geotiff(tmp_path / "a.tif", noise(3, 1600, 1600))
    given = {"method": "cnn", "resolution": 16, "mosaic": True, "output_tiles": 1536}
    with pytest.raises(UsageError, match="the cells of this network are 1024 px"):
        run(RunConfig(sources=(str(source),), out=str(tmp_path / "out"), **given))
    assert not (tmp_path / "out").exists()
