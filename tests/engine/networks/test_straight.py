"""Networks in our own loops: torch's features, bit for bit repeatable, and nothing but what they know."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import rasterio
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import NetworkError
from engine.networks import straight
from engine.networks.distances import squared_distances
from engine.networks.geometry import Geometry, probe
from engine.networks.network import STRAIGHT, TORCHSCRIPT, Network
from engine.networks.simd import winograd
from tests import networks
from tests.conftest import DATA

SIZES = st.integers(30, 75)


class Line(torch.nn.Module):
    """Convolutions of some channels, pooled and cut off; perhaps a 1 x 1 convolution and a softmax."""

    def __init__(self, channels, last=0, *, softmax=True, bias=True, relu_first=False):
        super().__init__()
        self.stages = torch.nn.ModuleList(torch.nn.Conv2d(a, b, 3, bias=bias) for a, b in pairwise(channels))
        self.last = torch.nn.Conv2d(channels[-1], last, 1, bias=bias) if last else None
        self.softmax, self.relu_first = softmax, relu_first

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
            steps = [torch.relu, lambda y: torch.max_pool2d(y, 2)]
            for step in steps if self.relu_first else steps[::-1]:
                x = step(x)
        if self.last is not None:
            x = self.last(x)
        return torch.softmax(x, dim=1) if self.softmax else x


class Averaging(Line):
    """Averages where the others take the largest."""

    def forward(self, x):
        return torch.relu(torch.nn.functional.avg_pool2d(self.stages[0](x), 2))


class Branched(Line):
    """Two ways that meet."""

    def forward(self, x):
        return super().forward(x) + super().forward(x.flip(1))


class Dilated(Line):
    """Taps apart."""

    def __init__(self):
        super().__init__([3, 8])
        self.stages[0] = torch.nn.Conv2d(3, 8, 3, dilation=2)


def exact(path, image):
    """Features (h, w, D) by torch in double precision."""
    network = Network(path, "cpu")
    network._module.double()
    with torch.inference_mode():
        found = network._forward(torch.from_numpy(image).double()[None])
    return np.moveaxis(found[0].numpy(), 0, -1)


def both(path, image):
    """Features (h, w, D) in our form, and by torch in single precision."""
    return [np.moveaxis(Network(path, "cpu").features(image, f), 0, -1) for f in (STRAIGHT, TORCHSCRIPT)]


def saved(module, folder, bands=3):
    return str(networks.save(module, folder / "n.pt", bands=bands))


@pytest.mark.parametrize(
    ("channels", "options"),
    [
        ([3, 8], {"softmax": False}),
        ([3, 8, 12], {}),
        ([4, 48, 96], {"last": 96}),
        ([3, 20, 50, 33], {"last": 7, "bias": False}),
        ([1, 17, 49], {"last": 100, "softmax": False, "relu_first": True}),
    ],
)
@settings(max_examples=6)
@given(height=SIZES, width=SIZES, seed=st.integers(0, 99))
def test_features_are_those_of_torch(tmp_path_factory, channels, options, height, width, seed):
    path = saved(Line(channels, **options), tmp_path_factory.mktemp("line"), channels[0])
    image = np.random.default_rng(seed).random((channels[0], height, width), np.float32)
    found, torchs = both(path, image)
    want = exact(path, image)
    assert found.shape == want.shape
    # softmax makes of an error what the logits are: torch's own error tells how much
    assert np.abs(found - want).max() <= 5 * np.abs(torchs - want).max() + 1e-6 * np.abs(want).max()


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_features_of_the_old_networks_on_a_real_image_are_as_exact_as_torchs(stride):
    path, scene = (
        DATA / "models" / "legacy" / f"model_{stride}.pth",
        DATA / "rgb" / "zanzibar_a_8192x4096.tif",
    )
    if not (path.exists() and scene.exists()):
        pytest.skip(f"no old networks and orthophotos here: {path} or {scene} is absent")
    with rasterio.open(scene) as file:
        image = file.read((1, 2, 3), window=((900, 1143), (800, 1087))).astype(np.float32) / 255
    found, torchs = both(str(path), image)
    want = exact(str(path), image)
    assert np.abs(found - want).max() <= 1.5 * np.abs(torchs - want).max()


@pytest.mark.parametrize(
    ("channels", "options"),
    [
        ([3, 8], {"softmax": False}),
        ([1, 17, 20], {"last": 5, "relu_first": True}),
        ([4, 8, 8, 8], {"bias": False}),
        ([3, 8, 8, 8, 8], {"last": 7, "softmax": False}),
    ],
)
def test_the_geometry_that_steps_tell_is_the_one_that_probing_finds(tmp_path, monkeypatch, channels, options):
    path = saved(Line(channels, **options), tmp_path, channels[0])
    found = probe(Network(path, "cpu"))
    assert (found.channels, found.stride_px) == (channels[0], 2 ** (len(channels) - 1))
    monkeypatch.setattr(Network, "line", None)
    assert probe(Network(path, "cpu")) == found


def test_a_geometry_is_taken_from_steps_only_if_the_network_does_what_they_say(tmp_path, monkeypatch):
    network = Network(saved(Line([3, 8, 12]), tmp_path), "cpu")
    real = straight.Straight.features
    monkeypatch.setattr(straight.Straight, "features", lambda self, image: real(self, image)[::-1])
    monkeypatch.setattr(straight.Straight, "stride_px", 8)
    assert probe(network) == Geometry(3, 12, 4, 10, 0)


def test_winograds_matrices_make_a_convolution():
    rng = np.random.default_rng(0)
    pixels, weights = rng.random((6, 6)), rng.random((3, 3))
    into, weigh, out = map(np.array, (winograd.B_T, winograd.G, winograd.A_T))
    found = out @ ((weigh @ weights @ weigh.T) * (into @ pixels @ into.T)) @ out.T
    want = [[(pixels[r : r + 3, c : c + 3] * weights).sum() for c in range(4)] for r in range(4)]
    np.testing.assert_allclose(found, want, atol=1e-13)


def test_threads_change_no_bit(tmp_path):
    network = Network(saved(Line([3, 48, 96], 48), tmp_path), "cpu")
    images = [np.random.default_rng(i).random((3, 150, 131), np.float32) for i in range(4)]
    alone = [network.features(i, STRAIGHT).tobytes() for i in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda i: network.features(i, STRAIGHT).tobytes(), images * 5))
    assert together == alone * 5


@pytest.mark.parametrize(
    "module",
    [
        networks.Padded(),
        networks.Normed(),
        networks.Strided(),
        networks.Strided(3, 1, 0, 2),
        networks.Wide(),
        networks.Decoder(),
        networks.Random(),
        networks.Flat(),
        Averaging([3, 8]),
        Branched([3, 8]),
        Dilated(),
    ],
    ids=lambda m: type(m).__name__,
)
def test_any_other_network_is_left_to_torch(tmp_path, module):
    path = saved(module, tmp_path)
    network = Network(path, "cpu")
    assert network.line is None
    with pytest.raises(NetworkError, match=r"n\.pt: is no straight line of known steps"):
        network.features(np.zeros((3, 64, 64), np.float32), STRAIGHT)


def test_a_network_with_weights_that_are_no_numbers_is_left_to_torch(tmp_path):
    network = Network(saved(Line([3, 8]), tmp_path), "cpu")
    with torch.no_grad():
        next(network._module.parameters())[0] = torch.inf
    assert network.line is None


@pytest.mark.parametrize("shape", [(4, 64, 64), (3, 9, 64), (3, 64, 2)])
def test_an_image_that_the_network_cannot_take_is_refused(tmp_path, shape):
    network = Network(saved(Line([3, 8, 8]), tmp_path), "cpu")
    with pytest.raises(NetworkError, match=r"n\.pt: takes images of 3 bands"):
        network.features(np.zeros(shape, np.float32), STRAIGHT)


def test_a_number_too_large_stays_seen(tmp_path):
    network = Network(saved(Line([3, 8, 8], softmax=False), tmp_path), "cpu")
    image = np.full((3, 64, 64), 0.5, np.float32)
    image[:, 30, 30] = np.inf
    assert not np.isfinite(network.features(image, STRAIGHT)).all()


@given(
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    dims=st.integers(1, 40),
    segments=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_distances_are_sums_in_order(height, width, dims, segments, seed):
    rng = np.random.default_rng(seed)
    features = rng.random((height, width, dims), np.float32)
    centres = rng.random((segments, dims), np.float32)
    want = np.zeros((segments, height, width), np.float32)
    for d in range(dims):
        apart = features[..., d] - centres[:, d, None, None]
        want += apart * apart
    np.testing.assert_array_equal(squared_distances(features, centres), want)
