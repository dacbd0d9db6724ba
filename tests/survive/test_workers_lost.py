"""Workers that are killed: others do their work, and a task that kills each fails its raster alone."""

from __future__ import annotations

import os
import signal

import pytest

from pipeline.config import RunConfig
from pipeline.running import raster_run
from pipeline.running import run as run_module
from pipeline.tasks import labelling
from tests.rasters import noise, write_geotiff
from tests.survive.commands import Command, HeldCommand, outputs
from tests.waiting import waited_for

OPTIONS = ("--segments", "3", "--chunk-size", "512", "--workers", "processes:2")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    return write_geotiff(folder / "scene.tif", noise(3, 1100, 4500, seed=4), tiled=True)


@pytest.fixture(scope="module")
def undisturbed(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    run = Command(folder / "out", folder / "log", source, *OPTIONS[:-1], "2")
    assert run.wait() == 0
    return outputs(folder / "out")


@pytest.mark.parametrize("event", ["fit", "raster"])
def test_a_run_goes_on_when_a_worker_is_killed(source, undisturbed, tmp_path, event):
    run = HeldCommand(tmp_path / "out", tmp_path / "log", source, *OPTIONS)
    run.reach(event)
    if event == "raster":
        run.hold(2)
    workers = waited_for(lambda: len(found := run.workers()) == 2 and found, lambda: run.running)
    os.kill(workers[0], signal.SIGKILL)
    run.release()
    assert run.wait() == 0, run.errors
    assert run.errors == ""
    assert outputs(tmp_path / "out") == undisturbed
    assert not run.orphans()


class Deadly:
    """In the place of a task: kills whoever labels the raster of a name."""

    __name__ = "label_window"

    def __init__(self, name):
        self.name = name
        self.real = labelling.label_window

    def __call__(self, job, *arguments):
        if job.name == self.name:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.real(job, *arguments)


def test_a_task_that_kills_every_worker_fails_its_raster_and_no_other(tmp_path, monkeypatch):
    sources = [write_geotiff(tmp_path / f"r{i}.tif", noise(3, 600, 600, seed=i)) for i in range(3)]
    config = RunConfig(
        sources=tuple(map(str, sources)), out=str(tmp_path / "out"), segments=3, workers="processes:2"
    )
    monkeypatch.setattr(raster_run, "_LOST_TWICE_S", (0.0, 0.0))
    with monkeypatch.context() as patch:
        patch.setattr(labelling, "label_window", Deadly("r1"))
        report = run_module.run(config)
    assert sorted(report.done) == ["r0", "r2"]
    assert "took its worker with it 3 times" in report.failed["r1"]
    assert report.exit_code == 1
    # mended, it is done by the same command
    assert run_module.run(config).done == ["r1"]


@pytest.mark.parametrize("whom", ["coordinator", "all"])
def test_nothing_is_left_in_the_temporary_folder_after_the_next_run(source, tmp_path, monkeypatch, whom):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    run = HeldCommand(tmp_path / "out", tmp_path / "log", source, *OPTIONS)
    run.hold(2)
    assert [*temporary.iterdir()]
    if whom == "all":
        run.signal_group(signal.SIGKILL)
    else:
        run.signal(signal.SIGKILL)
    run.wait()
    assert not run.orphans()
    after = Command(tmp_path / "out", tmp_path / "log2", source, *OPTIONS[:-1], "2")
    assert after.wait() == 0, after.errors
    assert not [*temporary.iterdir()]
