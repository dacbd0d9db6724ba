"""How much memory a run will need, from what its measured parts needed."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.commands.plan.calibration import Calibration
from pipeline.commands.plan.measured_parts import Grid
from pipeline.process.memory import Footprint
from pipeline.tasks.job import Job

# bytes per pixel that a window's task holds beside the pixels: labels, their tiles, encoded tiles
_LABEL_BYTES = 4


def peak_bytes(footprint: Footprint, jobs: Sequence[Job], calibration: Calibration, workers: int) -> int:
    """Peak memory of all processes: what was measured, and what larger windows need beyond it.

    Parameters
    ----------
    footprint
        Watched while the parts were segmented.
    jobs
        The rasters of the run.
    calibration
        Of the parts.
    workers
        How many windows are labelled at a time.
    """
    grids = ((Grid.of(job), job) for job in jobs)
    return footprint.peak_bytes + max(
        max(0, min(grid.pixels, job.view.region.pixels) - calibration.largest_px)
        * (2 * job.view.raster.pixel_bytes + _LABEL_BYTES)
        * min(workers, grid.count)
        for grid, job in grids
    )
