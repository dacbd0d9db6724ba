"""The guard: a short sitting whose ratios are compared with the recorded ones.

It is to notice a change that makes something a quarter slower, on a shared machine, and to cry wolf never.
So it compares ratios of runs that take turns; takes the best of several rounds of each side, for what
disturbs a run makes it slower and never faster; counts no run during which others took more than a
twentieth of the cores; and measures again before it says that something is worse. Where the machine is too
busy to tell within minutes it says so, and fails nothing.

Both sides of a ratio are bound by the cores and do the same kinds of work, on a raster and with a network
that are made here, by the libraries of the lock: so the ratios carry over to other machines. What does not
(a form of the network that one processor has instructions for) counts only on the kind of machine that it
was recorded on.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import clock, data, report
from benchmarks.races import race
from benchmarks.races.catalogue import bare, floor, loaded, mapped, sinks
from benchmarks.races.contenders import THREADS, Contender, Pair, cnn, kmeans, library_copy, ours
from benchmarks.races.race import Entry, Race

RECORDED = Path(__file__).with_name("recorded.json")

LIMIT = 1.25
"""How much larger than recorded a ratio may be."""

_SIZE_PX = 6144
_CNN_PX = 3072
_STRIDE_PX = 16
_ROUNDS = 3
_MORE = 4  # rounds at most that are added for pairs that look worse, or were disturbed ...
_BUDGET_S = 300.0  # ... and none once it has taken this long: a busy machine shall not hold up CI
_ENOUGH = 2  # undisturbed runs of each side without which nothing can be told

KEPT, WORSE, BETTER, UNDECIDED, NEW, FAILED = "kept", "WORSE", "better", "undecided", "new", "FAILED"

Say = Callable[[str], None]

ANYWHERE = (
    Pair("tilewright-r1", "copy"),
    Pair("map-halo-0", "floor-decode"),
    Pair("map-halo-16", "map-halo-0"),
    Pair("sink-ours", "sink-gdal"),
)
"""What is compared on every machine."""

SAME_MACHINE = (Pair("tilewright-cnn", "bare-ours"), Pair("bare-ours", "bare-loaded"))
"""What is compared only on the kind of machine that it was recorded on."""


@dataclass(frozen=True)
class Verdict:
    """What became of a ratio.

    Parameters
    ----------
    pair
        Whose.
    state
        One of those above.
    ratio
        As it is now; None where it cannot be told.
    recorded
        As it was; None where it was not recorded, or on another kind of machine.
    """

    pair: Pair
    state: str
    ratio: float | None
    recorded: float | None

    @property
    def settled(self) -> bool:
        """Whether more rounds could not change it for the better."""
        return self.state not in (WORSE, UNDECIDED)


def lineup() -> list[Contender]:
    """Who takes part."""
    model = data.network(_STRIDE_PX, built_in=True)
    labels = data.labels(_photo(_SIZE_PX))
    two = ("--workers", THREADS)
    return [
        ours("tilewright-r1", *kmeans(1), *two),
        library_copy(),
        floor("decode", "decoding all pixels"),
        mapped(0),
        mapped(16),
        *sinks(labels),
        ours("tilewright-cnn", *cnn(model), *two, size_px=_CNN_PX),
        bare("bare-ours", model, 1, THREADS, 2.0),
        loaded(model, THREADS),
    ]


def best(entry: Entry) -> float | None:
    """Seconds of a million pixels in the best of the undisturbed runs; None of too few."""
    quiet = [lap.work.s_per_mpx for lap in entry.laps if lap.quiet]
    return min(quiet) if len(quiet) >= _ENOUGH else None


def judge(run: Race, pair: Pair, recorded: float | None) -> Verdict:
    """What became of a pair's ratio."""
    entries = [run.entry(name) for name in pair.names]
    if any(e is None for e in entries):
        return Verdict(pair, FAILED, None, recorded)
    taken = [best(e) for e in entries if e is not None]
    if any(t is None for t in taken):
        return Verdict(pair, UNDECIDED, None, recorded)
    ratio = race.ratio(*(t for t in taken if t is not None))
    if recorded is None:
        return Verdict(pair, NEW, ratio, None)
    state = WORSE if ratio > LIMIT * recorded else BETTER if ratio < recorded / LIMIT else KEPT
    return Verdict(pair, state, ratio, recorded)


def machine() -> dict[str, Any]:
    """What decides how fast a network can be: the kind of machine."""
    compiler = any(map(shutil.which, ("c++", "g++", "clang++")))
    return {"processor": report.processor(), "cores": clock.cores(), "compiler": compiler}


def recorded_ratios(record: dict[str, Any], here: dict[str, Any]) -> dict[Pair, float | None]:
    """The recorded ratio of each pair; None where there is none that counts on this machine."""
    ratios = record.get("ratios", {})
    same = record.get("machine") == here
    return {p: ratios.get(_key(p)) if same or p in ANYWHERE else None for p in (*ANYWHERE, *SAME_MACHINE)}


def measure(
    contenders: Sequence[Contender], wanted: dict[Pair, float | None], say: Say, size_px: int = _SIZE_PX
) -> tuple[Race, list[Verdict]]:
    """Race, judge, and race again those of whom it cannot be said that nothing is worse."""
    photo = _photo(size_px)
    start = time.monotonic()
    entries = race.enter(contenders, photo, _photo)
    race.warm_up(entries, say)
    run = Race(photo, _ROUNDS, entries)
    for index in range(_ROUNDS + _MORE):
        verdicts = [judge(run, pair, ratio) for pair, ratio in wanted.items()]
        open_ = {name for v in verdicts if not v.settled for name in v.pair.names}
        turn = entries if index < _ROUNDS else [e for e in entries if e.contender.name in open_]
        if not turn or time.monotonic() - start > _BUDGET_S:
            break
        race.run_round(index, turn, say, tries=1)
    return run, [judge(run, pair, ratio) for pair, ratio in wanted.items()]


def run(*, record: bool, say: Say, show: Say) -> int:
    """Check against the record, or make it anew; gives an exit code: 1 if something is worse or failed."""
    here = machine()
    old = json.loads(RECORDED.read_text()) if RECORDED.exists() else {}
    wanted = recorded_ratios({} if record else old, here)
    done, verdicts = measure(lineup(), wanted, say)
    for verdict in verdicts:
        show(line(verdict))
    for entry in done.entries:
        if entry.failure:
            show(f"{entry.contender.name} failed: {entry.failure}")
    states = {v.state for v in verdicts}
    if record:
        return _save(verdicts, here, show)
    if UNDECIDED in states:
        show(f"undecided: others took {_others(done):.0%} of the cores (median); try again when it is quiet")
    if BETTER in states:
        show("better than recorded: `make bench-record` on a quiet machine keeps it so")
    return int(bool(states & {WORSE, FAILED}))


def line(verdict: Verdict) -> str:
    """A verdict for people."""
    now = "?" if verdict.ratio is None else f"{verdict.ratio:.3f}"
    was = "not for this machine" if verdict.recorded is None else f"{verdict.recorded:.3f}"
    return f"{verdict.state:9}  {_key(verdict.pair)}: {now}, recorded {was}"


def _save(verdicts: Sequence[Verdict], here: dict[str, Any], show: Say) -> int:
    if any(v.ratio is None for v in verdicts):
        show("not recorded: something failed, or the machine was too busy")
        return 1
    made = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": here,
        "ratios": {_key(v.pair): round(v.ratio, 4) for v in verdicts if v.ratio is not None},
    }
    RECORDED.write_text(json.dumps(made, indent=2) + "\n")
    return 0


def _others(run: Race) -> float:
    return statistics.median([lap.cost.disturbance for e in run.entries for lap in e.laps] or [0.0])


def _key(pair: Pair) -> str:
    return f"{pair.left} beside {pair.right}"


def _photo(size_px: int) -> data.Photo:
    return data.photo(size_px, built_in=True)
