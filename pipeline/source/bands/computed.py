"""Bands by name, and bands that are computed from others: what `--bands` asks for beside numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine.codebook import Band
from engine.grid import Window
from pipeline.errors import RasterError
from pipeline.source.bands import expression
from pipeline.source.bands.expression import Name, Node
from pipeline.source.raster import Raster, SingleRaster, Stack
from pipeline.source.reading import ReadContext

_STRIP_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class Computed(Raster):
    """Expressions of another raster's bands, as float32; a pixel without a finite value is invalid.

    Parameters
    ----------
    base
        The raster with the bands that the expressions need.
    nodes
        One expression for each band, of names.
    names
        Each name, and which of the base's bands it stands for (from 0 on).
    """

    base: Raster
    nodes: tuple[Node, ...]
    names: tuple[tuple[str, int], ...]

    @property
    def origin(self) -> dict[str, Any]:
        """What the base says of itself, and which of its bands the names stand for."""
        return {**self.base.origin, "computed_from": {n: self.base.bands[i] for n, i in self.names}}

    @property
    def members(self) -> Iterator[SingleRaster]:
        """Those of the base."""
        return self.base.members

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel in memory: its bands and those of the base."""
        return super().pixel_bytes + self.base.pixel_bytes

    def covers(self, window: Window) -> bool:
        """As the base."""
        return self.base.covers(window)

    def read_masked(self, window: Window, context: ReadContext) -> Stack:
        """Values, valid where the base is."""
        pixels = self.base.read_stack(window, context)
        stack = np.empty((len(self.nodes) + 1, *pixels.shape[1:]), self.dtype)
        stack[-1] = pixels[-1]
        # in strips, so that float64 intermediates stay small
        for start in range(0, window.height, _STRIP_ROWS):
            rows = slice(start, start + _STRIP_ROWS)
            values = {n: pixels[i, rows].astype(np.float64) for n, i in self.names}
            for band, node in zip(stack, self.nodes, strict=False):
                with np.errstate(over="ignore"):
                    band[rows] = expression.evaluate(node, values)
        return stack


@dataclass(frozen=True)
class Choice:
    """Bands of a kind of raster: which numbers to open, and what to make of them.

    Parameters
    ----------
    numbers
        1-based numbers of the bands to open, or None for all.
    bands
        What was asked for, where it is names or expressions.
    nodes
        Expressions, where there are some.
    names
        Each name in them, and its place in `numbers`.
    """

    numbers: tuple[int, ...] | None = None
    bands: tuple[Band, ...] | None = None
    nodes: tuple[Node, ...] = ()
    names: tuple[tuple[str, int], ...] = ()

    def of(self, base: Raster) -> Raster:
        """The bands asked for, of a raster opened with `numbers`."""
        if self.bands is None:
            return base
        if not self.nodes:
            return replace(base, bands=self.bands)
        return Computed(
            path=base.path,
            width=base.width,
            height=base.height,
            bands=self.bands,
            band_names=tuple(map(str, self.bands)),
            dtype="float32",
            nodata=(None,) * len(self.bands),
            block_shape=base.block_shape,
            georeference=base.georeference,
            base=base,
            nodes=self.nodes,
            names=self.names,
        )


def choose(bands: Sequence[Band] | None, header: Callable[[], Raster]) -> Choice:
    """What bands mean for a raster.

    Parameters
    ----------
    bands
        Numbers, names or expressions; None for all.
    header
        Gives the raster with all its bands; called only where names have to be looked up.

    Raises
    ------
    RasterError
        If a name is not one of the raster's.
    """
    if bands is None:
        return Choice()
    if all(isinstance(b, int) for b in bands):
        return Choice(tuple(int(b) for b in bands))
    # a number is that band, whatever others are called
    nodes = [Name(f"#{b}") if isinstance(b, int) else expression.parse(b) for b in bands]
    raster = header()
    numbers = {n: _number_of(n, raster) for node in nodes for n in expression.names(node)}
    if all(isinstance(n, Name) for n in nodes):
        return Choice(tuple(numbers[n.name] for n in nodes if isinstance(n, Name)), tuple(bands))
    if not numbers:
        raise RasterError(raster.path, f"--bands {','.join(map(str, bands))} names no band of it")
    needed = tuple(dict.fromkeys(numbers.values()))
    places = tuple((name, needed.index(number)) for name, number in numbers.items())
    return Choice(needed, tuple(bands), tuple(nodes), places)


def _number_of(name: str, raster: Raster) -> int:
    """The number of a band by its description, else by its colour, else as b1, b2, ..."""
    if name.startswith("#"):
        return int(name[1:])
    wanted = _plain(name)
    for names in (raster.band_names, getattr(raster, "colours", ())):
        found = [int(b) for b, n in zip(raster.bands, names, strict=False) if _plain(n) == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            some = " or ".join(f"b{n}" for n in found)
            raise RasterError(raster.path, f"several of its bands are called {name!r}; say {some}")
    if match := re.fullmatch(r"b0*([1-9]\d{0,4})", wanted):
        return int(match[1])
    known = [f"b{b}" if n == f"band {b}" else n for b, n in zip(raster.bands, raster.band_names, strict=True)]
    some = ", ".join(known[:16])
    raise RasterError(raster.path, f"has no band {name!r}; it has {some}: change --bands")


def _plain(name: str) -> str:
    """A name as expressions can write it: letters, digits and underscores, capitals or not."""
    return re.sub(r"\W+", "_", name).strip("_").casefold()
