"""Workers: threads of this process, or processes of a local Dask cluster.

Measured on two cores, a 10,240 x 10,240 raster, whole command: threads 0.33 of GDAL's copy, an
in-process Dask cluster 0.43, two processes 0.69 (every heavy step releases the GIL). So `auto` takes
threads; a Dask cluster stands behind them where its dashboard is asked for.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeVar, runtime_checkable

from pipeline.errors import UsageError, WorkerLostError
from pipeline.process import signals, temporary
from pipeline.workers.dashboard import parse as parse_address
from pipeline.workers.threads import end_cell_threads

T = TypeVar("T")

_LOST_TWICE_S = (0.5, 2.0)
_NOTHING_S = 0.05


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


@runtime_checkable
class _Replacing(Protocol):
    """An executor that knows what its workers are at."""

    def replace_worker(self, future: Future[Any]) -> bool: ...


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
        return self.executor.submit(function, *arguments)

    def replace_worker(self, future: Future[Any]) -> bool:
        """Kill the worker that hangs in a task and start another; False where workers are threads."""
        return isinstance(self.executor, _Replacing) and self.executor.replace_worker(future)

    def each(self, function: Callable[..., T], calls: Iterable[tuple[Any, ...]]) -> Iterator[T]:
        """Results of ``function(*call)``, in the order of the calls, with a bounded number under way."""
        rest = iter(calls)
        queue = deque((self.submit(function, *c), c) for c in islice(rest, 2 * self.count))
        try:
            while queue:
                signals.check()
                future, call = queue.popleft()
                yield self._result(future, function, call)
                queue += [(self.submit(function, *c), c) for c in islice(rest, 1)]
        finally:
            for future, _ in queue:
                future.cancel()

    def _result(self, future: Future[T], function: Callable[..., T], call: tuple[Any, ...]) -> T:
        """The result of a call, which is made again if its worker dies, and not for ever."""
        for delay in _LOST_TWICE_S:
            try:
                return future.result()
            except WorkerLostError:
                time.sleep(delay)
            future = self.submit(function, *call)
        return future.result()


def finished(futures: Iterable[Future[Any]], timeout_s: float) -> set[Future[Any]]:
    """Wait for some futures, or a while; gives those that are done."""
    if not (several := set(futures)):
        time.sleep(min(timeout_s, _NOTHING_S))
    return wait(several, timeout_s, FIRST_COMPLETED).done


@contextlib.contextmanager
def open_pool(
    workers: Workers, *, dashboard: str | None = None, initializer: Callable[[], None] | None = None
) -> Iterator[Pool]:
    """Start workers and end them with the block; what those of killed processes left is removed first.

    Parameters
    ----------
    workers
        Which, and how many.
    dashboard
        Where Dask's dashboard is served, as [HOST:]PORT; None for nowhere.
    initializer
        Called first in each process that is started; not in this one.
    """
    temporary.remove_left()
    if workers.kind == "threads" and dashboard is None:
        with ThreadPoolExecutor(workers.count, thread_name_prefix="tilewright") as executor:
            try:
                yield Pool(executor, workers.count, workers.count)
            except BaseException:
                executor.shutdown(wait=True, cancel_futures=True)
                raise
            finally:
                end_cell_threads()
        return
    from pipeline.workers import local_cluster

    with local_cluster.local(
        workers.kind == "processes",
        workers.count,
        dashboard=None if dashboard is None else parse_address(dashboard),
        initializer=initializer,
    ) as executor:
        threads = 1 if workers.kind == "processes" else workers.count
        yield Pool(executor, workers.count, threads, executor.dashboard)
