"""QGIS and its GDAL as programs of their own: they share no environment with the pipeline."""

import os
import subprocess
from pathlib import Path

import pytest

PYTHON = Path("/usr/bin/python3")
GDALINFO = Path("/usr/bin/gdalinfo")
# What an activated environment, or a wheel's GDAL in it, would say to a program that has its own.
OURS = ("PYTHONPATH", "PYTHONHOME", "GDAL_DATA", "PROJ_LIB", "PROJ_DATA", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


@pytest.fixture(scope="session")
def outside(tmp_path_factory):
    """Runs a program as a person's desktop would; gives what it printed."""
    home = str(tmp_path_factory.mktemp("profile"))
    environment = {k: v for k, v in os.environ.items() if k not in OURS}
    environment |= {"HOME": home, "XDG_RUNTIME_DIR": home, "QGIS_CUSTOM_CONFIG_PATH": home}
    environment["QT_QPA_PLATFORM"] = "offscreen"

    def run(*command):
        done = subprocess.run(
            [str(c) for c in command],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def qgis_python(outside):
    """The Python that QGIS is installed for."""
    try:
        outside(PYTHON, "-c", "import qgis.core")
    except (OSError, AssertionError):
        pytest.skip("QGIS is not installed for /usr/bin/python3; `make qgis-setup` installs it")
    return PYTHON


@pytest.fixture(scope="session")
def gdalinfo():
    """The gdalinfo that comes with QGIS."""
    if not GDALINFO.exists():
        pytest.skip("no /usr/bin/gdalinfo; `make qgis-setup` installs it")
    return GDALINFO
