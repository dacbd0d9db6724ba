"""How much of the disk a run takes in OUT, and whether that is free.

The figures are typical ones, not the worst case: a refusal shall be right, and a disk that fills up all
the same stops the run cleanly. They are means over seven real rasters (aerial and satellite scenes of
0.2 to 34 Mpx) of the labels with their overviews, in bytes a pixel at full resolution:

=============  =====  =====  =====  =====  =====
K              2      4      8      16     32
=============  =====  =====  =====  =====  =====
resolution 1   0.08   0.15   0.22   0.30   0.39
resolution 4   0.05   0.08   0.09   0.10
=============  =====  =====  =====  =====  =====

At K = 8 they are 0.13, 0.08 and 0.08 for a resolution of 2, 8 and 16. In Zarr small scenes take a fifth
more, large ones the same. A single scene had from 0.3 to 2.3 times as much.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline import out_names
from pipeline.cost.text import bytes_text
from pipeline.errors import UsageError

# style, record, quicklook and sidecar of a raster
_FILES_BYTES = 300_000
# index of a part, its ledger entry, and what the file system rounds up
_CHUNK_BYTES = 6_000


@dataclass(frozen=True, slots=True)
class Extent:
    """What of one raster decides how much its labels take: pixels and chunks."""

    pixels: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that a run takes in OUT.

    Parameters
    ----------
    output_bytes
        What stays: labels with overviews, and the small files beside them.
    working_bytes
        What there is for a time on top, while a raster is put together.
    """

    output_bytes: int
    working_bytes: int

    @property
    def total(self) -> int:
        """Both."""
        return self.output_bytes + self.working_bytes


def estimate(extents: Iterable[Extent], segments: int, resolution: int, form: str) -> Need:
    """What a run takes, typically.

    Parameters
    ----------
    extents
        The rasters that are to be done.
    segments, resolution
        Number of labels, and side of the blocks that get one.
    form
        Format of the labels.
    """
    each = _bytes_per_pixel(segments, resolution)
    output = working = 0
    for extent in extents:
        labels = round(each * extent.pixels)
        output += labels + _FILES_BYTES
        # a COG is joined from its parts, which stand beside it till then; a store is written in place
        parts = extent.chunks * _CHUNK_BYTES + (labels if form == "cog" else 0)
        # rasters are finished one after the other; parts of the next are no more than its labels
        working = max(working, parts)
    return Need(output, working)


def _bytes_per_pixel(segments: int, resolution: int) -> float:
    """The table above, within a quarter (K = 2 at resolution 4: within a half)."""
    return math.log2(segments) * (0.025 + 0.05 * math.pow(resolution, -1.5))


def check(out: Path, need: Need) -> None:
    """Refuse a run for which OUT has no room.

    Parameters
    ----------
    out
        The folder of outputs, which need not exist yet.
    need
        What the rasters take that are not done yet; what stands in OUT of their chunks is counted here.

    Raises
    ------
    UsageError
        If less is free than needed; names both figures.
    """
    missing = need.total - _held(out / out_names.PARTIAL)
    free = shutil.disk_usage(_existing(out)).free
    if missing > free:
        raise UsageError(
            f"{out}: the run needs about {bytes_text(missing)} there and {bytes_text(free)} are free; "
            "free space or choose another OUT"
        )


def _existing(path: Path) -> Path:
    """The path, or the first of its parents that exists."""
    path = Path(os.path.abspath(path))
    return next(p for p in (path, *path.parents) if p.exists())


def _held(folder: Path) -> int:
    """Bytes of all files below a folder, which may change meanwhile."""
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118  (a million of them)
            except OSError:
                continue
    return total
