"""Who may import whom, and what may not be imported early."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ["engine", "pipeline", "shards", "training", "qgis_bridge", "benchmarks"]

# Makes packages look as if they were not installed.
HIDE = """
import sys
from importlib.abc import MetaPathFinder

class Hider(MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{fullname!r}}: hidden by a test", name=fullname)

sys.meta_path.insert(0, Hider())
"""


def python(code):
    """What a fresh interpreter in the project's root prints; its traceback when it fails."""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def lint_imports(folder, *options):
    # Without the cache: it would be left behind in the folder, and the check takes a second.
    command = [Path(sys.executable).with_name("lint-imports"), "--no-logo", "--no-cache", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def test_import_rules_are_kept():
    run = lint_imports(ROOT)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("engine", "dask.array"),
        ("engine", "xarray"),
        ("engine", "rasterio.windows"),
        ("engine", "pipeline"),
        ("pipeline", "shards"),
        ("pipeline", "training"),
        ("pipeline", "benchmarks"),
        ("shards", "training"),
        ("training", "qgis_bridge"),
        ("qgis_bridge", "torch"),
        ("qgis_bridge", "engine"),
    ],
)
def test_a_broken_import_rule_is_noticed(tmp_path, importer, imported):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    # Inside a function, as imports that shall not cost start-up time are: these count too.
    (tmp_path / importer / "late.py").write_text(f"def late():\n    import {imported}\n")
    # those of whole packages; the contracts of rooms need the rooms
    run = lint_imports(tmp_path, *(option for name in PACKAGES for option in ("--contract", name)))
    assert run.returncode == 1, run.stdout + run.stderr
    assert f"{importer} is not allowed to import {imported.partition('.')[0]}" in run.stdout


def test_a_module_without_a_room_and_an_import_upwards_are_noticed(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("work", "__pycache__")
        )
    (tmp_path / "pipeline" / "stray.py").touch()
    with (tmp_path / "pipeline" / "durable" / "lock.py").open("a") as file:
        file.write("\n\ndef late():\n    import pipeline.running.run\n")
    run = lint_imports(tmp_path, "--contract", "rooms")
    assert run.returncode == 1, run.stdout + run.stderr
    assert "pipeline.stray" in run.stdout
    (tmp_path / "pipeline" / "stray.py").unlink()
    assert "pipeline.durable is not allowed to import pipeline.running" in lint_imports(tmp_path).stdout


def test_engine_works_where_the_pipeline_s_libraries_are_absent():
    hidden = {"dask", "distributed", "rasterio", "xarray", "rioxarray"}
    modules = python(
        HIDE.format(hidden=hidden)
        + "import importlib, pkgutil, engine\n"
        + "for module in pkgutil.walk_packages(engine.__path__, 'engine.'):\n"
        + "    importlib.import_module(module.name)\n"
        + "print(*(name for name in sys.modules if name.partition('.')[0] == 'engine'))\n"
    ).split()
    assert "engine" in modules


def test_hidden_packages_cannot_be_imported():
    with pytest.raises(AssertionError, match="hidden by a test"):
        python(HIDE.format(hidden={"dask"}) + "import dask.array")


def test_importing_the_command_line_imports_no_torch_and_no_scikit_learn():
    loaded = python("import sys, pipeline.cli; print(*sys.modules)").split()
    assert "pipeline.cli" in loaded
    assert {"torch", "sklearn"}.isdisjoint(loaded)


def test_help_imports_little_so_that_it_answers_at_once():
    said = python(
        "import runpy, sys\n"
        "sys.argv = ['pipeline', '--help']\n"
        "try:\n"
        "    runpy.run_module('pipeline', run_name='__main__', alter_sys=True)\n"
        "finally:\n"
        "    print('modules:', *sys.modules)\n"
    )
    usage, _, modules = said.rpartition("modules:")
    assert "usage" in usage.lower()
    loaded = modules.split()
    assert "pipeline.cli" in loaded
    heavy = {"bokeh", "dask", "distributed", "numba", "pandas", "rasterio", "scipy", "shapely",
             "sklearn", "torch", "xarray", "zarr"}  # fmt: skip
    assert heavy.isdisjoint(name.partition(".")[0] for name in loaded)
    # 380 of them take half a second on a quiet machine; a package more is a hundred more
    assert len(loaded) < 450
