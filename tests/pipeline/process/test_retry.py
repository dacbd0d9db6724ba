"""Calls that are made again: how often, after which pauses, and for which errors."""

from __future__ import annotations

import pytest

from pipeline.process import retry as module
from pipeline.process.retry import retry


@pytest.fixture
def slept(monkeypatch):
    pauses = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    return pauses


def failing(*errors):
    left = [*errors]

    def call():
        if left:
            raise left.pop(0)
        return "done"

    return call


@pytest.mark.parametrize("failures", range(4))
def test_a_call_is_made_again_after_each_pause(slept, failures):
    errors = [OSError(str(i)) for i in range(failures)]
    assert retry(failing(*errors), (1, 2, 3), lambda _: True) == "done"
    assert slept == [1, 2, 3][:failures]


def test_the_error_of_the_last_call_is_raised(slept):
    with pytest.raises(OSError, match=r"^2$"):
        retry(failing(OSError("1"), OSError("2")), (1,), lambda _: True)
    assert slept == [1]


def test_an_error_that_lasts_is_raised_at_once(slept):
    asked = []
    with pytest.raises(ValueError, match="wrong"):
        retry(
            failing(OSError("1"), ValueError("wrong")),
            (1, 2, 3),
            lambda e: asked.append(e) or isinstance(e, OSError),
        )
    assert slept == [1]
    assert len(asked) == 2


def test_without_pauses_there_is_one_call_and_an_interrupt_ends_it(slept):
    with pytest.raises(OSError, match="1"):
        retry(failing(OSError("1")), (), lambda _: True)
    with pytest.raises(KeyboardInterrupt):
        retry(failing(KeyboardInterrupt()), (1, 2), lambda _: True)
    assert slept == []
