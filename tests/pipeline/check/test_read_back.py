"""Finished files against what was written: every altered label, tile and byte is noticed."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import rasterio

from engine.grid import Window, tiles
from pipeline.api.writing import write
from pipeline.check import read_back as check_labels
from pipeline.check.read_back import at_step, check_window, labels_crc
from pipeline.check.seams import Borders, Seams, count_seams
from pipeline.durable.checksums import checksum
from pipeline.errors import RasterError
from pipeline.sinks.pyramid import stages
from pipeline.source import bad_blocks
from pipeline.source.gdal import handles
from tests.rasters import label_array, naive_halves, patchy_labels

SHAPE = (1400, 2300)
CHUNK = 1024


@pytest.fixture(scope="module")
def labels():
    found = patchy_labels(*SHAPE)
    found[:512, :512] = 255  # a tile that is stored nowhere
    return found


@pytest.fixture(scope="module", params=["cog", "zarr2", "zarr3"])
def made(request, labels, tmp_path_factory):
    """A finished file and what GDAL opens of it."""
    folder = tmp_path_factory.mktemp("made")
    name, version = ("x.tif", 3) if request.param == "cog" else ("x.zarr", int(request.param[-1]))
    path = write(label_array(labels), folder / name, chunk_size=CHUNK, zarr_version=version)
    return path, path if request.param == "cog" else path.with_suffix(".vrt")


@pytest.fixture
def copy(made, tmp_path, monkeypatch):
    """A copy of it that a test may spoil."""
    monkeypatch.setattr(bad_blocks, "RETRY_AFTER_S", (0.0,))
    shutil.copytree(made[0].parent, tmp_path / "copy")
    return tmp_path / "copy" / made[0].name, tmp_path / "copy" / made[1].name


def expectation(labels):
    """For each stage, the checksums of its units' levels by a plain reading."""
    levels = naive_halves(labels)
    return [
        (
            stage,
            {
                unit: [
                    labels_crc(levels[stage.level + step][at_step(stage.window(unit), step).slices()])
                    for step in range(stage.levels)
                ]
                for unit in stage.units()
            },
        )
        for stage in stages(*SHAPE, CHUNK)
    ]


def check_all(path, labels, borders=None, side=CHUNK):
    seams = Seams()
    for stage, expected in expectation(labels):
        for window in tiles(
            Window(0, 0, stage.height, stage.width), side if stage.index == 0 else stage.unit_px
        ):
            seams += check_window(path, stage, window, expected, borders if stage.index == 0 else None)
    return seams


@pytest.mark.parametrize("side", [CHUNK, 2 * CHUNK])
def test_a_whole_file_passes_and_its_seams_are_counted_on_the_way(made, labels, side):
    borders = Borders.of(512, 1)
    found = check_all(made[1], labels, borders, side)
    whole = count_seams(labels, Window(0, 0, *SHAPE), borders)
    assert (found.pairs, found.changes) == (whole.pairs, whole.changes)


def test_checksums_are_crc32c_of_the_bytes_row_by_row():
    assert labels_crc(np.frombuffer(b"123456789", np.uint8).reshape(3, 3)) == 0xE3069283
    labels = patchy_labels(500, 301)
    padded = np.zeros((501, 302), np.uint8)
    padded[1:, 1:] = labels
    assert labels_crc(padded[1:, 1:]) == labels_crc(labels)


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_one_other_label_at_any_level_is_named(made, labels, level):
    found = expectation(labels)
    for stage, expected in found:
        for unit, sums in expected.items():
            if stage.level <= level < stage.level + stage.levels:
                wrong = {**expected, unit: [s ^ (k == level - stage.level) for k, s in enumerate(sums)]}
                with pytest.raises(RasterError, match=rf"{made[1].name}: level {level}, rows \d+ to \d+"):
                    check_window(made[1], stage, stage.window(unit), wrong)


def stored_files(path):
    return (
        [path]
        if path.is_file()
        else sorted(
            p
            for p in path.rglob("*")
            if "labels" in p.parts[:-1] and p.is_file() and not p.name.startswith((".", "zarr"))
        )
    )


def test_altered_bytes_amid_the_labels_are_noticed(copy, labels):
    path, opened = copy
    chance = np.random.default_rng(0)
    for _ in range(12):
        file = chance.choice([f for f in stored_files(path) if f.suffix != ".vrt"])
        raw = file.read_bytes()
        altered = bytearray(raw)
        # the second half is full resolution alone, in a COG; shards begin with directories that GDAL needs
        at = int(chance.integers(len(raw) // 2, len(raw) * 9 // 10))
        altered[at : at + 4] = bytes(b ^ 0x5A for b in altered[at : at + 4])
        file.write_bytes(altered)
        with pytest.raises(RasterError, match=opened.name):
            check_all(opened, labels)
        file.write_bytes(raw)
        handles.forget(str(opened))
    check_all(opened, labels)


def test_a_file_cut_short_or_gone_is_noticed(copy, labels):
    path, opened = copy
    for file in stored_files(path)[:4]:
        raw = file.read_bytes()
        for kept in (len(raw) * 3 // 4, 100):
            file.write_bytes(raw[:kept])
            handles.forget(str(opened))
            with pytest.raises(RasterError, match=opened.name):
                check_all(opened, labels)
        file.unlink()
        handles.forget(str(opened))
        with pytest.raises(RasterError, match=opened.name):
            check_all(opened, labels)
        file.write_bytes(raw)


def test_a_smaller_file_of_the_same_name_is_noticed(tmp_path, labels):
    path = write(label_array(labels[:1200]), tmp_path / "x.tif", chunk_size=CHUNK)
    with pytest.raises(RasterError, match=r"x\.tif: level 0, rows 1024 to 1399.*ends before"):
        check_all(path, labels)


def test_every_level_of_a_window_is_one_read(made, labels, monkeypatch):
    reads = []
    real = check_labels.read_labels
    monkeypatch.setattr(check_labels, "read_labels", lambda *a: reads.append(a[1]) or real(*a))
    stage, expected = expectation(labels)[0]
    check_window(made[1], stage, stage.window((1, 1)), expected, Borders.of(512, 1))
    assert reads == list(range(stage.levels))


def test_the_checksum_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert (
        checksum(tmp_path / "a") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_the_checksum_of_a_folder_is_that_of_its_names_and_bytes(tmp_path):
    folder = tmp_path / "s"
    (folder / "c" / "0").mkdir(parents=True)
    (folder / "c" / "0" / "1").write_bytes(b"one")
    (folder / "z").write_bytes(b"two")
    sums = [checksum(folder)]
    assert checksum(folder) == sums[0]
    for change in (
        lambda: (folder / "z").write_bytes(b"twp"),
        lambda: (folder / "z").rename(folder / "y"),
        lambda: (folder / "c" / "0" / "1").rename(folder / "c" / "1"),
        lambda: (folder / "new").write_bytes(b""),
    ):
        change()
        sums.append(checksum(folder))
    assert len(set(sums)) == 5


def test_an_overview_is_read_as_a_raster_of_its_own(made, labels):
    levels = naive_halves(labels)
    with rasterio.open(made[1]) as dataset:
        assert len(dataset.overviews(1)) == len(levels) - 1
    for level, expected in enumerate(levels):
        found = check_labels.read_labels(made[1], level, Window(0, 0, *expected.shape))
        np.testing.assert_array_equal(found, expected)
