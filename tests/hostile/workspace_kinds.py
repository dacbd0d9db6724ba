"""Work in progress that was tampered with: ledgers, parts, marks and locks that are torn, altered or swapped."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

from pipeline.cli import main
from pipeline.errors import StorageError
from pipeline.tasks import assembling, publishing
from tests.hostile.changes import damaged, reworded
from tests.hostile.common import RUN, made
from tests.hostile.judge import Case
from tests.rasters import noise, write_geotiff

_STEPS = {"assemble": assembling, "finish": publishing, "publish": publishing}
_OPTIONS = [*RUN, "--chunk-size", "512"]
_LOCK = b"filelock/2\npid=1\nhost=there\nmode=lease\ntoken=x\nduration=600.0\n"


def _scene(folder):
    write_geotiff(folder / "scene.tif", noise(3, 700, 1100, seed=4))


def stopped(folder, step):
    """What a run left that could write no more at a step, as names and bytes; all of it at no step."""
    place = folder / "w"
    place.mkdir()
    here = Path.cwd()
    os.chdir(place)
    try:
        _scene(place)
        stop = (
            mock.patch.object(_STEPS[step], step, side_effect=StorageError("full")) if step else nullcontext()
        )
        with stop:
            assert main(["run", "scene.tif", *_OPTIONS]) == (1 if step else 0)
    finally:
        os.chdir(here)
    out = place / "out"
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def workspaces(folder, rng):
    """Work in progress, changed, and the run again: refused, or the right labels to the byte."""
    wanted = made(stopped, "")["scene.tif"]
    step = rng.choice(tuple(_STEPS))
    members = dict(made(stopped, step))
    inside = [name for name in members if name.startswith(".partial/")]
    for _ in range(rng.choice((1, 1, 2, 4))):
        name, kind = rng.choice(inside), rng.random()
        if not (data := members[name]):
            continue
        if kind < 0.4:
            data = damaged(data, rng, len(data))
        elif kind < 0.6:
            data = reworded(data, rng)
        elif kind < 0.75:
            data = data[: rng.randrange(len(data) + 1)]
        elif kind < 0.9:
            data = members[rng.choice(inside)]  # another's
        else:
            data = b""
        members[name] = data
    if rng.random() < 0.2:
        members.pop(rng.choice(inside), None)
    if rng.random() < 0.02:  # seldom: a lock that says nothing is watched for 20 s
        members[".partial/.owner"] = rng.choice((b"", b"{}", b'{"pid": 1}', b"\xff" * 100, _LOCK))
    for name, content in members.items():
        (folder / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "out" / name).write_bytes(content)
    _scene(folder)
    return Case(["run", "scene.tif", *_OPTIONS], (0, 1, 2), labels=wanted)
