"""Labels as a picture in the colours of their classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from pipeline.api.position import spatial_dims
from pipeline.errors import UsageError


def plot(labels: xr.DataArray, **options: Any) -> Any:
    """Draw labels with a colour and a name for each class; nodata is left out.

    ``labels.plot()`` is xarray's, which cannot know of colours; this is `labels.plot.imshow` with them.

    Parameters
    ----------
    labels
        As `segment` returns them: colours and names are in their attributes. They are computed, so draw a
        slice of a large raster, or thin it: ``labels[::8, ::8]``.
    options
        Passed on to `xarray.DataArray.plot.imshow`, such as ``ax`` or ``figsize``.

    Returns
    -------
    matplotlib.image.AxesImage
        As `xarray.DataArray.plot.imshow` returns it.

    Raises
    ------
    UsageError
        If these are no labels, or Matplotlib is not installed.
    """
    try:
        from matplotlib.colors import ListedColormap
    except ModuleNotFoundError:
        raise UsageError("Matplotlib is not installed, which draws labels: pip install matplotlib") from None
    attrs = labels.attrs
    colours, names = (str(attrs.get(name, "")).split() for name in ("flag_colors", "flag_meanings"))
    if labels.ndim != 2 or not colours or len(names) != len(colours):
        raise UsageError(
            "there are no classes with colours in the array's attributes; plot labels of `segment`"
        )
    y, x = spatial_dims(labels)
    edges = np.arange(len(colours) + 1) - 0.5
    image = labels.where(labels < len(colours)).plot.imshow(
        **{
            "x": x,
            "y": y,
            "cmap": ListedColormap(colours),
            "vmin": edges[0],
            "vmax": edges[-1],
            "interpolation": "nearest",
            "cbar_kwargs": {"ticks": range(len(colours)), "label": str(attrs.get("long_name", ""))},
            **options,
        }
    )
    if image.colorbar is not None:
        image.colorbar.ax.set_yticklabels([name.replace("_", " ") for name in names])
    return image
