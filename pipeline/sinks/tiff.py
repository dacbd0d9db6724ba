"""The subset of TIFF that the sinks need: reading a template's tags, writing directories.

Source: TIFF 6.0 (Adobe, 1992), BigTIFF as libtiff writes it, GeoTIFF 1.1 (OGC 19-008r4).
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass, replace
from xml.sax.saxutils import escape, quoteattr

from pipeline.grid.georeference import Georeference
from pipeline.process import foreign
from pipeline.process.warning_filters import ignored

SHORT, LONG, LONG8, ASCII = 3, 4, 16, 2
_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_TIE_POINT = 33922
_GEO_TAGS = (33550, _TIE_POINT, 34264, 34735, 34736, 34737, 50844)
_FORMATS = {SHORT: "H", LONG: "I", LONG8: "Q"}


@dataclass(frozen=True)
class Tag:
    """One entry of a directory: number, type, count and its value as little-endian bytes."""

    number: int
    kind: int
    count: int
    value: bytes


def numbers(number: int, kind: int, *values: int) -> Tag:
    """A tag of whole numbers."""
    return Tag(number, kind, len(values), struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values))


def text(number: int, value: str) -> Tag:
    """A tag of text."""
    data = value.encode() + b"\0"
    return Tag(number, ASCII, len(data), data)


@dataclass(frozen=True)
class GeoTags:
    """The GeoTIFF tags of a georeference.

    Parameters
    ----------
    tags
        GeoTIFF tags as GDAL writes them.
    exact_crs
        False if a GeoTIFF cannot hold the CRS exactly, so that a sidecar has to.
    """

    tags: tuple[Tag, ...]
    exact_crs: bool


def geo_tags(georeference: Georeference) -> GeoTags:
    """GeoTIFF tags of a georeference, as GDAL writes them."""
    transform = georeference.transform
    upright = transform is not None and transform[1] == transform[3] == 0 and transform[4] < 0
    plain = not (georeference.gcps or georeference.rpcs) and georeference.area_or_point == "Area"
    if transform is None or not upright or not plain:
        return _of_gdal(georeference)
    # tiles and chips differ in their corners alone, which a tie point of the first pixel holds
    a, _, c, _, e, f = transform
    template = _upright(georeference.crs_wkt, a, e)
    corner = struct.pack("<6d", 0.0, 0.0, 0.0, c, f, 0.0)
    tags = (replace(t, value=corner) if t.number == _TIE_POINT else t for t in template.tags)
    return replace(template, tags=tuple(tags))


@functools.lru_cache(maxsize=64)
def _upright(crs_wkt: str | None, width: float, height: float) -> GeoTags:
    """The tags of a raster whose pixels are so wide and high, with its corner at (1, 1)."""
    return _of_gdal(Georeference(crs_wkt, (width, 0.0, 1.0, 0.0, height, 1.0)))


def _of_gdal(georeference: Georeference) -> GeoTags:
    """The tags of a georeference, taken from a tiny file that GDAL writes."""
    import rasterio
    from rasterio.control import GroundControlPoint
    from rasterio.crs import CRS
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.io import MemoryFile
    from rasterio.transform import Affine

    crs = CRS.from_wkt(georeference.crs_wkt) if georeference.crs_wkt else None
    with ignored(NotGeoreferencedWarning), MemoryFile() as memory:
        profile = {"driver": "GTiff", "width": 1, "height": 1, "count": 1, "dtype": "uint8"}
        if georeference.transform is not None:
            profile["transform"] = Affine(*georeference.transform)
        # without PAM (GDAL's sidecars), what is read back here was stored in the tags
        with rasterio.Env(GDAL_PAM_ENABLED="NO"):
            foreign.use_own_proj_data()
            with memory.open(**profile, crs=None if georeference.gcps else crs) as dataset:
                dataset.update_tags(AREA_OR_POINT=georeference.area_or_point)
                if georeference.rpcs:
                    dataset.update_tags(ns="RPC", **dict(georeference.rpcs))
                if georeference.gcps:
                    points = [GroundControlPoint(p.row, p.col, p.x, p.y, p.z) for p in georeference.gcps]
                    dataset.gcps = (points, crs or CRS())
            with memory.open() as dataset:
                read_back = dataset.gcps[1] if georeference.gcps else dataset.crs
        memory.seek(0)
        tags = _read_tags(memory.read())
    return GeoTags(tuple(t for t in tags if t.number in _GEO_TAGS), exact_crs=not crs or read_back == crs)


def _read_tags(data: bytes) -> list[Tag]:
    """Tags of the first directory of a little-endian classic TIFF."""
    if data[:4] != b"II*\0":
        raise ValueError("the template is not a little-endian classic TIFF")
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    tags = []
    for i in range(count):
        entry = start + 2 + 12 * i
        number, kind, n = struct.unpack_from("<HHI", data, entry)
        size = _SIZES[kind] * n
        value = entry + 8 if size <= 4 else struct.unpack_from("<I", data, entry + 8)[0]
        tags.append(Tag(number, kind, n, data[value : value + size]))
    return tags


def directory(tags: list[Tag], offset: int, *, big: bool, more: bool) -> bytes:
    """The bytes of a directory, followed by its values, for a given offset in the file.

    Parameters
    ----------
    tags
        In any order.
    offset
        Offset of the directory in the file.
    big
        True for BigTIFF.
    more
        True if another directory follows immediately.
    """
    tags = sorted(tags, key=lambda t: t.number)
    inline_bytes = 8 if big else 4  # shorter values are stored in the entry
    head = struct.pack("<Q" if big else "<H", len(tags))
    entry, link = (20, 8) if big else (12, 4)
    values_at = offset + len(head) + entry * len(tags) + link
    entries, values = b"", b""
    for tag in tags:
        entries += struct.pack("<HHQ" if big else "<HHI", tag.number, tag.kind, tag.count)
        if len(tag.value) <= inline_bytes:
            entries += tag.value.ljust(inline_bytes, b"\0")
        else:
            entries += struct.pack("<Q" if big else "<I", values_at + len(values))
            values += tag.value + b"\0" * (-len(tag.value) % 8)
    following = values_at + len(values) if more else 0
    return head + entries + struct.pack("<Q" if big else "<I", following) + values


def gdal_metadata(items: dict[str, str], band_items: dict[str, str]) -> str:
    """GDAL's metadata XML (tag 42112): items of the dataset and of its one band."""
    lines = [f"  <Item name={quoteattr(k)}>{escape(v)}</Item>" for k, v in items.items()]
    lines += [f'  <Item name={quoteattr(k)} sample="0">{escape(v)}</Item>' for k, v in band_items.items()]
    return "\n".join(["<GDALMetadata>", *lines, "</GDALMetadata>\n"])
