"""The record of a raster: from what, with what and by what its labels were made."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from pipeline.config import RunConfig
from pipeline.running.tally import Tally
from pipeline.versions import versions


def raster_record(tally: Tally, fingerprint: str, config: RunConfig) -> dict[str, Any]:
    """The record of a raster, but for what only the finished labels tell."""
    job = tally.job
    raster, region = job.view.raster, job.view.region
    return {
        "name": job.name,
        "source": raster.path,
        "input": {
            "fingerprint": fingerprint,
            "width": raster.width,
            "height": raster.height,
            "bands": list(raster.bands),
            "dtype": raster.dtype,
            # NaN is no JSON
            "nodata": [n if n is None or np.isfinite(n) else str(n) for n in raster.nodata],
            "crs_wkt": raster.georeference.crs_wkt,
            "transform": raster.georeference.transform,
            **raster.origin,
        },
        "region": [region.row, region.col, region.height, region.width],
        "parameters": {
            **config.meaning,
            **config.layout,
            "chunk_size": job.chunk_px,
            # of these labels: a later run may be asked for another, which redoes nothing that is done
            "on_bad_chunk": config.on_bad_chunk,
        },
        "codebook_hash": job.codebook.content_hash,
        "kernel": job.codebook.kernel,
        "device": job.kernel.device,
        **({"device_failure": job.device_failure} if job.device_failure else {}),
        "fit": job.codebook.fit,
        "chunks": tally.chunks_done,
        "timings": {
            "wall_s": round(time.monotonic() - tally.started, 3),
            **tally.effort.rounded(3),
        },
        "versions": versions(),
    }
