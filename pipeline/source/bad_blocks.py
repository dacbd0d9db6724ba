"""Damaged rasters: what cannot be decoded becomes invalid pixels, the same ones whatever window is asked for.

Only while a thread is `tolerating`. A read that fails is then repeated piece by piece. A pixel is invalid
where its block of the file cannot be read alone; where the blocks that GDAL decodes are not known (VRT,
masks, formats other than GeoTIFF), rasters are read in whole squares of the absolute grid instead, and a
pixel is invalid where its square cannot be read. So it depends on the file and on nothing else, and
labels are those of any other chunking.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from engine.grid import Window
from pipeline.errors import DamageError, LostError, RasterError, cause, one_line
from pipeline.source.raster import Stack

UNIT_PX = 64
"""Side of the squares in which a raster is read whose own blocks are not known; it divides cells."""

Shape = tuple[int, int]

RETRY_AFTER_S = (0.05, 0.25)
"""Pauses before a local read that failed is tried again: drives of a network fail for a moment."""


@dataclass(frozen=True, order=True)
class BadBlock:
    """Pixels that are invalid because of a fault, and why.

    Parameters
    ----------
    window
        Where, in absolute pixels of the raster that a user named.
    path
        The file.
    reason
        What is wrong, on one line.
    kind
        A block of the source that cannot be decoded, or a chunk that could not be labelled.
    traceback
        Of what was raised, for a chunk.
    """

    window: Window
    path: str
    reason: str
    kind: Literal["source block", "chunk"] = "source block"
    traceback: str | None = None


class Reader(Protocol):
    """Reads a window; `again` tells whether it may try a second time itself."""

    def __call__(self, window: Window, *, again: bool) -> Stack:
        """Planes of the window."""
        ...


@dataclass(frozen=True)
class Planes:
    """Planes of a raster that are read together, and how they fall into pieces.

    Parameters
    ----------
    path
        The file.
    bounds
        All pixels.
    count, dtype
        Number of planes and their dtype.
    read
        Reads a window of them.
    block_shape
        (height, width) of the file's blocks as it says now; raises where it cannot be opened.
    exact
        True where a read of a window fails just if one of the blocks that it touches cannot be decoded.
    stream
        True for a file of one stream: what follows the first fault cannot be decoded either.
    """

    path: str
    bounds: Window
    count: int
    dtype: str
    read: Reader
    block_shape: Callable[[], Shape]
    exact: bool = False
    stream: bool = False


_local = threading.local()


def _noted() -> list[BadBlock] | None:
    """Where this thread notes what it tolerates, or None if it tolerates nothing."""
    noted: list[BadBlock] | None = getattr(_local, "noted", None)
    return noted


@contextmanager
def tolerating() -> Iterator[list[BadBlock]]:
    """Make undecodable blocks invalid pixels in what this thread reads; gives the list of them."""
    before = _noted()
    _local.noted = []
    try:
        yield _local.noted
    finally:
        _local.noted = before


@contextmanager
def placed(place: Callable[[Window], Window]) -> Iterator[None]:
    """Within it, what is noted lies in pixels of a part; `place` says where that is in the whole."""
    whole = _noted()
    if whole is None:
        yield
        return
    with tolerating() as noted:
        yield
    whole += [replace(block, window=place(block.window)) for block in noted]


def lost(error: RasterError, window: Window) -> bool:
    """Whether all of a part can be taken as invalid, for its file is gone; then that is noted."""
    noted = _noted()
    if noted is None or not isinstance(error, LostError):
        return False
    noted.append(BadBlock(window, error.path, one_line(cause(error))))
    return True


def read(planes: Planes, window: Window) -> Stack:
    """A window of some planes; where this thread tolerates it, zeros where they cannot be decoded.

    Raises
    ------
    RasterError
        If the window cannot be read and that is not tolerated: it never is where a network or a lack
        of memory is to blame.
    LostError
        If the file cannot be opened any more.
    """
    noted = _noted()
    if noted is None:
        return planes.read(window, again=True)
    # what is read has to be whole squares even where nothing fails: a part of one might be sound
    wanted = window if planes.exact else _whole(window, (UNIT_PX, UNIT_PX), planes.bounds)
    try:
        stack = planes.read(wanted, again=False)
    except DamageError:
        stack, bad = _by_pieces(planes, wanted)
        noted += [block for block in bad if block.window.overlaps(window)]
    return stack[:, *window.slices(wanted)]


def of_chunk(found: Iterable[BadBlock], chunk: Window) -> list[dict[str, Any]]:
    """The blocks of some that lie in a chunk, sorted, each once, as JSON values."""
    return to_json(block for block in found if block.window.overlaps(chunk))


def to_json(blocks: Iterable[BadBlock]) -> list[dict[str, Any]]:
    """Blocks as JSON values, sorted, one for each place in a file."""
    each: dict[Any, BadBlock] = {}
    for block in sorted(blocks, key=_order):
        each.setdefault((block.window, block.path, block.kind), block)
    values = [asdict(block) for block in each.values()]
    return [{**value.pop("window"), **value} for value in values]


def from_json(values: Iterable[dict[str, Any]]) -> list[BadBlock]:
    """The inverse of `to_json`."""
    sides = ("row", "col", "height", "width")
    return [
        BadBlock(Window(*(int(v[s]) for s in sides)), **{k: v[k] for k in v if k not in sides})
        for v in values
    ]


def _order(block: BadBlock) -> tuple[Any, ...]:
    return block.window, block.path, block.kind, block.reason, block.traceback or ""


_Failing = list[tuple[Window, DamageError]]


def _by_pieces(planes: Planes, wanted: Window) -> tuple[Stack, list[BadBlock]]:
    """A window of which not all can be read: zeros in blocks that cannot, and these blocks."""
    shape = _shape_of(planes)
    stack = np.zeros((planes.count, wanted.height, wanted.width), planes.dtype)
    parts, failing = [wanted], _Failing()
    # all that fails is tried again after each pause, so that the pauses are few however much is damaged
    for pause in (0.0, *RETRY_AFTER_S):
        time.sleep(pause)
        failing = [fault for part in parts for fault in _failing(planes, part, shape, stack, wanted)]
        if not failing:
            return stack, []
        parts = [part for part, _ in failing]
    # pieces of a file that went away in the meantime fail too
    _shape_of(planes)
    return stack, [
        BadBlock(block, planes.path, one_line(cause(error)))
        for part, error in failing
        for block in _blocks(part, shape, planes.bounds)
    ]


def _shape_of(planes: Planes) -> Shape:
    """Shape of the pieces."""
    try:
        shape = planes.block_shape()
    except DamageError as error:
        try:
            Path(planes.path).open("rb").close()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
            pass
        except OSError as denied:
            # such as too many open files: it says nothing of this one
            raise RasterError(planes.path, f"cannot be opened any more ({denied.strerror})") from error
        raise LostError(error.path, error.reason) from error
    return shape if planes.exact else (UNIT_PX, UNIT_PX)


def _failing(planes: Planes, part: Window, shape: Shape, stack: Stack, wanted: Window) -> _Failing:
    """Read a part into the stack, in halves where it fails; gives the pieces that cannot be read."""
    try:
        stack[:, *part.slices(wanted)] = planes.read(part, again=False)
    except DamageError as error:
        halves = _halves(part, shape)
        if not halves:
            return [(part, error)]
        failing = _Failing()
        for half in halves:
            below = planes.stream and half.row > part.row
            failing += (
                [(half, failing[0][1])] if below and failing else _failing(planes, half, shape, stack, wanted)
            )
        return failing
    return []


def _halves(part: Window, shape: Shape) -> Sequence[Window]:
    """A part cut in two between blocks, nothing for a single block."""
    if (down := _middle(part.row, part.row_end, shape[0])) > 0:
        return (
            replace(part, height=down),
            replace(part, row=part.row + down, height=part.height - down),
        )
    if (across := _middle(part.col, part.col_end, shape[1])) > 0:
        return (
            replace(part, width=across),
            replace(part, col=part.col + across, width=part.width - across),
        )
    return ()


def _middle(start: int, end: int, side: int) -> int:
    """How far from its start a range is cut between blocks; not above 0 within a single block."""
    return (start // side + (end - 1) // side + 1) // 2 * side - start


def _blocks(part: Window, shape: Shape, bounds: Window) -> Iterator[Window]:
    """The whole blocks that a part touches."""
    height, width = shape
    for row in range(part.row // height * height, part.row_end, height):
        for col in range(part.col // width * width, part.col_end, width):
            yield Window(row, col, min(height, bounds.row_end - row), min(width, bounds.col_end - col))


def _whole(window: Window, shape: Shape, bounds: Window) -> Window:
    """A window grown to whole blocks."""
    height, width = shape
    row, col = window.row // height * height, window.col // width * width
    row_end = min(-(-window.row_end // height) * height, bounds.row_end)
    col_end = min(-(-window.col_end // width) * width, bounds.col_end)
    return Window(row, col, row_end - row, col_end - col)
