from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.codebook import Codebook, Scaling
from engine.grid import Window, tiles
from engine.kernel import BandStatistics, Patch
from engine.networks import straight
from engine.networks.cache import geometry, network
from engine.networks.kernel import CnnKernel
from engine.networks.loading import digest
from engine.networks.network import STRAIGHT, TORCHSCRIPT
from engine.networks.surroundings import _reflected, image
from tests import networks
from tests.conftest import DATA
from tests.engine.networks.test_network import Valid
from tests.engine.networks.test_straight import Line, saved


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(networks.save(Valid(), tmp_path_factory.mktemp("model") / "small.pt"))


def kernel_of(model, upsample="bilinear", form=TORCHSCRIPT):
    content = digest(model)
    return CnnKernel(model, content, geometry(model, content), upsample, form=form)


def patch_of(pixels, valid=None, core=None, outer=None):
    """The part `outer` of a raster, of which `core` is wanted."""
    bounds = Window(0, 0, *pixels.shape[1:])
    outer = outer or bounds
    valid = np.ones(pixels.shape[1:], bool) if valid is None else valid
    rows, cols = outer.slices()
    return Patch(pixels[:, rows, cols], valid[rows, cols], outer, core or outer, bounds)


def codebook_for(kernel, pixels, k=4, valid=None, scaling=None):
    """A codebook of some of the raster's own features."""
    mean = pixels.reshape(len(pixels), -1).mean(axis=1)
    patch = patch_of(pixels, valid, Window(0, 0, 128, 128), Window(0, 0, 128 + 64, 128 + 64))
    vectors = kernel.features(patch, BandStatistics(mean, scaling)).vectors
    centres = vectors[:: max(1, len(vectors) // k)][:k]
    return Codebook(
        np.asarray(centres, np.float32), kernel.identity, (1, 2, 3), str(pixels.dtype), mean, scaling
    )


def scene(height, width, seed=0, dtype="uint8"):
    """Blobs and noise, so that labels vary."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (3, height // 40 + 2, width // 40 + 2))
    pixels = coarse.repeat(40, 1).repeat(40, 2)[:, :height, :width] + rng.integers(0, 50, (3, height, width))
    return pixels.astype(dtype)


@pytest.mark.parametrize("upsample", ["nearest", "bilinear"])
@settings(max_examples=8)
@given(data=st.data())
def test_labels_of_a_part_are_those_of_the_whole(model, upsample, data):
    kernel = kernel_of(model, upsample)
    height, width = data.draw(st.integers(200, 1100)), data.draw(st.integers(200, 1100))
    pixels = scene(height, width, data.draw(st.integers(0, 99)))
    valid = np.random.default_rng(1).random((height, width)) < 0.98
    valid[: height // 5, : width // 3] = False
    codebook = codebook_for(kernel, pixels)
    bounds = Window(0, 0, height, width)
    whole = kernel.labels(patch_of(pixels, valid), codebook)
    for chunk in tiles(bounds, 512):
        part = kernel.labels(patch_of(pixels, valid, chunk, chunk.grow(kernel.halo_px, bounds)), codebook)
        np.testing.assert_array_equal(part, whole[chunk.slices()])
    assert (whole[~valid] == 255).all()
    assert (whole[valid] < codebook.segments).all()


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """Networks of our own form: strides 4 to 32, by Winograd's products where channels are many."""
    return [
        str(saved(Line(channels, last=12), tmp_path_factory.mktemp("line")))
        for channels in ([3, 8, 16], [3, 16, 16, 16], [3, 4, 16, 8, 16], [3, 4, 8, 8, 8, 8])
    ]


@pytest.mark.parametrize("upsample", ["nearest", "bilinear"])
@settings(max_examples=12)
@given(data=st.data())
def test_windows_of_any_shape_have_the_labels_of_the_whole(lines, upsample, data):
    kernel = kernel_of(data.draw(st.sampled_from(lines)), upsample, STRAIGHT)
    top, left = data.draw(st.integers(0, 700)), data.draw(st.integers(0, 700))
    bounds = Window(top, left, data.draw(st.integers(1, 1100)), data.draw(st.integers(1, 1100)))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    pixels = scene(bounds.height, bounds.width, dtype="uint8")
    valid = rng.random((bounds.height, bounds.width)) < 0.98
    valid[: data.draw(st.integers(0, bounds.height)), : bounds.width // 2] = False
    mean = np.full(3, 100.0)
    centres = rng.random((4, 12), np.float32)
    codebook = Codebook(
        centres / centres.sum(axis=1, keepdims=True), kernel.identity, (1, 2, 3), "uint8", mean
    )

    def labels(core, side):
        outer = core.grow(kernel.halo_px, bounds)
        inside = outer.slices(bounds)
        patch = Patch(pixels[:, *inside], valid[inside], outer, core, bounds)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(straight, "_STRIP_PX", side)
            return kernel.labels(patch, codebook)

    whole = labels(bounds, 1 << 16)
    cell = kernel.cell_px
    for chunk in tiles(bounds, cell, data.draw(st.sampled_from([cell, 2 * cell]))):
        part = labels(chunk, data.draw(st.sampled_from([16, 64, 256])))
        np.testing.assert_array_equal(part, whole[chunk.slices(bounds)])
    assert ((whole == 255) == ~valid).all()


@pytest.mark.parametrize("upsample", ["nearest", "bilinear"])
@pytest.mark.parametrize("shape", [(513, 600), (545, 1030), (1030, 513)])
def test_all_forms_reflect_the_same_pixels_at_the_edge(lines, upsample, shape):
    pixels = scene(*shape)
    for model in lines:
        labels = []
        for form in (TORCHSCRIPT, STRAIGHT):
            kernel = kernel_of(model, upsample, form)
            centres = np.random.default_rng(0).dirichlet(np.ones(12), 6).astype(np.float32)
            codebook = Codebook(centres, kernel.identity, (1, 2, 3), "uint8", np.full(3, 100.0))
            labels.append(kernel.labels(patch_of(pixels), codebook))
        differ = labels[0] != labels[1]
        # a pixel between two labels may have either; a feature of another image shows as a whole block
        assert differ.sum() <= 8 if upsample == "bilinear" else not differ.any()


def test_what_is_held_of_distances_is_no_more_than_a_cell_or_eight_mib(lines):
    for model in lines:
        kernel = kernel_of(model, form=STRAIGHT)
        for segments in (2, 8, 64, 254):
            side = kernel._held_px(segments)
            of_cell, held = (segments * (s // kernel.stride_px) ** 2 * 4 for s in (kernel.cell_px, side))
            assert held <= max(of_cell, 8 << 20)
            assert side == kernel.cell_px or side <= kernel.window_px
        assert kernel._held_px(8) > kernel.cell_px  # or a halo costs more than it has to


@pytest.mark.parametrize("upsample", ["nearest", "bilinear"])
def test_cells_equal_one_evaluation_of_the_whole_image(model, upsample):
    kernel = kernel_of(model, upsample)
    pixels = scene(1024, 1024)
    codebook = codebook_for(kernel, pixels)
    labels = kernel.labels(patch_of(pixels), codebook)
    halo, ring = kernel.halo_px, 1 if upsample == "bilinear" else 0
    image = np.pad(pixels, ((0, 0), (halo, halo), (halo, halo)), mode="reflect").astype(np.float32) / 255
    features = network(model, digest(model), "cpu").features(image)
    distances = ((features[None] - codebook.centres[:, :, None, None].astype(np.float64)) ** 2).sum(axis=1)
    if ring:
        place = (np.arange(1024) + 0.5) / 4 + 0.5
        low, part = place.astype(int), place % 1
        across = distances[:, :, low] * (1 - part) + distances[:, :, low + 1] * part
        near = across[:, low] * (1 - part[:, None]) + across[:, low + 1] * part[:, None]
    else:
        near = distances.repeat(4, 1).repeat(4, 2)
    want = near.argmin(axis=0)
    # near-ties may fall either way between two evaluations in float32
    ordered = np.sort(near, axis=0)
    clear = (ordered[1] - ordered[0]) > 1e-5 * ordered[1]
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(labels[clear], want[clear])


@pytest.mark.parametrize("upsample", ["nearest", "bilinear"])
def test_a_step_edge_stays_within_a_stride(model, upsample):
    kernel = kernel_of(model, upsample)
    for at in (128, 301, 512, 515):
        pixels = np.full((3, 640, 700), 40, np.uint8)
        pixels[:, :, at:] = 200
        statistics = BandStatistics(np.full(3, 120.0), None)
        sides = []
        for col, width in ((0, 128), (640, 60)):
            core = Window(0, col, 128, width)
            patch = patch_of(pixels, None, core, core.grow(kernel.halo_px, Window(0, 0, 640, 700)))
            sides.append(kernel.features(patch, statistics).vectors.mean(axis=0))
        codebook = Codebook(
            np.asarray(sides, np.float32), kernel.identity, (1, 2, 3), "uint8", statistics.mean
        )
        labels = kernel.labels(patch_of(pixels), codebook)
        row = labels[320].astype(int)
        edges = np.flatnonzero(np.diff(row)) + 1
        assert len(edges) >= 1
        assert np.abs(edges - at).max() <= kernel.stride_px


def test_sampled_features_are_those_of_their_blocks_and_each_once(model):
    kernel = kernel_of(model)
    pixels = scene(300, 260)
    valid = np.ones((300, 260), bool)
    valid[:50] = False
    statistics = BandStatistics(np.full(3, 100.0), None)
    bounds, seen = Window(0, 0, 300, 260), []
    for cell in tiles(bounds, kernel.sample_px):
        patch = patch_of(pixels, valid, cell, cell.grow(kernel.halo_px, bounds))
        found = kernel.features(patch, statistics)
        seen += list(zip(found.rows.tolist(), found.cols.tolist(), strict=True))
        assert found.vectors.shape == (len(found.rows), 12)
    # blocks of at least half valid pixels: row 12 (48 to 51) has two valid rows of four
    assert sorted(seen) == [(r, c) for r in range(12, 75) for c in range(65)]


def test_invalid_pixels_are_shown_as_the_band_mean(model):
    kernel = kernel_of(model)
    pixels = scene(200, 200)
    codebook = codebook_for(kernel, pixels)
    valid = np.ones((200, 200), bool)
    valid[90:110, 90:110] = False
    filled = pixels.astype(np.float32)
    filled[:, 90:110, 90:110] = codebook.band_mean[:, None, None]
    other = pixels.copy()
    other[:, 90:110, 90:110] = 7
    want = kernel.labels(patch_of(filled), codebook)
    got = kernel.labels(patch_of(other, valid), codebook)
    np.testing.assert_array_equal(got[valid], want[valid])


def test_wide_dtypes_are_scaled_to_what_the_network_knows(model):
    kernel = kernel_of(model)
    pixels = scene(200, 200)
    wide = (pixels.astype(np.uint16) * 16) + 1000
    scaling = Scaling(np.full(3, 1000.0), np.full(3, 1000.0 + 255 * 16))
    narrow_book = codebook_for(kernel, pixels)
    wide_book = Codebook(
        narrow_book.centres, kernel.identity, (1, 2, 3), "uint16", narrow_book.band_mean * 16 + 1000, scaling
    )
    np.testing.assert_array_equal(
        kernel.labels(patch_of(wide), wide_book), kernel.labels(patch_of(pixels), narrow_book)
    )


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64"])
@pytest.mark.parametrize("place", [(0, 0), (32, 64), (64, 32)])
@pytest.mark.parametrize("scaled", [False, True])
def test_an_image_is_its_pixels_in_0_to_1_reflected_where_the_raster_ends(dtype, place, scaled):
    pixels = scene(90, 85, dtype=dtype)
    valid = np.random.default_rng(1).random((90, 85)) > 0.1
    mean, limits = np.array([40.5, 90.25, 120.0]), Scaling(np.full(3, 10.0), np.array([90.0, 150.0, 200.0]))
    there = Window(place[0] - 7, place[1] - 7, 46, 46)
    statistics = BandStatistics(mean, limits if scaled else None)
    found = image(patch_of(pixels, valid), there, 32, 7, statistics)
    want = np.where(valid, pixels, mean[:, None, None])
    if scaled:
        want = np.clip((want - limits.low[:, None, None]) * limits.gain[:, None, None], 0, 255)
    around = np.pad(want, ((0, 0), (7, 40), (7, 40)), mode="reflect")
    want = around[:, place[0] : place[0] + 46, place[1] : place[1] + 46]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, want.astype(np.float32) / np.float32(255))


@given(size=st.integers(1, 30))
def test_reflection_is_numpys_where_numpy_can(size):
    index = np.arange(-60, size + 60)
    values = np.arange(size)
    want = np.pad(values, 60, mode="reflect") if size > 1 else np.zeros(121, int)
    np.testing.assert_array_equal(values[_reflected(index, size)], want)


@pytest.mark.slow
@pytest.mark.parametrize("stride", [4, 8, 16])
def test_the_old_networks_label_chunks_as_the_whole(stride):
    path = DATA / "models" / "legacy" / f"model_{stride}.pth"
    if not path.exists():
        pytest.skip(f"no old networks here: {path} is absent")
    kernel = kernel_of(str(path))
    pixels = scene(1100, 1030)
    codebook = codebook_for(kernel, pixels)
    bounds = Window(0, 0, 1100, 1030)
    whole = kernel.labels(patch_of(pixels), codebook)
    for chunk in tiles(bounds, kernel.cell_px):
        part = kernel.labels(patch_of(pixels, None, chunk, chunk.grow(kernel.halo_px, bounds)), codebook)
        np.testing.assert_array_equal(part, whole[chunk.slices()])
