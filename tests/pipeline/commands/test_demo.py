"""The demo scene: the same pixels in every window, a truth that holds, and a score that can be bad."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.commands.demo.scene import CLASS_NAMES, Scene, write_scene
from pipeline.commands.demo.score import draw_comparison, score_labels

SMALL = Scene(600, 500)
LARGE = Scene(4000, 3600, seed=3)
DEFAULT = Scene()


@functools.cache
def whole(scene):
    return scene.window(0, 0, scene.height, scene.width)


@functools.cache
def corner(scene):
    return scene.window(900, 1500, 300, 400)


def write(path, values, colours=None, nodata=255):
    height, width = values.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": values.dtype}
    with rasterio.open(path, "w", nodata=nodata, **profile) as file:
        file.write(values, 1)
        if colours:
            file.write_colormap(1, colours)
    return path


@settings(max_examples=30, deadline=None)
@given(st.data())
@pytest.mark.parametrize("scene", [SMALL, Scene(601, 423, seed=2)])
def test_a_window_holds_the_pixels_of_the_whole(scene, data):
    row, col = data.draw(st.integers(0, scene.height - 1)), data.draw(st.integers(0, scene.width - 1))
    height = data.draw(st.integers(1, min(200, scene.height - row)))
    width = data.draw(st.integers(1, min(200, scene.width - col)))
    rgb, truth = scene.window(row, col, height, width)
    place = np.s_[row : row + height, col : col + width]
    np.testing.assert_array_equal(rgb, whole(scene)[0][:, *place])
    np.testing.assert_array_equal(truth, whole(scene)[1][place])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 299), st.integers(0, 399), st.integers(1, 300), st.integers(1, 400))
@pytest.mark.parametrize("scene", [DEFAULT, LARGE])
def test_a_window_within_a_window_of_a_scene_at_full_size(scene, row, col, height, width):
    height, width = min(height, 300 - row), min(width, 400 - col)
    rgb, truth = scene.window(900 + row, 1500 + col, height, width)
    np.testing.assert_array_equal(rgb, corner(scene)[0][:, row : row + height, col : col + width])
    np.testing.assert_array_equal(truth, corner(scene)[1][row : row + height, col : col + width])


@pytest.mark.parametrize("place", [(-1, 0, 5, 5), (0, -1, 5, 5), (499, 0, 2, 5), (0, 0, 5, 601)])
def test_a_window_outside_the_scene_is_refused(place):
    with pytest.raises(ValueError, match="leaves"):
        SMALL.window(*place)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [(600, 500), (500, 600), (900, 420)])
def test_black_means_no_data_and_every_class_occurs(size, seed):
    rgb, truth = Scene(*size, seed=seed).window(0, 0, size[1], size[0])
    assert (rgb.dtype, truth.dtype) == (np.uint8, np.uint8)
    missing = truth == 255
    assert 0.02 < missing.mean() < 0.2
    assert not rgb[:, missing].any()
    assert rgb[:, ~missing].all()  # no band is 0, so that a reader that looks at one band alone agrees
    shares = np.bincount(truth[~missing], minlength=len(CLASS_NAMES)) / np.count_nonzero(~missing)
    assert len(shares) == len(CLASS_NAMES)
    assert shares.min() >= 0.01


def test_the_border_without_data_is_slanted():
    left = (whole(SMALL)[1] != 255).argmax(axis=1)[60:440]
    assert len(np.unique(left)) > 5
    assert left[-50:].mean() > left[:50].mean() + 3


def test_another_seed_is_another_scene():
    other = Scene(600, 500, seed=8).window(0, 0, 500, 600)[1]
    assert (other != whole(SMALL)[1]).mean() > 0.2


def test_classes_differ_in_colour_but_are_not_flat():
    rgb, truth = whole(SMALL)
    pixels = [rgb[:, truth == c].astype(float) for c in range(len(CLASS_NAMES))]
    means = np.array([p.mean(axis=1) for p in pixels])
    distances = np.linalg.norm(means[:, None] - means[None], axis=2) + 1000 * np.eye(len(means))
    assert distances.min() > 15
    assert min(p.std(axis=1).mean() for p in pixels) > 3


def test_files_hold_what_windows_hold(tmp_path):
    scene = Scene(700, 560, seed=5)  # more than one strip and tile
    write_scene(scene, tmp_path / "a.tif", tmp_path / "b.tif")
    with rasterio.open(tmp_path / "a.tif") as image, rasterio.open(tmp_path / "b.tif") as truth:
        np.testing.assert_array_equal(image.read(), whole(scene)[0])
        np.testing.assert_array_equal(truth.read(1), whole(scene)[1])
        assert (image.nodata, truth.nodata) == (0, 255)
        assert image.crs == truth.crs == "EPSG:32633"
        assert image.transform == truth.transform
        assert image.res == (0.2, 0.2)
        assert image.block_shapes[0] == (512, 512)
    assert {p.name for p in tmp_path.iterdir()} == {"a.tif", "b.tif"}


def test_nothing_is_left_of_a_scene_that_fails(tmp_path, monkeypatch):
    (tmp_path / "a.tif").write_bytes(b"what was there")

    def fail(*_):
        raise RuntimeError("enough")

    monkeypatch.setattr(Scene, "window", fail)
    with pytest.raises(RuntimeError, match="enough"):
        write_scene(SMALL, tmp_path / "a.tif", tmp_path / "b.tif")
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]
    assert (tmp_path / "a.tif").read_bytes() == b"what was there"


def compare(folder, labels, truth):
    return score_labels(write(folder / "labels.tif", labels), write(folder / "truth.tif", truth))


def test_the_truth_scores_1(tmp_path):
    truth = whole(SMALL)[1]
    result = compare(tmp_path, truth, truth)
    assert (result.accuracy, result.mean_iou, result.rule) == (1, 1, "one-to-one")
    assert result.matching == {c: c for c in range(len(CLASS_NAMES))}


def test_permuted_labels_score_1(tmp_path):
    truth = whole(SMALL)[1]
    order = np.full(256, 255, np.uint8)
    order[:7] = [3, 0, 6, 1, 5, 2, 4]
    result = compare(tmp_path, order[truth], truth)
    assert (result.accuracy, result.mean_iou) == (1, 1)
    assert result.matching == {3: 0, 0: 1, 6: 2, 1: 3, 5: 4, 2: 5, 4: 6}


def test_more_labels_than_classes_each_stand_for_their_commonest(tmp_path):
    truth = whole(SMALL)[1]
    labels = np.where(np.arange(600) % 2, truth, truth + 10).astype(np.uint8)  # two labels for each class
    labels[truth == 255] = 255
    labels[0:250][truth[0:250] == 4] = 2  # the upper half of the roads is taken for crops
    result = compare(tmp_path, labels, truth)
    assert result.rule == "many-to-one"
    assert result.matching == {c + extra: c for c in range(7) for extra in (0, 10)}
    valid = np.count_nonzero(truth != 255)
    lost = np.count_nonzero(truth[:250] == 4)
    assert result.accuracy == pytest.approx(1 - lost / valid)
    crops, roads = np.count_nonzero(truth == 2), np.count_nonzero(truth == 4)
    assert result.mean_iou == pytest.approx((5 + crops / (crops + lost) + (roads - lost) / roads) / 7)


def test_known_small_answer(tmp_path):
    truth = np.array([[0, 0, 0, 1, 1, 255]], np.uint8)
    labels = np.array([[9, 9, 4, 4, 255, 4]], np.uint8)
    result = compare(tmp_path, labels, truth)
    # 9 is water (2 of 3), 4 is forest (1 of 2); no label is wrong, and what has no truth is left out
    assert result.accuracy == pytest.approx(3 / 5)
    assert result.mean_iou == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert result.matching == {4: 1, 9: 0}


def test_one_to_one_is_the_best_matching_not_a_greedy_one(tmp_path):
    truth = np.repeat(np.array([[0, 1, 0, 1]], np.uint8), [5, 4, 4, 0], axis=1)
    labels = np.repeat(np.array([[1, 1, 2, 2]], np.uint8), [5, 4, 4, 0], axis=1)
    # greedy: 1 to water (5), 2 to nothing; best: 1 to forest (4), 2 to water (4)
    result = compare(tmp_path, labels, truth)
    assert result.matching == {1: 1, 2: 0}
    assert result.accuracy == pytest.approx(8 / 13)


def test_a_score_can_be_bad(tmp_path):
    truth = whole(SMALL)[1]
    noise = np.random.default_rng(0).integers(0, 7, truth.shape).astype(np.uint8)
    result = compare(tmp_path, noise, truth)
    assert result.accuracy < 0.2
    assert result.mean_iou < 0.12
    one = compare(tmp_path, np.zeros_like(truth), truth)
    assert one.accuracy == pytest.approx(
        np.bincount(truth[truth < 255]).max() / np.count_nonzero(truth < 255)
    )
    assert one.mean_iou < 0.1
    assert compare(tmp_path, np.full_like(truth, 255), truth).accuracy == 0


@pytest.mark.parametrize("labels", [np.zeros((5, 6), np.uint8), np.zeros((5, 5), np.uint16)])
def test_files_that_do_not_fit_are_refused(tmp_path, labels):
    with pytest.raises(ValueError, match="must be uint8"):
        compare(tmp_path, labels, np.zeros((5, 5), np.uint8))


def test_plain_colours_go_some_way_but_not_all_the_way(tmp_path):
    from sklearn.cluster import KMeans

    scene = Scene(1536, 1280)
    rgb, truth = (values[..., :1280, :1536] for values in whole(scene))
    means = rgb.reshape(3, 320, 4, 384, 4).mean(axis=(2, 4)).reshape(3, -1).T
    labels = KMeans(7, n_init=3, random_state=0).fit(means[means.min(axis=1) > 0]).predict(means)
    labels = labels.reshape(320, 384).repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)
    assert 0.7 < compare(tmp_path, labels, truth).accuracy < 0.95


def test_picture_shows_three_panels_in_the_labels_own_colours(tmp_path):
    write_scene(SMALL, tmp_path / "a.tif", tmp_path / "t.tif")
    labels = write(tmp_path / "l.tif", np.ones((500, 600), np.uint8), {0: (1, 2, 3), 1: (250, 10, 200)})
    draw_comparison(tmp_path / "a.tif", labels, tmp_path / "t.tif", tmp_path / "out.png", side=300)
    pixels = np.asarray(Image.open(tmp_path / "out.png"))
    assert pixels.shape == (282, 932, 3)
    assert (pixels[24:274, 316:616] == (250, 10, 200)).all()
    assert pixels[24:274, 8:308].std() > 20
    water = (pixels[24:274, 624:924] == (52, 104, 168)).all(axis=2).mean()
    assert water == pytest.approx((whole(SMALL)[1] == 0).mean(), abs=0.01)
    assert pixels[:20, 316:400].min() < 100  # a caption
    assert {p.name for p in tmp_path.iterdir()} == {"a.tif", "t.tif", "l.tif", "out.png"}
