"""Worker processes that die or hang are replaced, and their tasks told from the others."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import psutil
import pytest
from dask.utils import key_split

from pipeline.errors import UsageError, WorkerLostError
from pipeline.source.gdal.setup import configure
from pipeline.workers import local_cluster
from pipeline.workers.pool import Workers, open_pool
from tests.rasters import noise, write_geotiff
from tests.waiting import HANG_S, waited_for

ROOT = Path(__file__).resolve().parents[3]
TWO = Workers("processes", 2)


def variable(name):
    return os.environ.get(name)


def pid(_):
    return os.getpid()


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def hang(_):
    time.sleep(1000)


@pytest.fixture(scope="module")
def pool():
    with open_pool(TWO) as opened:
        yield opened
    # the system may take a moment to bury them
    waited_for(lambda: not list(_workers()))


def _workers():
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "resource_tracker" not in " ".join(child.cmdline()):
                yield child


def test_a_worker_that_dies_is_replaced_and_its_task_known(pool):
    error = pool.submit(die, 0).exception(HANG_S)
    assert isinstance(error, WorkerLostError)
    assert len(list(pool.each(pid, [(i,) for i in range(6)]))) == 6


def test_calls_are_made_again_when_a_worker_dies(pool, tmp_path):
    assert list(pool.each(_die_once, [(str(tmp_path / str(i % 3)),) for i in range(6)])) == [True] * 6


def _die_once(path):
    if not os.path.exists(path):  # noqa: PTH110
        with open(path, "w"):  # noqa: PTH123
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    return True


def test_tasks_are_called_by_what_they_do_and_the_raster(pool, tmp_path):
    release = tmp_path / "release"
    future = pool.submit(_wait_for, SimpleNamespace(name="ortho"), str(release))
    (task,) = waited_for(lambda: list(pool.executor._tasks.values()))
    release.touch()
    assert future.result(HANG_S) is None
    assert task.key[:2] == ("wait", "ortho")
    assert key_split(task.key) == "wait"


def _wait_for(_, release):
    while not os.path.exists(release):  # noqa: PTH110
        time.sleep(0.01)


def test_a_worker_that_hangs_is_replaced(pool):
    future = pool.submit(hang, 0)
    waited_for(lambda: pool.replace_worker(future))
    assert isinstance(future.exception(HANG_S), WorkerLostError)
    assert pool.submit(pid, 0).result(HANG_S)


def test_what_no_worker_has_begun_is_taken_back_and_the_rest_is_not(pool, tmp_path):
    release = tmp_path / "release"
    busy = [pool.submit(_wait, str(release), str(tmp_path / f"begun{i}")) for i in range(2)]
    waited_for(lambda: len(list(tmp_path.glob("begun*"))) == 2)
    waiting = [pool.submit(pid, 0) for _ in range(5)]
    assert [f.cancel() for f in [*busy, *waiting]] == [False] * 2 + [True] * 5
    release.touch()
    assert [f.result(HANG_S) for f in busy] == [True, True]


def _wait(path, begun):
    open(begun, "w").close()  # noqa: PTH123
    while not os.path.exists(path):  # noqa: PTH110
        time.sleep(0.05)
    return True


def test_each_process_is_configured_first_and_this_one_is_not(monkeypatch):
    monkeypatch.delenv("GDAL_SKIP", raising=False)
    with open_pool(Workers("processes", 1), initializer=configure) as opened:
        assert "WMS" in opened.submit(variable, "GDAL_SKIP").result(HANG_S).split(",")
    assert "GDAL_SKIP" not in os.environ


def test_workers_that_dask_has_given_up_are_started_again(pool):
    # as it does where a process dies before it has said that it is at work
    executor = pool.executor
    for nanny in list(executor._cluster.workers.values()):
        asyncio.run_coroutine_threadsafe(nanny.close(), executor._loop).result(HANG_S)
    assert pool.submit(pid, 0).result(HANG_S)
    waited_for(lambda: executor._places() == 2)


def test_where_one_worker_lives_it_has_one_task_and_takes_no_other_with_it(pool, tmp_path, monkeypatch):
    executor, release = pool.executor, tmp_path / "release"
    victim, _ = waited_for(lambda: len(both := [*executor._cluster.workers.values()]) == 2 and both)
    # the other one does not come back meanwhile
    monkeypatch.setattr(executor._cluster, "scale", lambda _: None)
    asyncio.run_coroutine_threadsafe(victim.close(), executor._loop).result(HANG_S)
    held = [pool.submit(_wait, str(release), str(tmp_path / f"begun{i}")) for i in range(4)]
    assert len(executor._tasks) == 1
    release.touch()
    assert [f.result(HANG_S) for f in held] == [True] * 4


def test_interrupts_are_the_parent_s_business(pool):
    (first, *_) = pool.each(pid, [(0,)])
    os.kill(first, signal.SIGINT)
    assert pool.submit(pid, 0).result(HANG_S)
    assert psutil.pid_exists(first)


@pytest.mark.parametrize("deaths", [2, 9])
def test_workers_that_die_while_they_start_are_started_again_and_not_for_ever(monkeypatch, deaths):
    real, tries = local_cluster.LocalCluster, []

    def dying(*arguments, **options):
        tries.append(options)
        if len(tries) <= deaths:
            raise RuntimeError("Nanny failed to start.")
        return real(*arguments, **options)

    monkeypatch.setattr(local_cluster, "LocalCluster", dying)
    monkeypatch.setattr(local_cluster, "_START_AGAIN_S", (0.01, 0.01))
    if deaths == 9:
        with pytest.raises(UsageError, match="none can be started"), open_pool(TWO):
            pass
    else:
        with open_pool(TWO) as opened:
            assert opened.submit(pid, 0).result(HANG_S) != os.getpid()
    assert len(tries) == 3


def test_a_busy_port_of_the_dashboard_has_another_take_its_place():
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with open_pool(Workers("threads", 1), dashboard=f"127.0.0.1:{port}") as pool:
            served = urlsplit(pool.dashboard)
            assert served.hostname == "127.0.0.1"
            assert served.port not in (None, 0, port)
            with socket.create_connection((served.hostname, served.port), HANG_S):
                pass


def test_a_dashboard_is_served_where_it_is_asked_for():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with open_pool(Workers("threads", 1), dashboard=f"localhost:{port}") as pool:
        assert pool.dashboard == f"http://localhost:{port}/status"
    with open_pool(Workers("threads", 1), dashboard="0.0.0.0:0") as pool:
        assert urlsplit(pool.dashboard).hostname == socket.gethostname().lower()


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_a_dashboard_at_a_host_that_is_not_this_machine_is_refused(host):
    with (
        pytest.raises(UsageError, match=f"--dashboard {host}:8787: cannot be served there"),
        open_pool(Workers("threads", 1), dashboard=f"{host}:8787"),
    ):
        pass


# A script that starts itself again in its processes


def test_a_script_without_a_guard_is_named_in_one_line(tmp_path):
    scene = write_geotiff(tmp_path / "scene.tif", noise(1, 30, 40))
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, pipeline\n"
        "print('begins')\n"
        "config = pipeline.RunConfig(sources=(sys.argv[1],), out=sys.argv[2], workers='processes:2')\n"
        "try:\n"
        "    pipeline.run(config)\n"
        "except pipeline.errors.UsageError as error:\n"
        "    print(error, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(scene), str(tmp_path / "out")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    (said,) = done.stderr.splitlines()
    assert str(script) in said
    assert '`if __name__ == "__main__":`' in said
    assert done.stdout.split().count("begins") <= 3  # it is not tried again
    assert not (tmp_path / "out").exists()
