"""Starts fork servers, sends them hostile inputs, and says what is wrong with how they ended."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import rasterio

from tests.waiting import HANG_S

ROOT = Path(__file__).resolve().parents[2]
CPU_S = 30
"""What uses more of a core hangs: a try takes a second of it at most, however long it waits for one."""
TIMEOUT_S = 200
"""What only waits hangs too."""
_MOST_LINES = 40
_MOST_PIXELS = 1 << 24


@dataclass
class Case:
    """One hostile input.

    Parameters
    ----------
    argv
        The command line; it runs in the case's folder, and `OUT` is its only place to write to.
    may
        Exit codes that are right.
    measure
        The source whose size the labels must have.
    labels
        The bytes that the label file must have where all is done, or None.
    """

    argv: list[str]
    may: tuple[int, ...] = (0, 1, 2)
    measure: str | None = None
    labels: bytes | None = None


@dataclass
class Server:
    """A fork server, and the folder that its tries live in."""

    folder: Path
    process: subprocess.Popen = field(init=False)

    def __post_init__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {k: v for k, v in os.environ.items() if k != "GDAL_SKIP"}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "0"}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.hostile.server", str(self.folder)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(HANG_S)
        self.process.stdout.close()

    def verdict(self, name, make):
        """Make a case in a folder of its own and try it; gives (outcome, what is wrong or "")."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "tmp").mkdir(parents=True)
        case = make(folder)
        before = _state(folder)
        job = {
            "folder": str(folder),
            "argv": case.argv,
            "cpu": CPU_S,
            "timeout": TIMEOUT_S,
            "measure": case.measure,
        }
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        ended = json.loads(self.process.stdout.readline())
        wrong = _wrong(folder, case, ended, before)
        if not wrong:
            shutil.rmtree(folder, ignore_errors=True)
        return _outcome(ended), wrong


def _state(folder):
    """Every file below a folder but for OUT, with its size and time."""
    found = {}
    for base, folders, names in os.walk(folder):
        place = Path(base)
        if place == folder:
            folders[:] = [f for f in folders if f not in ("out", "tmp")]
        found |= {place / name: () for name in folders}
        stats = {place / name: os.lstat(place / name) for name in names if name not in ("said", "size")}
        found |= {path: (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}
    return found


def _outcome(ended):
    if "killed" in ended:
        return ended["killed"]
    return f"exit {ended['exit']}" if ended["exit"] >= 0 else f"signal {-ended['exit']}"


def _wrong(folder, case, ended, before):
    """What is wrong with how a try ended, or ""."""
    said = (folder / "said").read_text(errors="replace") if (folder / "said").exists() else ""
    code, lines = ended.get("exit"), said.splitlines()
    after = _state(folder)
    changed = sorted(p for p in after.keys() | before.keys() if after.get(p) != before.get(p))
    faults = {
        _outcome(ended): code not in case.may,
        "a traceback": "Traceback" in said,
        "silent": code and not said.strip(),
        f"{len(lines)} lines": len(lines) > _MOST_LINES,
        "an error that nobody foresaw": "(--debug shows where)" in said,
        f"changed outside OUT: {changed[:3]}": changed,
    }
    if found := [what for what, is_so in faults.items() if is_so]:
        return f"{'; '.join(found)}: {said.strip()[-500:]}"
    if code == 0 and case.argv[0] == "run":
        labels = sorted((folder / "out").glob("*.tif"))
        if case.labels is not None and [path.read_bytes() for path in labels] != [case.labels]:
            return "a label file that is not what it should be"
        try:
            return _labels_wrong(folder, labels)
        except rasterio.errors.RasterioError as error:
            return f"labels that cannot be read: {error}"
    return ""


def _labels_wrong(folder, labels):
    """What is wrong with the labels of a run that says all is done, or ""."""
    if not labels and not list((folder / "out").glob("*.zarr")):
        run = json.loads((folder / "out" / "run.json").read_text())
        skipped = all(r["state"] == "skipped" for r in run["rasters"])
        return "" if skipped else "exit 0 without labels"
    for path in labels:
        with rasterio.open(path) as dataset:
            if (dataset.count, dataset.dtypes[0]) != (1, "uint8"):
                return f"labels of {dataset.count} x {dataset.dtypes[0]}"
            size = [dataset.height, dataset.width]
            if (folder / "size").exists() and len(labels) == 1:
                wanted = json.loads((folder / "size").read_text())
                if size != wanted:
                    return f"labels of {size}, not {wanted}"
            if dataset.height * dataset.width <= _MOST_PIXELS:
                dataset.read(1)
    if (folder / "out" / ".partial").exists():
        return "work in progress is left"
    return ""
