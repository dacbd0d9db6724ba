"""Whether a label file is what a record says: its header, every tile of every level, its label counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.crs import CRS
from rasterio.errors import CRSError

from engine.grid import Window, tiles
from engine.kernel import NODATA
from pipeline.check.labels import at_step, read_labels
from pipeline.check.seams import Borders, Seams, count_seams
from pipeline.errors import RasterError
from pipeline.grid.georeference import Georeference
from pipeline.sinks.pyramid import count_labels, halve, level_shapes
from pipeline.source import bad_blocks
from pipeline.source.gdal import handles
from pipeline.source.raster import described
from pipeline.workers.pool import Pool

_WINDOW_PX = 2048
_CLOSE = 1e-12
_MOST_NAMED = 3

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Expected:
    """What a label file has to be.

    Parameters
    ----------
    shape
        (height, width).
    place
        Georeference of the first pixel; ground control points are not compared.
    segments
        K.
    counts
        Pixels of each label, shape (256,).
    codebook_hash, kernel
        Provenance in its tags.
    """

    shape: tuple[int, int]
    place: Georeference
    segments: int
    counts: Counts
    codebook_hash: str
    kernel: str


@dataclass(frozen=True)
class _Part:
    """What a window of a level came to."""

    counts: Counts
    seams: Seams
    wrong: str = ""


def header_problems(path: Path, expected: Expected) -> list[str]:
    """What is wrong with a label file's header and levels.

    Raises
    ------
    RasterError
        If it cannot be opened.
    """
    shapes = level_shapes(*expected.shape)
    wrong = handles.opened(str(path), lambda dataset: list(_header(dataset, expected, len(shapes))))
    if not wrong:
        for level, shape in enumerate(shapes):
            found = handles.read(
                str(path),
                lambda dataset: dataset.shape,
                f"level {level}",
                bad_blocks.RETRY_AFTER_S,
                level=level,
            )
            if found != shape:
                wrong.append(f"level {level} has {found[1]} x {found[0]} px, not {shape[1]} x {shape[0]}")
    return [f"{path}: {one}" for one in wrong]


def _header(dataset: Any, expected: Expected, levels: int) -> Iterator[str]:
    height, width = expected.shape
    if dataset.shape != (height, width):
        yield f"{dataset.width} x {dataset.height} px, not {width} x {height}"
    if dataset.dtypes != ("uint8",) or dataset.nodata != NODATA:
        kinds = ", ".join(dataset.dtypes)
        yield f"bands of {kinds} with nodata {dataset.nodata}, not one of uint8 with {NODATA}"
    if (found := len(dataset.overviews(1))) != levels - 1:
        yield f"{found} overviews, not {levels - 1}"
    if not _same_crs(expected.place.crs_wkt, dataset.gcps[1] if dataset.gcps[0] else dataset.crs):
        yield "not the CRS of its record"
    transform = expected.place.transform
    if transform is not None and not all(
        math.isclose(a, b, rel_tol=_CLOSE, abs_tol=_CLOSE)
        for a, b in zip(transform, dataset.transform, strict=False)
    ):
        yield f"transform {tuple(dataset.transform)[:6]}, not {transform}"
    tags = dataset.tags()
    for tag, value in (
        ("TILEWRIGHT_CODEBOOK", expected.codebook_hash),
        ("TILEWRIGHT_KERNEL", expected.kernel),
    ):
        if tags.get(tag) != value:
            yield f"its tag {tag} is {tags.get(tag)!r}, not {value!r}"


def _same_crs(wkt: str | None, found: Any) -> bool:
    try:
        return bool(CRS.from_wkt(wkt) == found) if wkt else not found
    except CRSError:
        return False


def label_problems(
    path: Path, expected: Expected, borders: Borders, pool: Pool, advance: Callable[[int, int], None]
) -> tuple[list[str], Seams]:
    """Decode every tile of every level: what is wrong with the labels, and their seams.

    Parameters
    ----------
    path
        What GDAL opens; its header is right.
    expected
        What it has to be.
    borders
        Where seams are looked for.
    pool
        Reads windows.
    advance
        Hears of windows done and of their number.
    """
    shapes = level_shapes(*expected.shape)
    calls = (
        (str(path), level, window, level + 1 < len(shapes), borders)
        for level, (height, width) in enumerate(shapes)
        for window in tiles(Window(0, 0, height, width), _WINDOW_PX)
    )
    total = sum(-(-height // _WINDOW_PX) * -(-width // _WINDOW_PX) for height, width in shapes)
    wrong: list[str] = []
    bad, counts, seams = 0, np.zeros(256, np.int64), Seams()
    for done, part in enumerate(pool.each(_check, calls), 1):
        counts, seams = counts + part.counts, seams + part.seams
        bad += bool(part.wrong)
        if part.wrong and bad <= _MOST_NAMED:
            wrong.append(part.wrong)
        advance(done, total)
    if bad > _MOST_NAMED:
        wrong.append(f"{path}: and {bad - _MOST_NAMED} more windows")
    if not bad:
        wrong += [f"{path}: {one}" for one in _count_problems(counts, expected)]
    return wrong, seams


def _count_problems(counts: Counts, expected: Expected) -> Iterator[str]:
    if counts[expected.segments : NODATA].any():
        yield f"labels of {expected.segments} or more, where K is {expected.segments}"
    elif (counts != expected.counts).any():
        label = int(np.flatnonzero(counts != expected.counts)[0])
        yield f"{counts[label]} pixels of label {label}, where its record says {expected.counts[label]}"


def _check(path: str, level: int, window: Window, more: bool, borders: Borders) -> _Part:  # noqa: FBT001  (a task's arguments are plain)
    """Read a window of a level, and compare the next level with it."""
    counts, seams = np.zeros(256, np.int64), Seams()
    try:
        above, left = (min(window.row, 1), min(window.col, 1)) if level == 0 else (0, 0)
        outer = Window(window.row - above, window.col - left, window.height + above, window.width + left)
        labels = read_labels(path, level, outer)
        if level == 0:
            seams = count_seams(labels, window, borders)
        labels = np.ascontiguousarray(labels[above:, left:])
        if level == 0:
            counts = count_labels(labels)
        coarse = at_step(window, 1)
        if more and not np.array_equal(halve(labels), read_labels(path, level + 1, coarse)):
            what = f"level {level + 1}, {described(coarse)}"
            return _Part(counts, seams, f"{path}: {what}: not the mode of the level below")
    except RasterError as error:
        return _Part(counts, seams, str(error))
    return _Part(counts, seams)
