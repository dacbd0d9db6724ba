"""`plan`: parts are measured as the run does them, and nothing of them stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import pytest

from engine.block_kmeans import BlockKMeans
from engine.grid import Window
from pipeline.api.fitting import fit
from pipeline.commands.plan import calibration, plan, scratch, trial_fit
from pipeline.commands.plan.measured_parts import Grid, Samples
from pipeline.config import RunConfig, build
from pipeline.errors import RasterError, UsageError
from pipeline.running.task import Task, TaskKind
from pipeline.source.opening import open_segmentable
from pipeline.source.view import View
from pipeline.tasks.job import job_of
from pipeline.workers.pool import Pool
from tests.rasters import noise, spoil, write_geotiff
from tests.waiting import HANG_S


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder of temporary files, empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def scene(tmp_path):
    return write_geotiff(tmp_path / "scene.tif", noise(3, 1500, 1300), tiled=True)


def planned(*sources, **options):
    return plan.plan(build({"sources": [str(s) for s in sources], "workers": "2", **options}))


class Large:
    """A raster of a size that no file has, in tiles."""

    block_shape = (512, 512)
    pixel_bytes = 4

    def __init__(self, height, width):
        self.bounds = Window(0, 0, height, width)


def job(height, width, chunk=2048):
    config = RunConfig(chunk_size=chunk)
    raster = Large(height, width)
    return job_of(config, "a", View(raster, raster.bounds), BlockKMeans(1), None, Path("x"))


def test_parts_are_whole_rows_of_windows_each_given_once():
    one = job(20_000, 9_000)
    samples, rows = Samples([one]), []
    while samples.left:
        part = samples.next(3 * 2048 * 9_000).view.region
        assert part.row % 2048 == 0
        assert (part.col, part.width) == (0, 9_000)
        assert part.row_end <= 20_000
        rows += range(part.row // 2048, -(-part.row_end // 2048))
    assert sorted(rows) == list(range(10))


def test_parts_that_are_less_than_a_row_are_windows_side_by_side_at_different_places():
    samples = Samples([job(20_480, 20_480)])
    parts = [samples.next(2 * 2048**2).view.region for _ in range(10)]
    assert {(p.height, p.width) for p in parts} == {(2048, 4096)}
    assert all(p.row % 2048 == p.col % 2048 == 0 for p in parts)
    assert len({p.row for p in parts}) == 10
    assert len({p.col for p in parts}) > 3
    assert not samples.left


def test_probes_are_some_cells_and_use_nothing_up():
    samples = Samples([job(9_000, 9_000)])
    parts = [samples.next(2 * 512 * 512).view.region for _ in range(9)]
    assert {(p.height, p.width) for p in parts} <= {(512, 1024), (512, 808)}
    assert all(p.row_end <= 9_000 and p.col_end <= 9_000 for p in parts)
    assert samples.left


def test_parts_come_from_all_over_a_batch():
    jobs = [replace(job(1_000, 1_000), out=Path(str(i))) for i in range(1000)]
    samples = Samples(jobs)
    chosen = sorted(int(str(samples.next(10**6).out)) for _ in range(20))
    gaps = [b - a for a, b in zip([0, *chosen], [*chosen, 1000], strict=True)]
    assert max(gaps) < 120
    assert len(set(chosen)) == 20


def test_a_region_that_does_not_begin_at_the_raster_s_corner_keeps_its_parts_inside():
    one = job(20_000, 20_000)
    one = replace(one, view=replace(one.view, region=Window(1024, 512, 5_000, 3_000)))
    samples = Samples([one])
    while samples.left:
        part = samples.next(2048 * 2048).view.region
        assert (part.row - 1024) % 2048 == (part.col - 512) % 2048 == 0
        assert part.row >= 1024
        assert part.row_end <= 6_024
        assert part.col >= 512
        assert part.col_end <= 3_512


def test_the_grid_of_a_small_raster_is_one_window():
    assert Grid.of(job(300, 5_000)).count == 3
    assert Grid.of(job(300, 200)) == Grid(300, 200, 1, 1)


def timed(function, *arguments):
    return Task(TaskKind.CHECK, function, (job(9, 9), *arguments), lambda _: None)


def test_timed_workers_give_results_and_errors_as_others_do():
    def busy(of, window, answer):
        time.sleep(0.05)
        if answer is None:
            raise RasterError("a.tif", "damaged")
        return answer

    with ThreadPoolExecutor(2) as executor:
        stopwatch = calibration._Stopwatch(Pool(executor, 2), shared=False)
        good = stopwatch.submit(timed(busy, Window(0, 0, 3, 4), 7))
        bad = stopwatch.submit(timed(busy, Window(0, 0, 3, 4), None))
        assert good.result(HANG_S) == 7
        with pytest.raises(RasterError, match="damaged"):
            bad.result(HANG_S)
    (taken,) = stopwatch.so_far()
    assert (taken.kind, taken.pixels) == (TaskKind.CHECK, 12)
    assert taken.seconds >= 0.05


def test_timed_work_that_is_taken_back_is_neither_done_nor_counted():
    gate = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        stopwatch = calibration._Stopwatch(Pool(executor, 2), shared=False)
        stopwatch.submit(timed(lambda *_: gate.wait(HANG_S)))
        waiting = stopwatch.submit(timed(lambda *_: None))
        assert waiting.cancel()
        gate.set()
        assert wait([waiting], HANG_S).done
    assert waiting.cancelled()
    assert [t.pixels for t in stopwatch.so_far()] == [81]


def test_a_small_raster_is_measured_whole_and_a_plan_ends_with_it(scene, temporary):
    found = planned(scene, resolution=1)
    assert (found.rasters, found.pixels, found.chunks) == (1, 1500 * 1300, 1)
    assert 0 < found.seconds_low <= found.seconds <= found.seconds_high
    assert found.peak_bytes > 10 << 20
    assert not list(temporary.glob("tilewright-*"))


def test_no_part_is_begun_when_the_time_is_over(tmp_path, temporary, monkeypatch):
    source = write_geotiff(tmp_path / "a.tif", noise(1, 6000, 3000), tiled=True)
    seen = []
    usual = calibration.calibrate
    monkeypatch.setattr(plan, "calibrate", lambda *a: seen.append(usual(*a)) or seen[-1])
    # all of it, however long that takes
    monkeypatch.setattr(calibration, "LIMIT_S", HANG_S)
    monkeypatch.setattr(calibration, "_LEAST_S", HANG_S)
    planned(source)
    monkeypatch.setattr(calibration, "LIMIT_S", 0.0)
    short = planned(source)
    whole, part = (sum(t.pixels for t in m.taken if t.kind is TaskKind.LABEL) for m in seen)
    assert whole > 4 * 512**2
    assert part == 512 * 512
    assert short.seconds > 0


@pytest.mark.parametrize(
    "options",
    [
        {"format": "zarr"},
        {"fit": "exact", "bands": "1"},
        {"codebook_scope": "raster"},
        {"chunk_size": 512, "workers": "1"},
        {"method": "cnn", "resolution": 16},
        {"workers": "processes:2"},
    ],
    ids=str,
)
def test_a_plan_takes_the_options_of_a_run(scene, tmp_path, temporary, options):
    other = write_geotiff(tmp_path / "other.tif", noise(3, 700, 900, seed=1))
    found = planned(scene, other, **options)
    assert found.seconds > 0
    assert found.budget["bound_by"] in {"start", "read", "compute", "write", "wait", "nothing"}
    assert found.budget["verdict"] in found.text()
    assert json.loads(json.dumps(found.as_json()))["budget"] == found.budget
    assert not list(temporary.glob("tilewright-*"))


def test_each_raster_s_own_fit_is_counted_for_each(tmp_path, monkeypatch):
    sources = [write_geotiff(tmp_path / f"{i}.tif", noise(1, 300, 300, seed=i)) for i in range(4)]
    usual = trial_fit.fit_as_asked

    def slow(*arguments, **options):
        time.sleep(0.5)
        return usual(*arguments, **options)

    monkeypatch.setattr(trial_fit, "fit_as_asked", slow)
    monkeypatch.setattr(trial_fit, "_LIMIT_S", 0.0)  # one stands for all
    assert planned(*sources, codebook_scope="raster").budget["seconds"]["fit_s"] >= 4 * 0.5


def test_of_a_fit_on_every_pixel_of_much_only_parts_are_counted():
    small = [View(None, Window(0, 0, 4000, 4000))]
    assert trial_fit._some_windows(small) is small
    large = [View(None, Window(0, 0, 30_000, 30_000)), View(None, Window(0, 0, 30_000, 60_000))]
    parts = trial_fit._some_windows(large)
    assert 8 <= len(parts) <= 24
    assert len({(p.region.row, p.region.col) for p in parts}) > 6


def test_parts_without_valid_pixels_say_how_fast_they_go_all_the_same(tmp_path):
    pixels = noise(1, 5000, 2500)
    pixels[:, 300:] = 0
    source = write_geotiff(tmp_path / "a.tif", pixels, nodata=0, tiled=True, compress="deflate")
    assert planned(source).seconds > 0


def test_a_raster_that_cannot_be_read_is_told_as_by_a_run(tmp_path):
    source = write_geotiff(tmp_path / "a.tif", noise(1, 600, 600), tiled=True, compress="deflate")
    (tmp_path / "c.npz").write_bytes(fit(source, segments=2).to_bytes())
    spoil(source)
    with pytest.raises(RasterError, match=r"a\.tif: cannot read"):
        planned(source, codebook=str(tmp_path / "c.npz"))


def test_a_plan_names_the_rasters_that_cannot_be_opened(scene, tmp_path):
    found = planned(scene, tmp_path / "lost.tif")
    assert found.rasters == 1
    assert list(found.as_json()["failures"]) == ["lost"]
    assert found.text().splitlines()[-1].startswith(f"failed   {tmp_path / 'lost.tif'}: no such file")


def test_a_plan_makes_nothing_in_out_nor_beside_it(scene, tmp_path, temporary):
    out = tmp_path / "out"
    before = sorted(tmp_path.iterdir())
    planned(scene, out=str(out))
    assert sorted(tmp_path.iterdir()) == before
    out.mkdir()
    planned(scene, out=str(out))
    assert not list(out.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, UsageError])
def test_an_interrupted_plan_leaves_no_temporary_files(scene, temporary, monkeypatch, error):
    def interrupted(jobs, *_):
        (jobs[0].out / "half").mkdir()
        (jobs[0].out / "half" / "done.part").write_bytes(b"x")
        raise error

    monkeypatch.setattr(plan, "calibrate", interrupted)
    with pytest.raises(error):
        planned(scene)
    assert not list(temporary.glob("tilewright-*"))


def test_parts_are_written_on_the_disk_of_out(tmp_path, monkeypatch):
    memory = Path("/dev/shm")
    if not (os.access(memory, os.W_OK) and memory.stat().st_dev != tmp_path.stat().st_dev):
        pytest.skip("no second file system here")
    assert scratch._other_disk(str(tmp_path / "new" / "out")) is None
    monkeypatch.setattr(tempfile, "tempdir", str(memory))
    assert scratch._other_disk(str(tmp_path / "new" / "out")) == tmp_path
    (tmp_path / "out").mkdir()
    assert scratch._other_disk(str(tmp_path / "out")) == tmp_path
    assert scratch._other_disk(None) is None


def test_the_footprint_is_what_was_held_at_a_time():
    # in a process of its own: memory that a test before gave back would be taken again unseen
    code = (
        "import os; from pipeline.process.memory import Footprint\n"
        "with Footprint() as before: before.look()\n"
        "with Footprint() as footprint:\n"
        "    block = bytearray(os.urandom(1 << 20)) * 100; footprint.look(); del block\n"
        "print(footprint.peak_bytes - before.peak_bytes)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 80 << 20 < int(ended.stdout) < 400 << 20


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"resolution": 1}, {"resolution": 4}, {"method": "cnn", "resolution": 16}]
)
def test_real_runs_take_about_what_was_planned(rasters, tmp_path, options):
    given = [str(v) for name, value in options.items() for v in (f"--{name}", value)]
    sizes = {p: open_segmentable(str(p)).bounds.pixels for p in rasters.glob("*.tif")}
    largest = max(sizes, key=sizes.get)

    def command(*arguments):
        start = time.monotonic()
        ended = subprocess.run(
            [sys.executable, "-m", "pipeline", *arguments, *given], capture_output=True, text=True, check=True
        )
        return time.monotonic() - start, ended.stdout

    ratios = []
    for i in range(3):
        found = json.loads(command("plan", str(largest), "--json")[1])
        seconds, _ = command("run", str(largest), "-o", str(tmp_path / str(i)), "--progress", "none")
        ratios.append(found["seconds"] / seconds)
    # others may use the machine while one of both runs
    assert 0.5 < sorted(ratios)[1] < 2
