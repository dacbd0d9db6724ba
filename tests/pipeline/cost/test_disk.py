"""Free space: a run that does not fit is refused before it starts, with both figures."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import pytest

from pipeline import cli
from pipeline.config import build
from pipeline.cost import disk
from pipeline.cost.disk import Extent, Need, check, estimate
from pipeline.errors import UsageError
from pipeline.running.run import run
from tests.rasters import noise, write_geotiff

MPX = 1_000_000


@pytest.fixture
def free(monkeypatch):
    """Sets what is free, and remembers where that was asked."""
    asked = []

    def set_free(count):
        def usage(path):
            assert path.exists()
            asked.append(path)
            return SimpleNamespace(total=1 << 50, used=0, free=count)

        monkeypatch.setattr(disk.shutil, "disk_usage", usage)
        return asked

    return set_free


def size(path):
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files)


def test_a_run_that_fits_goes_on(tmp_path, free):
    free(1000)
    check(tmp_path, Need(600, 400))


def test_a_run_that_does_not_fit_is_refused_with_both_figures(tmp_path, free):
    free(300 << 20)
    with pytest.raises(UsageError, match=r"needs about 1\.5 GiB there and 300 MiB are free") as caught:
        check(tmp_path, Need(1 << 30, 512 << 20))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_space_is_asked_where_the_folder_will_be(tmp_path, free):
    asked = free(1000)
    check(tmp_path / "not" / "yet", Need(1, 1))
    assert asked == [tmp_path]


def test_a_resumed_run_counts_what_is_there(tmp_path, free):
    free(1000)
    part = tmp_path / ".partial" / "a" / "stage0" / "00000" / "00000.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 500)
    check(tmp_path, Need(1000, 500))
    with pytest.raises(UsageError):
        check(tmp_path, Need(1000, 501))


def test_files_that_vanish_while_they_are_counted_count_nothing(tmp_path, free, monkeypatch):
    free(0)
    (tmp_path / ".partial").mkdir()
    monkeypatch.setattr(disk.os, "walk", lambda _: [(str(tmp_path), [], ["gone"])])
    check(tmp_path, Need(0, 0))


def test_more_labels_and_smaller_blocks_take_more():
    def output(segments, resolution):
        return estimate([Extent(100 * MPX, 24)], segments, resolution, "cog").output_bytes

    assert output(2, 4) < output(8, 4) < output(64, 4)
    assert output(8, 16) < output(8, 4) < output(8, 1)


def test_rasters_add_up_but_only_one_is_put_together_at_a_time():
    one, large = Extent(100 * MPX, 25), Extent(400 * MPX, 100)
    alone = estimate([large], 8, 4, "cog")
    both = estimate([one, large, one], 8, 4, "cog")
    assert both.working_bytes == alone.working_bytes
    each = estimate([one], 8, 4, "cog").output_bytes
    assert both.output_bytes == alone.output_bytes + 2 * each
    # a COG is joined from parts of the same size, a store is written where it stays
    assert alone.working_bytes > 0.9 * alone.output_bytes
    assert estimate([large], 8, 4, "zarr").working_bytes < 0.1 * alone.output_bytes


def test_nothing_to_do_needs_nothing():
    assert estimate([], 8, 4, "cog") == Need(0, 0)


@pytest.mark.parametrize(
    ("segments", "resolution", "form"), [(8, 4, "cog"), (8, 1, "cog"), (4, 4, "zarr"), (32, 1, "zarr")]
)
def test_real_rasters_take_about_what_was_estimated(rasters, tmp_path, segments, resolution, form):
    scene = max((p for p in rasters.glob("*.tif") if size(p) < 5 << 20), key=size)
    out = tmp_path / "out"
    options = {"segments": segments, "resolution": resolution, "format": form, "workers": "2"}
    report = run(build({"sources": [str(scene)], "out": str(out), **options}))
    need = estimate([Extent(report.pixels, 1)], segments, resolution, form)
    assert size(out) / 2.5 < need.output_bytes < size(out) * 2.5


def test_a_plan_tells_what_the_run_takes(tmp_path, capsys):
    source = write_geotiff(tmp_path / "a.tif", noise(3, 1500, 1500))
    assert cli.main(["plan", str(source), "--json", "--segments", "8", "--resolution", "4"]) == 0
    plan = json.loads(capsys.readouterr().out)
    need = estimate([Extent(1500 * 1500, 1)], 8, 4, "cog")
    assert (plan["output_bytes"], plan["working_bytes"]) == (need.output_bytes, need.working_bytes)
    assert cli.main(["plan", str(source)]) == 0
    assert "disk " in capsys.readouterr().out


def test_the_real_figure_is_asked_of_the_system(tmp_path):
    with pytest.raises(UsageError):
        check(tmp_path, Need(shutil.disk_usage(tmp_path).total + 1, 0))
