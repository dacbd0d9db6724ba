"""--device-fallback: a raster whose device fails is done again on the CPU, and its record says so."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from engine.errors import NetworkError
from engine.networks import kernel as cnn
from pipeline.config import RunConfig
from pipeline.running import run as run_module
from tests.rasters import noise, write_geotiff

REASON = "CUDA error: an illegal memory access was encountered"


class Device:
    """A device that works for so many images, and fails then."""

    def __init__(self, monkeypatch, images):
        self.left = images
        self.real = cnn.network
        real_kernel = run_module.kernel_for_run
        monkeypatch.setattr(cnn, "network", self.network)
        monkeypatch.setattr(
            run_module, "kernel_for_run", lambda *a: replace(real_kernel(*a), device="cuda:0")
        )

    def network(self, model, digest, device):
        if device == "cuda:0":
            if self.left == 0:
                raise NetworkError(REASON)
            self.left -= 1
        return self.real(model, digest, "cpu")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    return [str(write_geotiff(folder / f"r{i}.tif", noise(3, 600, 700, seed=i))) for i in range(2)]


@pytest.fixture(scope="module")
def on_cpu(sources, tmp_path_factory):
    out = tmp_path_factory.mktemp("cpu")
    run(sources, out)
    return out


def run(sources, out, **options):
    given = {"method": "cnn", "resolution": 8, "segments": 4, "chunk_size": 512, "workers": "1", **options}
    return run_module.run(RunConfig(sources=tuple(sources), out=str(out), **given))


@pytest.mark.parametrize("images", [0, 5, 62])
def test_a_raster_whose_device_fails_is_begun_anew_on_the_cpu(
    sources, on_cpu, tmp_path, monkeypatch, images, capsys
):
    Device(monkeypatch, images)
    report = run(sources, tmp_path, device_fallback=True)
    assert report.done == ["r0", "r1"]
    assert "begun anew on the CPU" in capsys.readouterr().err
    for name in report.done:
        record = json.loads((tmp_path / f"{name}.json").read_text())
        assert record["device"] == "cpu"
        assert REASON in record["device_failure"]
        assert (tmp_path / f"{name}.tif").read_bytes() == (on_cpu / f"{name}.tif").read_bytes()


def test_without_the_option_it_fails(sources, on_cpu, tmp_path, monkeypatch):
    Device(monkeypatch, 0)
    report = run(sources, tmp_path, codebook=str(on_cpu / "codebook.npz"))
    assert sorted(report.failed) == ["r0", "r1"]
    assert REASON in report.failed["r0"]


def test_what_the_cpu_cannot_do_either_fails(sources, on_cpu, tmp_path, monkeypatch):
    device = Device(monkeypatch, 0)

    def fail(*_):
        raise NetworkError("takes other images")

    device.real = fail
    report = run(sources, tmp_path, codebook=str(on_cpu / "codebook.npz"), device_fallback=True)
    assert sorted(report.failed) == ["r0", "r1"]
    assert "takes other images" in report.failed["r0"]
