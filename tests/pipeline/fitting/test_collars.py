"""A colour that fills a part of a raster up to its edge is noticed; what is frequent or declared is not."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from engine.grid import Window
from pipeline.config import RunConfig
from pipeline.fitting.collars import Collars, flat_colours
from pipeline.running.run import run
from tests.rasters import noise, write_geotiff


def plain(pixels, valid, cell, bounds):
    """The same by looking at each square."""
    bands, height, width = pixels.shape
    counts, edge = {}, set()
    for y in range(height // 8):
        for x in range(width // 8):
            square = np.s_[y * 8 : y * 8 + 8, x * 8 : x * 8 + 8]
            colours = {tuple(c) for c in pixels[:, *square].reshape(bands, -1).T.tolist()}
            if len(colours) > 1 or not valid[square].all():
                continue
            (colour,) = colours
            counts[colour] = counts.get(colour, 0) + 1
            top, left = y == 0 and cell.row == bounds.row, x == 0 and cell.col == bounds.col
            bottom = y == height // 8 - 1 and cell.row_end == bounds.row_end
            right = x == width // 8 - 1 and cell.col_end == bounds.col_end
            if top or left or bottom or right:
                edge.add(colour)
    frequent = sorted(counts, key=lambda colour: (-counts[colour], colour))[:8]
    return (height // 8) * (width // 8), {c: counts[c] for c in frequent}, edge.intersection(frequent)


@given(data=st.data())
def test_squares_of_one_colour_are_counted_and_those_at_the_edge_known(data):
    height, width = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60))
    bands = data.draw(st.integers(1, 4))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    coarse = rng.integers(0, 2, (bands, 8, 8)).astype(np.uint8) * 200
    pixels = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    pixels[:, rng.random((height, width)) < 0.01] = 7
    valid = rng.random((height, width)) > 0.005
    cell = Window(data.draw(st.integers(0, 1)) * 512, data.draw(st.integers(0, 1)) * 512, height, width)
    bounds = Window(
        0, 0, cell.row_end + data.draw(st.integers(0, 1)), cell.col_end + data.draw(st.integers(0, 1))
    )
    seen = flat_colours(pixels, valid, cell, bounds)
    assert (seen.squares, seen.counts, set(seen.at_edge)) == plain(pixels, valid, cell, bounds)


def test_the_share_is_of_all_cells_of_a_raster_and_rasters_are_kept_apart():
    bounds, cell = Window(0, 0, 800, 800), Window(0, 0, 400, 400)
    pixels, valid = noise(3, 400, 400), np.ones((400, 400), bool)
    pixels[:, :40] = 0
    collars = Collars()
    for raster in (0, 0, 1):
        collars.add(raster, flat_colours(pixels, valid, cell, bounds))
    collars.add(1, flat_colours(noise(3, 400, 400), valid, Window(400, 400, 400, 400), bounds))
    assert [collars.of(i) for i in range(3)] == [((0, 0, 0), 0.1), ((0, 0, 0), 0.05), None]


# In a run


def collared(path, colour=(0, 0, 0), rows=32, **profile):
    pixels = noise(3, 600, 700)
    pixels[:, :rows] = np.array(colour, np.uint8)[:, None, None]
    return write_geotiff(path, pixels, **profile)


def hints(source, out, **options):
    """The warnings of a run."""
    assert not run(RunConfig(sources=(str(source),), out=str(out), segments=3, **options)).failed
    events = map(json.loads, (out / "run.log.jsonl").read_text().splitlines())
    return [event["message"] for event in events if event["event"] == "warning"]


@pytest.mark.parametrize(
    "options", [{}, {"chunk_size": 512, "workers": "2"}, {"method": "cnn", "device": "cpu"}]
)
def test_a_collar_that_nothing_declares_is_one_line_in_the_run(tmp_path, options):
    source = collared(tmp_path / "a.tif")
    (hint,) = hints(source, tmp_path / "o", **options)
    assert hint == (
        f"{source}: about 5% has the one colour 0,0,0 up to the edge, and nothing declares nodata; "
        "if that is a collar, give --nodata 0 (or --nodata none, if it is not)"
    )
    assert hints(source, tmp_path / "p", nodata="0", **options) == []


def test_the_value_to_declare_is_that_of_each_band(tmp_path):
    source = collared(tmp_path / "a.tif", (1, 2, 3))
    assert "give --nodata 1,2,3 (or" in hints(source, tmp_path / "o")[0]
    assert "give --nodata (or" in hints(source, tmp_path / "p", bands="3,2,1")[0]


def test_what_is_declared_or_too_little_or_inside_or_wider_is_no_collar(tmp_path):
    rasters = {
        "tagged": collared(tmp_path / "a.tif", nodata=0),
        "another": collared(tmp_path / "b.tif", nodata=9),
        "small": collared(tmp_path / "c.tif", rows=4),
        "wide": write_geotiff(
            tmp_path / "w.tif", np.zeros((1, 600, 600), "uint16") + np.arange(600, dtype="uint16")
        ),
    }
    pixels = noise(3, 600, 600)
    pixels[:, 100:300, 100:300] = 255
    rasters["inside"] = write_geotiff(tmp_path / "d.tif", pixels)
    masked = rasters["masked"] = collared(tmp_path / "m.tif")
    with rasterio.open(masked, "r+") as dataset:
        dataset.write_mask(np.eye(600, 700) == 0)
    # a grey value may be in more than 1 % of the pixels of a picture of one band
    rasters["grey"] = write_geotiff(tmp_path / "g.tif", noise(1, 600, 600, high=20))
    assert {n: hints(path, tmp_path / n) for n, path in rasters.items()} == {n: [] for n in rasters}
    assert hints(collared(tmp_path / "e.tif"), tmp_path / "e", nodata="none") == []


def test_no_real_picture_has_a_hint_but_those_with_a_collar(rasters, tmp_path):
    smallest = sorted(rasters.glob("*.tif"), key=lambda p: p.stat().st_size)[:6]
    for i, path in enumerate(smallest):
        found = hints(path, tmp_path / str(i))
        with rasterio.open(path) as dataset:
            pixels = dataset.read((1, 2, 3))
            masked = dataset.nodata is not None or not dataset.dataset_mask().all()
        black = [(pixels == v).all(axis=0).mean() for v in (0, 255)]
        assert bool(found) <= (max(black) > 0.01 and not masked), (path, found, black)
