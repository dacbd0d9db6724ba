"""A run's metrics: what they say, and that Dask's own endpoint serves them."""

from __future__ import annotations

import urllib.request
from urllib.parse import urlsplit

import pytest

from pipeline.config import build
from pipeline.events.kinds import (
    RasterAdvanced,
    RasterDone,
    RasterFailed,
    RasterStarted,
    RunStarted,
    WindowDone,
)
from pipeline.events.live_state import LiveState
from pipeline.events.metrics import metrics_of
from pipeline.events.progress import Silent
from pipeline.running.run import run
from tests.rasters import noise, write_geotiff

SECONDS = {"read_s": 0.5, "label_s": 1.0, "encode_s": 0.25, "write_s": 0.125}


def test_metrics_tell_chunks_pixels_rasters_failures_memory_and_seconds():
    standing = LiveState("r")
    standing.event(RunStarted(rasters=5, workers=2, dashboard="http://x"))
    standing.event(RasterStarted("a", chunks=4, chunk_px=512, pixels=100))
    for stage in (0, 0, 1):
        standing.event(WindowDone("a", stage, 0, 0, 512, 512, chunks=1, bad_chunks=0, **SECONDS))
    pace = {"mpx_per_s": 1.0, "eta_s": 1.0, "batch_eta_s": 9.0}
    standing.event(RasterAdvanced("a", 2, 4, batch_done=50, batch_pixels=500, **pace))
    standing.event(RasterFailed("b", "damaged"))
    standing.event(RasterDone("c", "c.tif", 1.0))
    found = {m.name: m for m in metrics_of({**standing.snapshot(), "memory_bytes": 123})}
    values = {name: m.values[""] for name, m in found.items() if not m.label}
    assert values == {
        "tilewright_chunks_done": 2,
        "tilewright_bad_chunks": 0,
        "tilewright_windows_done": 3,
        "tilewright_failures": 1,
        "tilewright_pixels_done": 50,
        "tilewright_pixels": 500,
        "tilewright_memory_bytes": 123,
    }
    states = {"waiting": 2, "running": 1, "done": 1, "failed": 1, "skipped": 0}
    assert found["tilewright_rasters"].values == states
    seconds = {"read": 1.5, "label": 3.0, "encode": 0.75, "write": 0.375}
    assert found["tilewright_task_seconds"].values == seconds


def test_dask_s_endpoint_serves_the_run_s_metrics_while_it_lasts(tmp_path):
    prometheus = pytest.importorskip("prometheus_client")
    source = write_geotiff(tmp_path / "a.tif", noise(3, 600, 700))
    pages = []

    class Scraper(Silent):
        """Reads the endpoint when the raster is done."""

        def event(self, event):
            if isinstance(event, RunStarted):
                self.address = urlsplit(event.dashboard)
            if isinstance(event, RasterDone):
                with urllib.request.urlopen(f"http://{self.address.netloc}/metrics", timeout=30) as page:
                    pages.append(page.read().decode())

    options = {"workers": "1", "dashboard": "0", "segments": 3}
    run(build({"sources": [str(source)], "out": str(tmp_path / "out"), **options}), Scraper())
    (page,) = pages
    assert 'tilewright_rasters{state="done"} 1.0' in page
    assert "tilewright_chunks_done_total" in page
    assert "dask_scheduler_workers" in page
    assert "tilewright" not in prometheus.generate_latest().decode()
