"""The precision certificate: a faster form is taken where it gives the same labels, and never else."""

from __future__ import annotations

import json

import numpy as np
import pytest

from engine.codebook import Codebook
from engine.kmeans_fit import Clustering
from engine.networks.network import STRAIGHT, TORCHSCRIPT
from pipeline.api.arrays import open_raster, segment
from pipeline.api.fitting import fit
from pipeline.config import RunConfig
from pipeline.errors import UsageError
from pipeline.fitting import certificate
from pipeline.fitting.certificate import fitted
from pipeline.fitting.gathering import Sample
from pipeline.fitting.sampling import Cell, CellSample
from pipeline.kernels import faster_form, in_fitted_form, kernel_from_codebook, kernel_from_options
from pipeline.running.run import run
from tests import networks
from tests.engine.networks.test_network import Valid
from tests.rasters import noise, write_geotiff


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(networks.save(Valid(), tmp_path_factory.mktemp("model") / "small.pt"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return str(write_geotiff(tmp_path_factory.mktemp("scene") / "scene.tif", noise(3, 700, 600)))


CENTRES = np.eye(3, dtype=np.float32)


class Fake:
    """A fit of vectors that all lie on the first centre, but for those that a form computes otherwise."""

    def __init__(self, cells, wrong):
        self.cells, self.wrong = cells, wrong
        self.sampled, self.compared = [], 0

    def sample(self, kernel):
        self.sampled.append(kernel.form)
        return self._of(range(len(self.cells)), kernel)

    def again(self, part, kernel):
        self.compared = len(part.cells)
        return self._of([cell.key for cell, _ in part.cells], kernel)

    def _of(self, chosen, kernel):
        found = []
        for i in chosen:
            vectors = np.repeat(CENTRES[:1], self.cells[i], axis=0)
            if kernel.form == STRAIGHT:
                vectors[: self.wrong.get(i, 0)] = CENTRES[1]
            hashes = np.arange(self.cells[i], dtype=np.uint64)
            found.append((Cell(0, i, None), CellSample(vectors, hashes, self.cells[i], self.cells[i])))
        return Sample(None, found, 4)

    def fit(self, kernel):
        clusters = Clustering(CENTRES, 0.0, 1, np.ones(3))
        return fitted(kernel, self.sample, self.again, lambda _: clusters)


@pytest.mark.parametrize(("wrong", "taken"), [(0, True), (2, True), (3, False), (1000, False)])
def test_a_form_is_taken_if_999_of_1000_labels_are_equal(model, wrong, taken):
    fake = Fake([1024] * 8, {1: wrong})
    found = fake.fit(kernel_from_options("cnn", 4, model=model, device="cpu"))
    assert found.kernel.form == (STRAIGHT if taken else TORCHSCRIPT)
    # what is fitted on is what is labelled by
    assert fake.sampled == ([STRAIGHT] if taken else [STRAIGHT, TORCHSCRIPT])
    assert bool((found.sample.vectors == CENTRES[0]).all()) == (not taken or not wrong)
    assert found.precision["precision"] == {
        "form": STRAIGHT,
        "equal": 1 - wrong / 2048,
        "compared": 2048,
        "taken": taken,
    }


@pytest.mark.parametrize(
    ("cells", "compared"), [([256] * 64, 16), ([64] * 64, 32), ([100] * 3, 3), ([0, 0, 9000, 1], 3), ([5], 1)]
)
def test_the_first_form_computes_a_quarter_of_the_sample_and_enough_of_a_small_one(model, cells, compared):
    fake = Fake(cells, {})
    fake.fit(kernel_from_options("cnn", 4, model=model, device="cpu"))
    assert fake.compared == compared


def test_a_form_that_fails_the_certificate_labels_nothing(model, scene, tmp_path, monkeypatch):
    from engine.networks.straight import Straight

    options = {"segments": 4, "method": "cnn", "model": model, "device": "cpu"}
    with monkeypatch.context() as m:
        m.setattr(certificate, "faster_form", lambda _: None)
        book = fit(scene, **options)
    real = Straight.features
    monkeypatch.setattr(Straight, "features", lambda self, image: real(self, image)[::-1].copy())
    run(RunConfig(sources=[scene], out=str(tmp_path / "out"), **options))
    record = json.loads((tmp_path / "out" / "scene.json").read_text())
    assert "form" not in record["kernel"]
    assert record["fit"]["precision"]["taken"] is False
    assert record["fit"]["precision"]["equal"] < 0.999
    # the first form did everything: nothing of the other one is in the centres
    np.testing.assert_array_equal(Codebook.load(tmp_path / "out" / "codebook.npz").centres, book.centres)


def test_the_form_stands_in_codebook_and_record_and_decides_later_runs(model, scene, tmp_path):
    options = {"sources": [scene], "method": "cnn", "model": model, "device": "cpu"}
    run(RunConfig(out=str(tmp_path / "first"), **options))
    record = json.loads((tmp_path / "first" / "scene.json").read_text())
    assert record["kernel"]["form"] == STRAIGHT
    compared = record["fit"]["precision"].pop("compared")
    assert record["fit"]["vectors"] / 4 <= compared <= record["fit"]["vectors"]
    assert record["fit"]["precision"] == {"form": STRAIGHT, "equal": 1.0, "taken": True}
    path = tmp_path / "first" / "codebook.npz"
    book = Codebook.load(path)
    assert in_fitted_form(kernel_from_options("cnn", 4, model=model, device="cpu"), book).form == STRAIGHT
    run(RunConfig(out=str(tmp_path / "second"), codebook=str(path), **options))
    second = json.loads((tmp_path / "second" / "scene.json").read_text())
    assert second["checksums"]["scene.tif"] == record["checksums"]["scene.tif"]


def test_a_codebook_of_the_first_form_keeps_it(model, scene):
    book = fit(scene, segments=4, method="cnn", model=model, device="cpu")
    kernel = {k: v for k, v in book.kernel.items() if k != "form"}
    old = Codebook(book.centres, kernel, book.bands, book.dtype, book.band_mean, book.scaling, book.fit)
    assert kernel_from_codebook(old, device="cpu").form == TORCHSCRIPT
    assert kernel_from_codebook(book, device="cpu").form == STRAIGHT
    assert old.content_hash != book.content_hash
    pixels = open_raster(scene)
    ours, torchs = (np.asarray(segment(pixels, b, device="cpu")) for b in (book, old))
    assert (ours == torchs).mean() > 0.999


def test_networks_of_other_kinds_have_no_faster_form(tmp_path):
    path = str(networks.save(networks.Padded(), tmp_path / "n.pt"))
    kernel = kernel_from_options("cnn", 4, model=path, device="cpu")
    assert faster_form(kernel) is None
    fake = Fake([100], {})
    found = fake.fit(kernel)
    assert (found.kernel, found.precision, fake.sampled, fake.compared) == (kernel, {}, [TORCHSCRIPT], 0)


def test_a_form_of_a_later_version_is_refused(model, scene):
    book = fit(scene, segments=4, method="cnn", model=model, device="cpu")
    later = Codebook(
        book.centres, {**book.kernel, "form": "quick"}, book.bands, book.dtype, book.band_mean, fit=book.fit
    )
    with pytest.raises(UsageError, match="form 'quick', unknown to this version"):
        kernel_from_codebook(later, device="cpu")
