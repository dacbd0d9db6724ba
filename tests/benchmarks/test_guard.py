"""The guard fails what has become worse by more than a quarter, and nothing else."""

import json

import pytest

from benchmarks import clock, data, guard
from benchmarks.races import race
from benchmarks.races.command import Cost
from benchmarks.races.contenders import Contender, Pair

PAIR = Pair("ours", "floor")
QUIET, BUSY = 0.0, 1.0


def entry(name, laps, failure=""):
    """Of laps given as seconds, or as seconds and the seconds that others took meanwhile."""
    pairs = [lap if isinstance(lap, tuple) else (lap, QUIET) for lap in laps]
    made = [race.Lap(Cost(1, 1, others), clock.Work(seconds, 1e6)) for seconds, others in pairs]
    return race.Entry(Contender(name, "", lambda *_: []), None, made, failure=failure)


def verdict(ours, floor, recorded=0.5, failure=""):
    run = race.Race(None, 3, (entry("ours", ours, failure), entry("floor", floor)))
    return guard.judge(run, PAIR, recorded)


@pytest.mark.parametrize(
    ("ours", "state"),
    [
        ([1.0, 1.0, 1.0], guard.KEPT),
        ([1.3, 1.3, 1.3], guard.WORSE),
        ([1.31, 1.3, 1.4], guard.WORSE),
        ([1.2, 1.24, 1.2], guard.KEPT),
        ([0.7, 0.9, 0.7], guard.BETTER),
        # a round that stumbled tells nothing: the best of each side counts
        ([1.9, 1.02, 3.0], guard.KEPT),
    ],
)
def test_a_ratio_that_is_worse_by_more_than_a_quarter_fails(ours, state):
    assert verdict(ours, [2.0, 2.0, 2.1]).state == state


def test_a_slow_floor_hides_nothing_for_its_best_counts():
    assert verdict([1.3, 1.3, 1.3], [2.0, 2.9, 2.7]).state == guard.WORSE


def test_disturbed_runs_do_not_count():
    busy = (0.1, BUSY)
    assert verdict([1.0, 1.0, 1.0], [busy, 2.0, 2.0]).state == guard.KEPT
    assert verdict([1.3, 1.3, busy], [2.0, 2.0, 2.0]).state == guard.WORSE


def test_where_others_disturb_all_but_one_run_nothing_is_decided():
    assert verdict([(9, BUSY), (9, BUSY), 1.0], [2.0, 2.0, 2.0]).state == guard.UNDECIDED


def test_a_contender_that_fails_is_no_good_sign():
    assert verdict([1.0], [2.0], failure="exit 1").state == guard.FAILED


def test_what_was_not_recorded_is_shown():
    found = verdict([1.0, 1.0], [2.0, 2.0], recorded=None)
    assert (found.state, found.ratio) == (guard.NEW, 0.5)
    assert "ours beside floor: 0.500, recorded not for this machine" in guard.line(found)


def test_ratios_of_another_kind_of_machine_count_where_both_sides_scale_alike():
    every = (*guard.ANYWHERE, *guard.SAME_MACHINE)
    ratios = {f"{p.left} beside {p.right}": 0.5 for p in every}
    record = {"machine": {"cores": 2}, "ratios": ratios}
    assert set(guard.recorded_ratios(record, {"cores": 2}).values()) == {0.5}
    elsewhere = guard.recorded_ratios(record, {"cores": 4})
    assert {elsewhere[p] for p in guard.ANYWHERE} == {0.5}
    assert {elsewhere[p] for p in guard.SAME_MACHINE} == {None}
    assert set(guard.recorded_ratios({}, {}).values()) == {None}


def contender(name):
    return Contender(name, "", lambda *_: [name], own_clock=True, leaves_raster=False)


@pytest.fixture
def guarded(work, monkeypatch):
    """A guard whose runs take what a test says: seconds, and seconds of others, of each contender."""

    def prepare(takes, ratios):
        def cost(line):
            seconds, others = next(takes[line[0]])
            return Cost(1, 1, others, json.dumps({"work": {"seconds": seconds, "pixels": 1e6}}))

        monkeypatch.setattr(race.command, "cost", cost)
        monkeypatch.setattr(guard, "ANYWHERE", (PAIR,))
        monkeypatch.setattr(guard, "SAME_MACHINE", ())
        monkeypatch.setattr(guard, "lineup", lambda: [contender("ours"), contender("floor")])
        monkeypatch.setattr(guard, "_photo", lambda _: data.Photo(work / "none.tif", 1000, "nothing"))
        monkeypatch.setattr(guard, "RECORDED", work / "recorded.json")
        if ratios is not None:
            guard.RECORDED.write_text(json.dumps({"machine": guard.machine(), "ratios": ratios}))

    return prepare


def endless(*first, then):
    yield from first
    while True:
        yield then


def checked(*, record=False):
    shown = []
    code = guard.run(record=record, say=lambda _: None, show=shown.append)
    return code, "\n".join(shown)


def test_the_guard_passes_what_is_as_it_was(guarded):
    guarded(
        {"ours": endless(then=(1.05, QUIET)), "floor": endless(then=(2, QUIET))}, {"ours beside floor": 0.5}
    )
    code, shown = checked()
    assert (code, shown.split()[0]) == (0, guard.KEPT)


def test_the_guard_fails_what_stays_worse(guarded):
    guarded(
        {"ours": endless(then=(1.3, QUIET)), "floor": endless(then=(2, QUIET))}, {"ours beside floor": 0.5}
    )
    code, shown = checked()
    assert (code, shown.split()[0]) == (1, guard.WORSE)


def test_the_guard_tries_again_before_it_fails(guarded):
    slow = [(1.4, QUIET)] * 5  # the warm-up, three rounds and one more
    takes = {"ours": endless(*slow, then=(1.0, QUIET)), "floor": endless(then=(2, QUIET))}
    guarded(takes, {"ours beside floor": 0.5})
    assert checked()[0] == 0


def test_the_guard_fails_nothing_on_a_machine_that_is_busy_throughout(guarded):
    guarded({"ours": endless(then=(5, BUSY)), "floor": endless(then=(2, QUIET))}, {"ours beside floor": 0.5})
    code, shown = checked()
    assert code == 0
    assert "undecided: others took" in shown


def test_a_busy_machine_is_not_held_up(guarded, monkeypatch):
    asked = []

    def busy():
        asked.append(1)
        return 5, BUSY

    guarded({"ours": iter(busy, None), "floor": endless(then=(2, QUIET))}, {"ours beside floor": 0.5})
    monkeypatch.setattr(guard.time, "monotonic", lambda: 200 * len(asked))
    assert checked()[0] == 0
    assert len(asked) == 2  # the warm-up, and the round after which 400 s have passed


def test_a_record_is_what_the_next_check_is_held_against(guarded):
    guarded({"ours": endless(then=(1, QUIET)), "floor": endless(then=(2, QUIET))}, None)
    assert checked(record=True)[0] == 0
    assert json.loads(guard.RECORDED.read_text())["ratios"] == {"ours beside floor": 0.5}
    code, shown = checked()
    assert (code, shown.split()[0]) == (0, guard.KEPT)


def test_a_busy_machine_records_nothing(guarded):
    guarded({"ours": endless(then=(1, BUSY)), "floor": endless(then=(2, QUIET))}, {"ours beside floor": 0.7})
    before = guard.RECORDED.read_text()
    assert checked(record=True)[0] == 1
    assert guard.RECORDED.read_text() == before


def test_the_guard_fails_when_a_contender_cannot_run(guarded, monkeypatch):
    guarded({}, {"ours beside floor": 0.5})

    def broken(_):
        raise race.CommandError("exit 1: broken")

    monkeypatch.setattr(race.command, "cost", broken)
    code, shown = checked()
    assert code == 1
    assert "ours failed: exit 1: broken" in shown


def test_every_pair_of_the_guard_has_its_contenders(monkeypatch):
    for maker in ("labels", "network"):
        monkeypatch.setattr(data, maker, lambda *_, **__: "made")
    monkeypatch.setattr(guard, "_photo", lambda _: None)
    names = {c.name for c in guard.lineup()}
    assert {name for p in (*guard.ANYWHERE, *guard.SAME_MACHINE) for name in p.names} == names


def test_what_is_recorded_is_all_that_the_guard_compares():
    ratios = json.loads(guard.RECORDED.read_text())["ratios"]
    assert set(ratios) == {f"{p.left} beside {p.right}" for p in (*guard.ANYWHERE, *guard.SAME_MACHINE)}
    assert all(r > 0 for r in ratios.values())


def test_a_network_of_random_weights_gives_what_the_old_ones_do(work):
    pytest.importorskip("torch")
    import torch

    path = data.network(16)
    assert path.parent == work
    with pytest.warns(DeprecationWarning, match="torch.jit.load"):
        module = torch.jit.load(path)
    features = module(torch.zeros(1, 3, 64, 64))
    assert features.shape == (1, 192, 2, 2)
