"""A local Dask cluster as an executor: processes, replaced when they die, or threads with a dashboard."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from pathlib import Path
from typing import Any, TypeVar

import dask
import psutil
from distributed import Client, LocalCluster
from distributed.core import Status
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.scheduler import KilledWorker

from pipeline.errors import TilewrightError, UsageError, WorkerLostError, one_line
from pipeline.process import signals, temporary
from pipeline.process.warning_filters import ignored
from pipeline.workers.dashboard import Address, to_serve

T = TypeVar("T")

_START_AGAIN_S = (0.5, 2.0)
_LOOK_EVERY_S = 1.0
_DASK_PROCESS = "Dask Worker process"
_SETTINGS = {
    # a process that starts slowly on a busy machine is not lost; those that are, `look_after` sees
    "distributed.deploy.lost-worker-timeout": "1 day",
    # windows are bounded by us; Dask's own spilling and pausing would only slow them
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.worker.use-file-locking": False,
    # a task is done again by us, and not for ever
    "distributed.scheduler.allowed-failures": 0,
}


class ClusterExecutor(Executor):
    """Tasks for a cluster's workers, one at a time for each: so a worker that dies takes one task with it.

    Parameters
    ----------
    cluster, client
        The cluster, and a client of it.
    count
        Tasks that run at a time.
    dashboard
        Address of the dashboard, or None.
    """

    def __init__(self, cluster: LocalCluster, client: Client, count: int, dashboard: str | None) -> None:
        self.dashboard = dashboard
        self._cluster = cluster
        self._client = client
        self._count = count
        self._loop = client.loop.asyncio_loop  # type: ignore[union-attr]
        self._lock = threading.RLock()
        self._waiting: deque[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = deque()
        self._tasks: dict[Future[Any], Any] = {}

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **_: Any) -> Future[Any]:
        """Have a task done; gives its future, which can be cancelled until a worker gets the task."""
        future: Future[Any] = Future()
        self._waiting.append((future, function, arguments))
        self._fill()
        return future

    def _fill(self) -> None:
        """Give tasks to workers that have none."""
        with self._lock:
            while self._waiting and len(self._tasks) < self._places():
                future, function, arguments = self._waiting.popleft()
                if future.set_running_or_notify_cancel():
                    key = _key(function, arguments)
                    task = self._client.submit(_sendable, function, *arguments, key=key, pure=False)
                    self._tasks[future] = task
                    asyncio.run_coroutine_threadsafe(self._pass_on(task, future), self._loop)

    def _places(self) -> int:
        """Tasks that living workers can be at; where none lives, one waits for the first that does."""
        scheduler: Any = self._cluster.scheduler
        return max(1, min(self._count, sum(int(w.nthreads) for w in list(scheduler.workers.values()))))

    async def look_after(self) -> None:
        """Start workers that Dask has given up, and give tasks to those that are back, until cancelled.

        It gives up one whose process dies before it has said that it is at work, as of a task that kills.
        """
        count = len(self._cluster.workers)
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            for name, nanny in list(self._cluster.workers.items()):
                if nanny.status in (Status.closed, Status.failed):
                    del self._cluster.workers[name]
            self._cluster.scale(count)
            self._fill()

    async def _pass_on(self, task: Any, future: Future[Any]) -> None:
        """Give a task's outcome to its future."""
        result = await task._result(raiseit=False)  # noqa: SLF001  (as Dask's own executor does)
        with self._lock:
            self._tasks.pop(future, None)
        self._fill()
        if task.status == "finished":
            future.set_result(result)
        else:
            error = CancelledError() if task.status == "cancelled" else result[1]
            lost = isinstance(error, KilledWorker)
            future.set_exception(WorkerLostError(str(error)) if lost else error)

    def replace_worker(self, future: Future[Any]) -> bool:
        """Kill the process that is at a task; another takes its place, and the task fails as lost."""
        task = self._tasks.get(future)
        for address, keys in self._client.processing().items():
            if task is not None and task.key in keys:
                return self._kill(address)
        return False

    def _kill(self, address: str) -> bool:
        for nanny in self._cluster.workers.values():
            if getattr(nanny, "worker_address", None) == address and (pid := getattr(nanny, "pid", None)):
                with contextlib.suppress(psutil.Error):
                    psutil.Process(pid).kill()
                return True
        return False


class _Serving(WorkerPlugin):
    """What each worker process does first, those too that take the place of dead ones."""

    name = "tilewright"

    def __init__(self, initializer: Callable[[], None] | None, folder: Path) -> None:
        self._parent = os.getpid()
        self._initializer = initializer
        self._folder = folder

    def setup(self, worker: Any) -> None:  # noqa: ARG002  (what Dask calls)
        """Leave interrupts to the parent, and do not outlive it."""
        # a worker outlives a parent that is killed for a moment, and so does what it has there
        temporary.hold(self._folder)
        if self._initializer is not None:
            self._initializer()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(
            target=_end_with, args=(self._parent,), name="tilewright-parent", daemon=True
        ).start()


def _end_with(parent: int) -> None:
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(parent)
        # Windows goes on to say the number of a parent that has ended; elsewhere that may be a zombie
        while os.getppid() == parent and process.is_running():
            time.sleep(1)
    os._exit(1)


def _key(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[str, ...]:
    """What the dashboard groups and colours tasks by: what is done, then of which raster, and a number."""
    what = function.__name__.strip("_").partition("_")[0]
    of_what = arguments[0] if arguments else None
    name = getattr(of_what, "name", None) or getattr(of_what, "path", None)
    return what, name if isinstance(name, str) else "", uuid.uuid4().hex


def _sendable(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function; its error goes without the errors behind it, some of which (GDAL's) do not pickle."""
    try:
        return function(*arguments)
    except TilewrightError as error:
        error.__cause__ = error.__context__ = None
        raise


def _begun(kind: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Make something that starts threads and processes, which shall leave Ctrl-C to the main thread.

    Tried again for processes that died before they were at work, which Dask takes for a failure of all.

    Raises
    ------
    UsageError
        If they die each time, or the script that asks for them has no guard.
    """
    for delay in (*_START_AGAIN_S, None):
        try:
            # Dask warns of a port that others took just now; it takes another, whose address is printed
            with signals.interrupts_held(), ignored(UserWarning):
                return kind(*arguments, **options)
        except RuntimeError as error:
            if script := _unguarded_script():
                raise UsageError(
                    f"--workers processes: {script} is run again by each process that it starts; put what it "
                    'does under `if __name__ == "__main__":`, or use threads'
                ) from None
            if delay is None:
                raise UsageError(
                    f"--workers processes: none can be started ({one_line(error)}); "
                    "give them more memory, or use threads"
                ) from error
            signals.check()
            time.sleep(delay)
    raise AssertionError("unreachable")


def _unguarded_script() -> str:
    """The script that this process runs, if no line of it asks whether it is the main module; else ""."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    try:
        return file if file and "__main__" not in Path(file).read_text("utf-8", errors="replace") else ""
    except OSError:
        return ""


def _end_if_imported() -> None:
    """End a worker process that runs the script of its parent, and would start workers of its own.

    It does so before it is a worker, while Python's `multiprocessing` imports the main module into it.
    """
    process = multiprocessing.current_process()
    if getattr(process, "_inheriting", False) and process.name.startswith(_DASK_PROCESS):
        os._exit(1)  # without a word: the parent has one


@contextlib.contextmanager
def local(
    processes: bool,  # noqa: FBT001
    count: int,
    *,
    dashboard: Address | None,
    initializer: Callable[[], None] | None = None,
) -> Iterator[ClusterExecutor]:
    """A cluster on this machine of `count` processes or threads, which ends with the block.

    Each process calls the initializer first. Where the port of the dashboard is in use, it takes another.

    Raises
    ------
    UsageError
        If no process can be started, or the dashboard cannot be served at its host.
    """
    _end_if_imported()
    settings = dict(_SETTINGS)
    if dashboard is not None:
        dashboard = to_serve(dashboard)
        # Dask would name the address that other machines see, whatever it serves
        settings["distributed.dashboard.link"] = f"http://{dashboard.shown_host}:{{port}}/status"
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with (
        temporary.temporary_folder("workers") as folder,
        dask.config.set({**settings, "temporary-directory": str(folder)}),
        _begun(
            LocalCluster,
            n_workers=count if processes else 1,
            threads_per_worker=1 if processes else count,
            processes=processes,
            dashboard_address=f"{dashboard.host}:{dashboard.port}" if dashboard else None,
            # without a dashboard Dask serves its metrics all the same, on a port that others may have
            scheduler_kwargs={} if dashboard else {"dashboard_address": "127.0.0.1:0"},
            memory_limit=0,
            # what fails is reported by the run, in a line; Dask would print the traceback too
            silence_logs=logging.CRITICAL,
        ) as cluster,
        _begun(Client, cluster) as client,
    ):
        if processes:
            client.register_plugin(_Serving(initializer, folder))
        executor = ClusterExecutor(cluster, client, count, cluster.dashboard_link if dashboard else None)
        looking = asyncio.run_coroutine_threadsafe(executor.look_after(), client.loop.asyncio_loop)
        try:
            yield executor
        finally:
            looking.cancel()
