"""Bands by name, and bands computed from others, as `--bands` selects them."""

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
from pipeline.source.bands.fitted import FittedBands, plain_name
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
        One expression of names for each band.
    names
        Each name, and the index of its band in the base (from 0).
    """

    base: Raster
    nodes: tuple[Node, ...]
    names: tuple[tuple[str, int], ...]

    @property
    def origin(self) -> dict[str, Any]:
        """The base's origin, and the base's band for each name."""
        return {**self.base.origin, "computed_from": {n: self.base.bands[i] for n, i in self.names}}

    @property
    def members(self) -> Iterator[SingleRaster]:
        """The files of the base."""
        return self.base.members

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel in memory: its bands and those of the base."""
        return super().pixel_bytes + self.base.pixel_bytes

    def covers(self, window: Window) -> bool:
        """Whether the base covers the window."""
        return self.base.covers(window)

    def read_masked(self, window: Window, context: ReadContext) -> Stack:
        """Values of the expressions, valid where the base is valid."""
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
    """A selection of bands, resolved for one kind of raster: numbers to open, and expressions of them.

    Parameters
    ----------
    numbers
        1-based numbers of the bands to open, or None for all.
    bands
        The selection as passed, if it holds names or expressions; else None.
    nodes
        The expressions; empty if the selection has only numbers and names.
    names
        Each name in the expressions, and its index in `numbers`.
    """

    numbers: tuple[int, ...] | None = None
    bands: tuple[Band, ...] | None = None
    nodes: tuple[Node, ...] = ()
    names: tuple[tuple[str, int], ...] = ()

    def of(self, base: Raster) -> Raster:
        """The selected bands of a raster that was opened with `numbers`."""
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


Bands = Sequence[Band] | FittedBands | None
"""A selection of bands: numbers, names and expressions; those of a codebook; or None for all."""


def choose(bands: Bands, header: Callable[[], Raster]) -> Choice:
    """Resolve a selection of bands for a raster.

    Parameters
    ----------
    bands
        The selection.
    header
        Returns the raster with all its bands; called only if names have to be looked up.

    Raises
    ------
    RasterError
        If the raster has no band of a name, or several, or other bands than a codebook.
    """
    if isinstance(bands, FittedBands):
        bands = bands.in_raster(header)
    if bands is None:
        return Choice()
    if all(isinstance(b, int) for b in bands):
        return Choice(tuple(int(b) for b in bands))
    # a number always means that band, even if another band has it as its name
    nodes = [Name(f"#{b}") if isinstance(b, int) else expression.parse(b) for b in bands]
    raster = header()
    numbers = {n: _number_of(n, raster) for node in nodes for n in expression.names(node)}
    if all(isinstance(n, Name) for n in nodes):
        return Choice(tuple(numbers[n.name] for n in nodes if isinstance(n, Name)), tuple(bands))
    if not numbers:
        raise RasterError(raster.path, f"--bands {','.join(map(str, bands))} names no band of it")
    needed = tuple(dict.fromkeys(numbers.values()))
    indices = tuple((name, needed.index(number)) for name, number in numbers.items())
    return Choice(needed, tuple(bands), tuple(nodes), indices)


def _number_of(name: str, raster: Raster) -> int:
    """Number of the band with a description, else with a colour, else b1, b2, ..."""
    if name.startswith("#"):
        return int(name[1:])
    plain = plain_name(name)
    for names in (raster.band_names, getattr(raster, "colours", ())):
        matching = [int(b) for b, n in zip(raster.bands, names, strict=False) if plain_name(n) == plain]
        if len(matching) == 1:
            return matching[0]
        if matching:
            names_text = " or ".join(f"b{n}" for n in matching)
            raise RasterError(raster.path, f"several of its bands are called {name!r}; say {names_text}")
    if match := re.fullmatch(r"b0*([1-9]\d{0,4})", plain):
        return int(match[1])
    all_names = [
        f"b{b}" if n == f"band {b}" else n for b, n in zip(raster.bands, raster.band_names, strict=True)
    ]
    names_text = ", ".join(all_names[:16])
    raise RasterError(raster.path, f"has no band {name!r}; it has {names_text}: change --bands")
