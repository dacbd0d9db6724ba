"""`python -m benchmarks`: a sitting of races, or an event; `parts`; `coordinator`; `features`; the guard.

Events race whole commands and floors in turns. `check` is the guard: a short sitting whose ratios are
compared with the recorded ones; `record` measures those anew.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from benchmarks import data, guard, report
from benchmarks.parts import coordinator, parts, suite
from benchmarks.quality import features, labelled
from benchmarks.races import race
from benchmarks.races.catalogue import EVENTS
from benchmarks.report import Result

_EVENTS = {event.name: event for event in EVENTS}
_OTHERS = ("parts", "coordinator", "features", "check", "record")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the results; gives an exit code."""
    parser = _parser()
    given = parser.parse_args(argv)
    # what is under way is then ended and removed, and what was measured is shown, as after Ctrl-C
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if min([*given.size, given.rounds, given.chunks]) < 1:
        parser.error("--size, --rounds and --chunks are at least 1")
    if len(given.what) > 1 and set(given.what) & set(_OTHERS):
        parser.error(f"{', '.join(_OTHERS)} stand alone")
    what = given.what[0] if given.what else "sitting"
    if what in ("check", "record"):
        return guard.run(record=what == "record", say=_say, show=print)
    load = os.getloadavg()[0]
    if what == "parts":
        photo = data.photo(given.size[0] if given.size else parts.SIZE_PX)
        timings = suite.measure(given.only, photo.size_px, say=_say)
        return _finish(report.of_parts(timings, photo, load), given.save, ok=bool(timings))
    if what == "coordinator":
        done = coordinator.measure(given.chunks)
        return _finish(report.of_coordination(done, load), given.save, ok=True)
    if what == "features":
        photo = data.photo(given.size[0] if given.size else parts.SIZE_PX)
        speeds = features.speeds(photo)
        scores: list[features.Score] = []
        sets = [one for one in labelled.labelled_sets() if one.name in (given.only or [one.name])]
        try:
            scores.extend(features.measure(sets, _say))  # what came before an end is kept
        finally:
            code = _finish(report.of_features(scores, speeds, photo, load), given.save, ok=bool(scores))
        return code
    events = [_EVENTS[name] for name in given.what] or list(EVENTS)
    results: list[Result] = []
    heats = [(event, size, *event.at(size)) for event in events for size in given.size or event.sizes]
    names = {c.name for _, _, contenders, _ in heats for c in contenders}
    if unknown := sorted(set(given.only) - names):
        parser.error(f"no contender {unknown[0]}; there are {', '.join(sorted(names))}")
    try:
        for event, size, contenders, pairs in heats:
            _say(f"-- {event.name}: {event.title}, {size:,} px")
            chosen = [
                c for c in contenders if c.name in (given.only or names) and (given.peers or not c.peer)
            ]
            held = race.race(chosen, data.photo(size, grain=event.grain), given.rounds, say=_say)
            results.append(Result(event.title, held, pairs))
    finally:  # hours of measuring are not lost with the last of them
        failed = not results or any(e.failure for r in results for e in r.race.entries)
        code = _finish(report.of_sitting(results, load), given.save, ok=not failed)
    return code


def _finish(section: str, save: bool, *, ok: bool) -> int:  # noqa: FBT001
    print(section)
    if save:
        report.save(section)
    return int(not ok)


def _parser() -> argparse.ArgumentParser:
    events = "; ".join(f"{e.name}: {e.title} ({', '.join(map(str, e.sizes))} px)" for e in EVENTS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__, epilog=events)
    parser.add_argument(
        "what",
        nargs="*",
        choices=[*_EVENTS, *_OTHERS, []],
        metavar="WHAT",
        help=f"events ({', '.join(_EVENTS)}; all of them by default), or one of {', '.join(_OTHERS)}",
    )
    parser.add_argument(
        "--size",
        type=int,
        action="append",
        default=[],
        help="sides of the raster in pixels, in place of an event's own (again for more; a small one tries "
        f"the suite out); parts: {parts.SIZE_PX}",
    )
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each contender (3)")
    chunks = f"chunks of the simulated raster (coordinator: {coordinator.CHUNKS})"
    parser.add_argument("--chunks", type=int, default=coordinator.CHUNKS, help=chunks)
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="run only this contender, or labelled set (again for more)",
    )
    parser.add_argument(
        "--peers", action="store_true", help="other programs take part too (`make peers-setup` installs them)"
    )
    parser.add_argument("--save", action="store_true", help="append the results to benchmarks/RESULTS.md")
    return parser


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
