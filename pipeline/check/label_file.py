"""Whether a label file matches its record: header, every tile of every level, label counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rasterio.errors import CRSError

from engine.grid import Window, tiles
from engine.kernel import NODATA
from pipeline.check.read_back import at_step, read_labels, with_edge
from pipeline.check.seams import Borders, Seams, count_seams
from pipeline.errors import RasterError
from pipeline.grid.crs import same_crs
from pipeline.grid.georeference import Georeference
from pipeline.sinks.pyramid import count_labels, halve, level_shapes
from pipeline.source import bad_blocks
from pipeline.source.gdal import handles
from pipeline.source.raster import described
from pipeline.workers.pool import Pool

_WINDOW_PX = 2048
_CLOSE = 1e-12  # largest difference between equal transforms, relative and absolute
_MOST_NAMED = 3  # windows named in messages

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Expected:
    """Expected header and contents of a label file.

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
class _WindowResult:
    """Result of checking a window of a level; `problem` is "" if it is right."""

    counts: Counts
    seams: Seams
    problem: str = ""


def header_problems(path: Path, expected: Expected) -> list[str]:
    """Problems of a label file's header and levels; empty if there are none.

    Raises
    ------
    RasterError
        If it cannot be opened.
    """
    shapes = level_shapes(*expected.shape)
    problems = handles.opened(str(path), lambda dataset: list(_header(dataset, expected, len(shapes))))
    if not problems:
        for level, shape in enumerate(shapes):
            actual = handles.read(
                str(path),
                lambda dataset: dataset.shape,
                f"level {level}",
                bad_blocks.RETRY_AFTER_S,
                level=level,
            )
            if actual != shape:
                problems.append(
                    f"level {level} has {actual[1]} x {actual[0]} px, not {shape[1]} x {shape[0]}"
                )
    return [f"{path}: {problem}" for problem in problems]


def _header(dataset: Any, expected: Expected, levels: int) -> Iterator[str]:
    height, width = expected.shape
    if dataset.shape != (height, width):
        yield f"{dataset.width} x {dataset.height} px, not {width} x {height}"
    if dataset.dtypes != ("uint8",) or dataset.nodata != NODATA:
        kinds = ", ".join(dataset.dtypes)
        yield f"bands of {kinds} with nodata {dataset.nodata}, not one of uint8 with {NODATA}"
    if (overviews := len(dataset.overviews(1))) != levels - 1:
        yield f"{overviews} overviews, not {levels - 1}"
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


def _same_crs(wkt: str | None, crs: Any) -> bool:
    try:
        return same_crs(wkt, crs.to_wkt() if crs else None)
    except CRSError:
        return False


def label_problems(
    path: Path, expected: Expected, borders: Borders, pool: Pool, advance: Callable[[int, int], None]
) -> tuple[list[str], Seams]:
    """Problems of the labels, and their seams; every tile of every level is decoded.

    Parameters
    ----------
    path
        The file that GDAL opens; its header has no problems.
    expected
        Expected contents.
    borders
        Borders at which seams are counted.
    pool
        Workers that read windows.
    advance
        Called as ``advance(windows done, windows)``.
    """
    shapes = level_shapes(*expected.shape)
    side = max(1, _WINDOW_PX // borders.side_px) * borders.side_px  # seams are counted in whole cells
    calls = (
        (str(path), level, window, level + 1 < len(shapes), borders)
        for level, (height, width) in enumerate(shapes)
        for window in tiles(Window(0, 0, height, width), side)
    )
    total = sum(-(-height // side) * -(-width // side) for height, width in shapes)
    problems: list[str] = []
    bad, counts, seams = 0, np.zeros(256, np.int64), Seams()
    for done, result in enumerate(pool.each(_check, calls), 1):
        counts, seams = counts + result.counts, seams + result.seams
        bad += bool(result.problem)
        if result.problem and bad <= _MOST_NAMED:
            problems.append(result.problem)
        advance(done, total)
    if bad > _MOST_NAMED:
        problems.append(f"{path}: and {bad - _MOST_NAMED} more windows")
    if not bad:
        problems += [f"{path}: {problem}" for problem in _count_problems(counts, expected)]
    return problems, seams


def _count_problems(counts: Counts, expected: Expected) -> Iterator[str]:
    if counts[expected.segments : NODATA].any():
        yield f"labels of {expected.segments} or more, where K is {expected.segments}"
    elif (counts != expected.counts).any():
        label = int(np.flatnonzero(counts != expected.counts)[0])
        yield f"{counts[label]} pixels of label {label}, where its record says {expected.counts[label]}"


def _check(path: str, level: int, window: Window, more: bool, borders: Borders) -> _WindowResult:  # noqa: FBT001  (a task's arguments are plain)
    """Read a window of a level, and compare the next level with it, if there is `more` than this one."""
    counts, seams = np.zeros(256, np.int64), Seams()
    try:
        outer = with_edge(window) if level == 0 else window
        labels = read_labels(path, level, outer)
        if level == 0:
            seams = count_seams(labels, window, borders)
        labels = np.ascontiguousarray(labels[window.slices(outer)])
        if level == 0:
            counts = count_labels(labels)
        coarse = at_step(window, 1)
        if more and not np.array_equal(halve(labels), read_labels(path, level + 1, coarse)):
            position = f"level {level + 1}, {described(coarse)}"
            return _WindowResult(counts, seams, f"{path}: {position}: not the mode of the level below")
    except RasterError as error:
        return _WindowResult(counts, seams, str(error))
    return _WindowResult(counts, seams)
