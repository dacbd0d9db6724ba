"""What all tests share: Hypothesis profiles, and where real rasters are."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.catalogue import Catalogue

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"

# The machine is shared and slow at times, so no example is judged by its time.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# One that repeats: a commit is judged by what it changes, not by luck.
settings.register_profile("ci", settings.get_profile("dev"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

# A suite begun by nohup, or in the background of a script, is deaf to these, and so are the runs it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def rasters():
    """The folder of ordinary real rasters: `*.tif`, 3 bands of 8 bits."""
    folder = DATA / "rgb"
    if not any(folder.glob("*.tif")):
        pytest.skip(f"no real rasters here: {folder} is absent or empty")
    return folder


@pytest.fixture(scope="session")
def catalogue(rasters):
    """All real rasters, the awkward ones too, to be picked by what they are."""
    return Catalogue.of(DATA)
