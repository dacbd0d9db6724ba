"""What a run left in OUT, changed, and looked at: `status` and `verify` by seed."""

from __future__ import annotations

import json

from tests.hostile.changes import damaged, oddly, reworded
from tests.hostile.common import good, made
from tests.hostile.judge import Case
from tests.hostile.parameter_kinds import finished
from tests.hostile.workspace_kinds import stopped

_SAID = {
    "run": "0123456789ab", "pid": 1, "host": "there", "started": "2026-01-02T03:04:05.678Z", "phase": "map",
    "updated": "2026-01-02T03:05:05.678Z", "event_at": "2026-01-02T03:05:04.678Z", "workers": 2,
    "fit": {"done": 1, "total": 2, "raster": None}, "counts": {"rasters": 2, "done": 1, "failed": 0, "skipped": 0},
    "rasters": [{"name": "scene", "state": "running", "stage": "label", "chunks_done": 1, "chunks": 6,
                 "pixels": 770000, "bad_chunks": 0, "mpx_per_s": 2.5, "eta_s": 7.0}],
    "batch": {"pixels_done": 1, "pixels": 2, "mpx_per_s": 2.5, "eta_s": 7.0},
    "totals": {"windows": 1, "chunks": 1, "bad_chunks": 0, "read_s": 0.1},
    "failed": {"other": "/other.tif: damaged"}, "last_error": "/other.tif: damaged",
    "memory_bytes": 1 << 28, "memory_peak_bytes": 1 << 28, "processes": 3,
}  # fmt: skip
_BAD = {
    "row": 0,
    "col": 0,
    "height": 32,
    "width": 32,
    "path": "good.tif",
    "reason": "x",
    "kind": "source block",
}
_MAP = {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": None, "properties": _BAD}]}
_OWNER = {
    "host": "there",
    "boot": "x",
    "processes": "pid:[1]",
    "pid": 1,
    "started": "1",
    "since": "x",
    "nonce": "x",
}


def standings(folder, rng):
    """A folder of one raster that is done and one under way, some files of it changed: told, or named."""
    good(folder)
    members = dict(made(finished))
    work = made(stopped, rng.choice(("assemble", "finish", "publish")))
    members |= {name: data for name, data in work.items() if name.startswith(".partial/")}
    kept = json.loads(members["run.json"])
    kept["rasters"] += json.loads(work["run.json"])["rasters"]
    objects = {
        "run.json": kept,
        "good.json": json.loads(members["good.json"]),
        "good.bad.geojson": json.loads(json.dumps(_MAP)),
        ".partial/status.json": json.loads(json.dumps(_SAID)),
        ".partial/.owner": dict(_OWNER),
    }
    members |= {name: json.dumps(value).encode() for name, value in objects.items()}
    if rng.random() < 0.5:
        del members["good.bad.geojson"]
    if rng.random() < 0.5:
        members["run.json"] = json.dumps({**kept, "rasters": kept["rasters"][:1]}).encode()
    look = rng.choice((["status"], ["status", "--json"], ["verify", "--workers", "1"]))
    names = [*objects, *objects, "codebook.npz", "good.tif", *(n for n in members if n.endswith("/ledger"))]
    if look[0] == "verify":
        names = [name for name in names if not name.startswith(".partial")]
    for _ in range(rng.choice((1, 1, 1, 3))):
        name, kind = rng.choice(names), rng.random()
        if name in objects and kind < 0.8:
            data = oddly(objects[name], rng)
        elif kind < 0.9:
            data = reworded(members.get(name, b"1"), rng)
        else:
            data = damaged(members.get(name, b"1"), rng, 10**9)
        members[name] = data
    for name, content in members.items():
        (folder / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "out" / name).write_bytes(content)
    return Case([*look, "out"], (0, 1, 2))
