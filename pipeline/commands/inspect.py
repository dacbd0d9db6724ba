"""The `inspect` command: describes a file in a few lines."""

from __future__ import annotations

import zipfile
from pathlib import Path

from engine.codebook import Codebook
from pipeline.errors import printable
from pipeline.grid.georeference import Georeference
from pipeline.kernels import load_codebook
from pipeline.source.declared import Scales
from pipeline.source.gdal import handles
from pipeline.source.gdal.raster import FileRaster
from pipeline.source.opening import open_any
from pipeline.source.raster import Raster


def describe(path: str) -> str:
    """A description of a raster, a label file or a codebook, for people.

    Raises
    ------
    TilewrightError
        If it is none of these.
    """
    if path.endswith(".npz") or (Path(path).is_file() and zipfile.is_zipfile(path)):
        return _codebook(load_codebook(path))
    return _raster(open_any(path))


def _codebook(codebook: Codebook) -> str:
    kernel = ", ".join(f"{k} {v}" for k, v in codebook.kernel.items() if k != "name")
    lines = [
        f"codebook {codebook.content_hash}",
        f"kernel    {codebook.kernel['name']} ({kernel})",
        f"fitted on bands {', '.join(map(str, codebook.bands))} of {codebook.dtype}"
        + (", of value * scale + offset" if codebook.physical else ""),
    ]
    if codebook.scaling is not None:
        limits = zip(codebook.scaling.low, codebook.scaling.high, strict=True)
        lines.append(
            "scaled    " + ", ".join(f"{low:g} to {high:g}" for low, high in limits) + " -> 0 to 255"
        )
    if {"cells_read", "cells_total"} <= codebook.fit.keys():
        lines.append(f"saw       {codebook.fit['cells_read']} of {codebook.fit['cells_total']} cells")
    shares = codebook.fit.get("share") or [None] * codebook.segments
    lines.append("label  share  centre")
    values = codebook.centre_values
    centres = codebook.centres if values is None else values
    for label, (centre, share) in enumerate(zip(centres, shares, strict=True)):
        percent = "" if share is None else f"{share:6.1%}"
        lines.append(f"{label:5}  {percent:>6}  " + " ".join(f"{v:.4g}" for v in centre[:16]))
    return "\n".join(lines)


def _raster(raster: Raster) -> str:
    georeference = raster.georeference
    block = f"{raster.block_shape[1]} x {raster.block_shape[0]}"
    form, levels, masks = "Zarr", "none", ""
    tags: dict[str, str] = {}
    if isinstance(raster, FileRaster):
        form = raster.driver
        levels, tags = handles.opened(raster.path, lambda d: (str(d.overviews(1) or "none"), d.tags()))
        masks = f", alpha in band {raster.alpha_band}" if raster.alpha_band else ""
        masks += ", mask" if raster.mask_bands else ""
        masks += ", palette" if raster.palette else ""
    lines = [
        printable(raster.path),
        f"format    {form}, {raster.width} x {raster.height} px, blocks of {block}",
        f"overviews {levels}",
        f"bands     {len(raster.bands)} of {raster.dtype}: {printable(', '.join(raster.band_names[:16]))}",
        f"nodata    {', '.join('none' if n is None else f'{n:g}' for n in raster.nodata[:16])}{masks}",
        *([f"scales    value * scale + offset: {_scales(raster.scales)}"] if raster.scales else []),
        f"CRS       {_crs(georeference)}"
        + (f", {len(georeference.gcps)} ground control points" if georeference.gcps else ""),
        f"transform {georeference.transform or 'none'}",
    ]
    if "TILEWRIGHT_CODEBOOK" in tags:
        lines.append(
            f"labels of codebook {tags['TILEWRIGHT_CODEBOOK']} ({tags.get('TILEWRIGHT_KERNEL', '')})"
        )
    return "\n".join(lines)


def _scales(scales: Scales) -> str:
    distinct = scales[:1] if len(set(scales)) == 1 else scales[:16]
    each = " for each band" if len(distinct) < len(scales) else ""
    return ", ".join(f"{scale:g} {offset:+g}" for scale, offset in distinct) + each


def _crs(georeference: Georeference) -> str:
    from rasterio.crs import CRS

    return str(CRS.from_wkt(georeference.crs_wkt).to_string()) if georeference.crs_wkt else "none"
