"""What a notebook shows: names, version, progress, colours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr

import pipeline
from engine.codebook import Codebook
from pipeline.api.arrays import open_raster, segment
from pipeline.errors import UsageError
from pipeline.legend.label_style import LabelStyle
from pipeline.legend.palette import Palette
from pipeline.versions import versions
from tests.rasters import noise, write_geotiff

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write_geotiff(tmp_path_factory.mktemp("scene") / "s.tif", noise(3, 1200, 700), nodata=0)


@pytest.fixture(scope="module")
def book(scene):
    return pipeline.fit(scene, segments=4)


def test_names_are_completed_without_loading_what_they_stand_for():
    code = "import sys, pipeline; print(*dir(pipeline)); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    names, modules = (line.split() for line in run.stdout.splitlines())
    assert {*pipeline.__all__, "__version__", "__doc__"} <= set(names)
    assert {"dask", "numpy", "rasterio", "xarray", "importlib.metadata"}.isdisjoint(modules)


def test_the_version_is_that_of_records():
    assert pipeline.__version__ == versions()["tilewright"]


def test_a_codebook_is_saved_as_a_run_writes_it(book, tmp_path):
    (tmp_path / "b.npz").write_bytes(b"former")
    assert book.save(str(tmp_path / "b.npz")) == tmp_path / "b.npz"
    assert (tmp_path / "b.npz").read_bytes() == book.to_bytes()
    assert Codebook.load(tmp_path / "b.npz").content_hash == book.content_hash
    assert [p.name for p in tmp_path.iterdir()] == ["b.npz"]


def test_a_codebook_that_cannot_be_written_leaves_the_former_one(book, tmp_path, monkeypatch):
    book.save(tmp_path / "b.npz")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        pipeline.fit(noise(1, 30, 30), segments=2).save(tmp_path / "b.npz")
    assert (tmp_path / "b.npz").read_bytes() == book.to_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["b.npz"]


def test_fit_and_write_say_how_far_they_are(scene, book, tmp_path):
    heard = []
    pipeline.fit(scene, segments=4, progress=lambda *counts: heard.append(counts))
    assert heard == [(n, 6) for n in range(1, 7)]
    heard.clear()
    labels = segment(open_raster(scene), book)
    pipeline.write(labels, tmp_path / "l.tif", chunk_size=512, progress=lambda *counts: heard.append(counts))
    total = heard[-1][1]
    assert heard == [(n, total) for n in range(1, total + 1)]
    assert total >= 6


def test_a_callback_that_raises_ends_the_writing_and_leaves_nothing(scene, book, tmp_path):
    def stop(done, total):
        raise RuntimeError(f"stopped at {done} of {total}")

    with pytest.raises(RuntimeError, match="stopped at 1 of"):
        pipeline.write(segment(open_raster(scene), book), tmp_path / "l.tif", progress=stop)
    assert not list(tmp_path.iterdir())


def test_labels_say_in_cf_words_what_their_values_mean(scene, book, tmp_path):
    labels = segment(open_raster(scene), book)
    colours = book.colours
    assert colours != LabelStyle.of(4).colours  # those of the pixels
    assert labels.attrs["flag_values"].tolist() == [0, 1, 2, 3]
    assert labels.attrs["flag_meanings"].split() == [f"Segment_{i}" for i in range(4)]
    assert labels.attrs["flag_colors"].split() == ["#{:02x}{:02x}{:02x}".format(*c) for c in colours]
    labels[:50, :60].to_dataset(name="labels").to_zarr(tmp_path / "l.zarr", zarr_format=2)
    stored = xr.open_zarr(tmp_path / "l.zarr", mask_and_scale=False)["labels"]
    np.testing.assert_array_equal(stored.values, labels[:50, :60].values)


def test_labels_are_drawn_in_the_colours_of_their_classes(scene, book):
    matplotlib = pytest.importorskip("matplotlib", reason="Matplotlib is not installed, which draws labels")
    matplotlib.use("Agg")
    labels = segment(open_raster(scene), book)[:40, :50]
    for drawn in (labels, labels.rename(y="lat", x="lon")):
        image = pipeline.plot(drawn)
        values = labels.values
        shown = image.to_rgba(image.get_array(), bytes=True)[..., :3]
        expected = np.array(book.colours)[np.where(values == 255, 0, values)]
        np.testing.assert_array_equal(shown[values != 255], expected[values != 255])
        assert [t.get_text() for t in image.colorbar.ax.get_yticklabels()] == [
            f"Segment {i}" for i in range(4)
        ]


def test_colours_and_names_of_a_palette_are_drawn_and_written(scene, tmp_path):
    (tmp_path / "p.csv").write_text("0,#0a0b0c,Nasse Wiese\n1,#fafbfc\n")
    book = pipeline.fit(scene, segments=2, palette=tmp_path / "p.csv")
    labels = segment(open_raster(scene), book)
    assert labels.attrs["flag_meanings"] == "Nasse_Wiese Segment_1"
    assert labels.attrs["flag_colors"] == "#0a0b0c #fafbfc"
    with rasterio.open(pipeline.write(labels[:60, :70], tmp_path / "l.tif")) as dataset:
        assert [dataset.colormap(1)[i][:3] for i in range(2)] == [(10, 11, 12), (250, 251, 252)]
    assert 'label="Nasse Wiese"' in (tmp_path / "l.qml").read_text()
    assert "<Category>Nasse Wiese</Category>" in (tmp_path / "l.tif.aux.xml").read_text()
    assert pipeline.fit(scene, segments=2, palette="distinct").colours == ()
    with pytest.raises(UsageError, match=r"p\.csv:2: label 1, but labels are 0 to 0"):
        Palette.of(tmp_path / "p.csv", 1)


def test_what_are_no_labels_is_not_drawn(scene, monkeypatch):
    with pytest.raises(UsageError, match=r"no classes with colours|Matplotlib is not installed"):
        pipeline.plot(open_raster(scene)[0])
    monkeypatch.setitem(sys.modules, "matplotlib.colors", None)
    with pytest.raises(UsageError, match="Matplotlib is not installed"):
        pipeline.plot(open_raster(scene)[0])
