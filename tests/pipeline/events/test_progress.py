"""Lines of progress: nothing under way is silent for long, and nothing fills the screen."""

from __future__ import annotations

import io

import pytest

from pipeline.cli import main
from pipeline.commands.plan.plan import plan
from pipeline.commands.verify.verify import Verification
from pipeline.config import build
from pipeline.events import observer, progress
from pipeline.events.kinds import (
    CodebookChosen,
    FilesOpened,
    FitAdvanced,
    RasterAdvanced,
    RasterSkipped,
    RunStarted,
    Warned,
    Working,
)
from pipeline.events.observer import Observer, Opening
from pipeline.events.progress import Bar, Plain
from pipeline.running.run import run
from pipeline.workers.pool import Workers, open_pool
from tests.rasters import noise, write_geotiff


class Clock:
    """A clock that stands still until it is moved."""

    now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(observer, "time", clock)
    return clock


@pytest.fixture
def shown(clock):
    """The lines that a display prints when an event comes so many seconds after the one before."""
    stream = io.StringIO()
    display = Plain(stream)

    def after(seconds, event=None):
        clock.now += seconds
        display.tick() if event is None else display.event(event)
        lines = stream.getvalue().splitlines()
        stream.seek(0)
        stream.truncate()
        return lines

    yield after
    display.close()


def fit(done):
    return FitAdvanced(done, 64, None)


def chunk(done):
    return RasterAdvanced("a", done, 9, 5.0, 1.0, done, 9, 2.0)


def test_what_lasts_two_seconds_is_shown_though_nothing_comes_of_it(shown):
    assert shown(0, Working("opening the rasters")) == []
    assert shown(1.9) == []
    assert shown(0.2) == ["opening the rasters ..."]
    assert shown(60) == []


def test_what_is_over_in_less_is_not_shown_however_long_it_was_silent_before(shown):
    assert shown(100, Working("starting the workers")) == []
    assert shown(1, Working("opening the rasters")) == []
    assert shown(1, CodebookChosen("0" * 64, 8, None, None, None)) == ["codebook 000000000000: 8 segments"]
    assert shown(100) == []


def test_figures_come_first_after_two_seconds_and_then_every_five(shown):
    shown(0, Working("fitting a codebook"))
    assert shown(1, fit(1)) == []
    # a cell that takes long: the last figure is shown all the same
    assert shown(1.5) == ["fit: 1 of 64"]
    assert [shown(1, fit(n)) for n in range(2, 6)] == [[], [], [], []]
    assert shown(1) == ["fit: 5 of 64"]
    assert shown(2, chunk(1)) == ["a: 1 of 9 chunks, 5.0 Mpx/s, 1 s left, 2 s for the batch"]


def test_other_lines_are_printed_at_once_and_take_the_place_of_figures(shown):
    shown(0, fit(1))
    assert shown(1, Warned("look out")) == ["warning: look out"]
    assert shown(1.5, fit(2)) == []
    assert shown(0.6) == ["fit: 2 of 64"]


def test_rasters_that_were_done_before_stay_one_line(shown):
    for name in "abc":
        assert shown(0, RasterSkipped(name, "done already")) == []
        assert shown(3) == []
    assert shown(0, fit(0)) == ["3 rasters: done already", "fit: 0 of 64"]


def test_the_opening_of_many_files_is_told_every_second(clock):
    heard = []

    class Heard(Observer):
        def event(self, event):
            heard.append(event)

    opening = Opening(Heard())
    for done in range(1, 41):
        clock.now += 0.1
        opening(done, 10_000)
    assert 3 <= len(heard) <= 4
    assert all(isinstance(event, FilesOpened) and event.total == 10_000 for event in heard)


def test_a_bar_shows_what_has_no_figures_until_something_else_comes():
    bar = Bar()
    try:
        bar.event(Working("opening the rasters"))
        assert [task.description for task in bar._bars.tasks] == ["opening the rasters"]
        bar.event(FilesOpened(5, 10))
        assert [task.description for task in bar._bars.tasks] == ["open"]
        bar.event(RunStarted(1, 1, None))
        assert not bar._bars.tasks
    finally:
        bar.close()


class Names(Observer):
    """What was said to be going on."""

    def __init__(self):
        self.heard = []

    def event(self, event):
        if isinstance(event, Working):
            self.heard.append(event.what)


def test_every_command_says_what_it_is_at(tmp_path, monkeypatch):
    source = write_geotiff(tmp_path / "a.tif", noise(3, 60, 70))
    config = build({"sources": [str(source)], "out": str(tmp_path / "out"), "workers": "1", "segments": 3})
    names = Names()
    run(config, names)
    assert names.heard == [
        "starting the workers",
        "opening the rasters",
        "fitting a codebook",
        "ending the workers",
    ]
    names = Names()
    plan(config.model_copy(update={"out": str(tmp_path / "other")}), names)
    assert len(names.heard) == 5
    assert names.heard[3].startswith("segmenting parts")
    names = Names()
    with open_pool(Workers("threads", 1)) as pool:
        assert all(report.ok for report in Verification(config.out, 1, pool, names).reports())
    assert names.heard == ["a: comparing its files with their checksums", "a: labelling some windows again"]
    names = Names()
    monkeypatch.setattr(progress, "chosen", lambda _: names)
    assert main(["fit", str(source), "-o", str(tmp_path / "c.npz"), "-k", "3"]) == 0
    assert names.heard == ["opening the rasters", "fitting a codebook"]


def test_a_mosaic_says_how_many_tiles_are_open(tmp_path, monkeypatch):
    from rasterio.transform import from_origin

    for i in range(3):
        write_geotiff(tmp_path / f"t{i}.tif", noise(1, 32, 32), transform=from_origin(32 * i, 32, 1, 1))
    monkeypatch.setattr(observer, "_OPENING_EVERY_S", 0.0)
    heard = []

    class Heard(Observer):
        def event(self, event):
            heard.append(event)

    options = {"sources": [str(tmp_path)], "mosaic": True, "workers": "1", "segments": 2}
    plan(build({**options, "out": str(tmp_path / "out")}), Heard())
    assert [(e.done, e.total) for e in heard if isinstance(e, FilesOpened)] == [(1, 3), (2, 3), (3, 3)]
