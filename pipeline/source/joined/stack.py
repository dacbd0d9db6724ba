"""Stacks: bands that lie in files of their own as one raster, on the finest of their grids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from engine.grid import Window
from pipeline.errors import UsageError
from pipeline.grid.alignment import Alignment, crs_name, same_crs
from pipeline.source.raster import Raster, SingleRaster, Stack
from pipeline.source.reading import ReadContext


@dataclass(frozen=True, slots=True)
class Layer:
    """One file of a stack.

    Parameters
    ----------
    name
        Name of its band.
    raster
        Its one band.
    row, col
        Its upper-left corner, in pixels of the stack.
    height, width
        Side of its pixels, in pixels of the stack.
    """

    name: str
    raster: Raster
    row: int = 0
    col: int = 0
    height: int = 1
    width: int = 1

    def read(self, window: Window, context: ReadContext) -> tuple[Window, Stack] | None:
        """The part of a window of the stack that the layer covers, and its pixels there, repeated."""
        covered = self.covered(window)
        if covered is None:
            return None
        top, left, bottom, right = covered.row, covered.col, covered.row_end, covered.col_end
        row, col = (top - self.row) // self.height, (left - self.col) // self.width
        row_end, col_end = -(-(bottom - self.row) // self.height), -(-(right - self.col) // self.width)
        pixels = self.raster.read_masked(Window(row, col, row_end - row, col_end - col), context)
        down = slice(top - self.row - row * self.height, bottom - self.row - row * self.height)
        across = slice(left - self.col - col * self.width, right - self.col - col * self.width)
        fine = pixels.repeat(self.height, axis=1).repeat(self.width, axis=2)[:, down, across]
        return covered, fine

    def spread(self, window: Window, bounds: Window) -> Window:
        """Where a window of the layer lies in the stack, within bounds that it reaches into."""
        row, col = self.row + window.row * self.height, self.col + window.col * self.width
        return Window(row, col, window.height * self.height, window.width * self.width).grow(0, bounds)

    def covered(self, window: Window) -> Window | None:
        """The part of a window of the stack that the layer covers; None if it covers nothing."""
        top, left = max(window.row, self.row), max(window.col, self.col)
        bottom = min(window.row_end, self.row + self.raster.height * self.height)
        right = min(window.col_end, self.col + self.raster.width * self.width)
        return Window(top, left, bottom - top, right - left) if top < bottom and left < right else None


@dataclass(frozen=True, kw_only=True)
class BandStack(Raster):
    """Single bands of several files as one raster.

    Parameters
    ----------
    layers
        The files, one for each band.
    """

    layers: tuple[Layer, ...]

    @property
    def origin(self) -> dict[str, Any]:
        """The files of the bands, and how often coarser pixels are repeated."""
        return {
            "stack": [
                {"name": layer.name, "path": layer.raster.path, "repeated": [layer.height, layer.width]}
                for layer in self.layers
            ]
        }

    @property
    def members(self) -> Iterator[SingleRaster]:
        """The files of the bands."""
        for layer in self.layers:
            yield from layer.raster.members

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel in memory: its bands, and a layer on its way into them."""
        return super().pixel_bytes + 2 * max(layer.raster.pixel_bytes for layer in self.layers)

    def read_masked(self, window: Window, context: ReadContext) -> Stack:
        """Pixels, valid as far as the masks of all layers say, and where all of them are."""
        stack = np.zeros((len(self.layers) + 1, window.height, window.width), self.dtype)
        stack[-1] = 1
        for band, layer in zip(stack, self.layers, strict=False):
            with context.of_part(partial(layer.spread, bounds=self.bounds)) as inner:
                layer_read = layer.read(window, inner)
            if layer_read is None:
                stack[-1] = 0
                continue
            covered, pixels = layer_read
            rows_and_columns = covered.slices(window)
            band[rows_and_columns] = pixels[0]
            if covered == window:
                stack[-1] *= pixels[1] != 0
            else:
                valid = np.zeros(stack.shape[1:], bool)
                valid[rows_and_columns] = pixels[1] != 0
                stack[-1] *= valid
        return stack

    def only(self, numbers: Sequence[int] | None) -> BandStack:
        """The stack with some of its bands, on the same grid.

        Raises
        ------
        UsageError
            If there is no such band.
        """
        if numbers is None:
            return self
        if missing := [n for n in numbers if not 1 <= n <= len(self.layers)]:
            raise UsageError(f"--stack has bands 1 to {len(self.layers)}, not {missing[0]}; change --bands")
        layers = tuple(self.layers[n - 1] for n in numbers)
        return replace(
            self,
            layers=layers,
            bands=tuple(numbers),
            band_names=tuple(layer.name for layer in layers),
            dtype=str(np.result_type(*(layer.raster.dtype for layer in layers))),
            nodata=tuple(layer.raster.nodata[0] for layer in layers),
        )


def build(members: Sequence[tuple[str, Raster]], path: str) -> BandStack:
    """The stack of some rasters of one band each.

    Parameters
    ----------
    members
        Names of the bands and their rasters, in order.
    path
        Names the stack in messages.

    Raises
    ------
    UsageError
        If one has several bands, or they do not lie on one grid.
    """
    for name, raster in members:
        if len(raster.bands) != 1:
            raise UsageError(
                f"--stack: {raster.path} has {len(raster.bands)} bands, where {name} is one; "
                "give files of a single band"
            )
    grid = min((raster for _, raster in members), key=_pixel_area)
    layers = tuple(_layer(name, raster, grid) for name, raster in members)
    return BandStack(
        path=path,
        width=grid.width,
        height=grid.height,
        bands=tuple(range(1, len(members) + 1)),
        band_names=tuple(name for name, _ in members),
        dtype=str(np.result_type(*(raster.dtype for _, raster in members))),
        nodata=tuple(raster.nodata[0] for _, raster in members),
        block_shape=grid.block_shape,
        georeference=grid.georeference,
        layers=layers,
    )


def _pixel_area(raster: Raster) -> float:
    a, b, _, d, e, _ = raster.georeference.transform or (1, 0, 0, 0, 1, 0)
    return abs(a * e - b * d)


def _layer(name: str, raster: Raster, grid: Raster) -> Layer:
    """A band's place on the stack's grid.

    Raises
    ------
    UsageError
        If it does not lie on it.
    """
    here, there = raster.georeference, grid.georeference
    if not same_crs(here.crs_wkt, there.crs_wkt):
        raise _misfit(raster, grid, f"its CRS is {crs_name(here.crs_wkt)}, not {crs_name(there.crs_wkt)}")
    if here.transform is None or there.transform is None:
        if here != there or (raster.height, raster.width) != (grid.height, grid.width):
            raise _misfit(raster, grid, "without a transform, sizes and control points have to be equal")
        return Layer(name, raster)
    size = raster.height, raster.width
    alignment = Alignment.of(here.transform, size, there.transform)
    ratio, corner = alignment.ratio(size), alignment.corner
    if ratio is None:
        raise _misfit(
            raster, grid, f"its pixels are {alignment.width:.6g} x {alignment.height:.6g} of the finest ones"
        )
    if corner is None:
        off = ", ".join(f"{round(v, 2) + 0.0:.2f}" for v in (alignment.col, alignment.row))
        raise _misfit(raster, grid, f"its corner lies at pixel {off} of it, not at whole ones")
    layer = Layer(name, raster, *corner, *ratio)
    if layer.covered(grid.bounds) is None:
        raise _misfit(raster, grid, "it lies elsewhere")
    return layer


def _misfit(raster: Raster, grid: Raster, why: str) -> UsageError:
    return UsageError(
        f"--stack: {raster.path} does not lie on the grid of {grid.path}: {why}; warp it to that grid first"
    )
