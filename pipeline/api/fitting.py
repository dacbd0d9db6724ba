"""`pipeline.fit`: one codebook from arrays or paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.codebook import Codebook
from pipeline.errors import UsageError
from pipeline.fitting import sampling
from pipeline.fitting.codebook import Scale, fit_codebook
from pipeline.kernels import kernel_from_options
from pipeline.workers.pool import Workers, open_pool

if TYPE_CHECKING:
    import xarray as xr


def fit(
    rasters: Sequence[xr.DataArray | str | Path] | xr.DataArray | str | Path,
    *,
    segments: int = 8,
    resolution: int = 4,
    seed: int = 0,
    method: str = "kmeans",
    fit: str = "sample",
    scale: Scale = None,
    model: str | None = None,
    upsample: str = "bilinear",
    device: str = "auto",
) -> Codebook:
    """Fit one codebook on some rasters.

    Parameters
    ----------
    rasters
        Arrays from `open_raster` (or slices), or paths. Equal band counts and dtypes.
    segments
        K, 2 to 254; fewer are found where there are fewer distinct values.
    resolution
        kmeans: side of a block in pixels, 1 to 32. cnn: stride of the built-in filters, 4, 8 or 16.
    seed
        Seeds the sample and the starts.
    method
        "kmeans" or "cnn".
    fit
        "sample", or "exact" (every pixel of 1 to 3 bands of uint8).
    scale
        None: uint8 as it is, wider dtypes by robust limits of the sample. "none": as it is.
        (low, high), once or for each band: these become 0 and 255.
    model, upsample, device
        For "cnn": TorchScript file (default: built-in filters of stride `resolution`), "nearest" or
        "bilinear" between features, and the torch device.

    Returns
    -------
    Codebook
        Its `fit` says what was seen.

    Raises
    ------
    RasterError
        If a raster cannot be read, or none has a valid pixel.
    UsageError
        If rasters differ in bands or dtype, or an option is out of range.
    """
    from pipeline.api.arrays import ArrayPixels
    from pipeline.source.opening import open_segmentable
    from pipeline.source.view import View

    several: Sequence[Any] = (
        [rasters] if isinstance(rasters, (str, Path)) or hasattr(rasters, "coords") else rasters
    )
    pixels: list[sampling.Pixels] = [
        View.whole(open_segmentable(r)) if isinstance(r, (str, Path)) else ArrayPixels(r) for r in several
    ]
    if not pixels:
        raise UsageError("no raster to fit a codebook on")
    kernel = kernel_from_options(method, resolution, model=model, upsample=upsample, device=device)
    with open_pool(Workers("threads", 1)) as pool:
        return fit_codebook(pixels, kernel, segments, seed=seed, method=fit, scale=scale, pool=pool)
