"""How a window is read, as a value that goes with every read from the chunk graph down to the file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from engine.grid import Window


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


@dataclass(frozen=True, slots=True)
class ReadContext:
    """What the reader of a window has to know beside the window.

    The watch of `cost.timing` is not among it: nothing below the graph measures, and it belongs to a task,
    whose threads find it without a lock in the tokens and pickles of the graph.

    Parameters
    ----------
    halo_px
        How far the window reaches, on each side, into the windows beside it; 0 if it is read for itself.
    bad
        Where blocks that cannot be decoded are noted, whose pixels are invalid then; None if they are
        errors.
    """

    halo_px: int = 0
    bad: list[BadBlock] | None = None

    @contextmanager
    def of_part(self, in_whole: Callable[[Window], Window]) -> Iterator[ReadContext]:
        """A context to read a part with, whose bad blocks are noted here if the block ends well.

        Parameters
        ----------
        in_whole
            Returns where a window of the part lies in the whole.
        """
        if self.bad is None:
            yield self
            return
        bad: list[BadBlock] = []
        yield replace(self, bad=bad)
        self.bad.extend([replace(block, window=in_whole(block.window)) for block in bad])


STRICT = ReadContext()
"""A window read for itself, of which a block that cannot be decoded is an error."""
