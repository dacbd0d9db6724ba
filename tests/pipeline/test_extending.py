"""The recipes of ARCHITECTURE.md for a kernel and for a sink, tried with toys from outside.

A toy is added where the recipe says and nowhere else, and then taken through the commands.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

import pipeline
from engine import block_loops
from engine.codebook import Codebook
from engine.grid import CELL_PX
from engine.kernel import ClassifyingKernel, ClusteringKernel, Features, every
from pipeline import kernels
from pipeline.cli import main
from pipeline.config import RunConfig
from pipeline.durable.checksums import FileDigest
from pipeline.process.warning_filters import ignored
from pipeline.running import schedule
from pipeline.running.run import run
from pipeline.sinks import parts, sink
from pipeline.sinks.pyramid import level_shapes, unit_pyramid
from pipeline.sinks.vrt import labels_vrt
from tests.rasters import naive_halves, noise, write_geotiff

CLASSES = ("dark", "middling", "bright & <shiny>")
LEVELS = np.array([60, 140])


@dataclass(frozen=True, slots=True)
class _Toy:
    """What both toys say alike: they look one pixel far, and each pixel has a label of its own."""

    halo_px = 1
    stride_px = 1
    cell_px = CELL_PX
    window_px = CELL_PX
    costly = False
    device = "cpu"
    bands = None


def brightest_near(patch):
    """Of each pixel in the core, the largest mean of bands among its valid neighbours and itself."""
    means = np.where(patch.valid, patch.pixels.astype(np.float64).mean(axis=0), -np.inf)
    padded = np.pad(means, 1, constant_values=-np.inf)
    height, width = means.shape
    shifted = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return np.max(shifted, axis=0)[patch.core.slices(patch.outer)]


@dataclass(frozen=True, slots=True)
class Threshold(_Toy):
    """A kernel that classifies: it has labels and names, and no centres."""

    class_names = CLASSES

    @property
    def identity(self) -> dict[str, Any]:
        return {"name": "threshold", "features": 0}

    def labels(self, patch, codebook):
        valid = patch.valid[patch.core.slices(patch.outer)]
        return np.where(valid, np.digitize(brightest_near(patch), LEVELS), 255).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Neighbours(_Toy):
    """A kernel that clusters features of its own, and names none of its parameters as K-Means does."""

    sample_px = CELL_PX
    sample_vectors = 2048
    needs_statistics = True

    @property
    def identity(self) -> dict[str, Any]:
        return {"name": "neighbours", "features": 1}

    def features(self, patch, statistics, select=every):
        valid = patch.valid[patch.core.slices(patch.outer)]
        rows, cols = select(valid, patch.core.row, patch.core.col)
        values = brightest_near(patch)[rows - patch.core.row, cols - patch.core.col]
        return Features(values[:, None], rows, cols)

    def labels(self, patch, codebook):
        valid = patch.valid[patch.core.slices(patch.outer)]
        return block_loops.nearest(brightest_near(patch)[None], codebook.centres, valid)


@dataclass(frozen=True, slots=True)
class PlainFiles:
    """A sink of one GeoTIFF for each level, made at once of what each unit left in a file."""

    file: str

    @property
    def raster(self) -> str:
        return f"{Path(self.file).stem}.plain.vrt"

    @property
    def files(self) -> tuple[str, ...]:
        return self.raster, self.file

    def write_unit(self, folder, stage, unit, labels, beside=()) -> FileDigest:
        pyramid = unit_pyramid(stage, unit, labels)
        kept = []
        for step, level in enumerate(pyramid.levels):
            name = f"{self.file}.units/{stage.level + step}_{unit[0]}_{unit[1]}"
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(level.tobytes())
            kept.append((name, level.tobytes()))
        return parts.write_part(folder, stage, unit, pyramid, (), [*kept, *beside])

    def assemble(self, folder, stages, label_info):
        counts = parts.histogram(folder, stages[0])
        shapes = level_shapes(stages[0].height, stages[0].width)
        (folder / self.file).mkdir(exist_ok=True)
        for stage in stages:
            for step in range(stage.levels):
                level = stage.level + step
                with ignored(NotGeoreferencedWarning):
                    self._write_level(folder, stage, step, shapes[level])
        names = [f"{self.file}/{level}.tif" for level in range(len(shapes))]
        (folder / self.raster).write_text(labels_vrt(label_info, shapes[0], counts, names))
        return counts

    def _write_level(self, folder, stage, step, shape):
        labels = np.empty(shape, np.uint8)
        for i, j in stage.units():
            side = stage.unit_px >> step
            height, width = min(side, shape[0] - i * side), min(side, shape[1] - j * side)
            data = (folder / f"{self.file}.units" / f"{stage.level + step}_{i}_{j}").read_bytes()
            target = labels[i * side : i * side + height, j * side : j * side + width]
            target[:] = np.frombuffer(data, np.uint8).reshape(height, width)
        size = {"height": shape[0], "width": shape[1], "count": 1, "dtype": "uint8"}
        path = folder / self.file / f"{stage.level + step}.tif"
        with rasterio.open(path, "w", driver="GTiff", **size) as dataset:
            dataset.write(labels, 1)


@pytest.fixture
def toys(monkeypatch):
    """The toys, added as ARCHITECTURE.md says."""
    for toy in (Threshold, Neighbours):
        monkeypatch.setitem(kernels._KERNELS, toy().identity["name"], lambda *_, toy=toy: toy())
    monkeypatch.setitem(sink.SUFFIXES, "plain", ".plain")
    monkeypatch.setitem(sink._SINKS, ".plain", lambda file, _version: PlainFiles(file))
    with monkeypatch.context() as patch:
        for option, values in (
            ("method", Literal["kmeans", "cnn", "threshold", "neighbours"]),
            ("format", Literal["cog", "zarr", "plain"]),
        ):
            patch.setattr(RunConfig.model_fields[option], "annotation", values)
        RunConfig.model_rebuild(force=True)
        yield
    RunConfig.model_rebuild(force=True)


@pytest.fixture
def scene(tmp_path):
    pixels = noise(3, 700, 1100, seed=3, low=1, high=250)
    pixels[:, 200:300, 400:600] = 0
    return write_geotiff(tmp_path / "scene.tif", pixels, nodata=0, tiled=True, blockxsize=256, blockysize=256)


def expected(scene):
    """Labels by a plain reading of what the threshold is."""
    with rasterio.open(scene) as dataset:
        pixels, valid = dataset.read().astype(float).mean(axis=0), dataset.dataset_mask() > 0
    bright = np.where(valid, pixels, -np.inf)
    padded = np.pad(bright, 1, constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    return np.where(valid, np.digitize(windows.max(axis=(2, 3)), LEVELS), 255).astype(np.uint8)


def labels_of(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def finished(command):
    """The exit code of a command line."""
    return main([*map(str, command)])


@pytest.mark.parametrize("toy", [Threshold(), Neighbours()])
def test_a_kernel_is_of_one_of_both_kinds(toy):
    kinds = [isinstance(toy, kind) for kind in (ClusteringKernel, ClassifyingKernel)]
    assert kinds == [isinstance(toy, Neighbours), isinstance(toy, Threshold)]


@pytest.mark.parametrize(("format_", "file"), [("cog", "scene.tif"), ("plain", "scene.plain.vrt")])
def test_a_kernel_with_classes_goes_through_all_commands(toys, scene, tmp_path, capsys, format_, file):
    out = tmp_path / "out"
    options = ["--method", "threshold", "--format", format_, "--chunk-size", 512, "--progress", "none"]
    assert finished(["plan", scene, "-o", out, *options]) == 0
    assert not out.exists()
    assert finished(["run", scene, "-o", out, *options]) == 0
    for level, labels in enumerate(naive_halves(expected(scene))):
        found = labels_of(out / file) if level == 0 else overview(out / file, level)
        np.testing.assert_array_equal(found, labels)
    for command in (["verify", out, "--progress", "none"], ["status", out], ["inspect", out]):
        assert finished(command) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert finished(["inspect", out / "codebook.npz"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in CLASSES)
    assert "fitted" not in said
    with rasterio.open(out / file) as dataset:
        assert dataset.crs == "EPSG:32633"
    record = json.loads((out / "scene.json").read_text())
    assert list(record["labels"]) == ["0", "1", "2"]
    assert all(f'label="{name}"' in (out / "scene.qml").read_text() for name in CLASSES[:2])
    # the same command again finds all of it done
    before = (out / "scene.json").stat().st_mtime_ns
    assert finished(["run", scene, "-o", out, *options]) == 0
    assert (out / "scene.json").stat().st_mtime_ns == before


def overview(path, level):
    with rasterio.open(path, overview_level=level - 1) as dataset:
        return dataset.read(1)


@pytest.mark.parametrize("method", ["threshold", "neighbours"])
def test_a_run_that_was_cut_short_is_taken_up_with_any_kernel_and_sink(
    toys, scene, tmp_path, monkeypatch, method
):
    options = {"method": method, "format": "plain", "chunk_size": 512, "workers": "1", "segments": 3}
    config = RunConfig(sources=(str(scene),), out=str(tmp_path / "cut"), **options)
    drive, ended = schedule.drive, []

    def cut_short(jobs, pool, record, observer, memory_limit, submit=None):
        def some(task):
            if len(ended) == 3:
                raise KeyboardInterrupt
            ended.append(task)
            return pool.submit(task.function, *task.arguments)

        return drive(jobs, pool, record, observer, memory_limit, some)

    with monkeypatch.context() as patch:
        patch.setattr(schedule, "drive", cut_short)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    assert list((tmp_path / "cut" / ".partial").rglob("*.part"))
    assert run(config).exit_code == 0
    whole = config.model_copy(update={"out": str(tmp_path / "whole"), "chunk_size": 2048, "workers": "2"})
    assert run(whole).exit_code == 0
    cut, uncut = (labels_of(Path(c.out) / "scene.plain.vrt") for c in (config, whole))
    np.testing.assert_array_equal(cut, uncut)
    for out in ("cut", "whole"):
        assert finished(["verify", tmp_path / out, "--progress", "none"]) == 0


def test_a_kernel_that_clusters_features_of_its_own_is_verified_without_being_made(
    toys, scene, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "out"
    options = ["--method", "neighbours", "-k", 3, "--progress", "none"]
    assert finished(["run", scene, "-o", out, *options]) == 0
    assert finished(["inspect", out / "codebook.npz"]) == 0
    # where its model is gone, files and labels can be checked all the same
    monkeypatch.delitem(kernels._KERNELS, "neighbours")
    assert finished(["verify", out, "--sample", 0, "--progress", "none"]) == 0, capsys.readouterr().err


def test_a_codebook_of_classes_labels_other_rasters_and_arrays(toys, scene, tmp_path, capsys):
    saved = tmp_path / "classes.npz"
    assert finished(["fit", scene, "-o", saved, "--method", "threshold", "--progress", "none"]) == 0
    assert "3 segments" in capsys.readouterr().out
    codebook = Codebook.load(saved)
    assert codebook.names == CLASSES
    assert codebook.segments == 3
    assert codebook.centre_values is None
    assert finished(["run", scene, "-o", tmp_path / "out", "--codebook", saved, "--progress", "none"]) == 0
    assert finished(["verify", tmp_path / "out", "--progress", "none"]) == 0, capsys.readouterr().err
    np.testing.assert_array_equal(labels_of(tmp_path / "out" / "scene.tif"), expected(scene))
    array = pipeline.open_raster(scene)
    assert pipeline.fit(array, method="threshold").content_hash == codebook.content_hash
    labels = pipeline.segment(array, codebook)
    np.testing.assert_array_equal(labels.values, expected(scene))
    assert labels.attrs["flag_meanings"].split()[:2] == ["dark", "middling"]


@pytest.mark.parametrize("option", [("-k", "5"), ("--seed", "3"), ("--fit", "exact"), ("--scale", "0,9")])
def test_options_of_a_fit_are_refused_where_there_is_none(toys, scene, tmp_path, capsys, option):
    command = ["run", scene, "-o", tmp_path / "out", "--method", "threshold", *option]
    assert finished(command) == 2
    said = capsys.readouterr().err
    assert "3 classes of its own" in said
    assert len(said.splitlines()) == 1
    assert finished([*command[:6], "-k", "3", "--progress", "none"]) == 0


def test_a_codebook_of_classes_is_no_codebook_of_clusters(toys, scene, tmp_path):
    own = kernels.kernel_from_options("threshold", 4)
    of_classes = pipeline.fit(pipeline.open_raster(scene), method="threshold")
    assert isinstance(own, ClassifyingKernel)
    with pytest.raises(ValueError, match="centres of shape"):
        block_loops.nearest(np.zeros((3, 4, 4)), of_classes.centres, np.ones((4, 4), bool))
