"""Vector files: geometries and an attribute of a layer, in any format that OGR reads."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import UsageError, one_line
from pipeline.process import foreign
from pipeline.process.warning_filters import ignored
from pipeline.source.gdal import remote

_LIMIT_BYTES = 256 << 20
_REFERS = re.compile(rb"<ogr(vrt|wfs|csw)datasource\b|gdal_streamed_alg", re.IGNORECASE)
_GML, _HEAD_BYTES = b"opengis.net/gml", 16 << 10


@dataclass(frozen=True)
class Layer:
    """A layer of a vector file.

    Parameters
    ----------
    shapes
        Geometries of shapely, or None.
    values
        The attribute of each.
    crs_wkt
        Their CRS, or None.
    """

    shapes: npt.NDArray[Any]
    values: npt.NDArray[Any]
    crs_wkt: str | None


def read_layer(path: str, option: str, attribute: str) -> Layer:
    """The one layer of a vector file that has an attribute.

    Parameters
    ----------
    path
        The file, or the folder that is one.
    option
        The option that names it, for messages.
    attribute
        Name of the attribute.

    Raises
    ------
    UsageError
        If it is missing, too large, cannot be read, refers to other files, or has no such attribute.
    """
    import pyogrio.raw
    import shapely

    with readable(path, option) as options:
        layer = _layer_with(path, attribute, options)
        meta, _, wkb, fields = pyogrio.raw.read(
            path, layer=layer, columns=[attribute], force_2d=True, **options
        )
        shapes = np.array([] if wkb is None else shapely.from_wkb(wkb), object)
    crs = meta.get("crs")
    return Layer(shapes, np.asarray(fields[0]), wkt_of(path, crs, option) if crs else None)


@contextlib.contextmanager
def readable(path: str, option: str) -> Iterator[dict[str, str]]:
    """A block that reads a vector file with the options of OGR that it gets; no network is asked.

    Parameters
    ----------
    path
        The file, or the folder that is one.
    option
        The option that names it, for messages.

    Raises
    ------
    UsageError
        If it is missing, too large, cannot be read, or refers to other files.
    """
    from pyogrio.errors import DataLayerError, DataSourceError
    from shapely.errors import ShapelyError

    file = Path(path)
    if not file.exists():
        raise UsageError(f"{path}: no such vector file; check {option}")
    if file.is_file() and file.stat().st_size > _LIMIT_BYTES:
        raise UsageError(f"{path}: a vector file of more than {_LIMIT_BYTES >> 20} MiB; simplify it")
    try:
        # of what a library only warns, such as layers that are not read, is said here or of no concern
        with remote.forbidden_in_vectors(), ignored(UserWarning), ignored(RuntimeWarning):
            yield _options(file)
    except (DataSourceError, DataLayerError, ShapelyError, ValueError, IndexError, OSError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UsageError(f"{path}: not a vector file that OGR can read ({reason})") from None


def wkt_of(path: str, crs: str, option: str) -> str:
    """The CRS of a vector file as WKT.

    Raises
    ------
    UsageError
        If it cannot be resolved.
    """
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    foreign.use_own_proj_data()
    try:
        return str(CRS.from_user_input(crs).to_wkt())
    except CRSError as error:
        raise UsageError(f"{path}: its CRS cannot be resolved ({one_line(error)}); check {option}") from None


def _layer_with(path: str, attribute: str, options: dict[str, str]) -> str:
    """The layer that has an attribute.

    Raises
    ------
    UsageError
        If none has it, or several have.
    """
    import pyogrio

    fields = {
        str(name): [str(field) for field in pyogrio.read_info(path, layer=name, **options)["fields"]]
        for name, _ in pyogrio.list_layers(path)
    }
    having = [name for name, names in fields.items() if attribute in names]
    if len(having) == 1:
        return having[0]
    if having:
        raise UsageError(f"{path}: {attribute!r} is in its layers {', '.join(having)}; keep one (ogr2ogr)")
    there = sorted({name for names in fields.values() for name in names})
    raise UsageError(f"{path}: no attribute {attribute!r}; it has {', '.join(there[:12]) or 'none'}")


def _options(file: Path) -> dict[str, str]:
    """Open options of OGR: without them it would write a summary beside a GML file.

    Raises
    ------
    ValueError
        If the file is a request to a service, or names what else OGR is to open.
    """
    if not file.is_file():
        return {}
    with file.open("rb") as opened:
        head = opened.read(_HEAD_BYTES)
    if _REFERS.search(head.partition(b"\0")[0]):
        raise ValueError("it refers to other files or to a service")
    return {"WRITE_GFS": "NO"} if _GML in head else {}
