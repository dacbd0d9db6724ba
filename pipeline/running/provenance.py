"""What a run knows of the making of a raster's labels, for their record."""

from __future__ import annotations

import time
from itertools import islice

import numpy as np

from pipeline.config import RunConfig
from pipeline.out.record import Provenance, RecordedInput
from pipeline.running.tally import Tally
from pipeline.source.naming.paths import absolute
from pipeline.versions import versions


def provenance(tally: Tally, config: RunConfig) -> Provenance:
    """What the record of a raster says before its labels are finished."""
    job = tally.job
    raster, region = job.view.raster, job.view.region
    is_file = [member.path for member in islice(raster.members, 2)] == [raster.path]
    origin = raster.origin
    if stack := origin.get("stack"):
        origin = {**origin, "stack": [{**layer, "path": absolute(layer["path"])} for layer in stack]}
    return Provenance(
        name=job.name,
        source=absolute(raster.path) if is_file else raster.path,
        input=RecordedInput(
            fingerprint=job.fingerprint,
            width=raster.width,
            height=raster.height,
            bands=raster.bands,
            dtype=raster.dtype,
            # NaN is no JSON
            nodata=tuple(n if n is None or np.isfinite(n) else str(n) for n in raster.nodata),
            crs_wkt=raster.georeference.crs_wkt,
            transform=raster.georeference.transform,
            **origin,
        ),
        region=(region.row, region.col, region.height, region.width),
        parameters={
            **config.meaning,
            **config.finish,
            **config.layout,
            "chunk_size": job.chunk_px,
            # of the kernel: where seams may be looked for without it
            "cell_px": job.kernel.cell_px,
            "stride_px": job.kernel.stride_px,
            # as it was fitted: with a codebook from elsewhere nobody is asked for it
            "feature_set": None if job.codebook.feature_set is None else str(job.codebook.feature_set),
            # of these labels: a later run may be asked for another, which redoes nothing that is done
            "on_bad_chunk": config.on_bad_chunk,
        },
        codebook_hash=job.codebook.content_hash,
        kernel=job.codebook.kernel,
        device=job.kernel.device,
        device_failure=job.device_failure or None,
        fit=job.codebook.fit,
        style=job.codebook.style_hash,
        outside_limits=None if tally.outside_limits is None else round(tally.outside_limits, 4),
        chunks=tally.chunks_done,
        timings={"wall_s": round(time.monotonic() - tally.started, 3), **tally.effort.rounded(3)},
        versions=versions(),
    )
