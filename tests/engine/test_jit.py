import errno
import itertools
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numba import config
from numba.core.caching import CompileResultCacheImpl

from engine import jit
from engine.jit import _Files, compiled
from tests.waiting import HANG_S

TYPES = ("int16", "float32", "float64")

# Its first file takes its name only when all have one that shall.
ONE_OF_MANY = f"""
import os, sys, time
from pathlib import Path
import numpy as np
import loops
dtype, reached, replace = sys.argv[1], Path(sys.argv[2]), os.replace
def together(*names):
    (reached / dtype).touch()
    while len(list(reached.iterdir())) < {len(TYPES)}:
        time.sleep(0.01)
    replace(*names)
os.replace = together
loops.total(np.array([1, 2, 3], dtype))
"""


def summed(x):
    total = x[0]
    for i in range(1, x.size):
        total += x[i]
    return total


def names(folder: Path):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where compiled code is kept in this test."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "compiled"))
    return tmp_path / "compiled"


def test_processes_that_compile_at_once_leave_the_code_of_each(tmp_path, monkeypatch):
    (tmp_path / "loops.py").write_text(
        "from engine.jit import compiled\n\n\n@compiled\ndef total(x):\n"
        "    total = x[0] * 0\n    for i in range(x.size):\n        total += x[i]\n    return total\n"
    )
    reached = tmp_path / "reached"
    reached.mkdir()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])]))
    running = [subprocess.Popen([sys.executable, "-c", ONE_OF_MANY, dtype, reached]) for dtype in TYPES]
    assert [process.wait(HANG_S) for process in running] == [0] * len(TYPES)
    look = (
        "import numpy as np, loops\n"
        f"print([str(loops.total(np.array([1, 2, 3], dtype))) for dtype in {TYPES}],"
        " sum(loops.total.stats.cache_hits.values()))"
    )
    said = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True).stdout
    assert said == "['6', '6.0', '6.0'] 3\n"


def test_code_is_kept_and_found_again(folder):
    x = np.arange(4.0)
    assert compiled(summed)(x) == 6
    kept = names(folder)
    again = compiled(summed)
    assert again(x) == 6
    assert sum(again.stats.cache_hits.values()) == 1
    assert names(folder) == kept


@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-1], lambda data: b"", lambda data: data[:70] + b"?" + data[71:]],
    ids=["cut", "empty", "changed"],
)
def test_damaged_code_is_compiled_again(folder, damage):
    x = np.arange(4.0)
    compiled(summed)(x)
    (file,) = (path for path in folder.rglob("*") if path.is_file())
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    again = compiled(summed)
    assert again(x) == 6
    assert sum(again.stats.cache_hits.values()) == 0
    assert len(names(folder)) == 1
    last = compiled(summed)
    assert last(x) == 6
    assert sum(last.stats.cache_hits.values()) == 1


def test_code_of_another_source_is_not_taken_and_is_replaced(tmp_path):
    old, new = (_Files(tmp_path, "summed", source) for source in (b"old", b"new"))
    old.save("key", "code of old")
    assert new.load("key") is None
    new.save("key", "code of new")
    assert (old.load("key"), new.load("key"), new.load("other")) == (None, "code of new", None)
    assert len(names(tmp_path)) == 1


def test_a_change_of_what_a_loop_calls_in_another_file_is_noticed(tmp_path, monkeypatch):
    head = "from engine.jit import compiled\n"
    loop = "@compiled\ndef total(x):\n    return step(x) + step(x)\n"
    (tmp_path / "loops.py").write_text(f"{head}from steps import step\n{loop}")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])]))
    look = "import loops; print(loops.total(1), sum(loops.total.stats.cache_hits.values()))"
    said = []
    for added in (1, 1, 2):
        (tmp_path / "steps.py").write_text(f"{head}@compiled\ndef step(x):\n    return x + {added}\n")
        said.append(subprocess.check_output([sys.executable, "-c", look], text=True).strip())
    assert said == ["4 0", "4 1", "6 0"]


def test_a_full_disk_costs_only_the_file(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert compiled(summed)(np.arange(4.0)) == 6
    assert names(folder) == []


def test_without_a_folder_to_write_into_loops_are_compiled_all_the_same_and_it_is_told(monkeypatch):
    monkeypatch.setattr(CompileResultCacheImpl, "_locator_classes", [])
    monkeypatch.setattr(jit, "_unkept", set())
    told = []
    with jit.watched(told.append):
        assert compiled(summed)(np.arange(4.0)) == 6
    assert told == [False]


def test_a_compilation_is_told_and_no_time_of_the_clock(folder, monkeypatch):
    monkeypatch.setattr(jit, "time", SimpleNamespace(perf_counter=itertools.count().__next__))
    told = []
    with jit.watched(told.append):
        total, before = compiled(summed), jit.clock_s()
        assert total(np.array([1, 2])) == 3
        # a tick at each end of the compilation, and one for being asked again
        assert jit.clock_s() - before == 2
        assert total(np.array([1.5, 2])) == 3.5
        assert told == [True]  # once is enough
    with jit.watched(told.append):
        before = jit.clock_s()
        assert compiled(summed)(np.array([1, 2])) == 3  # found in a file
        assert jit.clock_s() - before == 1
    assert told == [True]
