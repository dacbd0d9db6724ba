"""`OUT/run.json`: what the run in OUT was asked for, and where each of its rasters stands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, StrictInt

from pipeline.durable.bounded_json import read_object
from pipeline.durable.files import write_json
from pipeline.out.record import Text

FORMAT = "tilewright-run-1"


class RasterState(BaseModel):
    """Where one raster of a run stands; what is not known is None and not written.

    Parameters
    ----------
    name, source
        Of its outputs, and its path.
    state
        waiting, done, failed or skipped.
    output, codebook_hash
        The name of its labels and the codebook that they were made with, if they are done.
    reason, error
        Why it was skipped, or failed.
    fingerprint
        Of the input when the run began with it.
    chunks, pixels
        Its size.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    name: Text
    source: Text
    state: Text = "waiting"
    output: Text | None = None
    codebook_hash: Text | None = None
    reason: Text | None = None
    error: Text | None = None
    fingerprint: Text | None = None
    chunks: StrictInt | None = None
    pixels: StrictInt | None = None


class RunFile(BaseModel):
    """What run.json holds, and `write` adds a summary to.

    Parameters
    ----------
    format
        `FORMAT`, if this version understands it.
    config
        The options of the run.
    area
        Tells the polygons of `--aoi` from others; None without it.
    rasters
        In the run's order.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    format: Text
    config: dict[str, Any]
    area: Text | None = None
    rasters: tuple[RasterState, ...]

    @classmethod
    def read(cls, path: Path) -> RunFile:
        """What a run.json holds.

        Raises
        ------
        OSError
            If it cannot be read.
        ValueError
            If it is none.
        """
        return cls.model_validate(read_object(path))

    def write(self, path: Path, summary: Mapping[str, Any], partial: Path) -> None:
        """Write a run.json durably.

        Parameters
        ----------
        path
            Its name.
        summary
            What it says beside, for people and `status`; `read` ignores it.
        partial
            Where it stands until it is whole: a process that is killed leaves nothing beside the outputs.

        Raises
        ------
        StorageError
            If the disk is full or not writable.
        """
        area = {"area": self.area} if self.area else {}
        rasters = [raster.model_dump(exclude_none=True) for raster in self.rasters]
        value = {"format": self.format, "config": self.config, **area, "rasters": rasters, **summary}
        write_json(path, value, partial)
