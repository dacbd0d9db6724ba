"""What a raster is, whatever it is made of: its header, and windows of its pixels with their validity.

A file, a palette, a mosaic of files, a stack of bands or an expression of bands is a `Raster`; the rest
of Tilewright does not tell them apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from engine.codebook import Band
from engine.grid import Window
from pipeline.grid.georeference import Georeference
from pipeline.source.declared import AS_IN_FILE, Declared, Scales, is_nodata, nodata_of
from pipeline.source.reading import STRICT, ReadContext

Stack = npt.NDArray[Any]
"""Pixels with validity (1 or 0) as one more band: shape (band + 1, y, x)."""


@dataclass(frozen=True, kw_only=True)
class Raster(ABC):
    """A raster with the bands that are used: a small value that pickles.

    Parameters
    ----------
    path
        Names it in messages and records; what GDAL opens, if it is one file.
    width, height
        Size in pixels.
    bands
        The bands used, in order, as a codebook remembers them: 1-based numbers, names or expressions.
    band_names
        Descriptions of those bands.
    dtype
        Dtype of the pixels (common to the bands used).
    nodata
        Nodata value of each band used, or None.
    block_shape
        (height, width) of the blocks that are read at once.
    georeference
        CRS, transform, ground control points, RPCs.
    scales
        Scale and offset that the file declares for each band used; () where it declares none. Pixels are
        read without them.
    judged
        Indices of the bands whose nodata values count; () for all.
    """

    path: str
    width: int
    height: int
    bands: tuple[Band, ...]
    band_names: tuple[str, ...]
    dtype: str
    nodata: tuple[float | None, ...]
    block_shape: tuple[int, int]
    georeference: Georeference
    scales: Scales = ()
    judged: tuple[int, ...] = ()

    @property
    def bounds(self) -> Window:
        """All pixels."""
        return Window(0, 0, self.height, self.width)

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel in memory: its bands and its validity."""
        return np.dtype(self.dtype).itemsize * (len(self.bands) + 1)

    @property
    def identity(self) -> tuple[Any, ...]:
        """What the hash sample is seeded with: never a path."""
        transform = self.georeference.transform
        return (self.height, self.width, transform, len(self.bands), self.dtype)

    @property
    def origin(self) -> dict[str, Any]:
        """What its record says of how its pixels come about, beside the header; {} for a plain file."""
        return {}

    @property
    def physical(self) -> bool | None:
        """Whether its values are scaled as its files declare; None where that makes no difference.

        False where they could not be, as of whole numbers without a declared scale.
        """
        return None

    @property
    def declares_nodata(self) -> bool:
        """Whether anything says which of its pixels are invalid: nodata values, masks, alpha."""
        return any(value is not None for value in self.nodata)

    @property
    def lacks_together(self) -> bool:
        """Whether a pixel is nodata only where all bands that count are; else where any is.

        In 8-bit imagery the nodata value is an ordinary grey value too (a black roof with nodata 0). In wider
        dtypes one band that has no measurement is enough.
        """
        return np.dtype(self.dtype_of(self.judged) if self.judged else self.dtype).itemsize == 1

    def dtype_of(self, indices: Sequence[int]) -> str:  # noqa: ARG002  (those of several dtypes need it)
        """Common dtype of some of its bands in their files."""
        return self.dtype

    def interpolates(self, number: int) -> bool:  # noqa: ARG002  (those on several grids need it)
        """Whether pixels of one of its bands are means of several: a condition has to see the nearest one."""
        return False

    def judging(self, indices: tuple[int, ...]) -> Self:
        """The same, where only the nodata values of some of its bands count."""
        return replace(self, judged=indices)

    @property
    @abstractmethod
    def members(self) -> Iterator[SingleRaster]:
        """The rasters of one file each that it is made of, in the order that they were given in."""

    def covers(self, window: Window) -> bool:  # noqa: ARG002  (those made of several need it)
        """False where it is known without reading that no pixel of a window is valid."""
        return True

    def moved(self, path: str, height: int, width: int) -> Self:
        """The same kind of raster elsewhere: in another file, of another size, without a georeference."""
        place = Georeference()
        return replace(self, path=path, height=height, width=width, block_shape=(1, 1), georeference=place)

    def read(
        self, window: Window, context: ReadContext = STRICT
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Pixels (band, y, x) and validity (y, x) of a window.

        Parameters
        ----------
        window
            Which pixels.
        context
            How they are read.

        Raises
        ------
        RasterError
            If the window cannot be read, after retries.
        """
        stack = self.read_stack(window, context)
        return stack[:-1], stack[-1] != 0

    def read_stack(self, window: Window, context: ReadContext = STRICT) -> Stack:
        """Pixels with validity (1 or 0) as one more band: shape (band + 1, y, x); see `read`."""
        stack = self.read_masked(window, context)
        judged = self.judged or range(len(self.bands))
        dtypes = {i: np.dtype(self.dtype_of([i])) for i in judged if self.nodata[i] is not None}
        has_data(stack, self.nodata, dtypes, judged, together=self.lacks_together)
        return stack

    @abstractmethod
    def read_masked(self, window: Window, context: ReadContext) -> Stack:
        """As `read_stack`, but valid as far as masks say: nodata values and NaN are not looked for.

        A raster that is made of others passes the context on to them.

        Raises
        ------
        RasterError
            If the window cannot be read, after retries.
        """


@dataclass(frozen=True, kw_only=True)
class SingleRaster(Raster):
    """A raster that is opened from one file.

    Parameters
    ----------
    files
        What its pixels come from: local files, a folder, or an address; all of them where it was opened.
    state
        What else they depend on, as a digest: how they are read, and what the file refers to.
    declared
        What was declared of the file when it was opened.
    """

    files: tuple[str, ...] = ()
    state: str = ""
    declared: Declared = AS_IN_FILE

    @property
    def members(self) -> Iterator[SingleRaster]:
        """Itself."""
        yield self

    def moved(self, path: str, height: int, width: int) -> Self:
        """The same kind elsewhere; of what files is not known."""
        return replace(super().moved(path, height, width), files=(), state="")

    @abstractmethod
    def reopened(self) -> SingleRaster:
        """It as it is now.

        Raises
        ------
        RasterError
            If it is gone, or such a raster no more.
        """


def described(window: Window) -> str:
    """A window in words, for messages."""
    rows = f"rows {window.row} to {window.row_end - 1}"
    return f"{rows}, columns {window.col} to {window.col_end - 1}"


def has_data(
    stack: Stack,
    nodata: Sequence[float | None],
    dtypes: Mapping[int, np.dtype[Any]],
    judged: Sequence[int],
    *,
    together: bool,
) -> None:
    """Make what is nodata or not finite invalid in a stack.

    Parameters
    ----------
    stack
        Pixels and validity; the last band is changed.
    nodata
        Value of each band, or None.
    dtypes
        Dtype in its file of each band that has a value; that of the stack may be wider.
    judged
        Indices of the bands whose nodata values count.
    together
        Whether a pixel is nodata only where all these bands are; else where any is.
    """
    valid = stack[-1]
    if stack.dtype.kind == "f":
        valid *= np.isfinite(stack[:-1]).all(axis=0)
    there = [
        ~_is_nodata(stack[i], value, dtypes[i])
        for i in judged
        if (value := nodata[i]) is not None and not np.isnan(value)
    ]
    if not together:
        for here in there:
            valid *= here
    elif len(there) == len(judged):
        valid *= np.logical_or.reduce(there)


def _is_nodata(band: npt.NDArray[Any], nodata: float, dtype: np.dtype[Any]) -> npt.NDArray[np.bool_]:
    """Where a band of a stack is nodata, compared in the dtype of its file."""
    if dtype.kind != "f":
        # a whole number is exact in any dtype that stacks of it have
        same: npt.NDArray[np.bool_] = band == np.asarray(nodata).astype(band.dtype)
        return same
    if (value := nodata_of(nodata, dtype)) is None:
        return np.zeros(band.shape, bool)
    return is_nodata(band.astype(dtype, copy=False), value)
