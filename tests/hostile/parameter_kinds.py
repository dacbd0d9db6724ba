"""Hostile configurations, codebooks, models, lists, vectors and records; as `raster_kinds`."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from pathlib import Path

import numpy as np

from engine.codebook import Codebook, Scaling
from pipeline.cli import main
from tests.hostile import files
from tests.hostile.changes import damaged, oddly, reworded
from tests.hostile.common import RUN, good, made, mostly, run
from tests.hostile.judge import Case

_YAML = b"""segments: 3
method: kmeans
resolution: 4
seed: 7
bands: [1, 2, 3]
scale: none
chunk-size: 512
sources: good.tif
workers: 1
extent: [500000, 5799980, 500020, 5800000]
"""


def configs(folder, rng):
    good(folder)
    data = _YAML if rng.random() < 0.5 else reworded(_YAML, rng)
    tails = (
        b"seed: !!python/object/apply:os.system ['touch MARKER']\n", b"a: &a [x]\nb: *a\n", b"[" * 5000,
        b"out: /tmp/elsewhere\n", b"model: /etc/passwd\n", b"codebook: good.tif\n", b"aoi: good.tif\n", b"\0\xff",
        b"bands: '__import__(1)'\n", b"bands: (((" + b"(" * 3000, b"stack: a=b\n", b"sources: ['*', '@x', '']\n",
        b"? [a]\n: b\n", b"<<: {segments: 4}\n", b"segments: 1e999\n", b"seed: 0x7fffffffffffffffffff\n",
        b"network: maybe\n", b"workers: threads:99999999\n", b"workers: tcp://127.0.0.1:1\n", b"#" * 5_000_000,
        b"debug: true\n", b"segments: .nan\n", b"scale: [.nan, .inf]\n", b"nodata: [.nan, [1]]\n", b"nodata: .inf\n",
        b"nodata: " + b"9" * 999 + b"\n", b"valid: " + b"(" * 999 + b"\n", b"valid: [1]\n", b"valid: '~b1 & b2 in (b3)'\n", b"extent: 1e308,-1e308,1e308,1\n",
    )  # fmt: skip
    data += mostly(rng, b"", *tails, chance=0.5)
    if rng.random() < 0.2:
        data = damaged(data, rng, len(data))
    # more threads than there are tasks cost nothing, but what asks for debug wants its traceback
    data = data.replace(b"debug: true", b"debug: maybe")
    (folder / "c.yaml").write_bytes(data)
    options = ["-o", "out", "--progress", "plain", "--config", "c.yaml"]
    return Case(["run", *(["good.tif"] if rng.random() < 0.7 else []), *options])


def codebooks(folder, rng):
    good(folder)
    data, meta = made(files.codebook)
    kind = rng.randrange(4)
    data = damaged(data, rng, len(data)) if kind == 0 else _forged_codebook(rng, dict(meta))
    (folder / "c.npz").write_bytes(data)
    if rng.random() < 0.2:
        return Case(["inspect", "c.npz"], (0, 1, 2))
    return run("good.tif", "--codebook", "c.npz")


def _single(shape, value):
    with np.errstate(over="ignore"):
        return np.full(shape, value).astype(np.float32)


def _forged_codebook(rng, meta):
    """An archive whose hash is right for what it says, where it says something strange."""

    def odd(usual):
        return mostly(rng, usual, 0.0, 1.0, np.nan, np.inf, -np.inf, 1e308, -1e308, chance=0.15)

    def kernel(**changed):
        return {**meta["kernel"], **changed}

    kernels = (
        *(kernel(resolution=r) for r in (0, -1, 33, 10**9, "x", None, 1.5)), {"name": "cnn"}, {}, {"name": "x"},
        *(kernel(features=f) for f in (0, -1, 4, 10**12, "x", None)),
        {"name": "cnn", "upsample": "x", "model": "/etc/passwd"},
    )  # fmt: skip
    bands = (1, 2), (), (9, 9, 9), (-1, 0, 1), ("a", "b", "c"), ("__class__", 1, 2)
    fits = (
        {"model": "/etc/passwd"},
        {"share": 3},
        {"share": ["x"]},
        {"cells_read": None},
        {"segments_asked": "x"},
    )
    shape = mostly(rng, (3, 3), (0, 3), (1, 3), (255, 3), (3, 0), (3,), (3, 3, 3), (1000, 3), chance=0.2)
    try:
        data = Codebook(
            centres=_single(shape, odd(5.0)),
            kernel=mostly(rng, meta["kernel"], *kernels, chance=0.2),
            bands=mostly(rng, (1, 2, 3), *bands, chance=0.2),
            dtype=mostly(rng, "uint8", "float32", "int64"),
            band_mean=np.full(mostly(rng, 3, 2, 0), odd(90.0)),
            scaling=mostly(rng, None, Scaling(np.full(3, odd(0.0)), np.full(3, odd(200.0))), chance=0.3),
            fit=mostly(rng, {}, *fits, chance=0.2),
        ).to_bytes()
    except (ValueError, TypeError):
        data = b"PK"
    if rng.random() < 0.15:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {n: archive.read(n) for n in archive.namelist()}
        name = rng.choice(sorted(members))
        members[name] = rng.choice((
            b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999,), }".ljust(117) + b"\n",
            b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\ncos\nsystem\n(S'touch MARKER'\ntR.",
            bytes(70 << 20), b"", members[name][:-3], members[name][:20],
        ))  # fmt: skip
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        data = buffer.getvalue()
    return data


def models(folder, rng):
    good(folder)
    data = made(files.model)
    kind = rng.randrange(5)
    evil = b"cos\nsystem\n(S'touch MARKER'\ntR."
    if kind == 0:
        data = damaged(data, rng, len(data))
    elif kind == 1:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {n: archive.read(n) for n in archive.namelist()}
        name = rng.choice(sorted(members))
        members[name] = rng.choice(
            (evil, b"", damaged(members[name], rng, len(members[name])), bytes(200 << 20))
        )
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        data = buffer.getvalue()
    elif kind == 2:
        data = rng.choice(
            (evil, struct.pack("<Q", 2**62) + b"{}", b"PK\x03\x04", b"\x7fELF", b"[" * 99999, b"\0" * 99)
        )
    elif kind == 3:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for member in (
                "x/constants.pkl",
                "x/data.pkl",
                "../../evil.py",
                "x/code/__torch__.py",
                "x/version",
            ):
                archive.writestr(member, rng.choice((evil, b"3\n", b"def f(", b"")))
        data = buffer.getvalue()
    (folder / rng.choice(("m.pt", "m.pth", "m.safetensors"))).write_bytes(data)
    return run("good.tif", "--method", "cnn", "--model", next(p.name for p in folder.glob("m.*")))


def lists(folder, rng):
    good(folder)
    lines = (
        "good.tif", "@l.txt", "/etc/passwd", "*", "/dev/zero", "\0", "x" * 5000, "http://127.0.0.1:1/x.tif", "# a",
        "good.tif\r", "../" * 40 + "etc/passwd", "pipe", "-o", "~", "$(touch MARKER)", "[", "**/**/**", "é\u202e", "",
    )  # fmt: skip
    os.mkfifo(folder / "pipe")
    some = "\n".join(mostly(rng, "good.tif", *lines, chance=0.3) for _ in range(rng.choice((1, 2, 5, 60))))
    (folder / "l.txt").write_bytes(
        some.encode() if rng.random() < 0.8 else damaged(some.encode() or b"x", rng, 99)
    )
    return run("@l.txt", *rng.choice(([], [], ["--mosaic"])), "--no-network")


def vectors(folder, rng):
    good(folder)
    suffix, data = rng.choice(sorted(made(files.areas).items()))
    text = suffix in ("geojson", "kml", "gml")
    kind = rng.randrange(4)
    if kind < 2:
        data = reworded(data, rng) if text else damaged(data, rng, 4000)
    elif kind == 2:
        suffix = rng.choice(("vrt", "gml", "xml", "json", "kml", "gfs", "gdalg.json", "csv", "dxf"))
        data = rng.choice((
            b'<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>http://127.0.0.1:1/x</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>',
            b'<OGRVRTDataSource><OGRVRTLayer name="passwd"><SrcDataSource>CSV:/etc/passwd</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>',
            b'<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>a.vrt</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>',
            b"<OGRWFSDataSource><URL>http://127.0.0.1:1/</URL></OGRWFSDataSource>",
            b'{"type":"gdal_streamed_alg","command_line":"gdal vector pipeline ! read /etc/passwd"}',
            b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><gml:FeatureCollection xmlns:gml="http://www.opengis.net/gml">&e;</gml:FeatureCollection>',
            b'{"type":"Polygon","coordinates":' + b"[" * 100_000, b'{"type":"FeatureCollection","features":[]}',
            b'{"type":"Polygon","coordinates":[[[NaN,NaN],[1,1],[Infinity,2],[NaN,NaN]]]}',
            b'{"type":"Polygon","coordinates":[[[500005,5799990],[1e308,-1e308],[500020,5799970],[500005,5799990]]]}',
        ))  # fmt: skip
    (folder / f"a.{suffix}").write_bytes(data)
    return run("good.tif", "--aoi", f"a.{suffix}")


def finished(folder):
    """The files of a run that was done, as names and bytes."""
    (folder / "w").mkdir()
    here = Path.cwd()
    os.chdir(folder / "w")
    try:
        good(folder / "w")
        assert main(["run", "good.tif", *RUN[:-1], "none"]) == 0
    finally:
        os.chdir(here)
    out = folder / "w" / "out"
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def records(folder, rng):
    """What a run left in OUT, changed, and the run again."""
    good(folder)
    members = dict(made(finished))
    changed = rng.choice(("run.json", "run.json", "codebook.npz"))
    data = members[changed]
    if changed.endswith("json"):
        value = json.loads(data)
        data = oddly(value, rng) if rng.random() < 0.6 else reworded(data, rng)
        if rng.random() < 0.2:
            data = damaged(data, rng, len(data))
    else:
        data = damaged(data, rng, len(data))
    members[changed] = data
    for name, content in members.items():
        (folder / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "out" / name).write_bytes(content)
    if rng.random() < 0.3:
        (folder / "run.json").write_bytes(members["run.json"])
        return Case(["run", "--config", "run.json", "-o", "out", "--overwrite", "--workers", "1"])
    return run("good.tif", *rng.choice(([], ["--overwrite"])))
