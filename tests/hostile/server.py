"""A fork server: one process that has imported everything, and forks a child for each hostile input.

It runs as ``python -m tests.hostile.server``: each line on its stdin is a try, each on stdout how it ended.
It forks with one thread alone, so that no lock is held in a child by a thread that is not there.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path

from tests.waiting import waited_for

PEAK_BYTES = 2 << 30
_POLL_S = 0.01


def warm_up(folder):
    """Load and compile what every try needs, in a child first where it would start threads."""
    import numpy as np
    import torch

    from engine.networks.loading import import_torch
    from pipeline.cli import main
    from pipeline.source.gdal.setup import configure
    from tests.rasters import noise, write_geotiff

    configure()  # as the command line does: before GDAL starts
    for name in (
        "engine.networks.kernel",
        "pipeline.graph.label_graph",
        "pipeline.running.run",
        "pipeline.source.aoi",
        "zarr",
        "pyogrio.raw",
    ):
        importlib.import_module(name)
    import_torch()
    torch.zeros(1)
    np.zeros(1)
    path = write_geotiff(folder / "warm.tif", noise(3, 40, 40))
    with contextlib.redirect_stdout(sys.stderr):
        assert main(["run", str(path), "-o", str(folder / "warm"), "--segments", "3", "--workers", "1"]) == 0
    # those of the run are still ending; forking before could hang the children
    waited_for(lambda: len(list(Path("/proc/self/task").iterdir())) == 1)


def attempt(job):
    """Run the command line in a child; gives how it ended."""
    folder = Path(job["folder"])
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(folder, job["argv"], job.get("measure"))
    peak, cpu, ended = 0, 0.0, None
    while ended is None:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            ended = status, usage.ru_maxrss << 10
            break
        with contextlib.suppress(OSError, IndexError):
            peak = int(Path(f"/proc/{child}/statm").read_text().split()[1]) * resource.getpagesize()
            ticks = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[11:13]
            cpu = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        hangs = cpu > job["cpu"] or time.monotonic() - start > job["timeout"]
        why = "hang" if hangs else "memory" if peak > PEAK_BYTES else ""
        if why:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"killed": why, "seconds": time.monotonic() - start}
        time.sleep(_POLL_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it has left behind
    status, most = ended
    return {
        "exit": os.waitstatus_to_exitcode(status),
        "peak": most,
        "seconds": round(time.monotonic() - start, 3),
    }


def _child(folder, argv, measure):
    os.setsid()
    os.chdir(folder)
    os.environ["TMPDIR"] = str(folder / "tmp")
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(said, 1)
    os.dup2(said, 2)
    code = 70
    try:
        from pipeline.cli import main

        code = main(argv)
        if code == 0 and measure:
            import rasterio

            with rasterio.open(measure) as dataset:
                (folder / "size").write_text(json.dumps([dataset.height, dataset.width]))
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 71
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def serve(folder):
    """Answer tries until stdin ends."""
    warm_up(folder)
    for line in sys.stdin:
        print(json.dumps(attempt(json.loads(line))), flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
