"""Features of pixels against a plain reading of what they are, and cut anywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.colours import lab
from engine.feature_sets.feature_set import FeatureSet
from engine.feature_sets.pixel_features import lab_of, pixel_features
from tests.strategies import patches, windows_in

TEXTURE, LAB, BOTH = FeatureSet(texture=True), FeatureSet(lab=True), FeatureSet(lab=True, texture=True)


def windows(values, valid, seen):
    """Means of the valid values in each window of 9 x 9, and twice the deviation, pixel by pixel."""
    channels, height, width = values.shape
    out = np.zeros((channels + 1, height, width))
    for y in range(height):
        for x in range(width):
            near = np.s_[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5]
            if (here := valid[near]).any():
                found = values[:, *near][:, here]
                out[:-1, y, x] = found.mean(axis=1)
                out[-1, y, x] = 2 * np.sqrt(found[:seen].var(axis=1).mean())
    return out


def limits_of(patch, rng):
    """Limits that clip some of a patch's values; None for bytes now and then."""
    if patch.pixels.dtype == np.uint8 and rng.random() < 0.5:
        return None
    values = np.nan_to_num(patch.pixels.astype(np.float64))
    low, high = np.percentile(values, [5, 95], axis=(1, 2))
    return low, np.divide(255.0, high - low, out=np.zeros_like(low), where=high > low)


def whole(shape):
    return tuple(slice(0, side) for side in shape)


@given(patches(), st.integers(0, 9))
def test_texture_is_means_and_deviation_of_what_is_valid_in_the_window(patch, seed):
    limits = limits_of(patch, np.random.default_rng(seed))
    values = np.nan_to_num(patch.pixels.astype(np.float64))
    if limits is not None:
        low, gain = (limit[:, None, None] for limit in limits)
        values = np.clip((values - low) * gain, 0, 255)
    found = pixel_features(TEXTURE, patch.pixels, patch.valid, whole(patch.valid.shape), limits)
    expected = windows(values, patch.valid, len(values))
    # fixed-point numbers of 1/128 where values are scaled
    np.testing.assert_allclose(found[:, patch.valid], expected[:, patch.valid], atol=0.02, rtol=1e-6)


@given(patches(), st.integers(0, 9), st.data())
def test_a_part_with_its_margin_has_the_very_bits_of_the_whole(patch, seed, data):
    limits = limits_of(patch, np.random.default_rng(seed))
    part = data.draw(windows_in(patch.bounds))
    outer = part.grow(TEXTURE.halo_px + seed, patch.bounds)
    inside = outer.slices(patch.bounds)
    found = pixel_features(TEXTURE, patch.pixels[:, *inside], patch.valid[inside], part.slices(outer), limits)
    of_whole = pixel_features(TEXTURE, patch.pixels, patch.valid, whole(patch.valid.shape), limits)
    valid = patch.valid[part.slices(patch.bounds)]
    np.testing.assert_array_equal(found[:, valid], of_whole[:, *part.slices(patch.bounds)][:, valid])


def test_lab_is_cielab():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 200, 200)).astype(np.uint8)
    pixels[:, 0] = np.arange(200)  # greys
    expected = lab(pixels.reshape(3, -1).T).T.reshape(pixels.shape)
    np.testing.assert_allclose(lab_of(pixels), expected, atol=0.15)
    np.testing.assert_array_equal(
        pixel_features(LAB, pixels, np.ones((200, 200), bool), whole((200, 200)), None), lab_of(pixels)
    )
    black, white = lab_of(np.array([0, 255], np.uint8)[None, None].repeat(3, 0))[:, 0].T
    assert (black.tolist(), white.tolist()) == ([0, 0, 0], [100, 0, 0])


def test_texture_of_lab_sees_the_deviation_of_lightness_alone():
    rng = np.random.default_rng(1)
    pixels, valid = rng.integers(0, 256, (3, 30, 40)).astype(np.uint8), rng.random((30, 40)) < 0.9
    found = pixel_features(BOTH, pixels, valid, whole(valid.shape), None)
    np.testing.assert_allclose(found[:, valid], windows(lab_of(pixels), valid, 1)[:, valid], rtol=1e-5)


@pytest.mark.parametrize(
    ("features", "bands", "dtype", "scaled", "why"),
    [
        (LAB, 3, "uint8", False, ""),
        (LAB, 3, "uint8", True, "scaled by limits"),
        (LAB, 4, "uint8", False, "not of 4 x uint8"),
        (BOTH, 3, "uint16", False, "not of 3 x uint16"),
        (TEXTURE, 7, "float32", True, ""),
        (TEXTURE, 7, "float32", False, "texture of float32 needs limits"),
        (FeatureSet(), 7, "float32", False, ""),
    ],
)
def test_what_has_no_such_features_is_refused_before_a_loop_sees_it(features, bands, dtype, scaled, why):
    assert why in features.why_not(bands, dtype, scaled=scaled)
    if why:
        limits = (np.zeros(bands), np.ones(bands)) if scaled else None
        pixels = np.zeros((bands, 2, 2), dtype)
        with pytest.raises(ValueError, match=why):
            pixel_features(features, pixels, np.ones((2, 2), bool), whole((2, 2)), limits)


@pytest.mark.parametrize("name", ["bands", "lab", "texture", "lab+texture"])
def test_names_are_read_back(name):
    assert str(FeatureSet.parse(name)) == name


@pytest.mark.parametrize("name", ["Lab", "texture+lab", "", None, 3])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="kmeans has bands, lab, texture, lab"):
        FeatureSet.parse(name)
