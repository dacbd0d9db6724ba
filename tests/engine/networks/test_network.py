from __future__ import annotations

import pickle
import zipfile

import numpy as np
import pytest
import torch

from engine.errors import NetworkError
from engine.networks import filters
from engine.networks.cache import geometry
from engine.networks.geometry import Geometry, probe
from engine.networks.loading import choose_device, digest
from engine.networks.network import Network
from pipeline.errors import UsageError
from pipeline.kernels import kernel_from_options
from tests import networks
from tests.conftest import DATA


class Valid(networks.Valid):
    """The old shape without None in its answer, which a trace cannot hold."""

    def forward(self, x):
        return super().forward(x)[1]


def test_geometry_of_a_valid_network_is_that_of_its_layers(tmp_path):
    path = networks.save(Valid(), tmp_path / "n.pt")
    found = probe(Network(str(path), "cpu"))
    assert found == Geometry(channels=3, features=12, stride_px=4, field_px=10, offset_px=0)
    # a halo of s - 1 puts features on their blocks, 2s - 1 leaves a ring for interpolation
    assert (found.halo_px(0), found.halo_px(1)) == (3, 7)


def test_geometry_of_a_padding_network_keeps_its_padding_out(tmp_path):
    path = networks.save(networks.Padded(), tmp_path / "n.pt")
    found = probe(Network(str(path), "cpu"))
    assert (found.stride_px, found.field_px, found.offset_px) == (4, 7, -3)
    network, halo = Network(str(path), "cpu"), found.halo_px(0)
    rng = np.random.default_rng(0)
    image = rng.random((3, 96 + 2 * halo, 96 + 2 * halo), np.float32)
    near = network.features(image)[:, found.pad : found.pad + 24, found.pad : found.pad + 24]
    wide = np.pad(image, ((0, 0), (8, 8), (8, 8)), mode="wrap")
    skip = found.pad + 2
    far = network.features(wide)[:, skip : skip + 24, skip : skip + 24]
    np.testing.assert_allclose(near, far, atol=1e-5)


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_geometry_of_the_old_networks_is_as_their_papers_say(stride):
    path = DATA / "models" / "legacy" / f"model_{stride}.pth"
    if not path.exists():
        pytest.skip(f"no old networks here: {path} is absent")
    found = geometry(str(path), digest(str(path)))
    assert (found.stride_px, found.field_px, found.offset_px) == (stride, 3 * stride - 2, 0)


@pytest.mark.parametrize("stride", filters.STRIDES)
def test_built_in_filters_have_their_stride(stride):
    name = f"{filters.PREFIX}{stride}"
    found = geometry(name, digest(name))
    assert (found.stride_px, found.field_px) == (stride, 12 + 2 * stride)


def test_built_in_filters_see_edges_and_not_flat_ground():
    bank = filters.kernels()
    np.testing.assert_allclose(bank.sum(axis=(1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(np.abs(bank).sum(axis=(1, 2)), 1, atol=1e-5)


def test_a_network_whose_features_depend_on_the_whole_image_is_refused(tmp_path):
    path = networks.save(networks.Normed(), tmp_path / "n.pt")
    with pytest.raises(NetworkError, match="depends on the whole image"):
        probe(Network(str(path), "cpu"))


def test_a_network_without_a_feature_map_is_refused(tmp_path):
    path = networks.save(networks.Flat(), tmp_path / "n.pt")
    with pytest.raises(NetworkError, match="features of shape"):
        probe(Network(str(path), "cpu"))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (networks.Strided(7, 3), "a stride of 3 px does not divide cells"),
        (networks.Strided(7, 5, 2), "a stride of 5 px does not divide cells"),
        (
            networks.Strided(7, (2, 4)),
            "fails on an image|rows and columns|regular grid|does not divide|see more",
        ),
        (networks.Decoder(), "do not lie on one regular grid"),
        (networks.Infinite(), "not finite|depends on the whole image"),
        (networks.Random(), "other features each time|regular grid|depends on the whole image"),
        (networks.Picky(), "fails on an image"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, torch.nn.Module) else "",
)
def test_a_network_that_would_give_wrong_labels_is_refused(tmp_path, module, message):
    # found in review: each of these gave labels, and exit code 0
    path = str(networks.save(module, tmp_path / "n.pt"))
    with pytest.raises(UsageError, match=message) as caught:
        kernel_from_options("cnn", 4, model=path, device="cpu")
    assert "\n" not in str(caught.value)
    assert "n.pt" in str(caught.value)


@pytest.mark.parametrize("stride", [1, 2, 8, 16])
def test_networks_of_strides_that_divide_a_cell_are_taken(tmp_path, stride):
    path = str(networks.save(networks.Strided(17, stride), tmp_path / "n.pt"))
    kernel = kernel_from_options("cnn", 4, model=path, device="cpu")
    assert (kernel.geometry.stride_px, kernel.geometry.field_px) == (stride, 17)


def test_a_field_too_wide_for_the_first_probe_is_found_by_a_larger_one(tmp_path):
    path = str(networks.save(networks.Wide(), tmp_path / "n.pt"))
    kernel = kernel_from_options("cnn", 4, model=path, device="cpu")
    assert (kernel.geometry.stride_px, kernel.geometry.field_px, kernel.geometry.offset_px) == (8, 168, -80)


class Evil:
    """A pickle that would leave a mark."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return self.marker.touch, ()


def test_a_pickle_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "marker"
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil(marker)))
    torch.save({"w": torch.zeros(3)}, tmp_path / "weights.pth")
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Evil(marker)))
    for name in ("evil.pth", "weights.pth", "zip.pth"):
        with pytest.raises(NetworkError, match=f"{name}: not a TorchScript model"):
            Network(str(tmp_path / name), "cpu")
    assert not marker.exists()


def test_a_missing_model_is_named():
    with pytest.raises(NetworkError, match=r"nowhere\.pth: cannot read this model"):
        digest("nowhere.pth")


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(NetworkError, match="--device cuda:99"):
        choose_device("cuda:99")
    assert choose_device("cpu") == "cpu"
