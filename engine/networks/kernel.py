"""The CNN kernel: dense features of a network, assigned to frozen centres.

TorchScript evaluates each cell on an input of one fixed shape (cell and halo, reflected at the raster's
edge), so its features are bit-identical in every chunking. Our own loops (`engine.networks.straight`)
compute squares of two strides that do not depend on the shape of the input. With these, windows of any
shape that begin and end at multiples of two strides are evaluated: less is computed twice, and nothing
far beyond the raster.

Each feature is placed at the centre of its receptive field. (The old system stretched features over a cell,
rotated them and padded with zeros.) Between features, squared distances are interpolated bilinearly: they
differ from the distances of interpolated features by a term that is equal for all centres, at a fraction
of the cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine import block_loops
from engine.arrays import F32
from engine.codebook import Codebook
from engine.errors import NetworkError
from engine.grid import CELL_PX, Window, tiles
from engine.kernel import BandStatistics, Features, Labels, Patch, Select, every
from engine.networks.cache import network
from engine.networks.distances import nearest_interpolated, squared_distances
from engine.networks.geometry import Geometry
from engine.networks.network import STRAIGHT, TORCHSCRIPT
from engine.networks.surroundings import image

UPSAMPLING = ("nearest", "bilinear")
_SAMPLE_PX = 128
_MOST_PX = 4 * CELL_PX
_SIDE_HALOS = 128  # with a side of this many halos, the halo adds a thirty-second to the pixels
_DISTANCES_BYTES = 8 << 20  # of distances held at once, unless those of one cell take more


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
        Positions of its features on the image.
    upsample
        "nearest" (each block of a stride gets its feature's label) or "bilinear".
    device
        Torch device that features are computed on.
    form
        How they are computed on a CPU: `TORCHSCRIPT` or `STRAIGHT`.
    """

    model: str
    digest: str
    geometry: Geometry
    upsample: str = "bilinear"
    device: str = "cpu"
    form: str = TORCHSCRIPT

    @property
    def halo_px(self) -> int:
        """From the receptive field, plus one ring of features where distances are interpolated."""
        return self.geometry.halo_px(self._ring)

    @property
    def stride_px(self) -> int:
        """Pixels from one feature to the next."""
        return self.geometry.stride_px

    @property
    def cell_px(self) -> int:
        """Side of a cell: doubled where the halo would otherwise cost more than a tenth of the cell."""
        return CELL_PX if self.halo_px < CELL_PX // 20 else 2 * CELL_PX

    @property
    def window_px(self) -> int:
        """Larger than a cell where a halo would be costly and the form takes any shape."""
        side = self.cell_px
        while self._any_shape and side < _MOST_PX and side < _SIDE_HALOS * self.halo_px:
            side *= 2
        return side

    @property
    def sample_px(self) -> int:
        """Side of a sampled cell: small, so that many places are sampled at the cost of a few cells."""
        return -(-_SAMPLE_PX // self.stride_px) * self.stride_px

    @property
    def sample_vectors(self) -> int:
        """Approximate number of feature vectors in a fit's sample."""
        return 1 << 14

    @property
    def needs_statistics(self) -> bool:
        """True: invalid pixels become the band's mean, wide dtypes are scaled."""
        return True

    @property
    def costly(self) -> bool:
        """True: a cell takes a second."""
        return True

    @property
    def bands(self) -> int:
        """Number of bands that the network takes."""
        return self.geometry.channels

    @property
    def identity(self) -> dict[str, Any]:
        """Name, model and parameters; no path, no device; the form only if it is not `TORCHSCRIPT`."""
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
        """True if features are the same in windows of any shape; else only in cells of one shape."""
        return self.form == STRAIGHT and self.device == "cpu"

    @property
    def _grid_px(self) -> int:
        """Side of the squares that are skipped if they hold no valid pixel."""
        return CELL_PX if self._any_shape else self.cell_px

    @property
    def _ring(self) -> int:
        return 1 if self.upsample == "bilinear" else 0

    def features(
        self, patch: Patch, statistics: BandStatistics | None = None, select: Select = every
    ) -> Features:
        """Features of the core's blocks in which at least half of the pixels are valid."""
        if statistics is None:
            raise ValueError("the CNN kernel needs the bands' statistics")
        core, stride = patch.core, self.stride_px
        first_row, first_col = -(-core.row // stride), -(-core.col // stride)
        side = self.sample_px if max(core.height, core.width) <= self.sample_px else self.cell_px
        # the whole cell, even if the raster begins within it: reflections reach no further than the cell
        row, col = core.row // side * side, core.col // side * side
        features = self._evaluate(patch, Window(row, col, side, side), side, statistics)
        if not np.isfinite(features).all():
            raise self._unusable()
        ring = self._ring
        top, left = (core.row - row) // stride + ring, (core.col - col) // stride + ring
        features = features[top : features.shape[0] - ring, left : features.shape[1] - ring]
        valid, inside = (
            block_loops.block_means(
                mask[None],
                np.ones(mask.shape, bool),
                patch.outer.row % stride,
                patch.outer.col % stride,
                stride,
            )
            for mask in (patch.valid.astype(np.uint8), np.ones(patch.valid.shape, np.uint8))
        )
        return _selected(
            features, valid[0][0] >= 0.5 * inside[0][0], patch, stride, (first_row, first_col), select
        )

    def labels(self, patch: Patch, codebook: Codebook) -> Labels:
        """Labels of the core: in large windows where the form allows it, else cell by cell."""
        statistics = BandStatistics(codebook.band_mean, codebook.scaling)
        core = patch.core
        rows, cols = core.slices(patch.outer)
        valid = patch.valid[rows, cols]
        out = np.full((core.height, core.width), 255, np.uint8)
        for window, target in self._windows(core, valid, len(codebook.centres)):
            inside = target.slices(core)
            distances = self._squared_distances(patch, window, statistics, codebook.centres)
            if not np.isfinite(distances).all():  # features that are not finite have no label
                raise self._unusable()
            offset = target.row - window.row, target.col - window.col
            if self.upsample == "bilinear":
                nearest = nearest_interpolated(
                    distances, self.stride_px, *offset, target.height, target.width
                )
            else:
                block_labels = distances.argmin(axis=0).astype(np.uint8)
                nearest = block_loops.spread(block_labels, valid[inside], *offset, self.stride_px)
            out[inside] = np.where(valid[inside], nearest, np.uint8(255))
        return out

    def _held_px(self, segments: int) -> int:
        """Side of the windows whose distances to all centres are held at once."""
        side = self.window_px
        while side > self.cell_px and segments * (side // self.stride_px) ** 2 * 4 > _DISTANCES_BYTES:
            side //= 2
        return side

    def _windows(
        self, core: Window, valid: npt.NDArray[np.bool_], segments: int
    ) -> Iterator[tuple[Window, Window]]:
        """Windows to evaluate, each with the window of the core that it is for; none without valid pixels."""
        squares = [*tiles(core, self._grid_px)]
        targets = [target for target in squares if valid[target.slices(core)].any()]
        if self._any_shape and len(targets) == len(squares):
            targets = [*tiles(core, self._held_px(segments))]
        step = 2 * self.stride_px if self._any_shape else self._grid_px
        for target in targets:
            yield target.aligned(step), target

    def _squared_distances(
        self, patch: Patch, window: Window, statistics: BandStatistics, centres: F32
    ) -> F32:
        """Squared distances (K, h, w) to the centres of a window's features and the ring around them."""
        if not self._any_shape:
            return squared_distances(self._evaluate(patch, window, self._grid_px, statistics), centres)
        halo, ring = self.halo_px, 2 * self._ring
        top, left = window.row - halo, window.col - halo
        height, width = window.height + 2 * halo, window.width + 2 * halo

        def rows(row: int, end: int) -> F32:
            return image(patch, Window(top + row, left, end - row, width), self.cell_px, halo, statistics)

        line = network(self.model, self.digest, self.device).straight
        count = window.height // self.stride_px + ring, window.width // self.stride_px + ring
        distances, row = np.empty((len(centres), *count), np.float32), 0
        for features in line.strips(rows, height, width):
            distances[:, row : row + len(features)] = squared_distances(features, centres)
            row += len(features)
        return distances

    def _evaluate(self, patch: Patch, cell: Window, side: int, statistics: BandStatistics) -> F32:
        """Features (n, n, D) of a cell's blocks and the ring around them, if there is one.

        `side` is the side of the cells within which the raster is reflected at its edge.
        """
        halo = self.halo_px
        outer = Window(cell.row - halo, cell.col - halo, cell.height + 2 * halo, cell.width + 2 * halo)
        input_image = image(patch, outer, side, halo, statistics)
        features = network(self.model, self.digest, self.device).features(input_image, self.form)
        skip, count = self.geometry.pad, cell.height // self.stride_px + 2 * self._ring
        features = features[:, skip : skip + count, skip : skip + count]
        if features.shape[1:] != (count, count):  # the compiled loops do not check it
            raise self._unusable()
        return np.ascontiguousarray(np.moveaxis(features, 0, -1))

    def _unusable(self) -> NetworkError:
        return NetworkError(
            f"{self.model}: does not give a finite feature for each block of a cell; use another network"
        )


def _selected(
    features: F32,
    keep: npt.NDArray[np.bool_],
    patch: Patch,
    stride: int,
    first: tuple[int, int],
    select: Select,
) -> Features:
    """The selected features of kept blocks that begin in the core, with their grid positions.

    `features` (rows, cols, D) begin at the core's first block; `keep` at the first block that the
    patch's outer window touches; `first` is the first block that begins in the core.
    """
    core = patch.core
    from_row, from_col = patch.outer.row // stride, patch.outer.col // stride
    row_end, col_end = -(-core.row_end // stride), -(-core.col_end // stride)
    kept_in_core = keep[first[0] - from_row : row_end - from_row, first[1] - from_col : col_end - from_col]
    rows, cols = select(kept_in_core, *first)
    from_row, from_col = core.row // stride, core.col // stride
    return Features(features[rows - from_row, cols - from_col], rows, cols)
