"""A run's own metrics at the endpoint that Dask's scheduler serves (``--dashboard``, path ``/metrics``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.events.kinds import Event, RunStarted
from pipeline.events.live_state import STATES
from pipeline.events.observer import Observer


@dataclass(frozen=True)
class Metric:
    """One metric: its name, what it is, and its value for each label ("" where it has none).

    Parameters
    ----------
    kind
        "gauge", or "counter" for what only grows within a run.
    label
        Name of the label, or "".
    """

    name: str
    about: str
    kind: str
    label: str
    values: dict[str, float]


def metrics_of(state: dict[str, Any]) -> list[Metric]:
    """The metrics of where a run stands (`Journal.snapshot`)."""
    totals, batch, counts = state["totals"], state["batch"], state["counts"]
    ended = {state: counts[state] for state in ("done", "failed", "skipped")}
    running = len(state["rasters"])
    states = {
        **dict.fromkeys(STATES, 0),
        **ended,
        "running": running,
        "waiting": max(0, counts["rasters"] - running - sum(ended.values())),
    }
    seconds = {name.removesuffix("_s"): totals[name] for name in totals if name.endswith("_s")}

    def one(name: str, about: str, kind: str, value: float) -> Metric:
        return Metric(f"tilewright_{name}", about, kind, "", {"": value})

    found = [
        one("chunks_done", "Chunks made durable by this run", "counter", totals["chunks"]),
        one("bad_chunks", "Chunks that became nodata in this run", "counter", totals["bad_chunks"]),
        one(
            "windows_done",
            "Tasks done by this run",
            "counter",
            totals["windows"],
        ),
        one("failures", "Rasters that failed in this run", "counter", counts["failed"]),
        Metric("tilewright_task_seconds", "Seconds of work of all workers", "counter", "work", seconds),
        Metric("tilewright_rasters", "Rasters of the run", "gauge", "state", states),
        one("pixels_done", "Pixels that are durable", "gauge", batch["pixels_done"]),
        one("pixels", "Pixels of all rasters of the run", "gauge", batch["pixels"]),
        one("memory_bytes", "Resident memory of the run's processes", "gauge", state["memory_bytes"]),
    ]
    if batch["eta_s"] is not None:
        found.append(one("eta_seconds", "Seconds left, at the rate of late", "gauge", batch["eta_s"]))
    return found


class _Collector:
    """What prometheus_client asks at each scrape."""

    def __init__(self, snapshot: Callable[[], dict[str, Any]]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Any]:
        """Each metric with its values."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        for metric in metrics_of(self._snapshot()):
            family: Any = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            made = family(metric.name, metric.about, labels=[metric.label] if metric.label else [])
            for label, value in metric.values.items():
                made.add_metric([label] if metric.label else [], value)
            yield made


class Metrics(Observer):
    """Serves a run's metrics, from its start on where it has a dashboard.

    Dask's scheduler runs in this process and serves the process-wide registry.

    Parameters
    ----------
    snapshot
        Returns where the run stands (`Journal.snapshot`).
    """

    def __init__(self, snapshot: Callable[[], dict[str, Any]]) -> None:
        self._snapshot = snapshot
        self._collector: _Collector | None = None

    def event(self, event: Event) -> None:
        """Begin to serve when the run starts."""
        if isinstance(event, RunStarted) and event.dashboard and self._collector is None:
            from prometheus_client import REGISTRY

            self._collector = _Collector(self._snapshot)
            REGISTRY.register(self._collector)

    def close(self) -> None:
        """Serve the metrics no longer."""
        if self._collector is not None:
            from prometheus_client import REGISTRY

            REGISTRY.unregister(self._collector)
            self._collector = None
