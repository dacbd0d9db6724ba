"""How fast a batch goes, and how long it will take yet."""

from __future__ import annotations

import time

from pipeline.events.kinds import RasterAdvanced
from pipeline.running.tally import Tally


class Pace:
    """Pixels done of a batch, and made by this run: what an earlier one left is done in no time.

    Parameters
    ----------
    pixels
        Of all rasters that are to be done.
    """

    def __init__(self, pixels: int) -> None:
        self._pixels = pixels
        self._done = 0
        self._made = 0
        self._start = time.monotonic()
        self._so_far: dict[str, tuple[int, int]] = {}

    def advanced(self, tally: Tally) -> RasterAdvanced:
        """Count what a raster has got on; returns the event that says so."""
        name, region = tally.job.name, tally.job.view.region
        done, made = self._so_far.get(name, (0, 0))
        self._done += tally.pixels_done - done
        self._made += tally.pixels_made - made
        self._so_far[name] = tally.pixels_done, tally.pixels_made
        now = time.monotonic()
        rate = max(1, tally.pixels_made) / max(1e-6, now - tally.started)
        batch_rate = max(1, self._made) / max(1e-6, now - self._start)
        return RasterAdvanced(
            raster=name,
            chunks_done=tally.chunks_done,
            chunks=tally.job.chunks,
            mpx_per_s=round(rate / 1e6, 2),
            eta_s=round((region.pixels - tally.pixels_done) / rate, 1),
            batch_done=self._done,
            batch_pixels=self._pixels,
            batch_eta_s=round((self._pixels - self._done) / batch_rate, 1),
        )

    def ended(self, tally: Tally) -> None:
        """A raster is over: what was not counted of it will not be waited for."""
        done, _ = self._so_far.pop(tally.job.name, (0, 0))
        self._pixels -= tally.job.view.region.pixels - done
