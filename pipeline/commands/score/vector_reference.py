"""Polygons or points with an attribute as the reference, burnt onto the grid of labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.grid import Window
from pipeline.commands.score.laid import (
    MOST_CLASSES,
    OPTION,
    Classes,
    Grid,
    NoOverlapError,
    box_of,
    lattice,
)
from pipeline.errors import UsageError
from pipeline.grid.georeference import in_pixels, on_ground
from pipeline.source.vectors import read_layer

_KINDS = frozenset({"Polygon", "MultiPolygon", "Point", "MultiPoint"})
_PIECES = 256  # edges are cut to that part of a shape's size before they are bent into another CRS
_LARGE = 4096  # vertices from which on a shape is cut to the window before it is burnt

Shapes = npt.NDArray[Any]


@dataclass(frozen=True)
class VectorReference:
    """A layer whose attribute is the class.

    Parameters
    ----------
    path
        The file.
    shapes, codes
        Geometries, and the class of each as its place in `classes`.
    classes
        Classes in their order.
    crs_wkt
        Of the shapes; None for that of each raster.
    """

    path: str
    shapes: Shapes
    codes: npt.NDArray[np.int32]
    classes: tuple[str, ...]
    crs_wkt: str | None

    @classmethod
    def open(cls, path: str, attribute: str) -> VectorReference:
        """Read it; what has no geometry or no class is left out.

        Raises
        ------
        UsageError
            If it cannot be read, has no such attribute, or neither polygons nor points.
        """
        import shapely

        layer = read_layer(path, OPTION, attribute)
        names = [_class_name(value) for value in layer.values]
        shapes = layer.shapes
        there = ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
        kept = np.flatnonzero(there & np.array([name is not None for name in names], bool))
        if not len(kept):
            raise UsageError(f"{path}: no polygons or points with a class in {attribute!r}")
        kinds = {shape.geom_type for shape in shapes[kept]}
        if kinds - _KINDS:
            found = ", ".join(sorted(kinds - _KINDS))
            raise UsageError(f"{path}: holds {found}; a reference needs polygons or points")
        used = [str(names[i]) for i in kept]
        classes = sorted(set(used), key=_in_order)
        if len(classes) > MOST_CLASSES:
            raise UsageError(
                f"{path}: {len(classes)} values in {attribute!r}; name an attribute with classes"
            )
        number = {name: i for i, name in enumerate(classes)}
        codes = np.array([number[name] for name in used], np.int32)
        return cls(path, shapes[kept], codes, tuple(classes), layer.crs_wkt)

    @property
    def placed(self) -> bool:
        """True: coordinates are always somewhere."""
        return True

    def class_of(self, value: int) -> str:
        """The class of a code."""
        return self.classes[value]

    def name_of(self, value: int) -> str:
        """The class itself."""
        return self.classes[value]

    def lay(self, grid: Grid) -> LaidShapes:
        """Lay it onto a grid.

        Raises
        ------
        NoOverlapError
            If it has nothing there.
        """
        import shapely

        transform = grid.place.transform
        if transform is None:
            raise NoOverlapError("has a place on the ground, and the labels have none")
        if self.crs_wkt and not grid.place.crs_wkt:
            raise NoOverlapError("has a CRS, and the labels have none; declare it (gdal_edit -a_srs)")
        shapes, codes = self.shapes, self.codes
        if self.crs_wkt and grid.place.crs_wkt:
            shapes, codes = _reprojected(shapes, codes, self.crs_wkt, grid)
        points = np.stack(in_pixels(transform, *shapely.get_coordinates(shapes).T), axis=-1)
        placed = shapely.set_coordinates(shapes.copy(), points)
        edges = shapely.bounds(placed)
        inside = np.isfinite(edges).all(axis=1)  # what is not has no place in the CRS of the labels
        inside &= (edges[:, :2] <= (grid.width, grid.height)).all(axis=1) & (edges[:, 2:] >= 0).all(axis=1)
        placed, codes = placed[inside], codes[inside]
        if not len(placed):
            raise NoOverlapError("lies elsewhere")
        box = box_of(shapely.get_coordinates(placed), 1, grid.bounds)
        if box is None:
            raise NoOverlapError("lies elsewhere")
        return LaidShapes(placed, codes, box)


@dataclass(frozen=True)
class LaidShapes:
    """Shapes in pixels of a grid; where some overlap, the last of the layer counts.

    Parameters
    ----------
    shapes, codes
        As of `VectorReference`.
    box
        Around all of them.
    """

    shapes: Shapes
    codes: npt.NDArray[np.int32]
    box: Window

    @cached_property
    def _tree(self) -> Any:
        import shapely

        return shapely.STRtree(self.shapes)

    def read(self, window: Window) -> Classes:
        """The classes of a window: of a polygon around a pixel's centre, or of a point in the pixel."""
        import shapely
        from rasterio.features import rasterize
        from rasterio.transform import Affine

        edges = window.col, window.row, window.col_end, window.row_end
        found = np.sort(self._tree.query(shapely.box(*edges)))
        values = np.full((window.height, window.width), -1, np.int32)
        if len(found):
            shapes = self.shapes[found]
            large = (shapely.get_num_coordinates(shapes) > _LARGE) & shapely.is_valid(shapes)
            around = np.add(edges, (-2, -2, 2, 2))
            shapes = np.where(large, shapely.clip_by_rect(shapes, *around), shapes)
            burnt = [(s, int(c)) for s, c in zip(shapes, self.codes[found], strict=True) if not s.is_empty]
            if burnt:
                rasterize(burnt, out=values, transform=Affine.translation(window.col, window.row))
        return Classes(values.astype(np.int64), values >= 0)


def _reprojected(
    shapes: Shapes, codes: npt.NDArray[np.int32], source: str, grid: Grid
) -> tuple[Shapes, npt.NDArray[np.int32]]:
    """Shapes near a grid in its CRS, with points along their edges, which may be bent there.

    They are cut to the surroundings first: on the other side of the earth the CRS may have no coordinates.
    """
    import shapely
    from rasterio.crs import CRS
    from rasterio.warp import transform

    assert grid.place.crs_wkt is not None
    assert grid.place.transform is not None
    crs = CRS.from_wkt(source), CRS.from_wkt(grid.place.crs_wkt)
    if crs[0] == crs[1]:
        return shapes, codes
    x, y = on_ground(grid.place.transform, *lattice(grid.height, grid.width))
    around = np.stack(transform(crs[1], crs[0], np.ravel(x), np.ravel(y)), axis=-1)
    if np.isfinite(around).all():
        low, high = around.min(axis=0), around.max(axis=0)
        low, high = low - (high - low) / 10, high + (high - low) / 10
        edges = shapely.bounds(shapes)
        near = (edges[:, :2] <= high).all(axis=1) & (edges[:, 2:] >= low).all(axis=1)
        shapes, codes, edges = shapes[near], codes[near], edges[near]
        reach = ((edges[:, :2] < low) | (edges[:, 2:] > high)).any(axis=1) & shapely.is_valid(shapes)
        shapes = np.where(reach, shapely.clip_by_rect(shapes, *low, *high), shapes)
        there = ~shapely.is_empty(shapes)
        shapes, codes = shapes[there], codes[there]
    x0, y0, x1, y1 = shapely.bounds(shapes).T
    longest = np.hypot(x1 - x0, y1 - y0) / _PIECES
    bent = shapely.segmentize(shapes, np.where(longest > 0, longest, 1))
    coordinates = shapely.get_coordinates(bent)
    if len(coordinates):
        coordinates = np.stack(transform(*crs, *coordinates.T), axis=-1)
    return np.asarray(shapely.set_coordinates(bent, coordinates), object), codes


def _class_name(value: Any) -> str | None:
    """A value of an attribute as the name of a class; None where there is none."""
    if value is None:
        return None
    if isinstance(value, float | np.floating):
        if math.isnan(value):
            return None
        return str(int(value)) if float(value).is_integer() else str(value)
    return str(value)


def _in_order(name: str) -> tuple[bool, float, str]:
    """Sorts numbers by their size, before all else."""
    number = name.removeprefix("-").isdecimal()
    return not number, float(name) if number else 0.0, name
