"""The sink protocol: writes the labels of one raster unit by unit, and assembles them into files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.durable.checksums import Beside, FileDigest
from pipeline.sinks.cog import Cog
from pipeline.sinks.label_info import LabelInfo
from pipeline.sinks.pyramid import Stage
from pipeline.sinks.zarr_store import ZarrStore

SUFFIXES = {"cog": ".tif", "zarr": ".zarr"}
"""Suffix of the labels in each format of `--format`."""


class Sink(Protocol):
    """The sink of one raster: a small frozen value that is passed to every task.

    It writes into the raster's workspace only. A unit may be written twice, by any process; no two
    units write to the same file.
    """

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files or folders that `assemble` makes; the labels last."""

    @property
    def raster(self) -> str:
        """The one of `files` by which GDAL opens the labels with all their levels."""

    def write_unit(
        self,
        folder: Path,
        stage: Stage,
        unit: tuple[int, int],
        labels: npt.NDArray[np.uint8],
        beside: Sequence[Beside] = (),
    ) -> FileDigest:
        """Make a unit durable: its labels at all the stage's levels, and its part.

        Parameters
        ----------
        folder
            Workspace of the raster.
        stage, unit
            The stage, and the unit in it.
        labels
            The unit's labels at the stage's first level, uint8.
        beside
            Further files that belong to the unit: it is incomplete without them.

        Returns
        -------
        FileDigest
            Size and digest of the part; `parts.intact` checks the unit against them.
        """

    def assemble(
        self, folder: Path, stages: tuple[Stage, ...], label_info: LabelInfo
    ) -> npt.NDArray[np.int64]:
        """Make `files` in the workspace from the units, complete and synced; returns `parts.histogram`."""


_SINKS: dict[str, Callable[[str, int], Sink]] = {".tif": lambda file, _: Cog(file), ".zarr": ZarrStore}
"""Makes the sink of each suffix, from the name of the label file and the version of Zarr."""


def sink_of(file: str, zarr_version: int = 3) -> Sink:
    """The sink for a label file, chosen by the suffix of its name.

    Parameters
    ----------
    file
        Name of the label file; a suffix that is not in `SUFFIXES` is a COG's.
    zarr_version
        3, or 2 for older readers.
    """
    return _SINKS.get(Path(file).suffix, _SINKS[SUFFIXES["cog"]])(file, zarr_version)
