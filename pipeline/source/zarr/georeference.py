"""Georeference of an array of a Zarr store, from CF's grid mapping, GeoZarr, GDAL or coordinates."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.errors import RasterError, one_line
from pipeline.grid.georeference import Georeference, Transform
from pipeline.process import foreign

_TOLERANCE = 1e-3  # of a pixel: largest deviation of coordinates from even spacing


def georeference(
    path: str, group: Any, array: Any, dims: tuple[str, str] | None, axes: tuple[int, int]
) -> Georeference:
    """CRS and transform of an array, as far as its store has them.

    Parameters
    ----------
    path
        The raster, for messages.
    group
        The group that the array is in, or None.
    array
        The array.
    dims
        Names of the dimensions of rows and columns, or None.
    axes
        Indices of the axes of rows and columns.

    Raises
    ------
    RasterError
        If it has a CRS that cannot be resolved.
    """
    attributes = dict(array.attrs)
    mapping = _grid_mapping(group, attributes)
    lengths = (array.shape[axes[0]], array.shape[axes[1]])
    transform = _written(mapping, attributes) or _spaced(group, dims, lengths)
    return Georeference(
        crs_wkt=_wkt(path, mapping, attributes),
        transform=transform,
        area_or_point=str(attributes.get("AREA_OR_POINT", "Area")),
    )


def _grid_mapping(group: Any, attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes of the grid mapping variable that an array names, or of one with a usual name."""
    named = str(attributes.get("grid_mapping", "")).partition(":")[0].split(" ")[0]
    for name in filter(None, (named, "spatial_ref", "crs")):
        with contextlib.suppress(KeyError, TypeError):
            return dict(group[name].attrs)
    return {}


def _written(mapping: dict[str, Any], attributes: dict[str, Any]) -> Transform | None:
    """The transform in GDAL's or GeoZarr's attributes, or None."""
    with contextlib.suppress(ValueError, AttributeError):
        c, a, b, f, d, e = (float(v) for v in mapping.get("GeoTransform", "").split())
        return a, b, c, d, e, f
    with contextlib.suppress(ValueError, TypeError):
        a, b, c, d, e, f = (float(v) for v in attributes.get("spatial:transform", ())[:6])
        return a, b, c, d, e, f
    return None


def _spaced(group: Any, dims: tuple[str, str] | None, lengths: Sequence[int]) -> Transform | None:
    """The transform of evenly spaced coordinates of pixel centres; None if they are not evenly spaced."""
    if group is None or dims is None:
        return None
    from pipeline.source.zarr.bounded import coordinate

    starts_and_steps = []
    for name, length in zip(dims, lengths, strict=True):
        try:
            values = coordinate(group, name, length).astype(np.float64)
        except (KeyError, TypeError, ValueError):
            return None
        if length < 2:
            return None
        step = (values[-1] - values[0]) / (length - 1)
        deviation = np.abs(values - (values[0] + step * np.arange(length))).max()
        if not step or not deviation <= abs(step) * _TOLERANCE:
            return None
        starts_and_steps.append((float(values[0] - step / 2), float(step)))
    (f, e), (c, a) = starts_and_steps
    return a, 0.0, c, 0.0, e, f


def _wkt(path: str, mapping: dict[str, Any], attributes: dict[str, Any]) -> str | None:
    """WKT of the CRS, from the first of its descriptions that is valid."""
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    gdal_crs = attributes.get("_CRS")
    gdal_crs = gdal_crs if isinstance(gdal_crs, dict) else {}
    texts = [mapping.get("crs_wkt"), mapping.get("spatial_ref"), gdal_crs.get("wkt")]
    texts += [attributes.get("proj:wkt2"), attributes.get("proj:code"), attributes.get("crs")]
    foreign.use_own_proj_data()
    reason = ""
    for text in texts:
        if text and isinstance(text, str):
            try:
                return str(CRS.from_user_input(text).to_wkt())
            except CRSError as error:
                reason = reason or one_line(error)
    if (wkt := _from_cf(mapping)) is None and reason:
        raise RasterError(path, f"its CRS cannot be resolved ({reason}); correct its grid mapping")
    return wkt


def _from_cf(mapping: dict[str, Any]) -> str | None:
    """WKT of a grid mapping that has only CF's own parameters."""
    if "grid_mapping_name" not in mapping:
        return None
    import pyproj
    from pyproj.exceptions import ProjError

    with contextlib.suppress(ProjError, KeyError, ValueError):
        return str(pyproj.CRS.from_cf(mapping).to_wkt("WKT1_GDAL"))
    return None
