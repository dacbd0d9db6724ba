"""`OUT/run.json`: what the run in OUT was asked for, and where each of its rasters stands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, StrictInt

from pipeline import out_names
from pipeline.config import RunConfig, rebuilt
from pipeline.durable.bounded_json import read_object
from pipeline.durable.files import write_json
from pipeline.errors import RasterError, UsageError, one_line
from pipeline.out.record import Text

FORMAT = "tilewright-run-1"

DAMAGED = "run again with --overwrite, or fetch it again"
"""What to do about a file of OUT that is not what was written."""


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
    stack
        Name and file of each band, if it is a stack.
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
    stack: tuple[tuple[Text, Text], ...] | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The files that it is known by."""
        return tuple(file for _, file in self.stack) if self.stack else (self.source,)


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
    named_style
        Tells names and colours that the codebook of ``--codebook`` had from others; None without one.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    format: Text
    config: dict[str, Any]
    area: Text | None = None
    named_style: Text | None = None
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
        run = cls.model_validate(read_object(path))
        if len(run.rasters) == 1 and run.rasters[0].stack is None and _is_stack(run.config.get("stack")):
            # before there were scenes, the options alone had the files of the one stack
            one = run.rasters[0].model_copy(update={"stack": tuple(map(tuple, run.config["stack"]))})
            return run.model_copy(update={"rasters": (one,)})
        return run

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
        style = {} if self.named_style is None else {"named_style": self.named_style}
        value = {"format": self.format, "config": self.config, **area, **style, "rasters": rasters, **summary}
        write_json(path, value, partial)


def _is_stack(value: object) -> bool:
    """Whether a value is a list of names and files."""
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
        for pair in value
    )


def run_of(out: Path) -> tuple[RunFile, RunConfig]:
    """The run.json of a folder, and the configuration in it.

    Raises
    ------
    UsageError
        If there is none.
    RasterError
        If it is damaged, or of another version.
    """
    path = out / out_names.RUN
    if not path.is_file():
        raise UsageError(f"{out}: no run stands there (no run.json); name the OUT of a run")
    try:
        run = RunFile.read(path)
        config = rebuilt(run.config, str(path))
    except (OSError, ValueError, UsageError) as error:
        raise RasterError(str(path), f"damaged ({one_line(error)}); {DAMAGED}") from None
    if run.format != FORMAT:
        raise RasterError(str(path), f"not of this version; {DAMAGED}")
    return run, config
