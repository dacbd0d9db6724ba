"""From measured tasks to the time of a run: the arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.commands.plan.forecast import (
    Line,
    Phase,
    Rates,
    Taken,
    Times,
    Work,
    forecast,
)
from pipeline.running.task import TaskKind

ONE, TWO = (1, 1), (1, 2)


def label(pixels, seconds, worker=ONE, parts=(0.0, 0.0, 0.0, 0.0)):
    return Taken(TaskKind.LABEL, worker, pixels, seconds, parts)


def rates(lines=None):
    return Rates({TaskKind.LABEL: Line(1.0), **(lines or {})})


def test_a_line_tells_what_is_of_each_task_and_what_of_each_pixel():
    line = Line.through([(1000, 1.5), (4000, 3.0), (2000, 2.0)])
    assert line.each == pytest.approx(1.0)
    assert line.per_pixel == pytest.approx(0.0005)
    assert line.of(10_000, tasks=3) == pytest.approx(3 * 1.0 + 5.0)


def test_tasks_of_one_size_are_taken_to_grow_with_it_and_single_ones_not_to():
    assert Line.through([(1000, 1.0), (1000, 3.0)]).of(4000) == pytest.approx(8.0)
    assert Line.through([(1000, 1.0), (1000, 3.0)], single=True).of(4000) == pytest.approx(2.0)


@given(st.lists(st.tuples(st.integers(1, 10**8), st.floats(0, 1e3)), min_size=1, max_size=12), st.booleans())
def test_no_line_gives_fewer_seconds_than_none(points, single):
    line = Line.through(points, single=single)
    assert line.each >= 0
    assert line.per_pixel >= 0


def test_the_first_task_of_a_worker_counts_once_and_not_for_all():
    cold = [label(1000, 9.0, ONE), label(1000, 7.0, TWO)]
    warm = [label(1000, 1.0, ONE), label(1000, 1.0, TWO)] * 3
    found = Rates.of([*cold, *warm])
    assert found.lines[TaskKind.LABEL].of(1000) == pytest.approx(1.0)
    assert found.cold_s == pytest.approx(7.0)  # both workers at a time, 8 and 6 s longer
    assert found.measured == 6


def test_what_a_raster_has_one_of_is_cold_once_for_all_workers():
    done = [
        Taken(TaskKind.FINISH, ONE, 1, 5.0),
        Taken(TaskKind.FINISH, TWO, 1, 1.0),
        Taken(TaskKind.FINISH, ONE, 1, 1.0),
    ]
    found = Rates.of(done)
    assert found.lines[TaskKind.FINISH].of(1) == pytest.approx(1.0)
    assert found.cold_s == pytest.approx(4.0)


def test_a_lone_task_stands_for_the_rest():
    found = Rates.of([label(1000, 2.0)])
    assert found.lines[TaskKind.LABEL].of(3000) == pytest.approx(6.0)
    assert found.cold_s == 0


def test_merging_is_priced_as_encoding_and_writing():
    found = Rates.of([label(1000, 10.0, ONE, (4.0, 3.0, 2.0, 1.0))] * 4)
    assert found.parts == pytest.approx((0.4, 0.3, 0.2, 0.1))
    assert found.lines[TaskKind.MERGE].of(1000) == pytest.approx(3.0)


def test_nothing_measured_takes_no_time():
    assert Rates.of([]).seconds([Phase(TaskKind.CHECK, 3, 100)]) == 0


@pytest.mark.parametrize(("windows", "shared", "seconds"), [(25, False, 13), (25, True, 12.5), (1, False, 1)])
def test_a_raster_takes_whole_rounds_of_windows_unless_they_share_threads(windows, shared, seconds):
    work = Work([[Phase(TaskKind.LABEL, windows, 0)]], 2, shared)
    assert work.span_s(rates()) == pytest.approx(seconds)


def test_phases_of_a_raster_wait_for_each_other():
    lines = rates({TaskKind.ASSEMBLE: Line(5.0), TaskKind.CHECK: Line(1.0)})
    work = Work(
        [[Phase(TaskKind.LABEL, 4, 0), Phase(TaskKind.ASSEMBLE, 1, 0), Phase(TaskKind.CHECK, 4, 0)]], 4
    )
    assert work.span_s(lines) == pytest.approx(1 + 5 + 1)


def test_rasters_of_a_batch_do_not_wait_for_each_other():
    lines = rates({TaskKind.ASSEMBLE: Line(1.0)})
    one = [Phase(TaskKind.LABEL, 1, 0), Phase(TaskKind.ASSEMBLE, 1, 0)]
    assert Work([one] * 100, 4).span_s(lines) == pytest.approx(50)


def test_a_run_is_its_start_its_tasks_and_what_rasters_and_fits_take_beside():
    work = Work([[Phase(TaskKind.LABEL, 4, 0)]] * 3, 2)
    times = Times(start_s=2.0, end_s=1.0, raster_s=0.5, fit_s=10.0, fits=2)
    found = forecast(work, Rates({TaskKind.LABEL: Line(1.0)}, cold_s=0.25), times)
    assert found.seconds == pytest.approx(2 + 1 + 3 * 0.5 + 20 + 0.25 + 6)
    assert found.low == found.high == found.seconds


def test_windows_that_differ_make_it_less_sure_and_more_of_them_surer():
    def range_of(tasks):
        found = forecast(Work([[Phase(TaskKind.LABEL, 1000, 10**6)]], 2), Rates.of(tasks), Times(1.0))
        assert found.low <= found.seconds <= found.high
        return (found.high - found.low) / found.seconds

    alike = [label(1000, 1.0)] * 9
    different = [label(1000, s) for s in (1.0, 0.5, 1.5, 0.7, 1.3, 0.5, 1.5, 1.0, 1.0)]
    assert range_of(alike) == pytest.approx(0)
    assert 0.1 < range_of(different) < 0.6
    assert range_of(different * 10) < range_of(different) / 2
