"""Tries ranges of seeds and counts how they ended: ``python -m tests.hostile FOLDER FIRST LAST [KIND...]``.

Seeds from FIRST to LAST - 1 of each kind, as far as its share goes; what is wrong stays in FOLDER.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from tests.hostile.judge import Server
from tests.hostile.kinds import KINDS, maker


def main(folder, first, last, *names):
    counts, bad = Counter(), 0
    with Server(Path(folder).absolute()) as server:
        for kind, share in KINDS.items():
            if names and kind.__name__ not in names:
                continue
            for seed in range(int(first), min(int(last), share)):
                outcome, wrong = server.verdict(f"{kind.__name__}-{seed}", maker(kind, seed))
                counts[kind.__name__, outcome] += 1
                if wrong:
                    bad += 1
                    print(f"{kind.__name__} {seed}: {wrong}", flush=True)
    for (name, outcome), count in sorted(counts.items()):
        print(f"{name:14} {outcome:12} {count}")
    print(f"{sum(counts.values())} tried, {bad} wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
