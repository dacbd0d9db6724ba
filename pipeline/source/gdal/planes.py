"""Planes of a file that GDAL decodes together: bands with their alpha, and masks."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rasterio.windows import Window as FileWindow

from engine.grid import Window
from pipeline.errors import DamageError, RasterError
from pipeline.source.gdal import handles, shared_blocks
from pipeline.source.gdal.shared_blocks import UndecodableError
from pipeline.source.raster import Stack, described

_STREAMS = frozenset({"PNG", "JPEG", "GIF", "BIGGIF", "WEBP"})
_UNDECODABLE = "IReadBlock failed"  # GDAL's words for a block that a source was opened for in vain


@dataclass(frozen=True, kw_only=True)
class _Planes(ABC):
    """Reads windows of some planes of a file: a `bad_blocks.WindowReader`.

    Parameters
    ----------
    path
        The file.
    driver
        GDAL's short name of its format.
    bounds
        All pixels.
    dtype
        Dtype of the planes in memory.
    numbers
        1-based numbers of the bands that are read.
    """

    path: str
    driver: str
    bounds: Window
    dtype: str
    numbers: tuple[int, ...]

    @property
    @abstractmethod
    def count(self) -> int:
        """Number of planes."""

    @property
    @abstractmethod
    def exact(self) -> bool:
        """Whether a read of a window fails just if one of the blocks that it touches cannot be decoded."""

    @property
    def stream(self) -> bool:
        """True for a file of one stream: what follows the first fault cannot be decoded either."""
        return self.driver in _STREAMS

    def read(self, window: Window, retry_s: Sequence[float]) -> Stack:
        """Planes of a window.

        Raises
        ------
        DamageError
            If the file is at fault; another `RasterError` where it is not.
        """
        # GDAL gives zeros and no error when a VRT is asked again for a source that it could not open
        virtual = self.driver == "VRT"
        try:
            return handles.read(
                self.path,
                lambda dataset: self._decoded(dataset, window),
                described(window),
                () if virtual else retry_s,
                placed=self.driver != "GTiff",
            )
        except DamageError as error:
            if virtual and _UNDECODABLE not in str(error):
                raise RasterError(error.path, error.reason) from error
            raise

    def block_shape(self, retry_s: Sequence[float]) -> tuple[int, int]:
        """(height, width) of the file's blocks as it says now.

        Raises
        ------
        RasterError
            If it cannot be opened.
        """
        shape: tuple[int, int] = handles.read(
            self.path,
            lambda dataset: dataset.block_shapes[0],
            "its header",
            retry_s,
            placed=self.driver != "GTiff",
        )
        return shape

    @abstractmethod
    def _decoded(self, dataset: Any, window: Window) -> Stack:
        """Planes of a window, from an open dataset."""


@dataclass(frozen=True, kw_only=True)
class BandPlanes(_Planes):
    """Bands, and as the last plane 1 where alpha is not 0.

    Parameters
    ----------
    alpha_band
        Number of the alpha band, or None.
    one_dtype
        Whether all these bands have one dtype in the file.
    halo_px
        How far windows reach into those beside them; what they share is decoded once.
    """

    alpha_band: int | None
    one_dtype: bool
    halo_px: int

    @property
    def count(self) -> int:
        """The bands and their validity."""
        return len(self.numbers) + 1

    @property
    def exact(self) -> bool:
        """Only of a GeoTIFF the blocks are known that GDAL decodes."""
        return self.driver == "GTiff"

    def _decoded(self, dataset: Any, window: Window) -> Stack:
        stack = np.empty((self.count, window.height, window.width), self.dtype)
        numbers = [*self.numbers] if self.alpha_band is None else [*self.numbers, self.alpha_band]
        if self.one_dtype:
            self._read_bands(dataset, numbers, window, stack[: len(numbers)])
        else:
            for number, band in zip(numbers, stack, strict=False):
                dataset.read(number, window=_in_file(window), out=band)
        if self.alpha_band is None:
            stack[-1] = 1
        else:
            stack[-1] = stack[-1] != 0
        return stack

    def _read_bands(self, dataset: Any, numbers: list[int], window: Window, out: Stack) -> None:
        """Read bands of one dtype; what a window shares with its neighbours is decoded once for all."""
        if (source := self._shared_source(dataset, numbers)) is not None and source.shares(window):
            # what fails is read as any window is, and fails as that does
            with contextlib.suppress(UndecodableError):
                shared_blocks.of_process.read(source, window, self.halo_px, out)
                return
        dataset.read(numbers, window=_in_file(window), out=out)

    def _shared_source(self, dataset: Any, numbers: list[int]) -> shared_blocks.Source | None:
        """The bands as a source of shared blocks; None where windows do not overlap or blocks are unknown."""
        if not self.halo_px or not self.exact:
            return None
        if (state := handles.file_state(self.path, dataset)) is None:
            return None

        def decode(window: Window, out: Stack) -> None:
            try:
                dataset.read(numbers, window=_in_file(window), out=out)
            except handles.READ_ERRORS as error:
                raise UndecodableError from error

        key, shape = (state, *numbers), dataset.block_shapes[0]
        return shared_blocks.Source(key, self.bounds, shape, len(numbers), self.dtype, decode)


@dataclass(frozen=True, kw_only=True)
class MaskPlanes(_Planes):
    """One plane, 1 where the masks of all bands are valid."""

    @property
    def count(self) -> int:
        """One."""
        return 1

    @property
    def exact(self) -> bool:
        """A mask has blocks of its own, which GDAL does not name."""
        return False

    def _decoded(self, dataset: Any, window: Window) -> Stack:
        mask = np.ones((1, window.height, window.width), np.uint8)
        for number in self.numbers:
            mask[0] *= dataset.read_masks(number, window=_in_file(window)) != 0
        return mask


def _in_file(window: Window) -> FileWindow:
    """A window as rasterio names it."""
    return FileWindow(window.col, window.row, window.width, window.height)
