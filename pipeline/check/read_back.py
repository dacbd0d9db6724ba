"""Whether finished files hold what was written: decoded labels are compared with checksums.

Labels are read by GDAL, as users read them, at every level: so tiles, TIFF directories and a Zarr store's
VRTs are all checked. A checksum of labels is the CRC-32C of their bytes, row by row.
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
from pipeline.durable.ledger import Unit
from pipeline.errors import RasterError
from pipeline.sinks.pyramid import Stage
from pipeline.source import bad_blocks
from pipeline.source.gdal import handles
from pipeline.source.raster import described

_ROWS = 32

_AGAIN = "the disk or the memory is at fault: run again with --overwrite or another OUT"


def labels_crc(labels: Labels) -> int:
    """CRC-32C of labels, row by row."""
    crc = 0
    # a copy of a few rows stays in the processor's cache; copying all at once costs more than the checksum
    for row in range(0, len(labels), _ROWS):
        crc = google_crc32c.extend(crc, np.ascontiguousarray(labels[row : row + _ROWS]))
    return crc


def read_labels(path: str | Path, level: int, window: Window) -> Labels:
    """Labels of a window of a finished file at a level, in that level's pixels.

    Parameters
    ----------
    path
        The file that GDAL opens: a COG, or the VRT of a Zarr store.
    level
        0 for full resolution, n for the nth overview.
    window
        The pixels to read, in pixels of the level.

    Raises
    ------
    RasterError
        If they cannot be decoded, or the level is smaller; names the file, the level and the window.
    """
    name, position = str(path), f"level {level}, {described(window)}"
    file_window = FileWindow(window.col, window.row, window.width, window.height)
    # a VRT is not read again: asked twice for a source that it could not open, it returns zeros
    retry_s = () if name.endswith(".vrt") else bad_blocks.RETRY_AFTER_S
    labels: Labels = handles.read(
        name, lambda d: d.read(1, window=file_window), position, retry_s, level=level
    )
    if labels.shape != (window.height, window.width):
        raise RasterError(name, f"{position}: the file ends before; {_AGAIN}")
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
        The file that GDAL opens: a COG, or the VRT of a Zarr store.
    stage
        The stage whose levels are read.
    window
        One or several whole units, in pixels of the stage's first level.
    expected
        For each unit in the window, `labels_crc` of its labels at each level of the stage.
    borders
        Borders at which seams are counted in the stage's first level, or None.

    Returns
    -------
    Seams
        Of the stage's first level; zeros without `borders`.

    Raises
    ------
    RasterError
        If labels cannot be decoded or differ from what was written; names the file, the level and the window.
    """
    seams = Seams()
    for step in range(stage.levels):
        level_window = at_step(window, step)
        outer = with_edge(level_window) if step == 0 and borders is not None else level_window
        labels = read_labels(path, stage.level + step, outer)
        if step == 0 and borders is not None:
            seams = count_seams(labels, level_window, borders)
        for unit_window in tiles(window, stage.unit_px):
            unit = unit_window.row // stage.unit_px, unit_window.col // stage.unit_px
            unit_at_level = at_step(unit_window, step)
            if labels_crc(labels[unit_at_level.slices(outer)]) != expected[unit][step]:
                position = f"level {stage.level + step}, {described(unit_at_level)}"
                raise RasterError(str(path), f"{position}: not the labels that were written; {_AGAIN}")
    return seams


def with_edge(window: Window) -> Window:
    """A window with the row above and the column left of it, as far as the raster has them."""
    above, left = min(window.row, 1), min(window.col, 1)
    return Window(window.row - above, window.col - left, window.height + above, window.width + left)


def at_step(window: Window, step: int) -> Window:
    """A window of whole units at a level that is `step` halvings coarser."""
    height, width = (-(-side >> step) for side in (window.height, window.width))
    return Window(window.row >> step, window.col >> step, height, width)
