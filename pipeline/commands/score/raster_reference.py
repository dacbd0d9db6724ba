"""A raster of classes as the reference, warped by nearest neighbour where its grid is another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
import numpy.typing as npt

from engine.grid import Window
from engine.kernel import NODATA
from pipeline.commands.score.laid import OPTION, Classes, Grid, NoOverlapError, box_of, lattice
from pipeline.errors import RasterError, UnreachableError, UsageError
from pipeline.grid.georeference import in_pixels, on_ground
from pipeline.source import bad_blocks
from pipeline.source.gdal import handles, remote
from pipeline.source.raster import described

_PLACELESS = 'LOCAL_CS["no CRS",UNIT["metre",1]]'
_SAME_PX = 1e-3  # grids that differ by less everywhere are one grid
_EXACT_PX = 1e-6  # GDAL interpolates coordinates up to such an error; it takes 0 for no transformer at all


@dataclass(frozen=True)
class RasterReference:
    """A raster of one band whose values are classes.

    Parameters
    ----------
    path
        The file.
    grid
        Its pixels.
    names
        What its header calls the values 0, 1, ...; empty where it does not.
    unlabelled
        Whether 255 means no class, though no header says so.
    placed_by_points
        Whether ground control points place it.
    """

    path: str
    grid: Grid
    names: tuple[str, ...]
    unlabelled: bool
    placed_by_points: bool

    @classmethod
    def open(cls, path: str) -> RasterReference:
        """Open it.

        Raises
        ------
        UsageError
            If it is no raster, or none of classes.
        RasterError
            If it lies on a network and cannot be had.
        """
        try:
            return handles.opened(path, lambda dataset: cls._of(path, dataset))
        except UnreachableError:
            raise
        except RasterError:
            if not (remote.is_remote(path) or Path(path).exists()):
                raise UsageError(f"{path}: no such file; check {OPTION}") from None
            why = "not a raster that GDAL can open; of a vector file name the class with --attribute NAME"
            raise UsageError(f"{path}: {why}") from None

    @classmethod
    def _of(cls, path: str, dataset: Any) -> RasterReference:
        colours = [colour.name for colour in dataset.colorinterp]
        bands = len(colours) - colours.count("alpha")
        if bands != 1:
            raise UsageError(f"{path}: {bands} bands; a reference has one band, of classes")
        if not dataset.dtypes[0].startswith(("int", "uint", "float")):
            raise UsageError(f"{path}: {dataset.dtypes[0]} values; classes are whole numbers")
        masked = any(flag.name != "all_valid" for flag in dataset.mask_flag_enums[0])
        unlabelled = dataset.dtypes[0] == "uint8" and not masked
        return cls(path, Grid.of(dataset), _category_names(dataset), unlabelled, bool(dataset.gcps[0]))

    @property
    def placed(self) -> bool:
        """Whether it has a transform or ground control points."""
        return self.grid.place.transform is not None or self.placed_by_points

    def class_of(self, value: int) -> int:
        """The value itself."""
        return value

    def name_of(self, value: int) -> str:
        """What its header calls a value.

        Raises
        ------
        UsageError
            If it has names, but not for this value.
        """
        if not self.names:
            return str(value)
        if not 0 <= value < len(self.names):
            raise UsageError(
                f"{self.path}: holds class {value}, but names {len(self.names)} classes (0 to "
                f"{len(self.names) - 1}); mend its category names or its values"
            )
        return self.names[value] or str(value)

    def lay(self, grid: Grid) -> LaidRaster:
        """Lay it onto a grid.

        Raises
        ------
        NoOverlapError
            If it has nothing there.
        """
        here, there = self.grid.place, grid.place
        if here.transform is None:
            if not self.placed and (self.grid.height, self.grid.width) == (grid.height, grid.width):
                return LaidRaster(self.path, grid, self.unlabelled, grid.bounds, (0, 0), None)
            size = f"{self.grid.width} x {self.grid.height} px"
            raise NoOverlapError(
                f"has no transform and {size}; place it (gdalwarp), or give it the labels' size"
            )
        if there.transform is None:
            raise NoOverlapError("has a place on the ground, and the labels have none")
        if bool(here.crs_wkt) != bool(there.crs_wkt):
            with_crs, without = ("labels", "reference") if there.crs_wkt else ("reference", "labels")
            raise NoOverlapError(
                f"the {with_crs} have a CRS, the {without} none; declare it (gdal_edit -a_srs)"
            )
        offset = self._offset(grid)
        if offset is not None:
            row, col = offset
            whole = Window(row, col, self.grid.height, self.grid.width)
            box = whole.shared(grid.bounds) if whole.overlaps(grid.bounds) else None
        else:
            box = box_of(*self._lattice(grid), grid.bounds)
        if box is None:
            raise NoOverlapError("lies elsewhere")
        crs = (here.crs_wkt or _PLACELESS, there.crs_wkt or _PLACELESS)
        return LaidRaster(self.path, grid, self.unlabelled, box, offset, crs)

    def _offset(self, grid: Grid) -> tuple[int, int] | None:
        """Row and column of its first pixel on a grid whose pixels are the same; None on another grid."""
        here, there = self.grid.place, grid.place
        assert here.transform is not None
        assert there.transform is not None
        if not _same_crs(here.crs_wkt, there.crs_wkt):
            return None
        height, width = self.grid.height, self.grid.width
        corners = np.array([(0, 0), (width, 0), (0, height), (width, height)], float)
        placed = np.array([in_pixels(there.transform, *on_ground(here.transform, *c)) for c in corners])
        col, row = np.rint(placed[0])
        if np.abs(placed - corners - (col, row)).max() > _SAME_PX:
            return None
        return int(row), int(col)

    def _lattice(self, grid: Grid) -> tuple[npt.NDArray[np.float64], float]:
        """Points all over it in pixels of a grid, and the distance between neighbours."""
        from rasterio.crs import CRS
        from rasterio.warp import transform

        here, there = self.grid.place, grid.place
        assert here.transform is not None
        assert there.transform is not None
        cols, rows = lattice(self.grid.height, self.grid.width)
        x, y = on_ground(here.transform, cols, rows)
        if here.crs_wkt and there.crs_wkt:
            crs = CRS.from_wkt(here.crs_wkt), CRS.from_wkt(there.crs_wkt)
            x, y = (np.reshape(v, cols.shape) for v in transform(*crs, np.ravel(x), np.ravel(y)))
        points = np.stack(in_pixels(there.transform, x, y), axis=-1)
        steps = [np.abs(np.diff(points, axis=axis)).max() for axis in (0, 1)]
        return points.reshape(-1, 2), float(max(steps)) + 2


@dataclass(frozen=True)
class LaidRaster:
    """A raster of classes on the grid of labels.

    Parameters
    ----------
    path
        The file.
    grid
        Of the labels.
    unlabelled
        As of `RasterReference`.
    box
        The part of the labels outside which it has nothing.
    offset
        Row and column of its first pixel on the grid, or None where it is warped.
    crs
        Its CRS and that of the labels, for warping.
    """

    path: str
    grid: Grid
    unlabelled: bool
    box: Window
    offset: tuple[int, int] | None
    crs: tuple[str, str] | None

    def read(self, window: Window) -> Classes:
        """The classes of a window of the labels.

        Raises
        ------
        RasterError
            If they cannot be read.
        UsageError
            If they are no whole numbers.
        """
        known = np.zeros((window.height, window.width), bool)
        values = np.zeros(known.shape, np.int64)
        left_out = False
        if window.overlaps(self.box):
            part = window.shared(self.box)
            reader = self._warped(part) if self.offset is None else self._direct(part, self.offset)
            read, valid = handles.read(self.path, reader, described(part), bad_blocks.RETRY_AFTER_S)
            if read.dtype.kind == "f":
                valid &= np.isfinite(read)
                if (np.rint(read[valid]) != read[valid]).any():
                    odd = read[valid][np.rint(read[valid]) != read[valid]][0]
                    raise UsageError(f"{self.path}: holds {odd:g}; classes are whole numbers")
                read = np.where(valid, read, 0)
            if self.unlabelled:
                left_out = bool((read == NODATA).any())
                valid &= read != NODATA
            values[part.slices(window)], known[part.slices(window)] = read, valid
        return Classes(values, known, left_out)

    def _direct(self, part: Window, offset: tuple[int, int]) -> Callable[[Any], Any]:
        from rasterio.windows import Window as FileWindow

        row, col = offset
        window = FileWindow(part.col - col, part.row - row, part.width, part.height)
        return lambda dataset: (dataset.read(1, window=window), dataset.read_masks(1, window=window) > 0)

    def _warped(self, part: Window) -> Callable[[Any], Any]:
        from rasterio.crs import CRS
        from rasterio.enums import Resampling
        from rasterio.transform import Affine
        from rasterio.vrt import WarpedVRT
        from rasterio.windows import Window as FileWindow

        assert self.crs is not None
        assert self.grid.place.transform is not None
        source, target = map(CRS.from_wkt, self.crs)
        window = FileWindow(part.col, part.row, part.width, part.height)
        options = {
            "src_crs": source,
            "crs": target,
            "transform": Affine(*self.grid.place.transform),
            "width": self.grid.width,
            "height": self.grid.height,
            "resampling": Resampling.nearest,
            "tolerance": _EXACT_PX,
        }

        def read(dataset: Any) -> Any:
            alpha = any(colour.name == "alpha" for colour in dataset.colorinterp)
            with WarpedVRT(dataset, add_alpha=not alpha, **options) as warped:
                values, opaque = warped.read((1, warped.count), window=window)
            return values, opaque > 0

        return read


def _same_crs(one: str | None, other: str | None) -> bool:
    from rasterio.crs import CRS

    if not (one and other):
        return one == other
    return bool(CRS.from_wkt(one) == CRS.from_wkt(other))


def _category_names(dataset: Any) -> tuple[str, ...]:
    """What the header calls the values of band 1; rasterio shows that only in GDAL's description as a VRT."""
    import rasterio.shutil
    from rasterio.io import MemoryFile

    with MemoryFile(ext=".vrt") as file:
        rasterio.shutil.copy(dataset, file.name, driver="VRT")
        text = file.read()
    names: list[str] = []
    within: list[str] = []

    def start(tag: str, _: dict[str, str]) -> None:
        within.append(tag)
        if tag == "Category":
            names.append("")

    def data(piece: str) -> None:
        if within[-2:] == ["CategoryNames", "Category"]:
            names[-1] += piece

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.CharacterDataHandler = start, data
    parser.EndElementHandler = lambda _: within.pop()
    parser.Parse(text, True)  # noqa: FBT003  (expat takes it by position)
    return tuple(names)
