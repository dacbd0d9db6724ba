"""Commands of whoever has no standard streams: `pythonw` on Windows, closed file descriptors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rasters import noise, write_geotiff

ROOT = Path(__file__).resolve().parents[3]
WITHOUT = (
    "import runpy, sys\n"
    "sys.stdin = sys.stdout = sys.stderr = None\n"
    "runpy.run_module('pipeline', run_name='__main__', alter_sys=True)\n"
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write_geotiff(tmp_path_factory.mktemp("streams") / "scene.tif", noise(3, 90, 120, seed=1))


def ended(command, **options):
    """The exit code of a command."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env=environment,
        check=False,
        capture_output=True,
        **options,
    ).returncode


@pytest.mark.parametrize("shown", ["auto", "plain", "bar", "json", "none"])
def test_a_run_without_streams_is_done(scene, tmp_path, shown):
    command = ["run", scene, "-o", tmp_path / "out", "--segments", "3", "--progress", shown]
    assert ended([sys.executable, "-c", WITHOUT, *command]) == 0
    assert (tmp_path / "out" / "scene.tif").exists()


def test_what_is_wrong_without_streams_is_an_exit_code(scene):
    assert ended([sys.executable, "-c", WITHOUT, "run", scene]) == 2
    assert ended([sys.executable, "-c", WITHOUT, "inspect", "missing.tif"]) == 1


@pytest.mark.skipif(os.name != "posix", reason="a shell of POSIX closes file descriptors")
@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_closed_file_descriptors_are_no_output_file(scene, tmp_path, closed):
    python = f'"{sys.executable}" -m pipeline'
    out = tmp_path / "out"
    run = f'{python} run "{scene}" -o "{out}" --segments 3 --workers processes:1 {closed}'
    assert ended(["sh", "-c", run]) == 0
    assert ended(["sh", "-c", f'{python} verify "{out}" {closed}']) == 0
