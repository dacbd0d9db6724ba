"""Whether two CRSs put the pixels of a raster in one place, and what tells them apart."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from typing import Any

_ACROSS = ("east", "west")
_ALONG = ("north", "south")
_INNER = ("base_crs", "source_crs")


@functools.lru_cache(maxsize=256)
def same_crs(one: str | None, other: str | None) -> bool:
    """True if two CRSs, as WKT, are the same for rasters, whose x is east whatever axis a CRS names first."""
    if one == other:
        return True
    if one is None or other is None:
        return False
    from rasterio.crs import CRS

    first, second = CRS.from_wkt(one), CRS.from_wkt(other)
    return bool(first == second) or bool(_east_first(first) == _east_first(second))


def crs_name(wkt: str | None) -> str:
    """A CRS in a few words, for messages."""
    if wkt is None:
        return "none"
    from rasterio.crs import CRS

    return " ".join(str(CRS.from_wkt(wkt).to_string()).split())[:60]


def other_crs(one: str | None, other: str | None) -> str:
    """What tells a CRS from another one, in words: their names, and what of them differs."""
    said = f"its CRS is {crs_name(one)}, not {crs_name(other)}"
    if one is None or other is None:
        return said
    from rasterio.crs import CRS

    mine, theirs = (dict(_parts(_described(CRS.from_wkt(wkt)))) for wkt in (one, other))
    for part, text in mine.items():
        if theirs.get(part, text) != text:
            return f"{said}: the {part} is {text}, not {theirs[part]}"
    return said


def _described(crs: Any) -> dict[str, Any]:
    """A CRS as PROJJSON."""
    found: dict[str, Any] = crs.to_dict(projjson=True)
    return found


def _east_first(crs: Any) -> Any:
    """A CRS with its axes in the order of a raster's: x, y."""
    from rasterio.crs import CRS

    described = _described(crs)
    if not described:
        return crs
    for level in _levels(described):
        axes = level.get("coordinate_system", {}).get("axis", [])
        directions = [axis.get("direction") for axis in axes[:2]]
        if len(directions) == 2 and directions[0] in _ALONG and directions[1] in _ACROSS:
            axes[0], axes[1] = axes[1], axes[0]
        for key in ("id", "ids", "usages", "scope", "area", "bbox", "remarks"):
            level.pop(key, None)  # an authority's order of axes would be that of its number
    return CRS.from_string(json.dumps(described))


def _levels(described: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A CRS and those that it is made of."""
    yield described
    for inner in (described.get(key) for key in _INNER):
        if isinstance(inner, dict):
            yield from _levels(inner)
    for component in described.get("components", ()):
        yield from _levels(component)


def _parts(described: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a CRS is made of, in words, the most telling first."""
    levels = list(_levels(described))
    yield "kind", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", str(described.get("type")))
    for level in levels:
        datum = level.get("datum") or level.get("datum_ensemble")
        if datum:
            ellipsoid = datum.get("ellipsoid", {})
            yield "datum", str(datum.get("name")).removesuffix(" ensemble")
            yield "ellipsoid", str(ellipsoid.get("name"))
            yield "prime meridian", str(datum.get("prime_meridian", {}).get("name", "Greenwich"))
            break
    axes = levels[0].get("coordinate_system", {}).get("axis", [])
    unit = axes[0].get("unit") if axes else None
    yield "unit", str(unit.get("name") if isinstance(unit, dict) else unit)
    conversion = next((level["conversion"] for level in levels if "conversion" in level), None)
    if conversion:
        yield "projection", str(conversion["method"]["name"])
        for parameter in conversion.get("parameters", ()):
            yield str(parameter["name"]).lower(), str(parameter.get("value"))
