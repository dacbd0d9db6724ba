"""`python -m benchmarks`: a race of whole commands, `parts`, or the `coordinator`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from benchmarks import coordinator, data, parts, race, report, suite
from benchmarks.contenders import contenders

_RACE_PX = 10_240


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the results; gives an exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if min(arguments.size or 1, arguments.rounds, arguments.chunks) < 1:
        parser.error("--size, --rounds and --chunks are at least 1")
    load = os.getloadavg()[0]
    if arguments.what == "parts":
        photo = data.photo(arguments.size or parts.SIZE_PX)
        timings = suite.measure(arguments.only, photo.size_px, say=_say)
        section = report.of_parts(timings, photo, load)
        failed = not timings
    elif arguments.what == "coordinator":
        section = report.of_coordination(coordinator.measure(arguments.chunks), load)
        failed = False
    else:
        every = contenders()
        names = [c.name for c in every]
        if unknown := [name for name in arguments.only if name not in names]:
            parser.error(f"no contender {unknown[0]}; there are {', '.join(names)}")
        photo = data.photo(arguments.size or _RACE_PX)
        chosen = [c for c in every if c.name in arguments.only or not arguments.only]
        result = race.race(chosen, photo, arguments.rounds, say=_say)
        section = report.of_race(result, load)
        failed = any(e.failure for e in result.entries)
    print(section)
    if arguments.save:
        report.save(section)
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["race", "parts", "coordinator"], default="race")
    sizes = f"sides of the raster in pixels (race: {_RACE_PX}, parts: {parts.SIZE_PX})"
    parser.add_argument("--size", type=int, help=sizes)
    parser.add_argument("--rounds", type=int, default=3, help="timed runs of each contender (3)")
    chunks = f"chunks of the simulated raster (coordinator: {coordinator.CHUNKS})"
    parser.add_argument("--chunks", type=int, default=coordinator.CHUNKS, help=chunks)
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="run only this one (again for more)"
    )
    parser.add_argument("--save", action="store_true", help="append the results to benchmarks/RESULTS.md")
    return parser


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
