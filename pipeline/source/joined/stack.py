"""Stacks: bands in files of their own as one raster, on the finest of their grids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from engine.grid import Window
from pipeline.errors import UsageError
from pipeline.grid.alignment import Alignment, crs_name, same_crs
from pipeline.source.declared import PLAIN, Nodata, declared_nodata, nodata_of, scales_of
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
        The file, as a raster of one band.
    row, col
        Its upper-left corner, in pixels of the stack.
    height, width
        Sides of its pixels, in pixels of the stack.
    """

    name: str
    raster: Raster
    row: int = 0
    col: int = 0
    height: int = 1
    width: int = 1

    def read(self, window: Window, context: ReadContext) -> tuple[Window, Stack] | None:
        """The covered window of a window of the stack, and the layer's pixels there, repeated to fit."""
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
        """A window of the layer in pixels of the stack, clipped to bounds that it overlaps."""
        row, col = self.row + window.row * self.height, self.col + window.col * self.width
        return Window(row, col, window.height * self.height, window.width * self.width).grow(0, bounds)

    def covered(self, window: Window) -> Window | None:
        """The intersection of a window of the stack with the layer; None if they do not overlap."""
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
        """The files of the bands, and how many times coarser pixels are repeated down and across."""
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
        """Bytes of a pixel in memory: its bands, and one layer while it is copied into them."""
        return super().pixel_bytes + 2 * max(layer.raster.pixel_bytes for layer in self.layers)

    @property
    def declares_nodata(self) -> bool:
        """Whether it or any layer does."""
        return super().declares_nodata or any(layer.raster.declares_nodata for layer in self.layers)

    def dtype_of(self, indices: Sequence[int]) -> str:
        """Common dtype of some of the bands in their files."""
        return str(np.result_type(*(self.layers[i].raster.dtype for i in indices)))

    def declaring(self, nodata: Nodata) -> BandStack:
        """The same with other nodata values, one for all bands or one for each.

        Raises
        ------
        RasterError
            If there are more or fewer, or no pixel can have any of them.
        """
        count = len(self.layers)
        return replace(self, nodata=declared_nodata(self.path, nodata, self.dtype, range(count), count))

    def read_masked(self, window: Window, context: ReadContext) -> Stack:
        """Pixels, valid where all layers have pixels and none is masked."""
        stack = np.zeros((len(self.layers) + 1, window.height, window.width), self.dtype)
        stack[-1] = 1
        for band, layer in zip(stack, self.layers, strict=False):
            with context.of_part(partial(layer.spread, bounds=self.bounds)) as inner:
                covered_pixels = layer.read(window, inner)
            if covered_pixels is None:
                stack[-1] = 0
                continue
            covered, pixels = covered_pixels
            target = covered.slices(window)
            band[target] = pixels[0]
            if covered == window:
                stack[-1] *= pixels[1] != 0
            else:
                valid = np.zeros(stack.shape[1:], bool)
                valid[target] = pixels[1] != 0
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
        dtype = self.dtype_of([n - 1 for n in numbers])
        return replace(
            self,
            layers=layers,
            bands=tuple(numbers),
            band_names=tuple(layer.name for layer in layers),
            dtype=dtype,
            nodata=tuple(nodata_of(self.nodata[n - 1], dtype) for n in numbers),
            scales=tuple(self.scales[n - 1] for n in numbers) if self.scales else (),
        )


def build(members: Sequence[tuple[str, Raster]], path: str) -> BandStack:
    """The stack of some rasters of one band each.

    Parameters
    ----------
    members
        Names of the bands and their rasters, in order.
    path
        Name of the stack in messages.

    Raises
    ------
    UsageError
        If a raster has several bands, or they are not on one grid.
    """
    for name, raster in members:
        if len(raster.bands) != 1:
            raise UsageError(
                f"--stack: {raster.path} has {len(raster.bands)} bands, where {name} is one; "
                "give files of a single band"
            )
    each_scale = [raster.scales[0] if raster.scales else PLAIN for _, raster in members]
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
        scales=scales_of(*zip(*each_scale, strict=True)),
        block_shape=grid.block_shape,
        georeference=grid.georeference,
        layers=layers,
    )


def _pixel_area(raster: Raster) -> float:
    a, b, _, d, e, _ = raster.georeference.transform or (1, 0, 0, 0, 1, 0)
    return abs(a * e - b * d)


def _layer(name: str, raster: Raster, grid: Raster) -> Layer:
    """A band as a layer on the stack's grid.

    Raises
    ------
    UsageError
        If the band is not on that grid.
    """
    own, common = raster.georeference, grid.georeference
    if not same_crs(own.crs_wkt, common.crs_wkt):
        raise _misfit(raster, grid, f"its CRS is {crs_name(own.crs_wkt)}, not {crs_name(common.crs_wkt)}")
    if own.transform is None or common.transform is None:
        if own != common or (raster.height, raster.width) != (grid.height, grid.width):
            raise _misfit(raster, grid, "without a transform, sizes and control points have to be equal")
        return Layer(name, raster)
    size = raster.height, raster.width
    alignment = Alignment.of(own.transform, size, common.transform)
    ratio, corner = alignment.ratio(size), alignment.corner
    if ratio is None:
        raise _misfit(
            raster, grid, f"its pixels are {alignment.width:.6g} x {alignment.height:.6g} of the finest ones"
        )
    if corner is None:
        offset = ", ".join(f"{round(v, 2) + 0.0:.2f}" for v in (alignment.col, alignment.row))
        raise _misfit(raster, grid, f"its corner lies at pixel {offset} of it, not at whole ones")
    layer = Layer(name, raster, *corner, *ratio)
    if layer.covered(grid.bounds) is None:
        raise _misfit(raster, grid, "it lies elsewhere")
    return layer


def _misfit(raster: Raster, grid: Raster, why: str) -> UsageError:
    return UsageError(
        f"--stack: {raster.path} does not lie on the grid of {grid.path}: {why}; warp it to that grid first"
    )
