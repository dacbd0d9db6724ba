"""Scores by hand, and the table of features on a labelled set that is made here."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from benchmarks import data, report
from benchmarks.quality import features
from benchmarks.quality.labelled import UNLABELLED, LabelledSet
from benchmarks.quality.scores import confusion, matched, named
from pipeline.process.warning_filters import ignored

COUNTS = np.array([[1, 6], [8, 1], [3, 1]])


def test_pixels_are_counted_where_label_and_class_are_known():
    labels = np.array([[0, 1, 1], [255, 1, 0]], np.uint8)
    truth = np.array([[1, 0, UNLABELLED], [0, 0, 1]], np.uint8)
    np.testing.assert_array_equal(confusion(labels, truth, 3, 2), [[0, 2], [2, 0], [0, 0]])


def test_each_class_is_matched_with_one_label():
    # label 1 is class 0 and label 0 class 1; label 2 is none, and its pixels are wrong
    assert matched(COUNTS) == pytest.approx((14 / 20, np.mean([8 / 13, 6 / 9])))


def test_each_label_is_named_for_most_of_its_pixels():
    assert named(COUNTS) == pytest.approx((17 / 20, np.mean([11 / 14, 6 / 9])))
    # a class that nobody has is no class
    assert named(np.array([[2, 0], [1, 0]])) == (1.0, 1.0)


def write(path, bands):
    count, height, width = bands.shape
    size = {"count": count, "height": height, "width": width, "dtype": "uint8"}
    with ignored(NotGeoreferencedWarning), rasterio.open(path, "w", driver="PNG", **size) as dataset:
        dataset.write(bands)
    return path


def test_features_are_scored_on_a_whole_set(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    pairs = []
    for i in range(2):
        truth = np.zeros((64, 96), np.uint8)
        truth[:, 48:] = 1
        picture = (60 + 90 * truth + rng.integers(0, 9, (3, 64, 96))).astype(np.uint8)
        pairs.append((write(tmp_path / f"p{i}.png", picture), write(tmp_path / f"t{i}.png", truth[None])))
    monkeypatch.setattr(features, "SEEDS", (0,))
    one = LabelledSet("halves", ("dark", "bright"), tuple(pairs))
    scores = list(features.measure([one], lambda _: None))
    assert {(score.resolution, score.features) for score in scores} == {
        (r, f) for r in features.RESOLUTIONS for f in features.FEATURES
    }
    assert all(
        score.accuracy > 0.9 and score.mean_iou > 0.8 for score in scores if "texture" not in score.features
    )
    speeds = {(r, f): 10.0 for r in (1, 4) for f in features.FEATURES}
    photo = data.Photo(pairs[0][0], 96, "halves")
    assert "| halves | 4 | lab | 1.000 | 1.000 | 1.000 | 1.000 | 0.000 |" in report.of_features(
        scores, speeds, photo, 0.0
    )


def test_references_may_be_colours(tmp_path):
    reference = np.zeros((3, 1, 3), np.uint8)
    reference[:, 0, 0] = (0x10, 0x20, 0x30)
    reference[:, 0, 2] = (1, 2, 3)
    path = write(tmp_path / "t.png", reference)
    one = LabelledSet("colours", ("a", "b"), ((path, path),), {0x102030: 1})
    assert one.truth(path).tolist() == [[1, UNLABELLED, UNLABELLED]]
