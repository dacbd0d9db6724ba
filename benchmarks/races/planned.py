"""What `plan` says of a run, as a report for a race: `python -m benchmarks.races.planned RASTER ...`."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks import clock


def main() -> None:
    """Ask for the plan with the options given, and tell what it foretells."""
    command = [sys.executable, "-m", "pipeline", "plan", *sys.argv[1:], "--json"]
    plan = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    clock.tell(clock.Work(plan["seconds"], plan["pixels"], plan["peak_bytes"]))


if __name__ == "__main__":
    main()
