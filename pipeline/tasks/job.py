"""One raster's work as a value: what there is to do, and what its outputs are called."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.codebook import Codebook
from engine.errors import NetworkError
from engine.grid import Window, chunk_side, tiles
from engine.kernel import Kernel
from engine.labels.smoothing import Smoothing
from pipeline import out_names
from pipeline.config import RunConfig
from pipeline.durable.ledger import Unit
from pipeline.errors import one_line
from pipeline.sinks.pyramid import Stage, stages
from pipeline.sinks.sink import SUFFIXES, Sink, sink_of
from pipeline.source.view import View
from pipeline.versions import versions

# a task of about this side: small chunks go together, so that the coordinator's cost stays small
_WINDOW_PX = 2048
# and of at most about this where it follows strips
_WINDOW_BYTES = 64 << 20


@dataclass(frozen=True)
class Redo:
    """Finished labels of which only some chunks are made anew.

    Parameters
    ----------
    labels
        The COG or Zarr store that holds them.
    units
        The chunks to make anew.
    """

    labels: Path
    units: frozenset[Unit]


@dataclass(frozen=True)
class Job:
    """One raster to segment with one codebook.

    Parameters
    ----------
    name
        Name of the outputs.
    view
        The raster and which part of it.
    kernel, codebook
        What labels it, and the frozen centres.
    chunk_px
        Side of a chunk, a multiple of 512.
    out
        Folder of the outputs.
    sink
        What makes files of the labels.
    smoothing
        What is made of the kernel's labels, or None.
    threads
        Threads of a worker's process that share the cells of costly windows.
    fingerprint
        Tells this state of the input from another.
    stamp
        Tells whether the input's files may have been written to since; "" where nothing cheap does.
    redo
        Finished labels to take what they hold from, or None.
    fallback
        Kernel to begin anew with if this one's device fails, or None.
    device_failure
        Why that was done; "" where it was not.
    fitted_elsewhere
        Whether the codebook was fitted on other rasters than those of the run.
    measured
        Whether it is a part of a raster that is segmented to see how long that takes: what lies beyond
        does not count.
    """

    name: str
    view: View
    kernel: Kernel
    codebook: Codebook
    chunk_px: int
    out: Path
    sink: Sink
    smoothing: Smoothing | None = None
    threads: int = 1
    fingerprint: str = ""
    stamp: str = ""
    redo: Redo | None = None
    fallback: Kernel | None = None
    device_failure: str = ""
    fitted_elsewhere: bool = False
    measured: bool = False

    @property
    def identity(self) -> dict[str, Any]:
        """What the bytes of its work in progress depend on, as JSON values."""
        region, area = self.view.region, self.view.area
        return {
            "input": self.fingerprint,
            "codebook": self.codebook.content_hash,
            "region": [region.row, region.col, region.height, region.width],
            "area": None if area is None else area.digest,
            "chunk_px": self.chunk_px,
            "sink": repr(self.sink),
            "device": self.kernel.device,
            "tolerant": self.view.tolerant,
            **({} if self.smoothing is None else {"smooth": str(self.smoothing)}),
            "redo": None if self.redo is None else sorted(self.redo.units),
            "versions": versions(),
        }

    @property
    def around(self) -> Window:
        """The region, and what beyond it its labels depend on when they are smoothed; absolute.

        That is of whole cells, or blocks of a kernel that is not costly, as far as the raster reaches.
        """
        region, bounds = self.view.region, self.view.bounds
        if self.smoothing is None or self.measured:
            return region
        side = self.kernel.cell_px if self.kernel.costly else self.kernel.stride_px
        return region.grow(self.smoothing.halo_px, bounds).snap(side, bounds)

    @property
    def halo_px(self) -> int:
        """Pixels beyond a window that its labels depend on."""
        return self.kernel.halo_px + (0 if self.smoothing is None else self.smoothing.halo_px)

    @property
    def folder(self) -> Path:
        """Where work in progress lives."""
        return self.out / out_names.PARTIAL / self.name

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of the pyramid; the units of the first are the chunks."""
        return stages(self.view.region.height, self.view.region.width, self.chunk_px)

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return self.stages[0].rows * self.stages[0].cols

    def after(self, error: BaseException | None) -> Job | None:
        """The same work on the fallback, if there is one and the error is of a network on its device."""
        if self.fallback is None or not isinstance(error, NetworkError):
            return None
        return replace(self, kernel=self.fallback, fallback=None, device_failure=one_line(error))

    def unit(self, chunk: Window) -> Unit:
        """The unit that a chunk of the region is."""
        return chunk.row // self.chunk_px, chunk.col // self.chunk_px

    def windows(self) -> Iterator[Window]:
        """What one task does each, in pixels of the region: a chunk, or a few. Never listed.

        Of strips each is decoded whole for any part of it, so there windows are as wide as memory allows.
        """
        region = Window(0, 0, self.view.region.height, self.view.region.width)
        side = max(1, _WINDOW_PX // self.chunk_px) * self.chunk_px
        raster = self.view.raster
        strip, most = min(raster.block_shape[1], region.width), _WINDOW_BYTES // (side * raster.pixel_bytes)
        if min(strip, most) <= side:
            return tiles(region, side)
        pieces = -(-strip // most)
        return tiles(region, side, -(-strip // (pieces * self.chunk_px)) * self.chunk_px)


def job_of(
    config: RunConfig,
    name: str,
    view: View,
    kernel: Kernel,
    codebook: Codebook,
    out: Path,
    *,
    threads: int = 1,
    fingerprint: str = "",
    stamp: str = "",
    fallback: Kernel | None = None,
    fitted_elsewhere: bool = False,
) -> Job:
    """The whole job of one raster, with the chunks and the output that a configuration asks for.

    Parameters
    ----------
    config
        The run's configuration.
    name, view, kernel, codebook, out, threads, fingerprint, stamp, fallback, fitted_elsewhere
        As in `Job`.
    """
    return Job(
        name=name,
        view=view,
        kernel=kernel,
        codebook=codebook,
        chunk_px=chunk_side(config.chunk_size, kernel.cell_px),
        out=out,
        smoothing=config.smoothing,
        sink=sink_of(name + SUFFIXES[config.format], config.zarr_version),
        threads=threads,
        fingerprint=fingerprint,
        stamp=stamp,
        fallback=fallback,
        fitted_elsewhere=fitted_elsewhere,
    )
