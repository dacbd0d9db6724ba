"""The CNN kernel: dense features of a network, assigned to frozen centres.

Each cell is evaluated on an input of one fixed shape (cell and halo; reflected at the raster's edge), so
its features are the same bits in every chunking. Our own loops go by tiles of two strides whose bits
depend on nothing beyond them: with these, windows of any shape that begin and end with a tile are
evaluated, so that less is computed twice, and nothing far beyond the raster.

Features are placed by the centre of their receptive field; nothing is stretched over a cell, rotated or
padded with zeros, as the old system did. Between features, squared distances are interpolated bilinearly:
they differ from the distances of interpolated features by a term that all centres share, at a fraction of
the cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from engine import blocks
from engine.codebook import Codebook
from engine.errors import NetworkError
from engine.grid import CELL_PX, Window, tiles
from engine.kernel import BandStatistics, Features, Labels, Patch, Select, every
from engine.networks import simd
from engine.networks.geometry import Geometry
from engine.networks.loading import network
from engine.networks.network import STRAIGHT, TORCHSCRIPT
from engine.networks.surroundings import image

F32 = npt.NDArray[np.float32]
UPSAMPLING = ("nearest", "bilinear")
_SAMPLE_PX = 128
_MOST_PX = 4 * CELL_PX
_HALOS = 128  # a halo of this part of a block's side adds a thirty-second to it
_APART_BYTES = 8 << 20  # of distances that are held at once, where a cell's do not take more


@dataclass(frozen=True, slots=True)
class CnnKernel:
    """K-Means over the dense features of a network.

    Parameters
    ----------
    model
        TorchScript file, or the name of a built-in network.
    digest
        SHA-256 of the model.
    geometry
        How its features lie on the image.
    upsample
        "nearest" (each block of a stride gets its feature's label) or "bilinear".
    device
        Torch device that features are computed on.
    form
        How they are computed where that is a CPU.
    """

    model: str
    digest: str
    geometry: Geometry
    upsample: str = "bilinear"
    device: str = "cpu"
    form: str = TORCHSCRIPT

    @property
    def halo_px(self) -> int:
        """From the receptive field, and a ring of features more where distances are interpolated."""
        return self.geometry.halo_px(self._ring)

    @property
    def stride_px(self) -> int:
        """Pixels from one feature to the next."""
        return self.geometry.stride_px

    @property
    def cell_px(self) -> int:
        """Side of a cell: larger for long strides, whose halo would else cost more than the cell's tenth."""
        return CELL_PX if self.halo_px < CELL_PX // 20 else 2 * CELL_PX

    @property
    def block_px(self) -> int:
        """Larger than a cell where a halo would cost much and the form takes any shape."""
        side = self.cell_px
        while self._any_shape and side < _MOST_PX and side < _HALOS * self.halo_px:
            side *= 2
        return side

    @property
    def sample_px(self) -> int:
        """Side of a sampled cell: small ones, so that many places are seen at the cost of a few cells."""
        return -(-_SAMPLE_PX // self.stride_px) * self.stride_px

    @property
    def sample_vectors(self) -> int:
        """Feature vectors that a fit takes, about."""
        return 1 << 14

    @property
    def needs_statistics(self) -> bool:
        """True: invalid pixels are shown as the band's mean, wide dtypes scaled."""
        return True

    @property
    def costly(self) -> bool:
        """True: a cell takes a second."""
        return True

    @property
    def bands(self) -> int:
        """Bands that the network takes."""
        return self.geometry.channels

    @property
    def identity(self) -> dict[str, Any]:
        """Name, model and parameters; no path, no device; the form where it is another than the first one."""
        return {
            "name": "cnn",
            "model_sha256": self.digest,
            "channels": self.geometry.channels,
            "features": self.geometry.features,
            "stride_px": self.geometry.stride_px,
            "field_px": self.geometry.field_px,
            "offset_px": self.geometry.offset_px,
            "upsample": self.upsample,
            "cell_px": self.cell_px,
            **({} if self.form == TORCHSCRIPT else {"form": self.form}),
        }

    @property
    def _any_shape(self) -> bool:
        """Whether features are the same in windows of any shape; else only in cells of one shape."""
        return self.form == STRAIGHT and self.device == "cpu"

    @property
    def _grid_px(self) -> int:
        """Side of the squares of which none is evaluated without a valid pixel."""
        return CELL_PX if self._any_shape else self.cell_px

    @property
    def _ring(self) -> int:
        return 1 if self.upsample == "bilinear" else 0

    def features(
        self, patch: Patch, statistics: BandStatistics | None = None, select: Select = every
    ) -> Features:
        """Features of the core's blocks of which at least half of the pixels are valid."""
        if statistics is None:
            raise ValueError("the CNN kernel needs the bands' statistics")
        core, stride = patch.core, self.stride_px
        first_row, first_col = -(-core.row // stride), -(-core.col // stride)
        side = self.sample_px if max(core.height, core.width) <= self.sample_px else self.cell_px
        # the whole cell, although the raster may begin within it: pixels reach no further than the cell
        row, col = core.row // side * side, core.col // side * side
        found = self._evaluate(patch, Window(row, col, side, side), side, statistics)
        if not np.isfinite(found).all():
            raise self._unusable()
        ring = self._ring
        top, left = (core.row - row) // stride + ring, (core.col - col) // stride + ring
        found = found[top : found.shape[0] - ring, left : found.shape[1] - ring]
        valid, inside = (
            blocks.block_means(
                m[None], np.ones(m.shape, bool), patch.outer.row % stride, patch.outer.col % stride, stride
            )
            for m in (patch.valid.astype(np.uint8), np.ones(patch.valid.shape, np.uint8))
        )
        return _kept(found, valid[0][0] >= 0.5 * inside[0][0], patch, stride, (first_row, first_col), select)

    def labels(self, patch: Patch, codebook: Codebook) -> Labels:
        """Labels of the core: of all of it at once where the form allows, else cell by cell."""
        statistics = BandStatistics(codebook.band_mean, codebook.scaling)
        core = patch.core
        rows, cols = core.slices(patch.outer)
        valid = patch.valid[rows, cols]
        out = np.full((core.height, core.width), 255, np.uint8)
        for window, part in self._windows(core, valid, len(codebook.centres)):
            inside = part.slices(core)
            apart = self._apart(patch, window, statistics, codebook.centres)
            if not np.isfinite(apart).all():  # of features that are no numbers no label can be made
                raise self._unusable()
            place = part.row - window.row, part.col - window.col
            if self.upsample == "bilinear":
                near = _interpolated(apart, self.stride_px, *place, part.height, part.width)
            else:
                few = apart.argmin(axis=0).astype(np.uint8)
                near = blocks.spread(few, valid[inside], *place, self.stride_px)
            out[inside] = np.where(valid[inside], near, np.uint8(255))
        return out

    def _window_px(self, segments: int) -> int:
        """Side of the windows whose distances to all centres are held at once."""
        side = self.block_px
        while side > self.cell_px and segments * (side // self.stride_px) ** 2 * 4 > _APART_BYTES:
            side //= 2
        return side

    def _windows(
        self, core: Window, valid: npt.NDArray[np.bool_], segments: int
    ) -> Iterator[tuple[Window, Window]]:
        """Windows to evaluate, each with the part of the core that it is for; none without pixels."""
        parts = [*tiles(core, self._grid_px)]
        there = [part for part in parts if valid[part.slices(core)].any()]
        if self._any_shape and len(there) == len(parts):
            there = [*tiles(core, self._window_px(segments))]
        step = 2 * self.stride_px if self._any_shape else self._grid_px
        for part in there:
            yield part.aligned(step), part

    def _apart(self, patch: Patch, window: Window, statistics: BandStatistics, centres: F32) -> F32:
        """Squared distances (K, h, w) of a window's features, and of a ring around them, to centres."""
        if not self._any_shape:
            return _distances(self._evaluate(patch, window, self._grid_px, statistics), centres)
        halo, ring = self.halo_px, 2 * self._ring
        top, left = window.row - halo, window.col - halo
        height, width = window.height + 2 * halo, window.width + 2 * halo

        def rows(row: int, end: int) -> F32:
            return image(patch, Window(top + row, left, end - row, width), self.cell_px, halo, statistics)

        line = network(self.model, self.digest, self.device).straight
        count = window.height // self.stride_px + ring, window.width // self.stride_px + ring
        apart, row = np.empty((len(centres), *count), np.float32), 0
        for found in line.bands(rows, height, width):
            apart[:, row : row + len(found)] = _distances(found, centres)
            row += len(found)
        return apart

    def _evaluate(self, patch: Patch, cell: Window, side: int, statistics: BandStatistics) -> F32:
        """Features (n, n, D) of a cell's blocks, and the ring around them where there is one.

        `side` is that of the cells at whose edges the raster is reflected.
        """
        halo = self.halo_px
        there = Window(cell.row - halo, cell.col - halo, cell.height + 2 * halo, cell.width + 2 * halo)
        shown = image(patch, there, side, halo, statistics)
        found = network(self.model, self.digest, self.device).features(shown, self.form)
        skip, count = self.geometry.pad, cell.height // self.stride_px + 2 * self._ring
        found = found[:, skip : skip + count, skip : skip + count]
        if found.shape[1:] != (count, count):  # compiled loops trust the shape
            raise self._unusable()
        return np.ascontiguousarray(np.moveaxis(found, 0, -1))

    def _unusable(self) -> NetworkError:
        return NetworkError(
            f"{self.model}: does not give a finite feature for each block of a cell; use another network"
        )


def _kept(
    found: F32,
    keep: npt.NDArray[np.bool_],
    patch: Patch,
    stride: int,
    first: tuple[int, int],
    select: Select,
) -> Features:
    """The features of blocks that begin in the core and are kept, with their place on the feature grid.

    `keep` is on the grid of blocks that the patch's outer window touches.
    """
    core = patch.core
    from_row, from_col = patch.outer.row // stride, patch.outer.col // stride
    row_end, col_end = -(-core.row_end // stride), -(-core.col_end // stride)
    here = keep[first[0] - from_row : row_end - from_row, first[1] - from_col : col_end - from_col]
    row, col = select(here, *first)
    from_row, from_col = core.row // stride, core.col // stride
    return Features(found[row - from_row, col - from_col], row, col)


def _distances(features: F32, centres: F32) -> F32:
    """Squared distances (K, h, w) in float32 of features (h, w, D) to centres (K, D)."""
    height, width, dims = features.shape
    count, panels = height * width, -(-len(centres) // simd.LANES)
    wide = np.zeros((panels * simd.LANES, dims), np.float32)
    wide[: len(centres)] = centres
    parted = np.ascontiguousarray(wide.reshape(panels, simd.LANES, dims).transpose(0, 2, 1))
    out = np.empty((count, panels * simd.LANES), np.float32)
    simd.distances(features.reshape(-1), count, dims, parted.reshape(-1), panels, out.reshape(-1))
    return np.ascontiguousarray(out[:, : len(centres)].T).reshape(-1, height, width)


@numba.njit(nogil=True, cache=True)
def _interpolated(distances: Any, stride: int, row: int, col: int, height: int, width: int) -> Any:
    """Label of the smallest interpolated distance at each pixel centre, shape (height, width).

    `distances` has a ring of one feature around the cell; `row` and `col` are the offset of the
    wanted pixels in the cell.
    """
    k = distances.shape[0]
    out = np.empty((height, width), np.uint8)
    best = np.empty(width, np.float32)
    left = np.empty(width, np.int64)
    weight = np.empty(width, np.float32)
    for x in range(width):
        place = (np.float32(col + x) + np.float32(0.5)) / np.float32(stride) + np.float32(0.5)
        left[x] = np.int64(place)
        weight[x] = place - np.float32(left[x])
    line = np.empty(distances.shape[2], np.float32)
    for y in range(height):
        place = (np.float32(row + y) + np.float32(0.5)) / np.float32(stride) + np.float32(0.5)
        top = np.int64(place)
        down = place - np.float32(top)
        for c in range(k):
            for j in range(line.size):
                line[j] = distances[c, top, j] * (np.float32(1) - down) + distances[c, top + 1, j] * down
            for x in range(width):
                d = line[left[x]] * (np.float32(1) - weight[x]) + line[left[x] + 1] * weight[x]
                if c == 0 or d < best[x]:
                    best[x] = d
                    out[y, x] = c
    return out
