"""What only POSIX has is not needed: whole runs without all of it, and each stand-in beside the original."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from pipeline.durable import files
from pipeline.process import first_signals, signals, startup
from pipeline.source import fingerprint
from pipeline.workers import local_cluster
from pipeline.workers import pool as workers
from tests.rasters import noise, write_geotiff

ROOT = Path(__file__).resolve().parents[2]


def without_posix(*arguments, stop=False):
    """What a command says on a system without POSIX."""
    options = ["-X", "warn_default_encoding", "-m", "tests.without_posix", *(["--stop"] if stop else [])]
    return subprocess.run(
        [sys.executable, *options, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("portable")
    return write_geotiff(folder / "scene.tif", noise(3, 700, 1100, seed=7), tiled=True)


@pytest.mark.parametrize(("form", "stop"), [("cog", False), ("zarr", True)])
def test_a_run_is_done_taken_up_and_verified_without_posix(source, tmp_path, form, stop):
    options = ("--segments", "3", "--chunk-size", "512", "--format", form, "--progress", "none")
    run = ("run", source, "-o", tmp_path / "poor", *options)
    if stop:
        stopped = without_posix(*run, stop=True)
        assert stopped.returncode == 1, stopped.stderr
        assert "stopped" in stopped.stderr
        assert not list((tmp_path / "poor").glob("scene.*"))
    for command in (run, run, ("verify", tmp_path / "poor"), ("status", tmp_path / "poor", "--json")):
        ended = without_posix(*command)
        assert ended.returncode == 0, ended.stderr
    assert not (tmp_path / "poor" / ".partial").exists()
    whole = [sys.executable, "-m", "pipeline", "run", source, "-o", tmp_path / "rich", *options]
    subprocess.run(whole, cwd=ROOT, check=True, capture_output=True)
    assert labels(tmp_path / "poor") == labels(tmp_path / "rich")


def labels(out):
    """Bytes of the labels of a run, in either format."""
    found = {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    return {
        name: data for name, data in found.items() if name == "scene.tif" or name.startswith("scene.zarr/")
    }


def test_a_name_that_the_system_s_encoding_lacks_is_shown_by_its_numbers(source, tmp_path):
    path = source.with_name("Łąka.tif")
    path.write_bytes(source.read_bytes())
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", "inspect", path],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "cp1252:strict"},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert rb"\u0141\u0105ka.tif" in ended.stdout


def test_what_is_missing_there_is_noticed():
    code = "import tests.without_posix as w; w.OURS = ('<string>',); w.main(['--version'])"
    for needs in (
        "import fcntl",
        "import os; os.pread",
        "import signal; signal.SIGHUP",
        "import os; os.open('.', 0)",
    ):
        tried = f"try:\n    {code}\nexcept SystemExit:\n    pass\n{needs}"
        ended = subprocess.run(
            [sys.executable, "-c", tried], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 1
        assert "here" in ended.stderr.splitlines()[-1]


@pytest.fixture(params=["with", "without"])
def system(request, monkeypatch):
    """A system with and without what only POSIX, or only Linux, has."""
    if request.param == "without":
        for name in ("pread", "pwrite", "copy_file_range", "O_NONBLOCK", "sched_getaffinity", "sysconf"):
            monkeypatch.delattr(os, name)
        for name in ("pthread_sigmask", "SIGHUP"):
            monkeypatch.delattr(signal, name)
    return request.param


@pytest.fixture
def handle(tmp_path):
    """An open file of a hundred bytes."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    file = files.open_handle(path, os.O_RDWR)
    yield file
    os.close(file)


@pytest.mark.usefixtures("system")
class TestFiles:
    def test_bytes_are_read_at_an_offset(self, handle):
        os.lseek(handle, 7, os.SEEK_SET)
        assert files.read_at(handle, 10, 40) == bytes(range(40, 50))
        assert files.read_at(handle, 10, 95) == bytes(range(95, 100))
        assert files.read_at(handle, 10, 200) == b""
        assert os.lseek(handle, 0, os.SEEK_CUR) == 7

    def test_bytes_are_written_at_an_offset_and_beyond_the_end(self, handle):
        os.lseek(handle, 7, os.SEEK_SET)
        assert files.write_at(handle, b"\r\n\n", 40) == 3
        assert files.write_at(handle, b"end", 110) == 3
        assert os.lseek(handle, 0, os.SEEK_CUR) == 7
        wanted = bytes(range(40)) + b"\r\n\n" + bytes(range(43, 100)) + bytes(10) + b"end"
        assert files.read_at(handle, 200, 0) == wanted

    def test_threads_that_share_a_file_do_not_disturb_each_other(self, handle):
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda i: files.read_at(handle, 1, i % 100), range(2000)))
        assert found == [bytes([i % 100]) for i in range(2000)]

    def test_bytes_are_copied_between_files(self, handle, tmp_path, monkeypatch):
        monkeypatch.setattr(files, "_COPIED_BYTES", 16)
        target = files.open_handle(tmp_path / "target", os.O_RDWR | os.O_CREAT)
        done = 0
        while count := files.copy_at(handle, target, 60 - done, 30 + done, 5 + done):
            done += count
        assert files.copy_at(handle, target, 10, 100, 0) == 0
        os.close(target)
        assert (tmp_path / "target").read_bytes() == bytes(5) + bytes(range(30, 90))

    def test_a_file_is_opened_at_once(self, tmp_path):
        (tmp_path / "file").write_bytes(b"a\r\nb")
        with open(tmp_path / "file", "rb", opener=files.open_at_once) as file:
            assert file.read() == b"a\r\nb"


def test_a_folder_that_cannot_be_opened_is_not_synced(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)
    files.sync_folder(tmp_path)


def test_a_file_that_another_program_has_open_on_windows_is_tried_again(monkeypatch):
    monkeypatch.setattr(files, "_PAUSES_S", (0.0, 0.0))
    tries = []

    def replace():
        tries.append(1)
        if len(tries) < 3:
            error = PermissionError(errno.EACCES, "used by another process")
            error.winerror = 32
            raise files.storage_error(Path("run.json"), error)

    files.with_retries(replace)
    assert len(tries) == 3


def test_names_in_a_folder_s_checksum_are_the_same_on_every_system(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").touch()
    real = os.path.relpath
    monkeypatch.setattr(os.path, "relpath", lambda *paths: real(*paths).replace("/", "\\"))
    monkeypatch.setattr(os, "sep", "\\")
    assert list(fingerprint.walk(tmp_path)) == ["a/b/c"]


@pytest.mark.usefixtures("system")
class TestProcesses:
    def test_cores_are_counted(self):
        assert 1 <= workers.usable_cores() <= os.cpu_count()

    def test_the_age_of_a_process_is_known(self, monkeypatch):
        monkeypatch.setattr(startup, "_ours", True)
        assert startup.age_s() == pytest.approx(time.time() - psutil.Process().create_time(), abs=1.5)

    def test_signals_are_those_that_there_are(self, system):
        try:
            found = [number.name for number in importlib.reload(first_signals).SIGNALS]
        finally:
            first_signals.SIGNALS = signals.SIGNALS
        assert found == ["SIGINT", "SIGTERM", *(["SIGHUP"] if system == "with" else [])]

    def test_processes_are_begun_while_interrupts_are_held(self):
        with signals.interrupts_held():
            thread = threading.Thread(target=lambda: None)
            thread.start()
            thread.join()

    def test_a_worker_ends_with_its_parent_whose_number_stays(self, monkeypatch):
        parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        ended = threading.Event()
        monkeypatch.setattr(os, "getppid", lambda: parent.pid)  # as on Windows, whatever happens to it
        monkeypatch.setattr(os, "_exit", lambda _: ended.set())
        watching = threading.Thread(target=local_cluster._end_with, args=(parent.pid,))
        watching.start()
        assert not ended.wait(0.5)
        parent.communicate()
        assert ended.wait(10)
        watching.join()
