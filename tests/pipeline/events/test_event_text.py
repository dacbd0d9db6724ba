from pipeline.events import kinds
from pipeline.events.event_text import Lines

BUDGET = {"verdict": "bound by reading"}


def lines(*events):
    of = Lines().of
    return [line for event in events for line in of(event)]


def ended(done, failed, skipped=0):
    return kinds.RunEnded(
        done=done, failed=failed, skipped=skipped, seconds=1.0, mpx_per_s=2.0, budget=BUDGET
    )


def test_rasters_that_were_done_before_are_one_line():
    skipped = [kinds.RasterSkipped(f"r{i}", "done already") for i in range(285)]
    said = lines(*skipped, kinds.RasterSkipped("x", "no raster"), ended(0, 0, 286))
    assert said == [
        "285 rasters: done already",
        "x: no raster",
        "0 done, 0 failed, 286 skipped in 1.0 s (2.0 Mpx/s)",
    ]
    assert lines(skipped[0], ended(0, 0, 1))[0] == "r0: done already"


def test_the_end_of_a_batch_lists_what_failed():
    failed = [kinds.RasterFailed(f"r{i}", f"r{i}.tif: is damaged") for i in range(25)]
    said = lines(*failed, ended(3, 25))
    assert said[25:] == [
        "3 done, 25 failed, 0 skipped in 1.0 s (2.0 Mpx/s)\ntime: bound by reading",
        "failed: 25",
        *(f"  r{i}.tif: is damaged" for i in range(20)),
        "  and 5 more (run.json has all)",
    ]
    assert len(lines(failed[0], ended(0, 1))) == 2


def test_nothing_is_said_of_time_when_nothing_was_done():
    assert "time" not in "".join(lines(ended(0, 1)))
