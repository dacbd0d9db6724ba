"""Attributes and coordinates of the labels in a Zarr store, by CF and by GeoZarr's conventions.

A store is one group. Its root holds the labels of full resolution with their coordinates; a child
group for each further level (`1`, `2`, ...) holds labels of half the size of the level before. CF's grid
mapping is for xarray, rioxarray and GDAL; the conventions `multiscales`, `proj` and `spatial` are for
GeoZarr readers (GDAL 3.13 and later take overviews from them).

Source: CF 1.12, chapters 3.5 and 5.6; zarr-conventions multiscales, proj and spatial at their tags v0.1.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

from engine.kernel import NODATA
from pipeline.grid.georeference import Georeference, GroundControlPoint, on_ground
from pipeline.sinks.label_info import LabelInfo

LABELS = "labels"
GRID_MAPPING = "spatial_ref"

Attributes = dict[str, Any]


def _convention(name: str, uuid: str, description: str) -> Attributes:
    repository = f"zarr-conventions/{name}"
    return {
        "schema_url": f"https://raw.githubusercontent.com/{repository}/refs/tags/v0.1/schema.json",
        "spec_url": f"https://github.com/{repository}/blob/v0.1/README.md",
        "uuid": uuid,
        "name": name,
        "description": description,
    }


_MULTISCALES = _convention(
    "multiscales", "d35379db-88df-4056-af3a-620245f8e347", "Multiscale layout of zarr datasets"
)
_PROJ = _convention(
    "proj",
    "f17cb550-5864-4468-aeb7-f3180cfb622f",
    "Coordinate reference system information for geospatial data",
)
_SPATIAL = _convention("spatial", "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information")


def group_of(level: int) -> str:
    """Path of a level's group: the root for full resolution."""
    return str(level) if level else ""


def path_of(level: int, name: str) -> str:
    """Path of an array of a level."""
    return f"{level}/{name}" if level else name


def at_level(georeference: Georeference, level: int) -> Georeference:
    """The georeference of a level: pixels with sides 2**level as long, from the same corner."""
    return georeference.coarsened(2**level)


def root_attributes(label_info: LabelInfo, shapes: list[tuple[int, int]]) -> Attributes:
    """Attributes of the root group: provenance, georeference and the layout of the pyramid."""
    georeference = label_info.georeference
    layout = []
    for level, shape in enumerate(shapes):
        entry: Attributes = {"asset": path_of(level, LABELS)}
        if level:
            entry["derived_from"] = path_of(level - 1, LABELS)
        step = 2.0 if level else 1.0
        entry["transform"] = {"scale": [step, step], "translation": [0.0, 0.0]}
        if georeference.transform is not None:
            transform = at_level(georeference, level).transform
            entry |= {"spatial:shape": shape, "spatial:transform": transform}
        layout.append(entry)
    return {
        "Conventions": "CF-1.12",
        **_provenance(label_info),
        **_located(georeference, shapes[0], _MULTISCALES),
        "multiscales": {"layout": layout, "resampling_method": "mode"},
    }


def label_attributes(label_info: LabelInfo, level: int, shape: tuple[int, int]) -> Attributes:
    """Attributes of the labels of a level."""
    style, georeference = label_info.style, at_level(label_info.georeference, level)
    attributes: Attributes = {
        "long_name": "segment",
        "_FillValue": NODATA,
        "flag_values": list(range(len(style.names))),
        **style.flags,
        "AREA_OR_POINT": georeference.area_or_point,
        **_provenance(label_info),
    }
    if grid_mapping(georeference) is not None:
        # named as a coordinate too, so that xarray keeps it with the labels and rioxarray finds the CRS
        attributes |= {"grid_mapping": GRID_MAPPING, "coordinates": GRID_MAPPING}
    attributes |= _located(georeference, shape)
    if georeference.transform is not None:
        attributes |= {"spatial:shape": shape, "spatial:transform": georeference.transform}
    return attributes


def _provenance(label_info: LabelInfo) -> Attributes:
    return {"tilewright_codebook": label_info.codebook_hash, "tilewright_kernel": label_info.kernel}


def _located(georeference: Georeference, shape: tuple[int, int], *conventions: Attributes) -> Attributes:
    """The conventions that apply to an array or a group, and its CRS, dimensions and bounds."""
    attributes: Attributes = {"zarr_conventions": list(conventions)}
    # the CRS of ground control points is not that of the pixels
    crs = {} if georeference.gcps else _crs_attributes(georeference.crs_wkt)
    if crs:
        attributes["zarr_conventions"].append(_PROJ)
    if georeference.transform is not None:
        attributes["zarr_conventions"].append(_SPATIAL)
        attributes |= {
            "spatial:dimensions": ["y", "x"],
            "spatial:bbox": _bounds(georeference.transform, shape),
        }
    return {**attributes, **crs} if attributes["zarr_conventions"] else {}


def _bounds(transform: tuple[float, ...], shape: tuple[int, int]) -> list[float]:
    """xmin, ymin, xmax, ymax of all pixels, rotated ones too."""
    corners = [on_ground(transform, col, row) for row in (0, shape[0]) for col in (0, shape[1])]
    xs, ys = zip(*corners, strict=True)
    return [min(xs), min(ys), max(xs), max(ys)]


def _crs_attributes(wkt: str | None) -> Attributes:
    """The CRS by the convention `proj`: WKT 2, and a code if it is equivalent; {} without CRS."""
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    if not wkt:
        return {}
    crs = CRS.from_wkt(wkt)
    attributes: Attributes = {}
    # a CRS that PROJ cannot write as WKT 2 is in the grid mapping only
    with contextlib.suppress(CRSError):
        if (code := crs.to_authority()) and CRS.from_authority(*code) == crs:
            attributes["proj:code"] = ":".join(code)
        attributes["proj:wkt2"] = crs.to_wkt(version="WKT2_2019")
    return attributes


def grid_mapping(georeference: Georeference) -> Attributes | None:
    """Attributes of CF's grid mapping variable, with those that GDAL and rioxarray add.

    Parameters
    ----------
    georeference
        Of the level.

    Returns
    -------
    dict or None
        None without a georeference.
    """
    attributes: Attributes = {}
    if georeference.crs_wkt:
        attributes = {
            **_cf_parameters(georeference.crs_wkt),
            "crs_wkt": georeference.crs_wkt,
            "spatial_ref": georeference.crs_wkt,
        }
    if (geotransform := georeference.geotransform) is not None:
        attributes["GeoTransform"] = " ".join(map(repr, geotransform))
    if georeference.gcps:
        attributes["gcps"] = json.dumps(
            {"type": "FeatureCollection", "features": _features(georeference.gcps)}
        )
    if georeference.rpcs:
        attributes["rpcs"] = json.dumps(dict(georeference.rpcs))
    return attributes or None


def crs_of_gdal(georeference: Georeference) -> Attributes:
    """The CRS for GDAL before 3.9, which does not read grid mappings; {} without CRS."""
    return {"_CRS": {"wkt": georeference.crs_wkt}} if georeference.crs_wkt and not georeference.gcps else {}


def _features(gcps: tuple[GroundControlPoint, ...]) -> list[Attributes]:
    """Ground control points as rioxarray stores and reads them."""
    return [
        {
            "type": "Feature",
            "properties": {"id": str(i), "info": "", "row": p.row, "col": p.col},
            "geometry": {"type": "Point", "coordinates": [p.x, p.y, p.z]},
        }
        for i, p in enumerate(gcps, 1)
    ]


def _cf_parameters(wkt: str) -> Attributes:
    """A projection's parameters under CF's names; {} if CF has none for it."""
    import pyproj
    from pyproj.exceptions import ProjError

    try:
        return dict(pyproj.CRS.from_wkt(wkt).to_cf())
    except ProjError:
        return {}


def axes(georeference: Georeference) -> dict[str, tuple[float, float, Attributes]]:
    """Start, step and attributes of the coordinates y and x; {} if the raster is rotated or has none.

    The coordinate of pixel i is ``start + step * (i + 0.5)``, its centre.
    """
    if georeference.axes is None:
        return {}
    y, x = georeference.axes
    attributes = _axis_attributes(georeference.crs_wkt)
    return {"y": (*y, attributes["Y"]), "x": (*x, attributes["X"])}


def _axis_attributes(wkt: str | None) -> dict[str, Attributes]:
    import pyproj
    from pyproj.exceptions import ProjError

    attributes: dict[str, Attributes] = {"Y": {"axis": "Y"}, "X": {"axis": "X"}}
    if wkt:
        with contextlib.suppress(ProjError):
            attributes |= {str(axis["axis"]): dict(axis) for axis in pyproj.CRS.from_wkt(wkt).cs_to_cf()}
    return attributes
