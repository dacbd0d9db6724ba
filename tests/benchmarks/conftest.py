"""A place for rasters and outputs that is not the checkout's."""

import pytest

from benchmarks import data
from benchmarks.races import race


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty folder in place of benchmarks/work, and no real rasters."""
    for module in (data, race):
        monkeypatch.setattr(module, "WORK", tmp_path)
    monkeypatch.setattr(data, "PHOTOS", tmp_path / "absent")
    monkeypatch.setattr(data, "NETWORKS", tmp_path / "absent")
    monkeypatch.setattr(data, "_SCENE_PX", 640)
    return tmp_path
