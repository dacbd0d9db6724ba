"""Whether finished files hold what was written: decoded labels against checksums, and whole files.

Labels are read as anybody reads them, by GDAL, at every level: so the tiles, the directories that say
where they are, and a Zarr store's VRTs are all in it. A checksum of labels is the CRC-32C of their bytes,
row by row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import google_crc32c
import numpy as np
from rasterio.windows import Window as FileWindow

from engine.grid import Window, tiles
from engine.kernel import Labels
from pipeline.check.seams import Borders, Seams, count_seams
from pipeline.errors import RasterError
from pipeline.sinks.pyramid import Stage
from pipeline.source import bad_blocks
from pipeline.source.gdal import handles
from pipeline.source.raster import described

Unit = tuple[int, int]

_ROWS = 32

_AGAIN = "the disk or the memory is at fault: run again with --overwrite or another OUT"


def labels_crc(labels: Labels) -> int:
    """CRC-32C of labels, row by row."""
    crc = 0
    # a copy of some rows stays in the processor's cache; one of all costs more than the checksum itself
    for row in range(0, len(labels), _ROWS):
        crc = google_crc32c.extend(crc, np.ascontiguousarray(labels[row : row + _ROWS]))
    return crc


def read_labels(path: str | Path, level: int, window: Window) -> Labels:
    """Labels of a window of a finished file at a level, in that level's pixels.

    Parameters
    ----------
    path
        What GDAL opens: a COG, or the VRT of a Zarr store.
    level
        0 for full resolution, n for the nth overview.
    window
        Which pixels.

    Raises
    ------
    RasterError
        If they cannot be decoded, or the level is smaller; names the file, the level and the window.
    """
    name, what = str(path), f"level {level}, {described(window)}"
    part = FileWindow(window.col, window.row, window.width, window.height)
    # asked again for a source that it could not open, a VRT gives zeros
    retry_s = () if name.endswith(".vrt") else bad_blocks.RETRY_AFTER_S
    labels: Labels = handles.read(name, lambda d: d.read(1, window=part), what, retry_s, level=level)
    if labels.shape != (window.height, window.width):
        raise RasterError(name, f"{what}: the file ends before; {_AGAIN}")
    return labels


def check_window(
    path: str | Path,
    stage: Stage,
    window: Window,
    expected: Mapping[Unit, Sequence[int]],
    borders: Borders | None = None,
) -> Seams:
    """Compare a window of a finished file, at each level of a stage, with the checksums of what was written.

    Parameters
    ----------
    path
        What GDAL opens: a COG, or the VRT of a Zarr store.
    stage
        Its levels are read.
    window
        One or several whole units, in pixels of the stage's first level.
    expected
        For each unit in the window, `labels_crc` of its labels at each level of the stage.
    borders
        Where to look for seams at the stage's first level, or None.

    Returns
    -------
    Seams
        Of the stage's first level, zeros without `borders`.

    Raises
    ------
    RasterError
        If labels cannot be decoded or are not those; names the file, the level and the window.
    """
    seams = Seams()
    for step in range(stage.levels):
        part = at_step(window, step)
        with_edge = part
        if step == 0 and borders is not None:
            above, left = min(part.row, 1), min(part.col, 1)
            with_edge = Window(part.row - above, part.col - left, part.height + above, part.width + left)
        labels = read_labels(path, stage.level + step, with_edge)
        if step == 0 and borders is not None:
            seams = count_seams(labels, part, borders)
        for whole in tiles(window, stage.unit_px):
            unit = whole.row // stage.unit_px, whole.col // stage.unit_px
            piece = at_step(whole, step)
            if labels_crc(labels[piece.slices(with_edge)]) != expected[unit][step]:
                what = f"level {stage.level + step}, {described(piece)}"
                raise RasterError(str(path), f"{what}: not the labels that were written; {_AGAIN}")
    return seams


def at_step(window: Window, step: int) -> Window:
    """A window of whole units at a level that is `step` halvings coarser."""
    height, width = (-(-side >> step) for side in (window.height, window.width))
    return Window(window.row >> step, window.col >> step, height, width)
