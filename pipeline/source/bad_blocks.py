"""Blocks that cannot be decoded become invalid pixels, the same ones whatever window is asked for.

Only for a read whose context notes them. A read that fails is then repeated piece by piece. A pixel is
invalid where its block of the file cannot be read alone; where the blocks that GDAL decodes are not known
(VRT, masks, formats other than GeoTIFF), rasters are read in whole squares of the absolute grid instead,
and a pixel is invalid where its square cannot be read. So it depends on the file and on nothing else, and
labels are those of any other chunking.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from engine.grid import Window
from pipeline.errors import DamageError, LostError, RasterError, cause, one_line
from pipeline.process.retry import retry
from pipeline.source.raster import Stack
from pipeline.source.reading import BadBlock, ReadContext

UNIT_PX = 64
"""Side of the squares in which a raster is read whose own blocks are not known; it divides cells."""

RETRY_AFTER_S: tuple[float, ...] = (0.05, 0.25)
"""Pauses before a local read that failed is tried again: drives of a network fail for a moment."""

Shape = tuple[int, int]


class WindowReader(Protocol):
    """Reads windows of some planes of a file, that are decoded together."""

    @property
    def path(self) -> str:
        """The file."""

    @property
    def bounds(self) -> Window:
        """All pixels."""

    @property
    def count(self) -> int:
        """Number of planes."""

    @property
    def dtype(self) -> str:
        """Dtype of the planes."""

    @property
    def exact(self) -> bool:
        """Whether a read of a window fails just if one of the blocks that it touches cannot be decoded."""

    @property
    def stream(self) -> bool:
        """True for a file of one stream: what follows the first fault cannot be decoded either."""

    def read(self, window: Window, retry_s: Sequence[float]) -> Stack:
        """Planes of a window, tried again after each pause if that fails.

        Raises
        ------
        DamageError
            If the file is at fault; another `RasterError` where it is not.
        """

    def block_shape(self, retry_s: Sequence[float]) -> Shape:
        """(height, width) of the file's blocks as it says now.

        Raises
        ------
        RasterError
            If it cannot be opened.
        """


def read(reader: WindowReader, window: Window, context: ReadContext) -> Stack:
    """A window of a reader's planes; zeros where they cannot be decoded, if the context notes that.

    Raises
    ------
    RasterError
        If the window cannot be read and that is not to be noted: it never is where a network or a lack
        of memory is to blame.
    LostError
        If the file cannot be opened any more.
    """
    if context.bad is None:
        return reader.read(window, RETRY_AFTER_S)
    # what is read has to be whole squares even where nothing fails: a part of one might be sound
    wanted = window if reader.exact else _whole(window, (UNIT_PX, UNIT_PX), reader.bounds)
    try:
        stack = reader.read(wanted, ())
    except DamageError:
        stack, bad = _by_pieces(reader, wanted)
        context.bad.extend([block for block in bad if block.window.overlaps(window)])
    return stack[:, *window.slices(wanted)]


def note_lost(error: RasterError, window: Window, context: ReadContext) -> bool:
    """Whether all of a part can be taken as invalid, for its file is gone; then that is noted."""
    if context.bad is None or not isinstance(error, LostError):
        return False
    context.bad.append(BadBlock(window, error.path, one_line(cause(error))))
    return True


def of_chunk(blocks: Iterable[BadBlock], chunk: Window) -> list[dict[str, Any]]:
    """The blocks of some that lie in a chunk, sorted, each once, as JSON values."""
    return to_json(block for block in blocks if block.window.overlaps(chunk))


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


class _PiecesFailedError(Exception):
    """Some pieces of a window cannot be read."""

    def __init__(self, failing: _Failing) -> None:
        super().__init__(f"{len(failing)} pieces")
        self.failing = failing


def _by_pieces(reader: WindowReader, wanted: Window) -> tuple[Stack, list[BadBlock]]:
    """A window of which not all can be read: zeros in blocks that cannot, and these blocks."""
    shape = _shape_of(reader)
    stack = np.zeros((reader.count, wanted.height, wanted.width), reader.dtype)
    pieces = [wanted]

    def read_pieces() -> None:
        nonlocal pieces
        failing = [fault for piece in pieces for fault in _failing(reader, piece, shape, stack, wanted)]
        pieces = [piece for piece, _ in failing]
        if failing:
            raise _PiecesFailedError(failing)

    try:
        # all that fails is tried again after each pause, so that the pauses are few however much is damaged
        retry(read_pieces, RETRY_AFTER_S, lambda error: isinstance(error, _PiecesFailedError))
    except _PiecesFailedError as failed:
        # pieces of a file that went away in the meantime fail too
        _shape_of(reader)
        return stack, [
            BadBlock(block, reader.path, one_line(cause(error)))
            for piece, error in failed.failing
            for block in _blocks(piece, shape, reader.bounds)
        ]
    return stack, []


def _shape_of(reader: WindowReader) -> Shape:
    """Shape of the pieces."""
    try:
        shape = reader.block_shape(RETRY_AFTER_S)
    except DamageError as error:
        try:
            Path(reader.path).open("rb").close()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
            pass
        except OSError as denied:
            # such as too many open files: it says nothing of this one
            raise RasterError(reader.path, f"cannot be opened any more ({denied.strerror})") from error
        raise LostError(error.path, error.reason) from error
    return shape if reader.exact else (UNIT_PX, UNIT_PX)


def _failing(reader: WindowReader, piece: Window, shape: Shape, stack: Stack, wanted: Window) -> _Failing:
    """Read a piece into the stack, in halves where it fails; returns the pieces that cannot be read."""
    try:
        stack[:, *piece.slices(wanted)] = reader.read(piece, ())
    except DamageError as error:
        halves = _halves(piece, shape)
        if not halves:
            return [(piece, error)]
        failing = _Failing()
        for half in halves:
            below = reader.stream and half.row > piece.row
            failing += (
                [(half, failing[0][1])] if below and failing else _failing(reader, half, shape, stack, wanted)
            )
        return failing
    return []


def _halves(piece: Window, shape: Shape) -> Sequence[Window]:
    """A piece cut in two between blocks, nothing for a single block."""
    if (down := _middle(piece.row, piece.row_end, shape[0])) > 0:
        return (
            replace(piece, height=down),
            replace(piece, row=piece.row + down, height=piece.height - down),
        )
    if (across := _middle(piece.col, piece.col_end, shape[1])) > 0:
        return (
            replace(piece, width=across),
            replace(piece, col=piece.col + across, width=piece.width - across),
        )
    return ()


def _middle(start: int, end: int, side: int) -> int:
    """How far from its start a range is cut between blocks; not above 0 within a single block."""
    return (start // side + (end - 1) // side + 1) // 2 * side - start


def _blocks(piece: Window, shape: Shape, bounds: Window) -> Iterator[Window]:
    """The whole blocks that a piece touches."""
    height, width = shape
    for row in range(piece.row // height * height, piece.row_end, height):
        for col in range(piece.col // width * width, piece.col_end, width):
            yield Window(row, col, min(height, bounds.row_end - row), min(width, bounds.col_end - col))


def _whole(window: Window, shape: Shape, bounds: Window) -> Window:
    """A window grown to whole blocks."""
    height, width = shape
    row, col = window.row // height * height, window.col // width * width
    row_end = min(-(-window.row_end // height) * height, bounds.row_end)
    col_end = min(-(-window.col_end // width) * width, bounds.col_end)
    return Window(row, col, row_end - row, col_end - col)
