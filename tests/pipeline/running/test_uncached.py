"""An installation that nobody may write to, of a user who has no home."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rasters import noise, write_geotiff

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def installation(tmp_path):
    """Our packages where no compiled code can be kept beside them, whoever the user is."""
    for package in ("engine", "pipeline"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
        for folder in [p for p in (tmp_path / package).rglob("*") if p.is_dir()] + [tmp_path / package]:
            (folder / "__pycache__").write_text("a file, so that no folder of this name can be made")
    return tmp_path


def test_without_a_folder_for_compiled_code_a_run_is_done_and_says_so_once(installation):
    scene = write_geotiff(installation / "scene.tif", noise(3, 90, 120, seed=1))
    home = installation / "home"
    home.write_text("no folder")
    # what Numba and platforms take for the folder of a user's caches
    names = ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA")
    environment = {k: v for k, v in os.environ.items() if k not in names}
    environment |= {"PYTHONPATH": str(installation), "HOME": str(home), "USERPROFILE": str(home)}
    command = ["run", str(scene), "-o", str(installation / "out"), "--segments", "3"]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *command],
        cwd=installation,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if "compiling" in line]
    assert len(told) == 1
    assert "NUMBA_CACHE_DIR" in told[0]
    assert (installation / "out" / "scene.tif").exists()
