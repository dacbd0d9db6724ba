"""The K-Means kernel: means of R x R pixel blocks, assigned to frozen centres.

Blocks lie on the absolute R grid of the raster, so a block holds the same pixels in every
chunking. Where the raster's edge or nodata cuts a block, the mean of its valid pixels is used. The
old system padded a whole extra block on exact multiples and stretched labels over it, which moved
edges; here a label covers exactly the pixels that it was computed from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from engine import block_loops
from engine.arrays import F64
from engine.codebook import Codebook
from engine.grid import CELL_PX, Window
from engine.kernel import MAX_RESOLUTION, BandStatistics, Features, Labels, Mask, Patch, Select, every


@dataclass(frozen=True, slots=True)
class BlockKMeans:
    """K-Means over the means of `resolution` x `resolution` pixel blocks.

    Parameters
    ----------
    resolution
        Side of a block in pixels, 1 to 32.

    Raises
    ------
    ValueError
        If `resolution` is out of range.
    """

    resolution: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.resolution <= MAX_RESOLUTION:
            raise ValueError(f"resolution {self.resolution}; kmeans takes 1 to {MAX_RESOLUTION} px")

    @property
    def halo_px(self) -> int:
        """Most pixels of a block beyond a cell's border: 0 where the block side divides the cell's."""
        return 0 if CELL_PX % self.resolution == 0 else self.resolution - 1

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
        """False: features are plain means."""
        return False

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
        """Any number of bands."""
        return

    @property
    def identity(self) -> dict[str, Any]:
        """Name and parameters."""
        return {"name": "kmeans", "resolution": self.resolution, "cell_px": self.cell_px}

    def features(
        self,
        patch: Patch,
        statistics: BandStatistics | None = None,  # noqa: ARG002  (means need none)
        select: Select = every,
    ) -> Features:
        """Means, in raw pixel values, of the blocks whose first pixel within the raster lies in the core."""
        r, core, bounds = self.resolution, patch.core, patch.bounds
        first_row = core.row // r if core.row == bounds.row else -(-core.row // r)
        first_col = core.col // r if core.col == bounds.col else -(-core.col // r)
        if first_row * r >= core.row_end or first_col * r >= core.col_end:
            no_positions = np.empty(0, np.int64)
            return Features(np.empty((0, len(patch.pixels))), no_positions, no_positions)
        if r == 1:
            inside = core.slices(patch.outer)
            values, seen = patch.pixels[:, *inside], patch.valid[inside]
        else:
            values, seen = self._means(patch, first_row, first_col)
        rows, cols = select(seen, first_row, first_col)
        vectors = values[:, rows - first_row, cols - first_col]
        return Features(vectors.T.astype(np.float64), rows, cols)

    def labels(self, patch: Patch, codebook: Codebook) -> Labels:
        """Labels of the core: each valid pixel gets its block's nearest centre."""
        r, core = self.resolution, patch.core
        rows, cols = core.slices(patch.outer)
        valid = patch.valid[rows, cols]
        if r == 1:
            return block_loops.nearest(patch.pixels[:, rows, cols], codebook.centres, valid, codebook.scaling)
        first_row, first_col = core.row // r, core.col // r
        means, seen = self._means(patch, first_row, first_col)
        block_labels = block_loops.nearest(means, codebook.centres, seen, codebook.scaling)
        return block_loops.spread(block_labels, valid, core.row - first_row * r, core.col - first_col * r, r)

    def _means(self, patch: Patch, first_row: int, first_col: int) -> tuple[F64, Mask]:
        """Means of the blocks from a first one to the core's last, over the pixels in the patch."""
        r, core, outer = self.resolution, patch.core, patch.outer
        row, col = max(first_row * r, outer.row), max(first_col * r, outer.col)
        row_end = min(-(-core.row_end // r) * r, outer.row_end)
        col_end = min(-(-core.col_end // r) * r, outer.col_end)
        rows, cols = Window(row, col, row_end - row, col_end - col).slices(outer)
        return block_loops.block_means(
            patch.pixels[:, rows, cols], patch.valid[rows, cols], row - first_row * r, col - first_col * r, r
        )
