"""Workers: what an option stands for, and a bounded number of tasks under way."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.workers.pool import Pool, Workers, finished, open_pool, parse, usable_cores
from tests.waiting import HANG_S


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", Workers("threads", 1)),
        ("1024", Workers("threads", 1024)),
        ("threads:3", Workers("threads", 3)),
        ("processes:2", Workers("processes", 2)),
    ],
)
def test_a_number_means_threads_and_a_kind_is_taken_as_said(text, expected):
    assert parse(text) == expected


def test_auto_takes_a_thread_for_each_core_that_may_be_used():
    assert parse("auto") == Workers("threads", usable_cores())
    assert usable_cores() >= 1


@pytest.mark.parametrize(
    "text",
    ["", "0", "-1", "1025", "many", "2.5", "threads", "threads:", "threads:0", "fibres:2", "processes:x",
     "processes:-2", "٣", "²", "1 ", "1e3", ":2", "threads:2:2", "AUTO"],
)  # fmt: skip
def test_anything_else_is_refused_with_what_is_expected(text):
    with pytest.raises(UsageError, match="expected auto, N, threads:N or processes:N") as caught:
        parse(text)
    assert "\n" not in str(caught.value)


class Later:
    """An executor whose tasks end when they are asked for, and which remembers how many waited."""

    def __init__(self):
        self.waiting = []
        self.most = 0
        self.cancelled = 0

    def submit(self, function, *arguments):
        future = Future()
        self.waiting.append(future)
        self.most = max(self.most, len(self.waiting))

        def result(timeout=None):
            self.waiting.remove(future)
            return function(*arguments)

        def cancel():
            self.cancelled += 1
            return True

        future.result, future.cancel = result, cancel
        return future


@given(st.integers(1, 5), st.integers(0, 40))
def test_results_come_in_order_with_a_bounded_number_under_way(count, calls):
    executor, taken = Later(), []

    def arguments():
        for i in range(calls):
            taken.append(i)
            yield (i,)

    done = []
    for result in Pool(executor, count).each(lambda i: i * i, arguments()):
        done.append(result)
        assert len(taken) <= len(done) + 2 * count
    assert done == [i * i for i in range(calls)]
    assert executor.most <= 2 * count
    assert not executor.waiting


def test_what_is_under_way_is_cancelled_when_nobody_wants_more():
    executor = Later()
    results = Pool(executor, 3).each(lambda i: i, ((i,) for i in range(100)))
    next(results)
    results.close()
    assert executor.cancelled == len(executor.waiting) == 5


def test_an_error_comes_out_at_its_place_and_ends_the_rest():
    executor = Later()
    results = Pool(executor, 1).each(lambda i: 1 // (2 - i), ((i,) for i in range(9)))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert executor.cancelled >= 1


def test_order_is_kept_by_threads_that_end_in_another():
    with open_pool(Workers("threads", 4)) as pool:
        assert pool.count == 4

        def wait(i):
            time.sleep(0.02 * (i % 3 == 0))
            return i

        assert list(pool.each(wait, ((i,) for i in range(20)))) == list(range(20))


def test_the_threads_are_as_many_as_asked_for_and_end_with_the_block():
    before, barrier = set(threading.enumerate()), threading.Barrier(3, timeout=HANG_S)
    with open_pool(Workers("threads", 3)) as pool:
        futures = [pool.executor.submit(barrier.wait) for _ in range(3)]
        assert sorted(f.result() for f in futures) == [0, 1, 2]
    assert set(threading.enumerate()) <= before


def test_an_error_in_the_block_drops_what_has_not_begun():
    release, first, begun = threading.Event(), threading.Event(), []

    def work(i):
        begun.append(i)
        first.set()
        release.wait(HANG_S)

    def fail():
        with open_pool(Workers("threads", 1)) as pool:
            futures = [pool.executor.submit(work, i) for i in range(50)]
            # what has begun ends only when the last of the others has been dropped
            futures[-1].add_done_callback(lambda _: release.set())
            assert first.wait(HANG_S)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert begun == [0]


def test_finished_waits_for_some_and_gives_those_that_are_done():
    with ThreadPoolExecutor(2) as executor:
        release = threading.Event()
        slow, quick = executor.submit(release.wait, HANG_S), executor.submit(int)
        assert finished([slow, quick], HANG_S) == {quick}
        assert finished([slow], 0.01) == set()
        release.set()
        assert finished([slow], HANG_S) == {slow}
    assert finished([], HANG_S) == set()
