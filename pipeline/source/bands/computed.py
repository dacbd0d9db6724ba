"""Bands by name, and bands computed from others, as `--bands` selects them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.codebook import Band
from engine.grid import Window
from pipeline.errors import RasterError, UsageError
from pipeline.source.bands import expression
from pipeline.source.bands.evaluation import evaluate, holds
from pipeline.source.bands.expression import Name, Node
from pipeline.source.bands.fitted import plain_name
from pipeline.source.bands.selection import Selection
from pipeline.source.declared import PLAIN, refuse_senseless
from pipeline.source.raster import Raster, SingleRaster, Stack
from pipeline.source.reading import ReadContext

_STRIP_ROWS = 256


@dataclass(frozen=True, kw_only=True)
class Computed(Raster):
    """Bands of another raster, or expressions of them, where a condition of its bands is true.

    Expressions are float32, and a pixel where one has no finite value is invalid. Bands that are no
    expressions keep the numbers that are stored, and their dtype where there are no others.

    Parameters
    ----------
    base
        The raster with the bands that expressions and condition need.
    nodes
        One expression of names for each band.
    names
        Each name in expressions, and the index of its band in the base (from 0).
    asked
        The same of the condition, which may look at other pixels of a band.
    condition
        Where it is not true a pixel is invalid; None for everywhere.
    raw_values
        Whether expressions and condition see stored numbers, whatever scale the base declares.
    """

    base: Raster
    nodes: tuple[Node, ...]
    names: tuple[tuple[str, int], ...]
    asked: tuple[tuple[str, int], ...] = ()
    condition: Node | None = None
    raw_values: bool = False

    @cached_property
    def _computed(self) -> frozenset[str]:
        """The names in expressions."""
        return frozenset(
            n for node in self.nodes if not isinstance(node, Name) for n in expression.names(node)
        )

    @cached_property
    def _scaled(self) -> dict[str, tuple[float, float]]:
        """Scale and offset of each name that they change where it is looked at."""
        if self.raw_values or not self.base.scales:
            return {}
        looked_at = [*((n, i) for n, i in self.names if n in self._computed), *self.asked]
        return {n: u for n, i in looked_at if (u := self.base.scales[i]) != PLAIN}

    @property
    def origin(self) -> dict[str, Any]:
        """The base's origin, the base's band for each name, and the scales in use."""
        names = (*self.names, *self.asked)
        origin = {**self.base.origin, "computed_from": {n: self.base.bands[i] for n, i in names}}
        return {**origin, "scales": {n: list(u) for n, u in self._scaled.items()}} if self._scaled else origin

    @property
    def physical(self) -> bool | None:
        """Whether the values of expressions are scaled as the base declares; see `Raster.physical`."""
        indices = [i for n, i in self.names if n in self._computed]
        if any(self.base.scales[i] != PLAIN for i in indices if self.base.scales):
            return not self.raw_values
        whole = any(np.dtype(self.base.dtype_of([i])).kind in "iu" for i in indices)
        return False if whole and not self.raw_values else None

    def check(self) -> None:
        """Refuse scales that make no sense, and bits of scaled values.

        Raises
        ------
        RasterError
            Then.
        """
        for name, (scale, offset) in self._scaled.items():
            refuse_senseless(self.path, name, scale, offset)
        bits = {n for node in (*self.nodes, self.condition) if node for n in expression.bit_names(node)}
        if scaled := next((n for n in self._scaled if n in bits), None):
            raise RasterError(
                self.path,
                f"bits of {scaled}, whose values are scaled by {self._scaled[scaled][0]:g}, mean nothing; "
                "take the stored numbers with --raw-values",
            )

    @property
    def declares_nodata(self) -> bool:
        """Whether the base does, or there is a condition."""
        return self.condition is not None or self.base.declares_nodata

    @property
    def colours(self) -> tuple[str, ...]:
        """Colours of the bands that are bands of the base; "" for computed ones."""
        colours, indices = getattr(self.base, "colours", ()), dict(self.names)
        plain = [isinstance(node, Name) and indices[node.name] for node in self.nodes]
        return tuple("" if i is False or not colours else colours[i] for i in plain)

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
        """Values of the bands, valid where the base is valid and the condition true."""
        pixels = self.base.read_stack(window, context)
        stack = np.empty((len(self.nodes) + 1, *pixels.shape[1:]), self.dtype)
        stack[-1] = pixels[-1]
        # in strips, so that float64 intermediates stay small
        for start in range(0, window.height, _STRIP_ROWS):
            self._fill(stack, pixels, slice(start, start + _STRIP_ROWS))
        return stack

    def _value(self, name: str, stored: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """What expressions see of a band."""
        value = stored.astype(np.float64)
        if name in self._scaled:
            scale, offset = self._scaled[name]
            value = value * scale + offset
        return value

    @cached_property
    def _table(self) -> tuple[int, int, npt.NDArray[np.bool_]] | None:
        """Of a condition of one band of 8 or 16 bits: its index, the lowest value, the truth of each value.

        A mask of clouds is such a condition, and an expression for each pixel takes ten times as long.
        """
        if self.condition is None or len(self.asked) != 1:
            return None
        name, index = self.asked[0]
        dtype = np.dtype(self.base.dtype_of([index]))
        if dtype.kind not in "iu" or dtype.itemsize > 2:
            return None
        limits = np.iinfo(dtype)
        every = np.arange(limits.min, limits.max + 1)
        return index, int(limits.min), holds(self.condition, {name: self._value(name, every)})

    def _fill(self, stack: Stack, pixels: Stack, rows: slice) -> None:
        """Some rows of a stack, from those of the base."""
        indices = dict(self.names)
        values = {name: self._value(name, pixels[indices[name], rows]) for name in self._computed}
        with np.errstate(over="ignore"):
            for band, node in zip(stack, self.nodes, strict=False):
                if not isinstance(node, Name):
                    band[rows] = evaluate(node, values)
                elif self._computed:
                    # by way of float64, as all numbers beside expressions
                    band[rows] = pixels[indices[node.name], rows].astype(np.float64)
                else:
                    band[rows] = pixels[indices[node.name], rows]
        if self._table is not None:
            index, lowest, table = self._table
            stack[-1, rows] *= table[pixels[index, rows].astype(np.int32) - lowest]
        elif self.condition is not None:
            asked = {name: self._value(name, pixels[index, rows]) for name, index in self.asked}
            stack[-1, rows] *= holds(self.condition, asked)


@dataclass(frozen=True)
class Choice:
    """A selection of bands, resolved for one kind of raster: numbers to open, and what to make of them.

    Parameters
    ----------
    numbers
        1-based numbers of the bands to open, or None for all.
    bands
        The selection as passed, if it holds names or expressions or a condition; else None.
    nodes
        One expression for each band where some are computed, or there is a condition; else empty.
    names, asked
        Each name in the expressions, and in the condition, and its index in `numbers`.
    condition
        Where pixels are valid; None for everywhere.
    raw_values
        Whether declared scales are left out of account.
    """

    numbers: tuple[int, ...] | None = None
    bands: tuple[Band, ...] | None = None
    nodes: tuple[Node, ...] = ()
    names: tuple[tuple[str, int], ...] = ()
    asked: tuple[tuple[str, int], ...] = ()
    condition: Node | None = None
    raw_values: bool = False

    @property
    def physical(self) -> bool:
        """Whether declared scales matter."""
        return bool(self.nodes) and not self.raw_values

    def of(self, base: Raster) -> Raster:
        """The selected bands of a raster that was opened with `numbers`.

        Raises
        ------
        RasterError
            If its scales make no sense for them.
        """
        if self.bands is None:
            return base
        if not self.nodes:
            return replace(base, bands=self.bands)
        computed = not all(isinstance(n, Name) for n in self.nodes)
        indices = dict(self.names)
        used = tuple(dict.fromkeys(indices[n] for node in self.nodes for n in expression.names(node)))
        if self.condition is not None:
            # the condition says what is valid of a band that it alone looks at: 0 may mean clear sky
            base = base.judging(used)
        plain = [indices[n.name] for n in self.nodes if isinstance(n, Name)]
        raster = Computed(
            path=base.path,
            width=base.width,
            height=base.height,
            bands=self.bands,
            band_names=tuple(
                base.band_names[indices[node.name]] if isinstance(node, Name) else str(band)
                for node, band in zip(self.nodes, self.bands, strict=True)
            ),
            dtype="float32" if computed else base.dtype_of(plain),
            nodata=(None,) * len(self.bands) if computed else tuple(base.nodata[i] for i in plain),
            block_shape=base.block_shape,
            georeference=base.georeference,
            base=base,
            nodes=self.nodes,
            names=self.names,
            asked=self.asked,
            condition=self.condition,
            raw_values=self.raw_values,
        )
        raster.check()
        return raster


def choose(selection: Selection, header: Callable[[], Raster]) -> Choice:
    """Resolve a selection of bands for a raster.

    Parameters
    ----------
    selection
        Which bands.
    header
        Returns the raster with all its bands; called only if names have to be looked up.

    Raises
    ------
    RasterError
        If the raster has no band of a name, or several, or other bands than a codebook.
    """
    if selection.fitted is not None:
        selection = replace(selection, bands=selection.fitted.in_raster(header), fitted=None)
    bands, nodes, condition = selection.bands, selection.nodes, selection.condition
    if condition is None:
        if bands is None:
            return Choice()
        if all(isinstance(b, int) for b in bands):
            return Choice(tuple(int(b) for b in bands))
    raster = header()
    if bands is None:
        bands, nodes = raster.bands, tuple(Name(f"#{b}") for b in raster.bands)
    numbers = {n: _number_of(n, raster, "--bands") for node in nodes for n in expression.names(node)}
    if condition is None and all(isinstance(n, Name) for n in nodes):
        return Choice(tuple(numbers[n.name] for n in nodes if isinstance(n, Name)), tuple(bands))
    constant = next((b for b, node in zip(bands, nodes, strict=True) if not expression.names(node)), None)
    if constant is not None:
        raise UsageError(
            f"--bands: {constant} names no band; in an expression the first band is b1, or its name"
        )
    needed = list(dict.fromkeys(numbers.values()))
    names = tuple((name, needed.index(number)) for name, number in numbers.items())
    asked = []
    for name in expression.names(condition) if condition else ():
        number = _number_of(name, raster, "--valid")
        if number not in needed or raster.interpolates(number):
            needed.append(number)
        asked.append((name, len(needed) - 1 - needed[::-1].index(number)))
    return Choice(tuple(needed), tuple(bands), nodes, names, tuple(asked), condition, selection.raw_values)


def _number_of(name: str, raster: Raster, option: str) -> int:
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
    raise RasterError(raster.path, f"has no band {name!r}; it has {names_text}: change {option}")
