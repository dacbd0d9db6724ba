"""How much disk space a run needs in OUT, and whether that much is free.

The figures are typical, not the worst case: a run should be refused only if it cannot succeed, and a disk
that fills up nevertheless stops the run cleanly. They are means over seven real rasters (aerial and
satellite scenes of 0.2 to 34 Mpx): bytes of the labels and overviews per pixel at full resolution.

=============  =====  =====  =====  =====  =====
K              2      4      8      16     32
=============  =====  =====  =====  =====  =====
resolution 1   0.08   0.15   0.22   0.30   0.39
resolution 4   0.05   0.08   0.09   0.10
=============  =====  =====  =====  =====  =====

At K = 8 they are 0.13, 0.08 and 0.08 for resolutions 2, 8 and 16. As Zarr, small scenes take a fifth
more, large ones the same. Single scenes ranged from 0.3 to 2.3 times the mean.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline import out_names
from pipeline.cost.readable import bytes_text
from pipeline.errors import UsageError

# style, record, quicklook and sidecar of a raster
_FILES_BYTES = 300_000
# index of a part, its ledger entry, and the file system's rounding to blocks
_CHUNK_BYTES = 6_000


@dataclass(frozen=True, slots=True)
class Extent:
    """Size of one raster, as far as it determines the size of its labels: pixels and chunks."""

    pixels: int
    chunks: int


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that a run needs in OUT.

    Parameters
    ----------
    output_bytes
        Final size: labels with overviews, and the small files beside them.
    working_bytes
        Temporary bytes in addition, while a raster is assembled.
    """

    output_bytes: int
    working_bytes: int

    @property
    def total(self) -> int:
        """Sum of both."""
        return self.output_bytes + self.working_bytes


def estimate(
    extents: Iterable[Extent], segments: int, resolution: int, format_: str, *, smoothed: bool = False
) -> Need:
    """Typical disk space of a run.

    Parameters
    ----------
    extents
        The rasters still to be done.
    segments, resolution
        Number of labels, and side of the blocks that are labelled.
    format_
        Format of the labels.
    smoothed
        Whether the labels before smoothing are kept too while it works.
    """
    pixel_bytes = _bytes_per_pixel(segments, resolution)
    output = working = 0
    for extent in extents:
        labels = round(pixel_bytes * extent.pixels)
        output += labels + _FILES_BYTES
        # a COG is joined from its parts, which are deleted afterwards; a Zarr store is written in place
        parts_bytes = extent.chunks * _CHUNK_BYTES + (labels if format_ == "cog" else 0)
        if smoothed:
            parts_bytes += extent.chunks * _CHUNK_BYTES + labels
        # rasters are assembled one after the other, so only the largest one's parts count
        working = max(working, parts_bytes)
    return Need(output, working)


def _bytes_per_pixel(segments: int, resolution: int) -> float:
    """Bytes per pixel, fitted to the table above within a quarter (K = 2 at resolution 4: within a half)."""
    return math.log2(segments) * (0.025 + 0.05 * math.pow(resolution, -1.5))


def check(out: Path, need: Need) -> None:
    """Refuse a run that needs more disk space than is free.

    Parameters
    ----------
    out
        The folder of outputs, which need not exist yet.
    need
        Bytes that the unfinished rasters need; chunks that are in OUT already are subtracted here.

    Raises
    ------
    UsageError
        If less is free than needed; names both figures.
    """
    missing = need.total - _existing_bytes(out / out_names.PARTIAL)
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


def _existing_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; files that vanish meanwhile are skipped."""
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118  (a million of them)
            except OSError:
                continue
    return total
