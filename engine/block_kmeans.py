"""The K-Means kernel: means of R x R pixel blocks, of bands or other features, assigned to frozen centres.

Blocks lie on the absolute R grid of the raster, so a block holds the same pixels in every
chunking. Where the raster's edge or nodata cuts a block, the mean of its valid pixels is used. The
old system padded a whole extra block on exact multiples and stretched labels over it, which moved
edges; here a label covers exactly the pixels that it was computed from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine import block_loops
from engine.arrays import F64
from engine.codebook import Codebook, Scaling
from engine.feature_sets.feature_set import FeatureSet
from engine.feature_sets.pixel_features import pixel_features
from engine.grid import CELL_PX, Window, split
from engine.kernel import MAX_RESOLUTION, BandStatistics, Features, Labels, Mask, Patch, Pixels, Select, every

_STRIP_PX = 256  # features of so many rows are in memory at a time
_BANDS = FeatureSet()


@dataclass(frozen=True, slots=True)
class BlockKMeans:
    """K-Means over the means of `resolution` x `resolution` pixel blocks.

    Parameters
    ----------
    resolution
        Side of a block in pixels, 1 to 32.
    feature_set
        Features of the pixels.

    Raises
    ------
    ValueError
        If `resolution` is out of range.
    """

    resolution: int = 4
    feature_set: FeatureSet = _BANDS

    def __post_init__(self) -> None:
        if not 1 <= self.resolution <= MAX_RESOLUTION:
            raise ValueError(f"resolution {self.resolution}; kmeans takes 1 to {MAX_RESOLUTION} px")

    @property
    def halo_px(self) -> int:
        """Most pixels of a block beyond a cell's border, and what the features of these depend on.

        A block has none there where its side divides the cell's.
        """
        return self.feature_set.halo_px + (0 if CELL_PX % self.resolution == 0 else self.resolution - 1)

    @property
    def stride_px(self) -> int:
        """Pixels from one block to the next."""
        return self.resolution

    @property
    def cell_px(self) -> int:
        """Side of a cell."""
        return CELL_PX

    @property
    def window_px(self) -> int:
        """Side of a cell."""
        return CELL_PX

    @property
    def sample_px(self) -> int:
        """Side of a sampled cell: that of a tile in most files, which is decoded as a whole anyway."""
        return CELL_PX

    @property
    def sample_vectors(self) -> int:
        """Approximate number of feature vectors in a fit's sample."""
        return 1 << 16

    @property
    def needs_statistics(self) -> bool:
        """False if features are plain means of bands."""
        return not self.feature_set.is_bands

    @property
    def device(self) -> str:
        """The CPU: nothing here runs elsewhere."""
        return "cpu"

    @property
    def costly(self) -> bool:
        """False: a cell takes milliseconds."""
        return False

    @property
    def bands(self) -> None:
        """Any number of bands; `FeatureSet.why_not` says which features they have."""
        return

    @property
    def identity(self) -> dict[str, Any]:
        """Name and parameters."""
        identity = {"name": "kmeans", "resolution": self.resolution, "cell_px": self.cell_px}
        # only where it is another: codebooks of bands have the hash that they had before there was this
        return identity if self.feature_set.is_bands else {**identity, "feature_set": str(self.feature_set)}

    def features(
        self,
        patch: Patch,
        statistics: BandStatistics | None = None,
        select: Select = every,
    ) -> Features:
        """Means of the blocks whose first pixel within the raster lies in the core.

        They are of raw pixel values, or of other features, which the statistics scale.
        """
        scaling = None if statistics is None else statistics.scaling
        r, core, bounds = self.resolution, patch.core, patch.bounds
        first_row = core.row // r if core.row == bounds.row else -(-core.row // r)
        first_col = core.col // r if core.col == bounds.col else -(-core.col // r)
        if first_row * r >= core.row_end or first_col * r >= core.col_end:
            no_positions = np.empty(0, np.int64)
            dims = len(self.feature_set.names([""] * len(patch.pixels)))
            return Features(np.empty((0, dims)), no_positions, no_positions)
        if r == 1:
            values, seen = self._values(patch, core, scaling), patch.valid[core.slices(patch.outer)]
        else:
            values, seen = self._means(patch, first_row, first_col, scaling)
        rows, cols = select(seen, first_row, first_col)
        vectors = values[:, rows - first_row, cols - first_col]
        return Features(vectors.T.astype(np.float64), rows, cols)

    def labels(self, patch: Patch, codebook: Codebook) -> Labels:
        """Labels of the core: each valid pixel gets its block's nearest centre."""
        core = patch.core
        if self.feature_set.is_bands:
            return self._labels(patch, codebook, None, codebook.scaling)
        labels = np.empty((core.height, core.width), np.uint8)
        row, side = core.row, max(1, _STRIP_PX // self.resolution) * self.resolution
        for height in split(core.row, core.height, side):
            strip = Window(row, core.col, height, core.width)
            labels[strip.slices(core)] = self._labels(
                replace(patch, core=strip), codebook, codebook.scaling, None
            )
            row += height
        return labels

    def _labels(
        self, patch: Patch, codebook: Codebook, of_pixels: Scaling | None, of_features: Scaling | None
    ) -> Labels:
        """Labels of the core, with the scaling of pixels before, or of features after, these are computed."""
        r, core = self.resolution, patch.core
        valid = patch.valid[core.slices(patch.outer)]
        if r == 1:
            values = self._values(patch, core, of_pixels)
            return block_loops.nearest(values, codebook.centres, valid, of_features)
        first_row, first_col = core.row // r, core.col // r
        means, seen = self._means(patch, first_row, first_col, of_pixels)
        block_labels = block_loops.nearest(means, codebook.centres, seen, of_features)
        return block_loops.spread(block_labels, valid, core.row - first_row * r, core.col - first_col * r, r)

    def _values(self, patch: Patch, window: Window, scaling: Scaling | None) -> Pixels:
        """Bands, or other features, of the pixels of a window."""
        if self.feature_set.is_bands:
            return patch.pixels[:, *window.slices(patch.outer)]
        around = window.grow(self.feature_set.halo_px, patch.outer)
        inside = around.slices(patch.outer)
        limits = None if scaling is None else (scaling.low, scaling.gain)
        return pixel_features(
            self.feature_set, patch.pixels[:, *inside], patch.valid[inside], window.slices(around), limits
        )

    def _means(
        self, patch: Patch, first_row: int, first_col: int, scaling: Scaling | None
    ) -> tuple[F64, Mask]:
        """Means of the blocks from a first one to the core's last, over the pixels in the patch."""
        r, core, outer = self.resolution, patch.core, patch.outer
        row, col = max(first_row * r, outer.row), max(first_col * r, outer.col)
        row_end = min(-(-core.row_end // r) * r, outer.row_end)
        col_end = min(-(-core.col_end // r) * r, outer.col_end)
        window = Window(row, col, row_end - row, col_end - col)
        values, valid = self._values(patch, window, scaling), patch.valid[window.slices(outer)]
        return block_loops.block_means(values, valid, row - first_row * r, col - first_col * r, r)
