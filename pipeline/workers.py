"""Workers: threads of this process, or processes of a local Dask cluster.

Measured on two cores, a 10,240 x 10,240 raster, whole command: threads 0.33 of GDAL's copy, an
in-process Dask cluster 0.43, two processes 0.69 (every heavy step releases the GIL). So `auto` takes
threads; a Dask cluster stands behind them where its dashboard is asked for.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from pipeline.errors import TilewrightError, UsageError
from pipeline.stopwatch import CarryingThreads

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Workers:
    """What a --workers option stands for: how many, and whether threads or processes."""

    kind: str
    count: int


def parse(text: str) -> Workers:
    """Read ``auto``, ``N``, ``threads:N`` or ``processes:N``.

    Raises
    ------
    UsageError
        If it is none of these.
    """
    kind, colon, number = text.rpartition(":")
    if text == "auto":
        return Workers("threads", usable_cores())
    if (
        kind in (("threads", "processes") if colon else ("",))
        and number.isascii()
        and number.isdigit()
        and 1 <= int(number) <= 1024
    ):
        return Workers(kind or "threads", int(number))
    raise UsageError(f"--workers {text}: expected auto, N, threads:N or processes:N with N from 1 to 1024")


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Pool:
    """Running workers.

    Parameters
    ----------
    executor
        Takes tasks.
    count
        Tasks that run at a time.
    threads
        Threads in each process.
    dashboard
        Address of the Dask dashboard, or None.
    """

    executor: Executor
    count: int
    threads: int = 1
    dashboard: str | None = None

    def submit(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        """Have a task done; gives its future."""
        if isinstance(self.executor, ThreadPoolExecutor):
            return self.executor.submit(function, *arguments)
        return self.executor.submit(_sendable, function, *arguments)

    def each(self, function: Callable[..., T], calls: Iterable[tuple[Any, ...]]) -> Iterator[T]:
        """Results of ``function(*call)``, in the order of the calls, with a bounded number under way."""
        rest = iter(calls)
        queue: list[Future[T]] = [self.submit(function, *c) for c in islice(rest, 2 * self.count)]
        try:
            while queue:
                yield queue.pop(0).result()
                queue += [self.submit(function, *c) for c in islice(rest, 1)]
        finally:
            for future in queue:
                future.cancel()


def _sendable(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function; its error goes without the errors behind it, some of which (GDAL's) do not pickle."""
    try:
        return function(*arguments)
    except TilewrightError as error:
        error.__cause__ = error.__context__ = None
        raise


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


_cell_pools: dict[int, ThreadPoolExecutor] = {}
_cell_lock = threading.Lock()


def cell_threads(count: int) -> ThreadPoolExecutor:
    """Threads that all windows of this process share, so that the last window keeps all of them busy."""
    with _cell_lock:
        if count not in _cell_pools:
            _cell_pools[count] = CarryingThreads(count, thread_name_prefix="tilewright-cells")
        return _cell_pools[count]


def _end_cell_threads() -> None:
    with _cell_lock:
        while _cell_pools:
            _cell_pools.popitem()[1].shutdown()


def finished(futures: Iterable[Future[Any]]) -> set[Future[Any]]:
    """Wait for some futures; gives those that are done."""
    return wait(futures, return_when=FIRST_COMPLETED).done


@contextlib.contextmanager
def open_pool(workers: Workers, *, dashboard: bool = False) -> Iterator[Pool]:
    """Start workers and end them with the block."""
    if workers.kind == "threads" and not dashboard:
        with ThreadPoolExecutor(workers.count, thread_name_prefix="tilewright") as executor:
            try:
                yield Pool(executor, workers.count, workers.count)
            except BaseException:
                executor.shutdown(wait=True, cancel_futures=True)
                raise
            finally:
                _end_cell_threads()
        return
    with _cluster(workers, dashboard=dashboard) as (client, address):
        threads = 1 if workers.kind == "processes" else workers.count
        yield Pool(client.get_executor(), workers.count, threads, address)


@contextlib.contextmanager
def _cluster(workers: Workers, *, dashboard: bool) -> Iterator[tuple[Any, str | None]]:
    import dask
    from distributed import Client, LocalCluster

    processes = workers.kind == "processes"
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    settings = {
        # windows are bounded by us; Dask's own spilling and pausing would only slow them
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": False,
        "distributed.worker.use-file-locking": False,
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers.count if processes else 1,
            threads_per_worker=1 if processes else workers.count,
            processes=processes,
            dashboard_address="127.0.0.1:8787" if dashboard else None,
            # without a dashboard Dask serves its metrics all the same, on a port that others may have
            scheduler_kwargs={} if dashboard else {"dashboard_address": "127.0.0.1:0"},
            memory_limit=0,
            # what fails is reported by the run, in a line; Dask would print the traceback too
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        if processes:
            client.run(_leave_interrupts_to_the_parent)
        yield client, cluster.dashboard_link if dashboard else None
