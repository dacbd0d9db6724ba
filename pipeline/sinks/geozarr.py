"""Where the labels of a Zarr store lie and what they mean: CF, GeoZarr's conventions, coordinates.

A store is one group. Its root holds the labels of full resolution with their coordinates, a child
group for each further level (`1`, `2`, ...) holds those of half the size of the one before. CF's grid
mapping serves xarray, rioxarray and GDAL; the conventions `multiscales`, `proj` and `spatial` serve
GeoZarr readers (GDAL from 3.13 on takes overviews from them).

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
    where = f"zarr-conventions/{name}"
    return {
        "schema_url": f"https://raw.githubusercontent.com/{where}/refs/tags/v0.1/schema.json",
        "spec_url": f"https://github.com/{where}/blob/v0.1/README.md",
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


def at_level(place: Georeference, level: int) -> Georeference:
    """The georeference of a level, whose pixels are 2**level as large and begin at the same corner."""
    return place.coarsened(2**level)


def root_attributes(meaning: LabelInfo, shapes: list[tuple[int, int]]) -> Attributes:
    """Attributes of the root group: what wrote the labels, and the layout of the pyramid."""
    place = meaning.georeference
    layout = []
    for level, shape in enumerate(shapes):
        entry: Attributes = {"asset": path_of(level, LABELS)}
        if level:
            entry["derived_from"] = path_of(level - 1, LABELS)
        step = 2.0 if level else 1.0
        entry["transform"] = {"scale": [step, step], "translation": [0.0, 0.0]}
        if place.transform is not None:
            transform = at_level(place, level).transform
            entry |= {"spatial:shape": shape, "spatial:transform": transform}
        layout.append(entry)
    found = {"Conventions": "CF-1.12", **_provenance(meaning)}
    return {
        **found,
        **_located(place, shapes[0], _MULTISCALES),
        "multiscales": {"layout": layout, "resampling_method": "mode"},
    }


def label_attributes(meaning: LabelInfo, level: int, shape: tuple[int, int]) -> Attributes:
    """Attributes of the labels of a level."""
    style, place = meaning.style, at_level(meaning.georeference, level)
    found: Attributes = {
        "long_name": "segment",
        "_FillValue": NODATA,
        "flag_values": list(range(len(style.names))),
        "flag_meanings": " ".join(n.replace(" ", "_") for n in style.names),
        "flag_colors": " ".join(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in style.colours),
        "AREA_OR_POINT": place.area_or_point,
        **_provenance(meaning),
    }
    if grid_mapping(place) is not None:
        # named as a coordinate too, xarray hands it on with the labels, and rioxarray finds the CRS there
        found |= {"grid_mapping": GRID_MAPPING, "coordinates": GRID_MAPPING}
    found |= _located(place, shape)
    if place.transform is not None:
        found |= {"spatial:shape": shape, "spatial:transform": place.transform}
    return found


def _provenance(meaning: LabelInfo) -> Attributes:
    return {"tilewright_codebook": meaning.codebook_hash, "tilewright_kernel": meaning.kernel}


def _located(place: Georeference, shape: tuple[int, int], *conventions: Attributes) -> Attributes:
    """Registration of the conventions that apply, with CRS, dimensions and bounds of an array or a group."""
    found: Attributes = {"zarr_conventions": list(conventions)}
    # the CRS of ground control points is not that of the pixels
    crs = {} if place.gcps else _crs_attributes(place.crs_wkt)
    if crs:
        found["zarr_conventions"].append(_PROJ)
    if place.transform is not None:
        found["zarr_conventions"].append(_SPATIAL)
        found |= {"spatial:dimensions": ["y", "x"], "spatial:bbox": _bounds(place.transform, shape)}
    return {**found, **crs} if found["zarr_conventions"] else {}


def _bounds(transform: tuple[float, ...], shape: tuple[int, int]) -> list[float]:
    """xmin, ymin, xmax, ymax of all pixels, rotated ones too."""
    corners = [on_ground(transform, col, row) for row in (0, shape[0]) for col in (0, shape[1])]
    xs, ys = zip(*corners, strict=True)
    return [min(xs), min(ys), max(xs), max(ys)]


def _crs_attributes(wkt: str | None) -> Attributes:
    """The CRS as `proj` has it: WKT 2, and a code where that says the same; {} without CRS."""
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    if not wkt:
        return {}
    crs = CRS.from_wkt(wkt)
    found: Attributes = {}
    # a CRS that PROJ cannot write so stands in the grid mapping as it is
    with contextlib.suppress(CRSError):
        if (code := crs.to_authority()) and CRS.from_authority(*code) == crs:
            found["proj:code"] = ":".join(code)
        found["proj:wkt2"] = crs.to_wkt(version="WKT2_2019")
    return found


def grid_mapping(place: Georeference) -> Attributes | None:
    """Attributes of CF's grid mapping variable, with what GDAL and rioxarray add; None without any place.

    Parameters
    ----------
    place
        Georeference of the level.
    """
    found: Attributes = {}
    if place.crs_wkt:
        found = {**_cf_parameters(place.crs_wkt), "crs_wkt": place.crs_wkt, "spatial_ref": place.crs_wkt}
    if (geotransform := place.geotransform) is not None:
        found["GeoTransform"] = " ".join(map(repr, geotransform))
    if place.gcps:
        found["gcps"] = json.dumps({"type": "FeatureCollection", "features": _features(place.gcps)})
    return found or None


def crs_of_gdal(place: Georeference) -> Attributes:
    """The CRS as GDAL before 3.9 reads it, which knows no grid mapping; {} without CRS."""
    return {"_CRS": {"wkt": place.crs_wkt}} if place.crs_wkt and not place.gcps else {}


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
    """CF's own names for a projection's parameters, where it has some."""
    import pyproj
    from pyproj.exceptions import ProjError

    try:
        return dict(pyproj.CRS.from_wkt(wkt).to_cf())
    except ProjError:
        return {}


def axes(place: Georeference) -> dict[str, tuple[float, float, Attributes]]:
    """Start, step and attributes of the coordinates y and x; {} where rows and columns are no axes.

    The coordinate of pixel i is ``start + step * (i + 0.5)``, its centre.
    """
    if place.axes is None:
        return {}
    y, x = place.axes
    attributes = _axis_attributes(place.crs_wkt)
    return {"y": (*y, attributes["Y"]), "x": (*x, attributes["X"])}


def _axis_attributes(wkt: str | None) -> dict[str, Attributes]:
    import pyproj
    from pyproj.exceptions import ProjError

    found: dict[str, Attributes] = {"Y": {"axis": "Y"}, "X": {"axis": "X"}}
    if wkt:
        with contextlib.suppress(ProjError):
            found |= {str(one["axis"]): dict(one) for one in pyproj.CRS.from_wkt(wkt).cs_to_cf()}
    return found
