"""The precision certificate: a faster form is taken where it gives the same labels, and never else."""

from __future__ import annotations

import json

import numpy as np
import pytest

from engine.codebook import Codebook
from engine.network import STRAIGHT, TORCHSCRIPT
from pipeline.array import open_raster, segment
from pipeline.config import RunConfig
from pipeline.errors import UsageError
from pipeline.fitting import fit
from pipeline.kernels import as_fitted, faster, kernel_of, make_kernel
from pipeline.precision import certified
from pipeline.running import run
from tests.engine import networks
from tests.engine.test_network import Valid
from tests.rasters import noise, write_geotiff


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(networks.save(Valid(), tmp_path_factory.mktemp("model") / "small.pt"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return str(write_geotiff(tmp_path_factory.mktemp("scene") / "scene.tif", noise(3, 700, 600)))


def sample(count=1000):
    rng = np.random.default_rng(0)
    return rng.random((count, 12), np.float32), rng.random((4, 12), np.float32)


@pytest.mark.parametrize(("changed", "taken"), [(0, True), (1, True), (2, False), (1000, False)])
def test_a_form_is_taken_if_999_of_1000_labels_are_equal(model, changed, taken):
    kernel = make_kernel("cnn", 4, model=model, device="cpu")
    vectors, centres = sample()
    vectors[:] = centres[0]
    other = vectors.copy()
    other[:changed] = centres[1]
    chosen, report = certified(kernel, vectors, lambda _: other, lambda: centres)
    assert chosen.form == (STRAIGHT if taken else TORCHSCRIPT)
    assert report["precision"] == {"form": STRAIGHT, "equal": 1 - changed / 1000, "taken": taken}


def test_a_form_that_fails_the_certificate_labels_nothing(model, scene, tmp_path, monkeypatch):
    from engine.straight import Straight

    real = Straight.features
    monkeypatch.setattr(Straight, "features", lambda self, image: real(self, image)[::-1].copy())
    run(RunConfig(sources=[scene], out=str(tmp_path / "out"), method="cnn", model=model, device="cpu"))
    record = json.loads((tmp_path / "out" / "scene.json").read_text())
    assert "form" not in record["kernel"]
    assert record["fit"]["precision"]["taken"] is False
    assert record["fit"]["precision"]["equal"] < 0.999


def test_the_form_stands_in_codebook_and_record_and_decides_later_runs(model, scene, tmp_path):
    options = {"sources": [scene], "method": "cnn", "model": model, "device": "cpu"}
    run(RunConfig(out=str(tmp_path / "first"), **options))
    record = json.loads((tmp_path / "first" / "scene.json").read_text())
    assert record["kernel"]["form"] == STRAIGHT
    assert record["fit"]["precision"] == {"form": STRAIGHT, "equal": 1.0, "taken": True}
    path = tmp_path / "first" / "codebook.npz"
    book = Codebook.load(path)
    assert as_fitted(make_kernel("cnn", 4, model=model, device="cpu"), book).form == STRAIGHT
    run(RunConfig(out=str(tmp_path / "second"), codebook=str(path), **options))
    second = json.loads((tmp_path / "second" / "scene.json").read_text())
    assert second["checksums"]["scene.tif"] == record["checksums"]["scene.tif"]


def test_a_codebook_of_the_first_form_keeps_it(model, scene):
    book = fit(scene, segments=4, method="cnn", model=model, device="cpu")
    kernel = {k: v for k, v in book.kernel.items() if k != "form"}
    old = Codebook(book.centres, kernel, book.bands, book.dtype, book.band_mean, book.scaling, book.fit)
    assert kernel_of(old, device="cpu").form == TORCHSCRIPT
    assert kernel_of(book, device="cpu").form == STRAIGHT
    assert old.content_hash != book.content_hash
    pixels = open_raster(scene)
    ours, torchs = (np.asarray(segment(pixels, b, device="cpu")) for b in (book, old))
    assert (ours == torchs).mean() > 0.999


def test_networks_of_other_kinds_have_no_faster_form(tmp_path):
    path = str(networks.save(networks.Padded(), tmp_path / "n.pt"))
    kernel = make_kernel("cnn", 4, model=path, device="cpu")
    assert faster(kernel) is None
    vectors, centres = sample()
    assert certified(kernel, vectors, lambda _: pytest.fail("nothing to sample"), lambda: centres) == (
        kernel,
        {},
    )


def test_a_form_of_a_later_version_is_refused(model, scene):
    book = fit(scene, segments=4, method="cnn", model=model, device="cpu")
    later = Codebook(
        book.centres, {**book.kernel, "form": "quick"}, book.bands, book.dtype, book.band_mean, fit=book.fit
    )
    with pytest.raises(UsageError, match="form 'quick', unknown to this version"):
        kernel_of(later, device="cpu")
