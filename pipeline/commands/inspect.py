"""The `inspect` command: describes a file in a few lines."""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from engine.codebook import Codebook
from engine.colours import to_hex
from engine.feature_sets.feature_set import WINDOW_PX
from pipeline import out_names
from pipeline.config import RunConfig
from pipeline.errors import RasterError, one_line, printable
from pipeline.grid.georeference import Georeference
from pipeline.kernels import load_codebook
from pipeline.legend.label_style import LabelStyle
from pipeline.out.record import RasterRecord
from pipeline.out.run_file import RunFile
from pipeline.source.declared import Scales
from pipeline.source.gdal import handles
from pipeline.source.gdal.raster import FileRaster
from pipeline.source.opening import open_any
from pipeline.source.raster import Raster

_MOST_LISTED = 20
_MOST_COLUMNS = 16


def shows_colours(stream: TextIO) -> bool:
    """Whether a stream is a terminal that shows any colour (https://no-color.org, COLORTERM)."""
    if os.environ.get("NO_COLOR") or not stream.isatty():
        return False
    return os.environ.get("COLORTERM") in ("truecolor", "24bit") or "WT_SESSION" in os.environ


def describe(path: str, *, swatches: bool = False) -> str:
    """A description of a raster, a label file, a codebook, a record or the OUT of a run, for people.

    Parameters
    ----------
    path
        Any of these.
    swatches
        Whether to show the colours of a codebook's classes, for a terminal that can.

    Raises
    ------
    TilewrightError
        If it is none of these.
    """
    if path.endswith(".npz") or (Path(path).is_file() and zipfile.is_zipfile(path)):
        return _codebook(load_codebook(path), swatches=swatches)
    if (Path(path) / out_names.RUN).is_file():
        return _run(Path(path) / out_names.RUN)
    if path.endswith(".json"):
        return _run(Path(path)) if Path(path).name == out_names.RUN else _record(Path(path))
    return _raster(open_any(path))


def _run(path: Path) -> str:
    try:
        run = RunFile.read(path)
    except (OSError, ValueError) as error:
        raise RasterError(str(path), f"not the run.json of a run ({one_line(error)})") from None
    counts = Counter(raster.state for raster in run.rasters)
    defaults = RunConfig().model_dump(mode="json", exclude={"sources"})
    asked = {k: run.config[k] for k, v in defaults.items() if run.config.get(k, v) != v}
    lines = [
        f"{printable(str(path.parent))}: run of {len(run.rasters)} rasters",
        f"state     {', '.join(f'{count} {state}' for state, count in counts.items())}",
        *(f"option    --{name.replace('_', '-')} {printable(str(value))}" for name, value in asked.items()),
    ]
    for raster in run.rasters[:_MOST_LISTED]:
        what = raster.output or raster.error or raster.reason or ""
        lines.append(f"{raster.state:9} {printable(raster.name)}  {printable(what)}".rstrip())
    if (more := len(run.rasters) - _MOST_LISTED) > 0:
        lines.append(f"and {more} more")
    return "\n".join(lines)


def _record(path: Path) -> str:
    try:
        record = RasterRecord.read(path)
    except (OSError, ValueError) as error:
        raise RasterError(str(path), f"not the record of a raster ({one_line(error)})") from None
    raster = record.input
    total = max(1, sum(record.labels.values()))
    lines = [
        f"{printable(str(path))}: record of {printable(record.name)}",
        f"from      {printable(record.source)}",
        f"input     {raster.width} x {raster.height} px, {len(raster.bands)} bands of {raster.dtype}",
        f"codebook  {record.codebook_hash} ({record.kernel.get('name')})",
        f"labels    {', '.join(f'{label}: {n / total:.1%}' for label, n in record.labels.items())}",
        f"nodata    {record.nodata_pixels} px",
        f"files     {printable(', '.join(record.files))}",
    ]
    if record.bad_chunks:
        lines.append(f"bad       {record.bad_chunks} chunks")
    if record.seam_score is not None:
        lines.append(f"seams     {record.seam_score:.2f} +- {record.seam_score_error or 0:.2f}")
    return "\n".join(lines)


def _codebook(codebook: Codebook, *, swatches: bool) -> str:
    kernel = ", ".join(f"{k} {v}" for k, v in codebook.kernel.items() if k != "name")
    names = codebook.band_names or ("",) * len(codebook.bands)
    bands = [f"{b} ({n})" if n and n != b else str(b) for b, n in zip(codebook.bands, names, strict=True)]
    lines = [
        f"codebook {codebook.content_hash}",
        f"kernel    {codebook.kernel['name']} ({kernel})",
        f"{'fitted on' if codebook.centres.shape[1] else 'for'} bands {', '.join(bands)} of {codebook.dtype}"
        + (", of value * scale + offset" if codebook.physical else ""),
    ]
    if codebook.scaling is not None:
        limits = zip(codebook.scaling.low, codebook.scaling.high, strict=True)
        lines.append(
            "scaled    " + ", ".join(f"{low:g} to {high:g}" for low, high in limits) + " -> 0 to 255"
        )
    if {"cells_read", "cells_total"} <= codebook.fit.keys():
        lines.append(f"saw       {codebook.fit['cells_read']} of {codebook.fit['cells_total']} cells")
    return "\n".join([*lines, *_classes(codebook, swatches=swatches)])


def _classes(codebook: Codebook, *, swatches: bool) -> Iterator[str]:
    """A table of the classes: share of the fitted sample, colour, name, and centre."""
    values, features = codebook.centre_values, codebook.feature_set
    if not codebook.centres.shape[1]:
        heads = []
    elif features is not None and not features.is_bands:
        heads = list(features.names([f"mean {head}" for head in _bands(codebook)]))[:_MOST_COLUMNS]
        values = features.unweighted(codebook.centres.astype(np.float64))
        scaled = "" if codebook.scaling is None else ", bands scaled to 0 to 255"
        window = f", means and deviations of {WINDOW_PX} x {WINDOW_PX} px" if features.texture else ""
        yield f"centres   in {features}{window}{scaled}"
    elif values is None:
        count = codebook.centres.shape[1]
        heads = [f"f{i + 1}" for i in range(min(count, _MOST_COLUMNS))]
        yield f"centres   in features of the network, {len(heads)} of {count}"
    else:
        heads = _bands(codebook)[:_MOST_COLUMNS]
        unit = "value * scale + offset" if codebook.physical else "values as stored"
        yield f"centres   in the bands' units ({unit})"
    style = LabelStyle.of_codebook(codebook)
    shares = codebook.fit.get("share") or [None] * codebook.segments
    width = max(4, *map(len, style.names))
    swatch = "    " if swatches else ""
    yield f"label   share  colour   {swatch}{'name':{width}}  " + "  ".join(f"{head:>9}" for head in heads)
    rows = zip(
        shares, style.colours, style.names, codebook.centres if values is None else values, strict=True
    )
    for label, (share, colour, name, centre) in enumerate(rows):
        percent = "" if share is None else f"{share:.1%}"
        patch = "\x1b[48;2;{};{};{}m   \x1b[0m ".format(*colour) if swatches else ""
        numbers = "  ".join(
            f"{value:{max(9, len(head))}.4g}" for head, value in zip(heads, centre, strict=False)
        )
        yield f"{label:5}  {percent:>6}  {to_hex(colour)}  {patch}{name:{width}}  {numbers}"


def _bands(codebook: Codebook) -> list[str]:
    """What the bands are called."""
    names = codebook.band_names or ("",) * len(codebook.bands)
    called = zip(codebook.bands, names, strict=True)
    return [printable(band if isinstance(band, str) else name or f"b{band}") for band, name in called]


def _raster(raster: Raster) -> str:
    georeference = raster.georeference
    block = f"{raster.block_shape[1]} x {raster.block_shape[0]}"
    format_, levels, masks = "Zarr", "none", ""
    tags: dict[str, str] = {}
    if isinstance(raster, FileRaster):
        format_ = raster.driver
        levels, tags = handles.opened(raster.path, lambda d: (str(d.overviews(1) or "none"), d.tags()))
        masks = f", alpha in band {raster.alpha_band}" if raster.alpha_band else ""
        masks += ", mask" if raster.mask_bands else ""
        masks += ", palette" if raster.palette else ""
    lines = [
        printable(raster.path),
        f"format    {format_}, {raster.width} x {raster.height} px, blocks of {block}",
        f"overviews {levels}",
        f"bands     {len(raster.bands)} of {raster.dtype}: {printable(', '.join(raster.band_names[:16]))}",
        f"nodata    {', '.join('none' if n is None else f'{n:g}' for n in raster.nodata[:16])}{masks}",
        *([f"scales    value * scale + offset: {_scales(raster.scales)}"] if raster.scales else []),
        f"CRS       {_crs(georeference)}"
        + (f", {len(georeference.gcps)} ground control points" if georeference.gcps else "")
        + (", RPCs" if georeference.rpcs else ""),
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
