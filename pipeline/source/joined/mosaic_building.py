"""Building a mosaic from headers: each tile's position on one pixel grid, or an error if it has none."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pipeline.errors import UsageError
from pipeline.grid.alignment import Alignment
from pipeline.grid.crs import other_crs, same_crs
from pipeline.grid.georeference import Transform, on_ground
from pipeline.source.bands.fitted import all_names, other_order
from pipeline.source.declared import scales_text
from pipeline.source.joined.mosaic import Mosaic, Numbers, Tiles
from pipeline.source.raster import Raster, SingleRaster

_SIDE_LIMIT = 2**31 - 1
_SPARSE_PIXELS = 10**10
_SPARSE_SHARE = 1e-3


def build(tiles: Iterable[SingleRaster], overlap: str, path: str, *, physical: bool = False) -> Mosaic:
    """The mosaic of some rasters, in order of precedence where they overlap.

    Parameters
    ----------
    tiles
        Headers, read one by one and not kept.
    overlap
        One of `OVERLAPS`.
    path
        Name of the mosaic in messages.
    physical
        Whether what numbers mean by the tiles' scales matters: these have to be the same then.

    Raises
    ------
    UsageError
        At the first tile that is not on the first one's grid, or has other bands or another dtype.
    """
    remaining = iter(tiles)
    first = next(remaining)
    windows, corners, kind_indices, paths = [], [], [], []
    # keyed by repr: a nodata value may be NaN, which is not equal to itself
    kinds: dict[str, SingleRaster] = {}
    index_of_kind: dict[str, int] = {}
    for tile in itertools.chain([first], remaining):
        windows.append((*_position(tile, first), tile.height, tile.width))
        if physical:
            _refuse_other_scales(tile, first)
        transform = tile.georeference.transform
        corners.append((transform[2], transform[5]) if transform else (0.0, 0.0))
        kind = tile.moved("", 1, 1)
        kinds.setdefault(repr(kind), kind)
        kind_indices.append(index_of_kind.setdefault(repr(kind), len(index_of_kind)))
        paths.append(tile.path)
    windows_px = np.array(windows, np.int64)
    transform = _transform(first, windows_px, np.array(corners))
    windows_px[:, :2] -= windows_px[:, :2].min(axis=0)
    height, width = (int(v) for v in (windows_px[:, :2] + windows_px[:, 2:]).max(axis=0))
    _refuse_scattered(height, width, int((windows_px[:, 2] * windows_px[:, 3]).sum()))
    order = np.argsort(windows_px[:, 0], kind="stable")
    rows, cols, heights, widths = windows_px[order].T.copy()
    return Mosaic(
        path=path,
        width=width,
        height=height,
        bands=first.bands,
        band_names=first.band_names,
        dtype=first.dtype,
        # each tile applies its own nodata when it is read
        nodata=(None,) * len(first.bands),
        block_shape=first.block_shape,
        # RPCs are those of one image
        georeference=replace(first.georeference, transform=transform, rpcs=()),
        scales=first.scales,
        tiles=Tiles(
            rows=rows,
            cols=cols,
            heights=heights,
            widths=widths,
            ranks=order,
            kinds=np.array(kind_indices, np.int64)[order],
            paths=tuple(paths[i] for i in order),
        ),
        kinds=tuple(kinds.values()),
        overlap=overlap,
    )


def _position(tile: Raster, first: Raster) -> tuple[int, int]:
    """Row and column of a tile on the grid of the first one.

    Raises
    ------
    UsageError
        If the tile is not on that grid, or has other bands or another dtype.
    """
    transform, grid = tile.georeference.transform, first.georeference.transform
    if transform is None or grid is None:
        raise _misfit(tile, first, "it has no transform that would say where it lies")
    if not same_crs(tile.georeference.crs_wkt, first.georeference.crs_wkt):
        raise _misfit(tile, first, other_crs(tile.georeference.crs_wkt, first.georeference.crs_wkt))
    if len(tile.bands) != len(first.bands):
        raise _misfit(tile, first, f"it has {len(tile.bands)} bands, not {len(first.bands)}")
    if why := other_order(all_names(tile), all_names(first), by_name=False):
        raise UsageError(f"--mosaic: {tile.path} does not fit {first.path}: it {why}")
    if tile.dtype != first.dtype:
        raise _misfit(tile, first, f"its dtype is {tile.dtype}, not {first.dtype}")
    alignment = Alignment.of(transform, (tile.height, tile.width), grid)
    if alignment.ratio((tile.height, tile.width)) != (1, 1):
        sizes = [f"{t[0]:.9g} x {t[4]:.9g}" for t in (transform, grid)]
        raise _misfit(tile, first, f"its pixel size is {sizes[0]}, not {sizes[1]}")
    if alignment.corner is None:
        off = [v - math.floor(v) for v in (alignment.col, alignment.row)]
        raise _misfit(tile, first, f"its grid offset is {off[0]:.2f}, {off[1]:.2f} of a pixel")
    return alignment.corner


def _refuse_other_scales(tile: Raster, first: Raster) -> None:
    if tile.scales != first.scales:
        raise UsageError(
            f"--mosaic: {tile.path} declares {scales_text(tile.scales)}, but {first.path} "
            f"{scales_text(first.scales)}, so that equal numbers are unequal values; make them equal "
            "(gdal_edit -scale -offset), or give --raw-values"
        )


def _misfit(tile: Raster, first: Raster, why: str) -> UsageError:
    return UsageError(
        f"--mosaic: {tile.path} does not fit {first.path}: {why}; leave it out, or warp it to that grid first"
    )


def _transform(first: Raster, windows_px: Numbers, corners: npt.NDArray[np.float64]) -> Transform | None:
    """The transform of the mosaic, bit-identical to that of the tiles at its upper and left edge."""
    if first.georeference.transform is None:
        return None
    a, b, c, d, e, f = first.georeference.transform
    top, left = windows_px[:, :2].min(axis=0)
    if b == d == 0:
        c, f = corners[np.argmin(windows_px[:, 1]), 0], corners[np.argmin(windows_px[:, 0]), 1]
    elif (corner := np.flatnonzero((windows_px[:, 0] == top) & (windows_px[:, 1] == left))).size:
        c, f = corners[corner[0]]
    else:
        c, f = on_ground(first.georeference.transform, left, top)
    return a, b, float(c), d, e, float(f)


def _refuse_scattered(height: int, width: int, covered: int) -> None:
    """Refuse tiles so far apart that their mosaic is nearly empty, or too large for any format."""
    pixels = height * width
    if max(height, width) > _SIDE_LIMIT or (pixels > _SPARSE_PIXELS and covered < pixels * _SPARSE_SHARE):
        raise UsageError(
            f"--mosaic: a raster of {width} x {height} px, of which the tiles cover {covered / pixels:.2%}; "
            "they lie too far apart: make a mosaic of each group, or run them without --mosaic"
        )
