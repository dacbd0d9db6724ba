"""What a sink is: where the labels of one raster go, unit by unit, and what stands there at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.durable.checksums import Beside, Written
from pipeline.sinks.cog import Cog
from pipeline.sinks.label_info import LabelInfo
from pipeline.sinks.pyramid import Stage
from pipeline.sinks.zarr_store import ZarrStore

SUFFIXES = {"cog": ".tif", "zarr": ".zarr"}
"""Suffix of the labels in each format of `--format`."""


class Sink(Protocol):
    """The sink of one raster: a small frozen value that goes into every task.

    It works in the raster's workspace and nowhere else. A unit may be written twice, by any process;
    no two units touch the same file.
    """

    @property
    def files(self) -> tuple[str, ...]:
        """Names of what `assemble` makes, files or folders; the labels last."""

    @property
    def raster(self) -> str:
        """The name among these by which GDAL opens the labels with all their levels."""

    def write_unit(
        self,
        folder: Path,
        stage: Stage,
        unit: tuple[int, int],
        labels: npt.NDArray[np.uint8],
        beside: Sequence[Beside] = (),
    ) -> Written:
        """Make a unit durable: its labels of all the stage's levels, and its part.

        Parameters
        ----------
        folder
            Workspace of the raster.
        stage, unit
            Which unit.
        labels
            Its labels at the stage's first level, uint8, of the unit's window.
        beside
            Files without which the unit is not whole.

        Returns
        -------
        Written
            What the part is, by which `parts.intact` tells later whether the unit is still whole.
        """

    def assemble(self, folder: Path, stages: tuple[Stage, ...], meaning: LabelInfo) -> npt.NDArray[np.int64]:
        """Make `files` in the workspace, whole and synced, from the units; gives `parts.histogram`."""


def sink_of(file: str, zarr_version: int = 3) -> Sink:
    """The sink for labels of a name, told by its suffix.

    Parameters
    ----------
    file
        Name of the labels; `.zarr` is a Zarr store, all else a COG.
    zarr_version
        3, or 2 for older readers.
    """
    return ZarrStore(file, zarr_version) if file.endswith(SUFFIXES["zarr"]) else Cog(file)
