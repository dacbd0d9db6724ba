"""Palette rasters: colour numbers become red, green and blue while they are read.

Where a colour is transparent, or a number has no colour, the pixel is invalid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from engine.grid import Window
from pipeline.errors import RasterError
from pipeline.source.declared import AS_IN_FILE, Declared
from pipeline.source.gdal import handles, similar
from pipeline.source.gdal.dataset import reading_of
from pipeline.source.gdal.raster import FileRaster, check_readable, header_of
from pipeline.source.gdal.similar import Similar
from pipeline.source.limits import refuse_claim
from pipeline.source.raster import SingleRaster, Stack
from pipeline.source.reading import ReadContext

COLOURS = ("red", "green", "blue")

_known: Similar[FileRaster] = Similar()


@dataclass(frozen=True, kw_only=True)
class PaletteRaster(SingleRaster):
    """A raster of colour numbers, seen as its colours.

    Parameters
    ----------
    coded
        The raster of colour numbers.
    table
        Red, green, blue and alpha of each number from 0 on, a byte each.
    """

    coded: FileRaster
    table: bytes

    @property
    def origin(self) -> dict[str, Any]:
        """Says that colours were looked up."""
        return {"palette": f"band {self.coded.numbers[0]} expanded to {', '.join(COLOURS)}"}

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel in memory: its colours, and its number as an index."""
        return super().pixel_bytes + self.coded.pixel_bytes + np.dtype(np.intp).itemsize

    def moved(self, path: str, height: int, width: int) -> Self:
        """The same palette elsewhere."""
        return replace(super().moved(path, height, width), coded=self.coded.moved(path, height, width))

    def reopened(self) -> FileRaster | PaletteRaster:
        """It as it is now."""
        return open_intensities(self.path, declared=self.declared)

    @property
    def declares_nodata(self) -> bool:
        """Whether its file has nodata values or masks, or a colour is transparent."""
        return self.coded.declares_nodata or 0 in self.table[3::4]

    def read_masked(self, window: Window, context: ReadContext) -> Stack:
        """Colours, valid where the number is and its colour is not transparent."""
        numbers, valid = self.coded.read_stack(window, context)
        table = np.frombuffer(self.table, np.uint8).reshape(-1, 4)
        index = np.clip(numbers, 0, len(table) - 1).astype(np.intp)
        stack = np.empty((4, *numbers.shape), np.uint8)
        for plane, entries in zip(stack, table.T, strict=True):
            np.take(entries, index, out=plane)
        stack[-1] = (stack[-1] != 0) & (index == numbers) & (valid != 0)
        return stack


def open_intensities(
    path: str, numbers: Sequence[int] | None = None, declared: Declared = AS_IN_FILE
) -> FileRaster | PaletteRaster:
    """A file that GDAL opens as something whose values are intensities.

    Parameters
    ----------
    path
        Anything GDAL opens.
    numbers
        1-based band numbers to use (default: all but alpha).
    declared
        What is declared in place of the header; the nodata value of a palette is a colour number.

    Raises
    ------
    RasterError
        As `raster.open_header`, or if bands are chosen that hold colour numbers.
    """
    plain, chosen_numbers = similar.header(path), None if numbers is None else tuple(numbers)
    if (known := _known.get(plain, chosen_numbers, declared)) is not None and plain is not None:
        raster, reading = known
        refuse_claim(path, raster.width, raster.height, [plain.size])
        return replace(
            raster,
            path=path,
            files=(path,),
            state=reading.digest,
            georeference=replace(raster.georeference, transform=reading.transform),
        )
    beneath = check_readable(path)

    def header(dataset: Any) -> FileRaster | PaletteRaster:
        whole = header_of(path, dataset, None, beneath, declared)
        if whole.palette and len(whole.bands) == 1:
            if numbers is not None and tuple(numbers) != (1, 2, 3):
                raise RasterError(
                    path,
                    f"--bands {','.join(map(str, numbers))} on a palette raster, whose one band is expanded "
                    f"to 1,2,3 ({', '.join(COLOURS)}); leave --bands out",
                )
            return _expanded(whole, dataset)
        chosen = whole if numbers is None else header_of(path, dataset, numbers, beneath, declared)
        if chosen.palette:
            raise RasterError(
                path, "some of its bands hold colour numbers and not intensities; choose others with --bands"
            )
        if chosen.files == (path,):
            reading = reading_of(dataset, chosen.scales if declared.physical else ())
            _known.keep(plain, chosen, reading, chosen_numbers, declared)
        return chosen

    return handles.opened(path, header)


def _expanded(coded: FileRaster, dataset: Any) -> PaletteRaster:
    entries: dict[int, tuple[int, int, int, int]] = dataset.colormap(coded.numbers[0])
    table = np.zeros((max(entries, default=0) + 1, 4), np.uint8)
    for number, colour in entries.items():
        table[number] = colour
    if coded.declared.nodata is not None and coded.driver == "GTiff":
        # its colours have no alpha: GDAL makes just the one of the nodata tag transparent
        table[list(entries), 3] = 255
    return PaletteRaster(
        path=coded.path,
        width=coded.width,
        height=coded.height,
        bands=(1, 2, 3),
        band_names=COLOURS,
        dtype="uint8",
        nodata=(None, None, None),
        block_shape=coded.block_shape,
        georeference=coded.georeference,
        coded=coded,
        table=table.tobytes(),
        files=coded.files,
        state=coded.state,
        declared=coded.declared,
    )
