"""What an open dataset is made of: the files beside it, and what they say of how its pixels are read.

Programs that only look at a raster write files beside it: statistics (.aux.xml) and overviews. They may
also hold what decides the labels, as .aux.xml does with a nodata value. So their bytes do not count, but
what GDAL has read of them.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, replace
from typing import Any

from rasterio.enums import ColorInterp

from pipeline.grid.georeference import RPC_IN_PIXELS, Transform
from pipeline.process.warning_filters import ignored
from pipeline.source.declared import Scales

_LOOKED_AT = (".aux.xml", ".aux", ".ovr", ".rrd")
"""Endings of files that hold statistics, overviews, and what an open dataset tells of itself."""


@dataclass(frozen=True)
class Reading:
    """How the pixels of a dataset are read, and where they lie.

    Parameters
    ----------
    shape, rest
        What is said before and after the transform.
    transform
        Six numbers, in Affine's order.
    """

    shape: tuple[Any, ...]
    transform: Transform
    rest: tuple[Any, ...]

    def at(self, corner: tuple[float, float]) -> Reading:
        """The same with the upper left corner elsewhere."""
        a, b, _, d, e, _ = self.transform
        # as GDAL computes them, which for a corner at 0 decides its sign
        return replace(self, transform=(a, b, corner[0] - 0.0 * a, d, e, corner[1] - 0.0 * e))

    @property
    def digest(self) -> str:
        """Tells it from any other."""
        said = (*self.shape, self.transform, *self.rest)
        return hashlib.sha256(repr(said).encode(errors="surrogateescape")).hexdigest()


def reading_of(dataset: Any, scales: Scales = ()) -> Reading:
    """How an open dataset's pixels are read.

    Parameters
    ----------
    dataset
        Open.
    scales
        Scales and offsets, if they matter for what is made of the pixels; () otherwise, so that an edit of
        them does not make another raster of one whose bare numbers are used.
    """
    colours = dataset.colorinterp
    gcps, gcp_crs = dataset.gcps
    tables = {}
    for number in (i for i, colour in enumerate(colours, 1) if colour == ColorInterp.palette):
        with contextlib.suppress(ValueError):  # there is none
            tables[number] = dataset.colormap(number)
    return Reading(
        (
            *(dataset.height, dataset.width, dataset.dtypes, nodata_in(dataset), dataset.descriptions),
            *([colour.name for colour in colours], tables, dataset.mask_flag_enums),
        ),
        tuple(dataset.transform)[:6],
        (
            *(_wkt(dataset.crs), _wkt(gcp_crs), dataset.tags().get("AREA_OR_POINT")),
            [(p.row, p.col, p.x, p.y, p.z) for p in gcps],
            *([scales] if scales else []),
            *([("RPC", *rpcs)] if (rpcs := rpcs_of(dataset)) else []),
        ),
    )


def nodata_in(dataset: Any) -> tuple[float | None, ...]:
    """The nodata value of each band of an open dataset; None where its dtype cannot have it."""
    with ignored(RuntimeWarning):  # numpy's, where rasterio compares -1.8e308 with the range of float32
        values: tuple[float | None, ...] = dataset.nodatavals
    return values


def rpcs_of(dataset: Any) -> tuple[tuple[str, str], ...]:
    """The RPCs of an open dataset, from its tags or a file beside it; () if it has none that can be used."""
    rpcs = {name: " ".join(text.split()) for name, text in dataset.tags(ns="RPC").items()}
    try:
        in_pixels = {name: repr(float(rpcs[name].partition(" ")[0])) for name in RPC_IN_PIXELS}
    except (KeyError, ValueError):
        return ()
    return tuple(sorted({**rpcs, **in_pixels}.items()))


def files_of(named: str, dataset: Any) -> tuple[str, ...]:
    """The local files that a dataset's pixels come from, after what was named.

    Parameters
    ----------
    named
        The file, or an address.
    dataset
        Opened from it. What a VRT refers to is not listed, for `references` looks into that.
    """
    found = [f for f in dataset.files if not (f.startswith("/vsi") or f.lower().endswith(_LOOKED_AT))]
    if dataset.driver == "VRT":
        found = [f for f in found if f.startswith(f"{named}.")]
    return tuple(dict.fromkeys([named, *found]))


def _wkt(crs: Any) -> str | None:
    return str(crs.to_wkt()) if crs else None
