"""`pipeline.fit`: one codebook from arrays or paths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.codebook import Codebook
from pipeline.errors import UsageError
from pipeline.events.observer import Advance, ignore_progress
from pipeline.fitting import sampling
from pipeline.fitting.codebook import Scale, fit_codebook
from pipeline.kernels import kernel_from_options
from pipeline.legend.palette import Palette
from pipeline.source.naming.paths import expanded
from pipeline.workers.pool import Workers, open_pool

if TYPE_CHECKING:
    import dask.array as da
    import numpy as np
    import numpy.typing as npt
    import xarray as xr

    from pipeline.api.imagery import Nodata

    Raster = xr.DataArray | xr.Dataset | da.Array | npt.NDArray[np.generic] | str | Path


def fit(
    rasters: Raster | Sequence[Raster],
    *,
    segments: int = 8,
    resolution: int = 4,
    features: str = "bands",
    seed: int = 0,
    method: str = "kmeans",
    fit: str = "sample",
    scale: Scale = None,
    model: str | None = None,
    upsample: str = "bilinear",
    device: str = "auto",
    nodata: Nodata = None,
    valid: Any = None,
    palette: str | Path | None = None,
    progress: Advance = ignore_progress,
) -> Codebook:
    """Fit one codebook on some rasters.

    Parameters
    ----------
    rasters
        Arrays as `segment` takes them, or paths; one or several. Equal band counts and dtypes.
    segments
        K, 2 to 254; fewer are found where there are fewer distinct values.
    resolution
        kmeans: side of a block in pixels, 1 to 32. cnn: stride of the built-in filters, 4, 8 or 16.
    features
        kmeans: what of pixels is clustered. "bands", "lab" (perceptual colour, of red, green and blue
        bytes), "texture" (of each band the mean in a window, and the deviation there) or "lab+texture"; see
        `engine.feature_sets.feature_set.FeatureSet`.
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
    nodata, valid
        Of arrays, as of `segment`; a mask is that of a single array.
    palette
        Colours of the classes: "natural" (their mean colours), "distinct", or a file of them (.csv, .qml or
        a colour table; it may have names too). Default: natural where bands are red, green and blue, which
        their names or colours say, or the first of three or four bands of bytes; else distinct.
    progress
        Called as ``progress(done, total)`` with the number of cells that are read.

    Returns
    -------
    Codebook
        Its `fit` says what was seen.

    Raises
    ------
    RasterError
        If a raster cannot be read or has no such features, or none has a valid pixel (all are nodata or
        NaN).
    UsageError
        If rasters differ in bands or dtype, or an option is out of range.
    """
    model = None if model is None else expanded(model)
    kernel = kernel_from_options(
        method, resolution, features=features, model=model, upsample=upsample, device=device
    )
    colours = Palette.of(None if palette is None else expanded(str(palette)), segments)
    pixels = _pixels(rasters, nodata, valid)
    with open_pool(Workers("threads", 1)) as pool:
        return fit_codebook(
            pixels,
            kernel,
            segments,
            seed=seed,
            method=fit,
            scale=scale,
            pool=pool,
            advance=progress,
            palette=colours,
        )


def _pixels(rasters: Raster | Sequence[Raster], nodata: Nodata, valid: Any) -> list[sampling.Pixels]:
    """What a fit samples: files and arrays."""
    from pipeline.api.arrays import ArrayPixels
    from pipeline.source.opening import open_segmentable
    from pipeline.source.view import View

    several: list[Any] = list(rasters) if isinstance(rasters, (list, tuple)) else [rasters]
    if not several:
        raise UsageError("no raster to fit a codebook on")
    files = [str(r) for r in several if isinstance(r, (str, Path))]
    if files and (nodata is not None or valid is not None):
        raise UsageError(f"nodata= and valid= are of arrays; open {files[0]} with pipeline.open_raster")
    if valid is not None and len(several) > 1:
        raise UsageError(
            f"valid= of {len(several)} arrays; give each its own as a coordinate: "
            "array.assign_coords(valid=(('y', 'x'), mask))"
        )
    return [
        View.whole(open_segmentable(expanded(str(r))))
        if isinstance(r, (str, Path))
        else ArrayPixels(r, nodata, valid)
        for r in several
    ]
