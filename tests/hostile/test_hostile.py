"""Hostile input is refused or handled: no crash, hang, traceback, wrong success, or file outside OUT."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.hostile.common import good
from tests.hostile.judge import Case, Server
from tests.hostile.kinds import KINDS, maker

FEW = 20
REGRESSIONS = {
    "tiff_tags": (23, 814, 972, 995), "stores": (6, 8, 101),
    "codebooks": (161,), "vrt": (582,), "models": (115,),
    "vectors": (3, 4, 5, 8, 78), "formats": (36,),
}  # fmt: skip
"""Seeds that have found something."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("hostile")) as running:
        yield running


def tried(server, kind, seeds):
    """Try some seeds of a kind; gives what is wrong, and how they ended."""
    wrong, outcomes = [], Counter()
    for seed in seeds:
        outcome, fault = server.verdict(f"{kind.__name__}-{seed}", maker(kind, seed))
        outcomes[outcome] += 1
        if fault:
            wrong.append(f"{kind.__name__} {seed}: {fault}")
    return wrong, outcomes


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_some_of_each_kind(server, kind):
    seeds = dict.fromkeys([*range(FEW), *REGRESSIONS.get(kind.__name__, ())])
    wrong, outcomes = tried(server, kind, seeds)
    assert not wrong, "\n".join(wrong)
    # a kind of which all are refused at the first look tries nothing
    assert outcomes.keys() & {"exit 0", "exit 1"}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_all_of_each_kind(server, kind):
    wrong, outcomes = tried(server, kind, range(KINDS[kind]))
    assert not wrong, "\n".join(wrong)
    assert sum(outcomes.values()) == KINDS[kind]


def test_there_are_thousands():
    assert sum(KINDS.values()) >= 5000


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["inspect", "lost.tif"], "exit 1"),
        (["run", "-o", "out"], "exit 2"),
    ],
)
def test_the_judge_sees_an_exit_code_that_is_wrong(server, argv, said):
    outcome, wrong = server.verdict("judge", lambda _: Case(argv, may=(0,)))
    assert outcome == said
    assert wrong.startswith(said)


def test_the_judge_sees_a_file_outside_of_out(server):
    outside = ["-o", "elsewhere", "--segments", "3", "--workers", "1"]
    outcome, wrong = server.verdict("judge", lambda folder: Case(["run", good(folder), *outside]))
    assert outcome == "exit 0"
    assert "changed outside OUT" in wrong
