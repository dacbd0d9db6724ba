"""GeoTIFFs whose headers say the same but for where they lie, of which GDAL opens one.

To open a file costs GDAL over a millisecond, nearly all of it for the CRS, and a mosaic of ten thousand
tiles says the same one ten thousand times. So the tags of a plain GeoTIFF are read as bytes: where they
are those of one that GDAL has opened, all but the corner is known.

Source: TIFF 6.0 (Adobe, 1992); GeoTIFF 1.1 (OGC 19-008r4), 7.1.2 for what `ModelTiepointTag` says.
"""

from __future__ import annotations

import functools
import math
import os
import stat
import struct
import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import BinaryIO, Generic, NamedTuple, TypeVar

from pipeline.source.gdal.dataset import Reading

_T = TypeVar("_T")

_SUFFIXES = (".tif", ".tiff")
_HEAD_BYTES = 16 << 10
_MOST_TAGS = 64
_MOST_BYTES = 64 << 10
_ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_TIEPOINT = 33922
_TRANSFORMATION = 34264
# where blocks lie in the file; which program wrote it, and when
_OF_EACH_FILE = frozenset({273, 279, 324, 325, 305, 306})
_KINDS = 16
_NOWHERE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # GDAL's transform of what has none


class Header(NamedTuple):
    """What the header of a plain GeoTIFF says.

    Parameters
    ----------
    said
        All of it that matters for pixels and place, but for the corner.
    corner
        Coordinates of the upper left corner of the upper left pixel, or of its centre.
    size
        Bytes of the file.
    """

    said: Hashable
    corner: tuple[float, float]
    size: int


class Similar(Generic[_T]):
    """What was made of the last headers that differ, for files that are like those."""

    def __init__(self) -> None:
        self._made: OrderedDict[Hashable, tuple[_T, Reading]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, header: Header | None, *options: Hashable) -> tuple[_T, Reading] | None:
        """What was made of a header like this one, and how this file is read; None if nothing was.

        Parameters
        ----------
        header
            Of the file; None if it is not a plain one.
        options
            Those that were passed to `keep`.
        """
        if header is None:
            return None
        key = (header.said, options)
        with self._lock:
            if (found := self._made.get(key)) is None:
                return None
            self._made.move_to_end(key)
        made, reading = found
        reading = reading.at(header.corner)
        return None if reading.transform == _NOWHERE else (made, reading)

    def keep(self, header: Header | None, made: _T, reading: Reading, *options: Hashable) -> None:
        """Remember what was made of a header, if GDAL has its place from there and from nowhere else."""
        if header is None or (reading.transform[2], reading.transform[5]) != header.corner:
            return
        with self._lock:
            self._made[header.said, options] = made, reading
            while len(self._made) > _KINDS:
                self._made.popitem(last=False)


def header(path: str) -> Header | None:
    """The header of a local GeoTIFF of one image that stands alone.

    Returns
    -------
    Header or None
        None where GDAL may see more than these tags: files beside it, masks, overviews or further images
        in it, a place that is not a corner; and where it is no such file at all.
    """
    if not path.lower().endswith(_SUFFIXES) or "GDAL_PAM_PROXY_DIR" in os.environ:
        return None
    try:
        state = os.lstat(path)
        folder = os.path.dirname(path) or "."  # noqa: PTH120  (for each of ten thousand tiles)
        if not stat.S_ISREG(state.st_mode) or not _has_tiff_alone(folder, os.stat(folder).st_mtime_ns):  # noqa: PTH116
            return None
        with open(path, "rb") as file:  # noqa: PTH123
            return _parsed(file, state.st_size)
    except (OSError, ValueError, struct.error):
        return None


@functools.lru_cache(maxsize=64)
def _has_tiff_alone(folder: str, changed_ns: int) -> bool:  # noqa: ARG001  (another state is another folder)
    """Whether the visible files of a folder are all named as TIFF: then none has files beside it."""
    with os.scandir(folder) as entries:
        return all(
            entry.name.startswith(".") or entry.name.lower().endswith(_SUFFIXES) or entry.is_dir()
            for entry in entries
        )


def _parsed(file: BinaryIO, size: int) -> Header | None:
    head = file.read(_HEAD_BYTES)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
    if order is None:
        return None

    def at(start: int, count: int) -> bytes:
        if start + count <= len(head):
            return head[start : start + count]
        file.seek(start)
        return file.read(count)

    (start,) = struct.unpack_from(f"{order}I", head, 4)
    (count,) = struct.unpack(f"{order}H", at(start, 2))
    if count > _MOST_TAGS:
        return None
    directory = at(start + 2, 12 * count + 4)
    said: list[Hashable] = [order]
    corner = None
    for number, kind, items, inline in struct.iter_unpack(f"{order}HHI4s", directory[:-4]):
        length = _ITEM_BYTES.get(kind, _MOST_BYTES) * items
        if number == _TRANSFORMATION or (length > _MOST_BYTES and number not in _OF_EACH_FILE):
            return None
        if number in _OF_EACH_FILE:
            continue
        value = inline[:length] if length <= 4 else at(struct.unpack(f"{order}I", inline)[0], length)
        if number == _TIEPOINT:
            column, row, _, x, y, *_ = struct.unpack(f"{order}6d", value)
            corner = (x, y) if column == row == 0 and math.isfinite(x + y) else None
        else:
            said.append((number, kind, items, value))
    followed = any(directory[-4:])
    return None if corner is None or followed else Header(tuple(said), corner, size)
