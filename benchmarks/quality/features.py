"""What each feature set of K-Means is worth on labelled rasters, and what it costs beside bands."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import rasterio

import pipeline
from benchmarks.data import Photo
from benchmarks.quality.labelled import LabelledSet
from benchmarks.quality.scores import confusion, matched, named
from engine.grid import Window
from engine.kernel import Patch
from pipeline.kernels import kernel_from_codebook

FEATURES = ("bands", "lab", "texture", "lab+texture")
RESOLUTIONS = (1, 4)
SEEDS = (0, 1, 2)
SEGMENTS = 8
"""Labels of a run by default."""


@dataclass(frozen=True)
class Score:
    """Means over the seeds, for a set, a resolution and features.

    Parameters
    ----------
    name, resolution, features
        What was clustered.
    accuracy, mean_iou
        With as many labels as classes, each matched with one, once for the whole set.
    named_accuracy, named_iou
        With `SEGMENTS` labels, each named for the class of most of its pixels.
    spread
        The largest difference of accuracies between seeds.
    """

    name: str
    resolution: int
    features: str
    accuracy: float
    mean_iou: float
    named_accuracy: float
    named_iou: float
    spread: float


def measure(sets: Sequence[LabelledSet], say: Callable[[str], None]) -> Iterator[Score]:
    """Scores of each set."""
    for one in sets:
        truths = [one.truth(reference) for _, reference in one.pairs]
        for resolution in RESOLUTIONS:
            for features in FEATURES:
                say(f"-- {one.name}: R = {resolution}, {features}")
                each = np.array([_scores(one, truths, resolution, features, seed) for seed in SEEDS])
                spread = float(np.ptp(each[:, 0]))
                yield Score(one.name, resolution, features, *each.mean(axis=0).tolist(), spread)


def _scores(
    one: LabelledSet, truths: Sequence[np.ndarray], resolution: int, features: str, seed: int
) -> tuple[float, ...]:
    paths, classes = [picture for picture, _ in one.pairs], len(one.classes)
    scores: tuple[float, ...] = ()
    for segments, score in ((classes, matched), (SEGMENTS, named)):
        counts = np.zeros((segments, classes), np.int64)
        book = pipeline.fit(paths, segments=segments, resolution=resolution, features=features, seed=seed)
        for path, truth in zip(paths, truths, strict=True):
            labels = pipeline.segment(pipeline.open_raster(path), book).values
            height, width = np.minimum(labels.shape, truth.shape)
            counts += confusion(labels[:height, :width], truth[:height, :width], segments, classes)
        scores += score(counts)
    return scores


def speeds(photo: Photo, rounds: int = 7) -> dict[tuple[int, str], float]:
    """Mpx/s of the bare kernel on one thread, for each resolution and features, taken in turns."""
    with rasterio.open(photo.path) as dataset:
        pixels = dataset.read()
    bounds = Window(0, 0, *pixels.shape[1:])
    patch = Patch(pixels, np.ones(pixels.shape[1:], bool), bounds, bounds, bounds)
    works = {}
    for resolution in RESOLUTIONS:
        for features in FEATURES:
            book = pipeline.fit(photo.path, segments=SEGMENTS, resolution=resolution, features=features)
            works[resolution, features] = kernel_from_codebook(book), book
    seconds: dict[tuple[int, str], list[float]] = {key: [] for key in works}
    for turn in range(rounds + 1):
        for key, (kernel, book) in works.items():
            start = time.perf_counter()
            kernel.labels(patch, book)
            if turn:  # the first compiles
                seconds[key].append(time.perf_counter() - start)
    return {key: bounds.pixels / 1e6 / statistics.median(each) for key, each in seconds.items()}
