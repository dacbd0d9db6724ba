"""Layers: the file of one band of a stack, brought to the stack's grid."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.grid import Window, tiles
from engine.resampling import Axis, Method
from engine.resampling_loops import weighted_means
from pipeline.source.declared import beside_nodata, is_nodata, nodata_of
from pipeline.source.raster import Raster, Stack
from pipeline.source.reading import ReadContext

_PIECE_PX = 1 << 20
"""Pixels that are resampled at once, of the layer or of the stack: memory must not grow with their ratio."""
_PIECE_WIDTH_PX = 1024


@dataclass(frozen=True, slots=True)
class Layer:
    """One file of a stack.

    Parameters
    ----------
    name
        Name of its band.
    raster
        The file, as a raster of one band.
    down, across
        Where pixels of the stack lie on it, by rows and by columns.
    """

    name: str
    raster: Raster
    down: Axis
    across: Axis

    @property
    def is_same(self) -> bool:
        """Whether its pixels are pixels of the stack."""
        return self.down.is_same and self.across.is_same

    def origin(self, method: Method) -> dict[str, Any]:
        """What a record says of it: its file, and the sides of its pixels in those of the stack."""
        sides = [1 / self.down.scale, 1 / self.across.scale]
        origin = {"name": self.name, "path": self.raster.path}
        if method == "nearest" and all(side.is_integer() for side in sides):
            return {**origin, "repeated": [int(side) for side in sides]}
        return origin if self.is_same else {**origin, "resampled": method, "sides": sides}

    def covered(self, window: Window) -> Window | None:
        """The pixels of a window of the stack whose centres lie on the layer; None without any."""
        top, bottom = self.down.covered(window.row, window.row_end)
        left, right = self.across.covered(window.col, window.col_end)
        return Window(top, left, bottom - top, right - left) if top < bottom and left < right else None

    def spread(self, window: Window, bounds: Window) -> Window:
        """The pixels of the stack that a window of the layer lies in; the nearest one if it is outside."""
        top, bottom = self.down.spread(window.row, window.row_end)
        left, right = self.across.spread(window.col, window.col_end)
        row, col = (
            min(max(top, bounds.row), bounds.row_end - 1),
            min(max(left, bounds.col), bounds.col_end - 1),
        )
        bottom, right = min(max(bottom, row + 1), bounds.row_end), min(max(right, col + 1), bounds.col_end)
        return Window(row, col, bottom - row, right - col)

    def read(
        self, window: Window, context: ReadContext, method: Method, nodata: float | None
    ) -> tuple[Window, Stack] | None:
        """The covered window of a window of the stack, and the layer's pixels there; None if there are none.

        Parameters
        ----------
        window, context
            As of `Raster.read_masked`.
        method
            How pixels are made of those of another grid.
        nodata
            Nodata value. What has it, or is masked or not finite, has no weight in a mean; where nothing
            else is, the nearest pixel says how.
        """
        covered = self.covered(window)
        if covered is None:
            return None
        if self.is_same:
            row = int(self.down.nearest(covered.row, covered.row + 1)[0])
            col = int(self.across.nearest(covered.col, covered.col + 1)[0])
            same = Window(row, col, covered.height, covered.width)
            return covered, self.raster.read_masked(same, context)
        scale = max(self.down.scale, self.across.scale)
        context = replace(context, halo_px=math.ceil((context.halo_px + 1) * scale) + 1)
        stack = np.empty((2, covered.height, covered.width), self.raster.dtype)
        for piece in self._pieces(covered):
            target = stack[:, *piece.slices(covered)]
            if method == "nearest":
                self._read_nearest(piece, context, target)
            else:
                self._read_means(piece, context, method, nodata, target)
        return covered, stack

    def _pieces(self, window: Window) -> Iterator[Window]:
        """Windows of the stack that are resampled at once."""
        down, across = max(1.0, self.down.scale), max(1.0, self.across.scale)
        width = max(_PIECE_WIDTH_PX, min(self.raster.block_shape[1], self.raster.width, _PIECE_PX))
        return tiles(window, max(1, int(_PIECE_PX / width / down)), max(1, int(width / across)))

    def _read_nearest(self, window: Window, context: ReadContext, target: Stack) -> None:
        rows = self.down.nearest(window.row, window.row_end)
        cols = self.across.nearest(window.col, window.col_end)
        source = _between(rows[0], cols[0], rows[-1] + 1, cols[-1] + 1)
        pixels = self.raster.read_masked(source, context)
        target[...] = pixels.take(cols - source.col, axis=2).take(rows - source.row, axis=1)

    def _read_means(
        self, window: Window, context: ReadContext, method: Method, nodata: float | None, target: Stack
    ) -> None:
        rows, row_weights = self.down.weights(window.row, window.row_end, method)
        cols, col_weights = self.across.weights(window.col, window.col_end, method)
        (row, row_end), (col, col_end) = _weighted(rows, row_weights), _weighted(cols, col_weights)
        source = _between(row, col, row_end, col_end)
        pixels = self.raster.read_masked(source, context)
        dtype = pixels.dtype
        values = pixels[0].astype(np.float64)
        usable = (pixels[1] != 0) & np.isfinite(values)
        if (value := nodata_of(nodata, dtype)) is not None:
            usable &= ~is_nodata(pixels[0], value)
        values[~usable] = np.nan
        means = np.empty((window.height, window.width))
        weighted_means(values, rows - source.row, row_weights, cols - source.col, col_weights, means)
        has_mean = ~np.isnan(means)
        target[0] = _in_dtype(means, dtype, value)
        target[1] = 1
        if not has_mean.all():
            nearest_rows = self.down.nearest(window.row, window.row_end) - source.row
            nearest_cols = self.across.nearest(window.col, window.col_end) - source.col
            nearest = pixels.take(nearest_cols, axis=2).take(nearest_rows, axis=1)
            np.copyto(target, nearest, where=~has_mean)


def _between(row: int, col: int, row_end: int, col_end: int) -> Window:
    return Window(int(row), int(col), int(row_end - row), int(col_end - col))


def _weighted(first: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]) -> tuple[int, int]:
    """The range of source pixels with a weight, along an axis."""
    before, after = np.argmax(weights[0] > 0), np.argmax(weights[-1, ::-1] > 0)
    return int(first[0] + before), int(first[-1] + weights.shape[1] - after)


def _in_dtype(means: npt.NDArray[np.float64], dtype: np.dtype[Any], nodata: float | None) -> npt.NDArray[Any]:
    """Means in a dtype, halves rounded up; what would have the nodata value gets the next one."""
    if dtype.kind == "f":
        values = means.astype(dtype)
        if nodata is not None:
            values[is_nodata(values, nodata)] = beside_nodata(nodata, dtype)
        return values
    limits = np.iinfo(dtype)
    rounded = np.floor(np.nan_to_num(means) + 0.5)
    if nodata is not None:
        hit = rounded == nodata
        below = ((means[hit] < nodata) | (nodata == limits.max)) & (nodata != limits.min)
        rounded[hit] += np.where(below, -1, 1)
    # the largest number of 64 bits is none of float64
    highest = float(limits.max) if int(float(limits.max)) == limits.max else math.nextafter(limits.max, 0)
    return rounded.clip(float(limits.min), highest).astype(dtype)
