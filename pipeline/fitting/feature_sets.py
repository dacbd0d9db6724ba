"""Features of pixels that K-Means clusters: which rasters have them, and what they are scaled by."""

from __future__ import annotations

from collections.abc import Sequence

from engine.block_kmeans import BlockKMeans
from engine.kernel import ClusteringKernel, Kernel
from pipeline.errors import RasterError
from pipeline.fitting.sampling import Pixels


def of_statistics(kernel: ClusteringKernel) -> BlockKMeans:
    """What samples the pixels for the statistics of bands that a kernel's features are made with.

    For features of pixels that are the blocks that are clustered, as where bands are; for a network pixels.
    """
    return BlockKMeans(kernel.resolution if isinstance(kernel, BlockKMeans) else 1)


def refuse_without_features(kernel: Kernel, rasters: Sequence[Pixels], scale: object) -> None:
    """Refuse a raster whose pixels have no such features as a kernel clusters.

    Parameters
    ----------
    kernel
        Of any kind.
    rasters
        To fit on.
    scale
        As of `pipeline.fit`: limits, "none", or None for those of the sample.

    Raises
    ------
    RasterError
        For the first one.
    """
    if not isinstance(kernel, BlockKMeans) or kernel.feature_set.is_bands:
        return
    features = kernel.feature_set
    for raster in rasters:
        scaled = isinstance(scale, tuple) or (scale is None and raster.dtype != "uint8")
        why = features.why_not(len(raster.bands), raster.dtype, scaled=scaled)
        if not why and features.lab and raster.rgb != (0, 1, 2):
            why = f"{features} is of red, green and blue, and these bands are others, or in another order"
        if why:
            raise RasterError(
                raster.path,
                f"--features {why}; choose other --bands or --scale, or --features "
                + ("texture" if features.lab else "bands"),
            )
