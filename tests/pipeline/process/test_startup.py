"""What a run imports, and what it leaves out where nobody asks for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.rasters import noise, write_geotiff

HEAVY = (
    *("pandas.", "xarray.", "torch.", "sklearn.", "distributed."),
    *("scipy.linalg._", "scipy.sparse._", "scipy.fftpack._"),
)


_AND_SAY = """
import runpy, sys
try:
    runpy.run_module("pipeline", run_name="__main__", alter_sys=True)
finally:
    print(*sys.modules)
"""
"""The command, and then what it has imported."""


def run_python(*arguments, cwd=None):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, check=True)


def test_a_run_on_pixels_imports_nothing_heavy_that_it_does_not_use(tmp_path):
    source = write_geotiff(tmp_path / "scene.tif", noise(3, 600, 700, seed=1))
    command = ["-c", _AND_SAY, "run", str(source), "-o", str(tmp_path / "out")]
    imported = set(run_python(*command, "--segments", "3", "--progress", "none").stdout.split())
    assert {"dask.array.core", "numba.core.dispatcher"} < imported
    assert not [name for name in imported if name.startswith(HEAVY)]


@pytest.mark.parametrize("ours", [True, False])
def test_what_is_left_out_can_be_imported_later_and_others_have_all_of_it(ours):
    text = (
        "from pipeline.graph.preloading import load_graph\n"
        "from pipeline.process import startup\n"
        f"{'startup.claim()' if ours else ''}\n"
        "startup.load_compiled()\n"
        "load_graph()\n"
        "import sys\n"
        "print('scipy.linalg' in sys.modules, 'xarray' in sys.modules, 'scipy.sparse' in sys.modules)\n"
        "import scipy.linalg, xarray\n"
        "print(xarray.DataArray([1]).sum().item())\n"
    )
    assert run_python("-c", text).stdout.split() == [*[str(not ours)] * 3, "1"]
