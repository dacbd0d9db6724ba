"""Writing labels from Python: the same sink as a run's, fed from a lazy array."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from engine.grid import chunk_side
from engine.kernel import NODATA
from pipeline import durable, style
from pipeline.array import bounds_of, georeference_of
from pipeline.errors import UsageError
from pipeline.graph import DEFAULT_CHUNK_PX
from pipeline.sinks import cog, parts, tiff
from pipeline.sinks.meaning import Labelled
from pipeline.sinks.pyramid import Stage, stages
from pipeline.workers import Workers, open_pool, usable_cores

if TYPE_CHECKING:
    import xarray as xr


def write(labels: xr.DataArray, path: str | Path, *, chunk_size: int = DEFAULT_CHUNK_PX) -> Path:
    """Write labels as a Cloud Optimized GeoTIFF with style and category names beside it.

    Chunks are computed and written one by one; the file appears whole.

    Parameters
    ----------
    labels
        As `segment` gives them: (y, x), uint8, 255 = nodata.
    path
        The .tif to make.
    chunk_size
        Side of the pieces that are computed at a time, in pixels.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    UsageError
        If the labels are not a (y, x) array of uint8 from `segment`.
    StorageError
        If the file cannot be written.
    """
    path = Path(path)
    if labels.dims != ("y", "x") or labels.dtype != "uint8":
        raise UsageError(f"labels with dimensions {labels.dims} of {labels.dtype}; (y, x) of uint8 is needed")
    bounds = bounds_of(labels)
    folder = path.parent / ".partial" / f"{path.name}.write"
    plan = stages(bounds.height, bounds.width, chunk_side(chunk_size))
    place = georeference_of(labels)
    segments = int(labels.attrs.get("segments", NODATA))
    meaning = Labelled(place, str(labels.attrs.get("codebook_hash", "")), "", style.LabelStyle.of(segments))
    try:
        shutil.rmtree(folder, ignore_errors=True)
        with open_pool(Workers("threads", usable_cores())) as pool:
            for _ in pool.each(_label_unit, ((labels, folder, plan[0], u) for u in plan[0].units())):
                pass
            for below, stage in pairwise(plan):
                for _ in pool.each(_merge_unit, ((folder, stage, u, below) for u in stage.units())):
                    pass
        histogram = cog.assemble(folder, plan, meaning, folder / "labels.tif")
        geo = tiff.geo_tags(place)
        sidecar = style.aux_xml(meaning.style, histogram, None if geo.exact_crs else place.crs_wkt)
        durable.write_bytes(path.with_name(f"{path.name}.aux.xml"), sidecar.encode())
        durable.write_bytes(path.with_suffix(".qml"), style.qml(meaning.style).encode())
        durable.move(folder / "labels.tif", path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return path


def _label_unit(labels: xr.DataArray, folder: Path, stage: Stage, unit: tuple[int, int]) -> None:
    rows, cols = stage.window(unit).slices()
    cog.write_unit(folder, stage, unit, labels[rows, cols].data.compute(scheduler="synchronous"))


def _merge_unit(folder: Path, stage: Stage, unit: tuple[int, int], below: Stage) -> None:
    cog.write_unit(folder, stage, unit, parts.merged_remnants(folder, stage, unit, below))
