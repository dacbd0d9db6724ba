"""Races and parts come to an end with honest numbers, on the raster that they say."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from benchmarks import coordinator, data, race, report, suite
from benchmarks.command import CommandError, Cost, cost, peak_bytes
from benchmarks.contenders import PAIRS, Contender, contenders

ROOT = Path(__file__).resolve().parents[2]


def test_benchmark_raster_is_the_mirrored_photo_with_drifts(work):
    photo = data.photo(1500)
    assert photo.origin == "scene"
    with rasterio.open(photo.path) as dataset, rasterio.open(work / "scene.tif") as scene:
        assert dataset.block_shapes == [(512, 512)] * 3
        assert dataset.compression.name == "deflate"
        pixels, first = dataset.read().astype(int), scene.read().astype(int)
    assert pixels.shape == (3, 1500, 1500)
    # next to the mirror's edge, where the drift is the same to a grey value
    assert np.abs(pixels[:, :, 639] - pixels[:, :, 640]).max() <= 1
    assert np.abs(pixels[:, :640, :640] - first).max() <= 35
    assert (pixels[:, :640, :640] != pixels[:, 1279:639:-1, 1279:639:-1]).mean() > 0.5


def test_cost_and_memory_of_a_command_with_a_child():
    hold = "import time; held = bytearray(96 << 20); held[::4096] = b'x' * len(held[::4096]); time.sleep(0.7)"
    parent = [
        sys.executable,
        "-c",
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])",
    ]
    taken = cost(parent)
    assert 0.7 < taken.wall_s < 60
    assert 0 < taken.cpu_s < taken.wall_s
    assert 96 << 20 < peak_bytes(parent) < 256 << 20


def test_a_command_that_fails_says_its_last_words():
    with pytest.raises(CommandError, match="exit 3: no luck"):
        cost([sys.executable, "-c", "import sys; print('no luck'); sys.exit(3)"])


def test_a_disturbed_run_is_done_again_and_the_quietest_counts(work, monkeypatch):
    warm_up, first, second = [(1, 0)], [(1, 9), (8, 0)], [(2, 90), (2, 90), (3, 50), (2, 90)]
    costs = (Cost(wall, 1, others) for wall, others in (*warm_up, *first, *second))
    monkeypatch.setattr(race.command, "cost", lambda line: (next(costs), subprocess.run(line, check=True))[0])
    result = race.race([fake("copy", 0)], data.photo(256), 2)
    entry = result.entry("copy")
    assert [c.wall_s for c in entry.costs] == [8, 3]
    assert entry.repeats == 4
    assert "4 runs had to be done again" in report.of_race(result, 0.0)


def fake(name, seconds):
    """A contender that waits, and leaves a copy of its raster."""
    code = f"import shutil, sys, time; time.sleep({seconds}); shutil.copy(sys.argv[1], sys.argv[2])"
    command = lambda source, out: [sys.executable, "-c", code, str(source), str(out / "a.tif")]  # noqa: E731
    return Contender(name, "waits", command)


def test_rounds_are_interleaved_and_a_failure_leaves_the_race(work):
    photo, said = data.photo(256), []
    broken = Contender(
        "old-system-r1", "fails", lambda *_: [sys.executable, "-c", "raise SystemExit('broken')"]
    )
    result = race.race([fake("tilewright-r1", 0.05), broken, fake("copy", 0.4)], photo, 2, said.append)
    rounds = [line.partition(":")[0] for line in said if "round" in line]
    assert rounds == ["tilewright-r1", "copy", "copy", "tilewright-r1"]
    assert all(ratio < 1 for ratio in result.ratios("tilewright-r1", "copy"))
    assert result.ratios("tilewright-r1", "old-system-r1") == []
    section = report.of_race(result, 0.5)
    assert "`old-system-r1` failed: exit 1: broken" in section
    assert section.index("ratio") < section.index("seconds") < section.index("Machine:")
    assert not list(work.glob("race-*"))


def test_every_pair_has_its_contenders():
    names = {c.name for c in contenders()}
    assert {name for pair in PAIRS for name in (pair.name, pair.beside)} <= names


def test_parts_run(work):
    timings = suite.measure(["labels(1)", "halve", "assemble"], 1100, seconds=0)
    assert [t.name for t in timings] == ["Labelling.labels(1)", "Storing.halve", "Assembling.assemble"]
    assert all(t.pixels == 1100**2 and min(t.seconds) > 0 for t in timings)


def test_the_coordinator_stays_cheap_and_small(work):
    done = coordinator.measure(2500)
    assert done.chunks == 2500
    # the goal is 3 ms; a machine that is busy with other things shall not fail it
    assert done.seconds / done.chunks < 0.02
    assert done.ledger_bytes > 2500 * 40
    assert max(done.memory) - done.memory[0] < 32 << 20
    assert "2,500 chunks" in report.of_coordination(done, 0.5)
    assert not list(work.iterdir())


@pytest.mark.slow
def test_the_command_races_everyone(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "--size", "1024", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    for pair in PAIRS:
        assert f"| {pair.name} | {pair.beside} | **" in done.stdout
    assert "Machine:" in done.stdout
