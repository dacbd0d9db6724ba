"""Stacks: bands in files of their own as one raster, on the grid of one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from engine.grid import Window
from engine.resampling import Method
from pipeline.errors import RasterError, UsageError
from pipeline.source.declared import PLAIN, Nodata, declared_nodata, nodata_of, scales_of
from pipeline.source.joined.layer import Layer
from pipeline.source.joined.placement import axes
from pipeline.source.raster import Raster, SingleRaster, Stack
from pipeline.source.reading import ReadContext


@dataclass(frozen=True, kw_only=True)
class BandStack(Raster):
    """Single bands of several files as one raster.

    Parameters
    ----------
    layers
        The files, one for each band.
    resample
        How layers on other grids become pixels of the stack. What a condition looks at (`--valid`) may be
        classes or bits, which have no means: it is the nearest pixel always. A band that is computed with
        too is there twice then.
    """

    layers: tuple[Layer, ...]
    resample: Method = "nearest"

    @property
    def origin(self) -> dict[str, Any]:
        """The files of the bands, and how those on other grids were resampled."""
        return {"stack": [layer.origin(self._method(i)) for i, layer in enumerate(self.layers)]}

    def _method(self, index: int) -> Method:
        """How a layer is resampled."""
        return self.resample if not self.judged or index in self.judged else "nearest"

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

    @property
    def lacks_together(self) -> bool:
        """False: each file has a nodata value for want of a measurement, also one of 8 bits."""
        return False

    def dtype_of(self, indices: Sequence[int]) -> str:
        """Common dtype of some of the bands in their files."""
        return str(np.result_type(*(self.layers[i].raster.dtype for i in indices)))

    def interpolates(self, number: int) -> bool:
        """Whether a band lies on another grid, and is not taken from the nearest pixel."""
        return self.resample != "nearest" and not self.layers[number - 1].is_same

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
        for i, (band, layer) in enumerate(zip(stack, self.layers, strict=False)):
            with context.of_part(partial(layer.spread, bounds=self.bounds)) as inner:
                covered_pixels = layer.read(window, inner, self._method(i), self.nodata[i])
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


def build(
    members: Sequence[tuple[str, Raster]],
    path: str,
    resample: Method | None = None,
    reference_band: str | None = None,
) -> BandStack:
    """The stack of some rasters of one band each.

    Parameters
    ----------
    members
        Names of the bands and their rasters, in order.
    path
        Name of the stack in messages.
    resample
        How bands on other grids are brought to that of the stack; None takes only those whose pixels are
        made of whole pixels of it, which are repeated.
    reference_band
        The band whose grid the stack has; None for the finest.

    Raises
    ------
    RasterError
        If a raster has several bands, or does not fit the grid.
    """
    for name, raster in members:
        if len(raster.bands) != 1:
            count = len(raster.bands)
            raise RasterError(
                path, f"{raster.path} has {count} bands, where {name} is one; give files of a single band"
            )
    each_scale = [raster.scales[0] if raster.scales else PLAIN for _, raster in members]
    rasters = dict(members)
    grid = rasters[reference_band] if reference_band else min(rasters.values(), key=_pixel_area)
    layers = tuple(Layer(name, raster, *axes(raster, grid, path, resample)) for name, raster in members)
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
        resample=resample or "nearest",
    )


def _pixel_area(raster: Raster) -> float:
    a, b, _, d, e, _ = raster.georeference.transform or (1, 0, 0, 0, 1, 0)
    return abs(a * e - b * d)
