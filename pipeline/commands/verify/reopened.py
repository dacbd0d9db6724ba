"""The inputs of a finished run as they are now: opened as the run opened them, or why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from engine.codebook import Codebook
from pipeline.config import RunConfig
from pipeline.errors import TilewrightError, one_line
from pipeline.out.run_file import RunFile
from pipeline.running.inputs import Input, open_inputs
from pipeline.workers.pool import Pool


@dataclass(frozen=True)
class Reopened:
    """What came of opening the inputs of a run.

    Parameters
    ----------
    inputs
        Those that were opened, by source.
    failures
        Why others cannot be opened, by source.
    reason
        Why none can, or a source that neither has; "" where there is no such reason.
    """

    inputs: Mapping[str, Input] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""

    def missing(self, source: str) -> str:
        """Why a source was not opened."""
        return self.failures.get(source) or self.reason or f"{source}: not among the sources any more"


def reopen(
    config: RunConfig,
    run: RunFile,
    pool: Pool,
    cell_px: int,
    codebook: Codebook | None,
    advance: Callable[[int, int], None],
) -> Reopened:
    """The inputs of a finished run; an error that concerns all of them is in it.

    Parameters
    ----------
    config, run
        The run's configuration, and its run.json.
    pool
        Opens.
    cell_px
        Side of a cell.
    codebook
        One from elsewhere, whose bands are used.
    advance
        Hears how many of how many are opened.
    """
    try:
        opened = open_inputs(config, pool, cell_px, codebook, advance)
    except TilewrightError as error:
        return Reopened(reason=one_line(error))
    if run.area not in (None, opened.area):
        return Reopened(reason=f"{config.aoi}: its polygons have changed since")
    failures = {source.path: one_line(error) for source, error in opened.failures}
    # a mosaic is of all its tiles
    reason = next(iter(failures.values())) if config.mosaic and failures else ""
    inputs = {raster.source.path: raster for raster in opened.inputs}
    return Reopened(inputs, failures, reason)
