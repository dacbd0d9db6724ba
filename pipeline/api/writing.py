"""Writing labels from Python: the same sink as a run's, fed from a lazy array."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from itertools import pairwise
from pathlib import Path

import xarray as xr

from engine.grid import DEFAULT_CHUNK_PX, chunk_side
from engine.kernel import NODATA
from pipeline import out_names
from pipeline.api.arrays import computed
from pipeline.api.position import georeference_of, spatial_dims
from pipeline.durable.files import move, sync_folder, write_bytes
from pipeline.errors import UsageError
from pipeline.events.observer import Advance, ignore_progress
from pipeline.legend.label_style import LabelStyle
from pipeline.sinks import parts, style
from pipeline.sinks.label_info import LabelInfo
from pipeline.sinks.pyramid import Stage, stages
from pipeline.sinks.sink import SUFFIXES, Sink, sink_of
from pipeline.source.naming.paths import expanded
from pipeline.workers.pool import Workers, open_pool, usable_cores


def write(
    labels: xr.DataArray,
    path: str | Path,
    *,
    chunk_size: int = DEFAULT_CHUNK_PX,
    zarr_version: int = 3,
    progress: Advance = ignore_progress,
) -> Path:
    """Write labels as a Cloud Optimized GeoTIFF or a Zarr store, with what styles them beside it.

    Chunks are computed and written one by one; the file or store appears whole. It lies where the CRS and
    the coordinates of the labels say now, as a file of ``labels.rio.to_raster`` does.

    Parameters
    ----------
    labels
        As `segment` gives them: (y, x), uint8, 255 = nodata.
    path
        The .tif or .zarr to make; what stands there is replaced.
    chunk_size
        Side of the pieces that are computed at a time, in pixels; of a Zarr store's shards too.
    zarr_version
        Format of a Zarr store: 3, or 2 for older readers.
    progress
        Called as ``progress(done, total)`` with the number of chunks of all levels that are written.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    UsageError
        If the labels are not a (y, x) array of uint8 from `segment`, their coordinates are in uneven
        steps, or the suffix is another one.
    StorageError
        If the file cannot be written.
    """
    path = Path(expanded(str(path)))
    if not isinstance(labels, xr.DataArray):
        raise UsageError(
            f"a {type(labels).__name__} has no grid to write labels on; give what segment returns"
        )
    if labels.ndim != 2 or labels.dims != spatial_dims(labels) or labels.dtype != "uint8":
        raise UsageError(f"labels with dimensions {labels.dims} of {labels.dtype}; (y, x) of uint8 is needed")
    if path.suffix not in {*SUFFIXES.values(), ".tiff"}:
        raise UsageError(
            f"{path}: labels are written as {' or '.join(SUFFIXES.values())}; choose one of these suffixes"
        )
    if zarr_version not in {2, 3}:
        raise UsageError(f"zarr_version {zarr_version}; 3 and 2 can be written")
    _refuse_target(labels, path)
    sink = sink_of(path.name, zarr_version)
    folder = path.parent / out_names.PARTIAL / f"{path.name}{out_names.WRITE_SUFFIX}"
    plan = stages(labels.shape[0], labels.shape[1], chunk_side(chunk_size))
    total = sum(1 for stage in plan for _ in stage.units())
    segments = int(labels.attrs.get("segments", NODATA))
    meaning = LabelInfo(
        georeference_of(labels),
        str(labels.attrs.get("codebook_hash", "")),
        "",
        LabelStyle.of_flags(labels.attrs, segments),
    )
    try:
        shutil.rmtree(folder, ignore_errors=True)
        with open_pool(Workers("threads", usable_cores())) as pool:
            written = itertools.chain(
                pool.each(_label_unit, ((labels, sink, folder, plan[0], u) for u in plan[0].units())),
                *(
                    pool.each(_merge_unit, [(sink, folder, stage, u, below) for u in stage.units()])
                    for below, stage in pairwise(plan)
                ),
            )
            for done, _ in enumerate(written, 1):
                progress(done, total)
        sink.assemble(folder, plan, meaning)
        write_bytes(path.with_suffix(".qml"), style.qml(meaning.style).encode())
        for name in sink.files:
            move(folder / name, path.with_name(name))
        sync_folder(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # another write's is not empty
            folder.parent.rmdir()
    return path


def _refuse_target(labels: xr.DataArray, path: Path) -> None:
    """Labels do not take the place of the raster that they are of, nor of a folder that is no store."""
    source = labels.attrs.get("source")
    if source and os.path.realpath(source) == os.path.realpath(path):
        raise UsageError(f"{path}: the labels would overwrite the raster that they label; choose another")
    store = path.suffix == ".zarr" and any((path / n).exists() for n in ("zarr.json", ".zgroup"))
    if path.is_dir() and not store:
        raise UsageError(f"{path}: a folder of this name is there already; choose another name")


def _label_unit(labels: xr.DataArray, sink: Sink, folder: Path, stage: Stage, unit: tuple[int, int]) -> None:
    rows, cols = stage.window(unit).slices()
    sink.write_unit(folder, stage, unit, computed(labels.data[rows, cols])[0])


def _merge_unit(sink: Sink, folder: Path, stage: Stage, unit: tuple[int, int], below: Stage) -> None:
    sink.write_unit(folder, stage, unit, parts.merged_remnants(folder, stage, unit, below))
