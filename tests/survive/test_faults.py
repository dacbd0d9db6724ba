"""Storage that fails at every place in turn: equal bytes, or one line that says so and a run to take up."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import random
import shutil
import time

import pytest

from pipeline import cli
from pipeline.durable import files
from pipeline.events import journal
from pipeline.source import bad_blocks
from tests.rasters import noise, write_geotiff
from tests.survive.commands import outputs
from tests.survive.faults import KINDS, Fault, Faults
from tests.waiting import HANG_S

SEED = 20261123
_SAMPLED = 3
_MANNERS = (
    (errno.EIO, False),
    (errno.EIO, True),
    (errno.ENOSPC, True),
    (errno.EACCES, True),
    (errno.EROFS, True),
    (errno.ESTALE, False),
)


@pytest.fixture(scope="module", autouse=True)
def no_delay():
    """Patience without the waiting, and no call that is made because time has passed: calls are counted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_PAUSES_S", (0.001, 0.001, 0.001))
        patch.setattr(bad_blocks, "RETRY_AFTER_S", (0.001, 0.001))
        patch.setattr(journal, "_EVERY_S", HANG_S)
        yield


class Small:
    """A small run with all phases: several windows, two stages, both readings of its own output."""

    def __init__(self, folder, form):
        self.folder = folder
        self.form = form
        self.source = write_geotiff(folder / "scene.tif", noise(3, 600, 2100, seed=3), tiled=True)
        with Faults(folder) as counting:
            self.run(folder / "undisturbed")
        self.counts = counting.counts
        self.wanted = outputs(folder / "undisturbed")
        self.tries = 0

    def run(self, out):
        """The command in this process; gives its exit code and what it said."""
        said = io.StringIO()
        options = ("--segments", "2", "--resolution", "8", "--chunk-size", "512", "--workers", "1")
        command = ["run", str(self.source), "-o", str(out), *options, "--format", self.form]
        with contextlib.redirect_stderr(said):
            code = cli.main([*command, "--progress", "none"])
        return code, said.getvalue()

    def survives(self, fault):
        """Make sure of what has to hold for a fault; gives the exit code with it."""
        self.tries += 1
        out = self.folder / f"out{self.tries}"
        with Faults(self.folder, fault=fault) as faults:
            code, said = self.run(out)
        what = f"{fault}: exit {code}: {said}"
        if not faults.struck:  # of the last calls of a kind one more or less is made, as threads meet
            assert fault.number > 0.9 * self.counts[fault.kind], what
        if code == 0:
            assert said == "", what
            assert outputs(out) == self.wanted, what
            # what cannot be deleted stays, for the next run to delete
            assert fault.lasting or not (out / ".partial").exists(), what
        else:
            assert code in (1, 2), what
            # where an input cannot be read, it is named too
            lines = [line for line in said.splitlines() if not line.startswith(f"{self.source}: ")]
            assert len(lines) <= 1, what
            assert "Traceback" not in said, what
            assert "--debug" not in said, what
        # a process that has ended owns nothing any more, which this one cannot show
        (out / ".partial" / ".owner").unlink(missing_ok=True)
        again, said = self.run(out)
        assert again == 0, f"{what}, then {said}"
        assert outputs(out) == self.wanted, f"{what}, then other bytes"
        assert not (out / ".partial").exists(), f"{what}, then leftovers"
        shutil.rmtree(out)
        return code


@pytest.fixture(scope="module", params=["cog", "zarr"])
def small(request, tmp_path_factory):
    return Small(tmp_path_factory.mktemp(request.param), request.param)


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_fails_leaves_equal_bytes_or_a_run_to_take_up(small, kind):
    rng = random.Random(f"{SEED}{small.form}{kind}")
    count = small.counts[kind]
    assert count > 10
    for i in range(_SAMPLED):
        number = 1 + int((i + rng.random()) * count / _SAMPLED)
        error, lasting = rng.choice(_MANNERS)
        small.survives(Fault(kind, number, error, lasting))


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_call_of_all_that_fails_once_leaves_nothing_behind(small, kind):
    small.survives(Fault(kind, small.counts[kind], errno.EIO))


def test_a_clock_that_jumps_changes_nothing(small, monkeypatch):
    rng, now = random.Random(SEED), time.time()
    monkeypatch.setattr(time, "time", lambda: now + rng.uniform(-1e8, 1e8))
    with Faults(small.folder, fault=Fault("write", small.counts["write"] // 2, errno.ENOSPC, lasting=True)):
        assert small.run(small.folder / "jumps")[0] == 1
    assert small.run(small.folder / "jumps") == (0, "")
    assert outputs(small.folder / "jumps") == small.wanted


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_every_call_that_fails_leaves_equal_bytes_or_a_run_to_take_up(small, kind):
    codes, broken = [], []
    for number in range(1, small.counts[kind] + 1):
        for error, lasting in (_MANNERS[0], _MANNERS[1 + number % (len(_MANNERS) - 1)]):
            fault = Fault(kind, number, error, lasting)
            try:
                codes.append(small.survives(fault))
            except AssertionError as failure:
                broken.append(str(failure).splitlines()[0])
    say = logging.getLogger(__name__).info
    say("%s %s: %d faults, %d of them mended on the way", small.form, kind, len(codes), codes.count(0))
    assert not broken, "\n".join(broken)
