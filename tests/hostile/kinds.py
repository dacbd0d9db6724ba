"""Kinds of hostile input; each is a function of a folder to fill and a seeded source of chance."""

from __future__ import annotations

import functools
import io
import json
import os
import random
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np

from tests.hostile import files
from tests.hostile.changes import NUMBERS, damaged, retagged, reworded
from tests.hostile.judge import Case
from tests.rasters import noise, write_geotiff

_RUN = ["-o", "out", "--segments", "3", "--workers", "1", "--progress", "plain"]


@functools.cache
def _scratch():
    kept = tempfile.TemporaryDirectory(prefix="hostile-")
    return kept, Path(kept.name)


def _made(function, *arguments):
    """What a maker of honest files gives, made once."""
    return _remembered(function, arguments)


@functools.cache
def _remembered(function, arguments):
    folder = _scratch()[1] / f"{function.__name__}-{'-'.join(map(str, arguments))}"
    folder.mkdir()
    return function(folder, *arguments)


def _good(folder, name="good.tif"):
    write_geotiff(folder / name, noise(3, 60, 70))
    return name


def _run(source, *more, may=(0, 1, 2), measure=None):
    return Case(["run", source, *_RUN, *more], may, measure)


def tiff_bytes(folder, rng):
    name, data = rng.choice(sorted(_made(files.tiffs).items()))
    (folder / "r.tif").write_bytes(damaged(data, rng, 700))
    method = ["--method", "cnn"] if rng.random() < 0.1 else []
    fit = ["--fit", "exact"] if rng.random() < 0.1 and not method else []
    return _run("r.tif", *method, *fit, measure="r.tif" if name != "palette" else None)


def tiff_tags(folder, rng):
    _, data = rng.choice(sorted(_made(files.tiffs).items()))
    data = retagged(data, rng)
    (folder / "r.tif").write_bytes(damaged(data, rng, 300) if rng.random() < 0.2 else data)
    return _run("r.tif", measure="r.tif")


def formats(folder, rng):
    suffix, parts = rng.choice(sorted(_made(files.others).items()))
    changed = rng.randrange(len(parts))
    for i, (name, data) in enumerate(parts):
        if i == changed:
            texts = ("hdr", "prj", "xml", "rdc", "mrf", "ers", "asc", "sgrd")
            data = (reworded if name.endswith(texts) else damaged)(data, rng, *(() if name.endswith(texts) else (400,)))
        (folder / name).write_bytes(data)
    source = f"r.{suffix}"
    if rng.random() < 0.1:
        (folder / "r.tif").write_bytes((folder / source).read_bytes())
        source = "r.tif"
    return _run(source)


_TEMPLATE = (
    '<VRTDataset rasterXSize="{w}" rasterYSize="{h}"{sub}>{more}'
    '<GeoTransform>{gt}</GeoTransform>'
    '<VRTRasterBand dataType="{dt}" band="1"{bandsub}>{inner}</VRTRasterBand></VRTDataset>'
)
_SOURCE = (
    '<{kind}><SourceFilename relativeToVRT="{rel}">{name}</SourceFilename><SourceBand>{band}</SourceBand>'
    '<SrcRect xOff="{a}" yOff="0" xSize="{b}" ySize="60"/><DstRect xOff="0" yOff="0" xSize="{c}" ySize="{d}"/>'
    "{tail}</{kind}>"
)


def vrt(folder, rng):
    _good(folder)
    number = lambda usual: rng.choice((usual, usual, usual, usual, *NUMBERS, -1, "NaN", "1e300", "", "x"))
    names = (
        "good.tif", "good.tif", "good.tif", "r.vrt", "s.vrt", "/etc/passwd", "/dev/zero", "/dev/stdin", "pipe",
        "http://127.0.0.1:1/x.tif", "/vsicurl/http://127.0.0.1:1/x", "/vsistdin/", "../../../etc/passwd",
        "&lt;VRTDataset rasterXSize='9' rasterYSize='9'/&gt;", "WMS:http://127.0.0.1:1/", "vrt://good.tif?bands=1",
        "/vsizip/z.zip/a.vrt", "/vsisubfile/0_100,/etc/passwd", "/vsigzip//etc/passwd", "NETCDF:good.tif:x", "",
        "GTIFF_DIR:1:good.tif", "a" * 5000, "/vsis3/bucket/key", "DERIVED_SUBDATASET:AMPLITUDE:good.tif",
    )  # fmt: skip
    kinds = ("SimpleSource", "SimpleSource", "ComplexSource", "AveragedSource", "KernelFilteredSource", "NoDataSource")
    tails = (
        "", "", "<LUT>0:0,NaN:1e308</LUT>", "<ScaleRatio>1e308</ScaleRatio>", "<NODATA>x</NODATA>",
        '<Kernel normalized="1"><Size>99999999</Size><Coefs>1 2</Coefs></Kernel>',
        "<Kernel><Size>3</Size><Coefs>0 1 0 1 -4 1 0 1 0</Coefs></Kernel>",
        "<SourceProperties RasterXSize='2147483647' RasterYSize='2147483647' DataType='Byte' BlockXSize='2147483647' BlockYSize='1'/>",
        "<OpenOptions><OOI key='NUM_THREADS'>999999</OOI></OpenOptions>",
    )
    inner = "".join(
        _SOURCE.format(
            kind=rng.choice(kinds), rel=rng.choice((1, 1, 1, 0, "x")), name=rng.choice(names), band=number(1),
            a=number(0), b=number(70), c=number(70), d=number(60), tail=rng.choice(tails),
        )
        for _ in range(rng.choice((1, 1, 2, 3)))
    )
    raw = "<SourceFilename>/etc/passwd</SourceFilename><ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset>"
    code = "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
    code += "<PixelFunctionCode>import os\ndef f(*a, **k):\n  os.system('touch MARKER')\n</PixelFunctionCode>"
    extra = rng.choice(("", "", "", "", raw, code, "<PixelFunctionType>mul</PixelFunctionType>", "<MaskBand/>"))
    sub = rng.choice(("", "", "", ' subClass="VRTWarpedDataset"', ' subClass="VRTPansharpenedDataset"', ' subclass="VRTProcessedDataset"'))
    bandsub = rng.choice(("", "", ' subClass="VRTRawRasterBand"', ' subClass="VRTDerivedRasterBand"', ' SUBCLASS="vrtrawrasterband"', ' blockXSize="2147483647" blockYSize="2147483647"'))
    warp = f"<GDALWarpOptions><WarpMemoryLimit>{number(6e7)}</WarpMemoryLimit><SourceDataset relativeToVRT='1'>{rng.choice(names)}</SourceDataset></GDALWarpOptions>"
    text = _TEMPLATE.format(
        w=number(70), h=number(60), dt=rng.choice(("Byte", "Byte", "UInt16", "Float32", "CFloat64", "Oops", "Int8")),
        sub=sub, bandsub=bandsub, inner=extra + inner,
        more=rng.choice(("", "", warp, "<Metadata domain='SUBDATASETS'><MDI key='SUBDATASET_1_NAME'>/etc/passwd</MDI></Metadata>")),
        gt=",".join(str(number(v)) for v in (500000, 0.5, 0, 5800000, 0, -0.5)),
    )  # fmt: skip
    data = text.encode()
    if rng.random() < 0.15:
        data = rng.choice((b"\n\n  ", b"<?xml version='1.0'?>", b"<!DOCTYPE x [<!ENTITY e 'x'>]>", b"\xef\xbb\xbf")) + data
    if rng.random() < 0.25:
        data = damaged(data, rng, len(data))
    if rng.random() < 0.05:
        data = data.replace(b"<VRTRasterBand", b"<A>" * rng.choice((50, 100, 5000)) + b"<VRTRasterBand")
    source = rng.choice(("r.vrt", "r.vrt", "r.vrt", "r.tif", "r.png"))
    (folder / source).write_bytes(data)
    (folder / "s.vrt").write_text(text if rng.random() < 0.5 else text.replace("s.vrt", "r.vrt"))
    os.mkfifo(folder / "pipe")
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        archive.writestr("a.vrt", data)
    inline = rng.random()
    if inline < 0.05:
        return _run(text, may=(0, 1, 2))
    return _run(rng.choice((source, source, source, "/vsizip/z.zip/a.vrt", "vrt://r.vrt")))


def stores(folder, rng):
    version = rng.choice((2, 3))
    members = dict(_made(files.store, version))
    name = rng.choice(sorted(members))
    text = name.endswith("json") or name.startswith(".") or "/." in name
    members[name] = (reworded if text else lambda d, r: damaged(d, r, 64))(members[name], rng)
    if text and rng.random() < 0.3:
        word = rng.choice((b'"gzip"', b'"zlib"', b'"pickle"', b'"object"', b'"|O"', b'"..\\/..\\/x"', b"[" * 9999))
        members[name] = members[name].replace(rng.choice((b'"uint8"', b'"zstd"', b'"|u1"', b'"image"', b"3")), word)
    for path, data in members.items():
        (folder / "s.zarr" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "s.zarr" / path).write_bytes(data)
    return _run(rng.choice(("s.zarr", 'ZARR:"s.zarr":/image')))


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
    _good(folder)
    data = reworded(_YAML, rng)
    tails = (
        b"", b"", b"seed: !!python/object/apply:os.system ['touch MARKER']\n", b"a: &a [x]\nb: *a\n", b"[" * 5000,
        b"out: /tmp/elsewhere\n", b"model: /etc/passwd\n", b"codebook: good.tif\n", b"aoi: good.tif\n", b"\0\xff",
        b"bands: '__import__(1)'\n", b"bands: (((" + b"(" * 3000, b"stack: a=b\n", b"sources: ['*', '@x', '']\n",
        b"? [a]\n: b\n", b"<<: {segments: 4}\n", b"segments: 1e999\n", b"seed: 0x7fffffffffffffffffff\n",
        b"network: maybe\n", b"workers: threads:99999999\n", b"workers: tcp://127.0.0.1:1\n", b"#" * 5_000_000,
        b"debug: true\n", b"segments: .nan\n", b"scale: [.nan, .inf]\n", b"extent: 1e308,-1e308,1e308,1\n",
    )  # fmt: skip
    tail = rng.choice(tails)
    data += tail
    if b"out:" in tail:
        tail = b""
    if rng.random() < 0.3:
        data = damaged(data, rng, len(data))
    # more threads than there are tasks cost nothing, but what asks for debug wants its traceback
    data = data.replace(b"debug: true", b"debug: maybe")
    (folder / "c.yaml").write_bytes(data)
    options = ["-o", "out", "--progress", "plain", "--config", "c.yaml"]
    return Case(["run", *(["good.tif"] if rng.random() < 0.7 else []), *options])


def codebooks(folder, rng):
    _good(folder)
    data, meta = _made(files.codebook)
    kind = rng.randrange(4)
    if kind == 0:
        data = damaged(data, rng, len(data))
    else:
        data = _forged_codebook(rng, dict(meta))
    (folder / "c.npz").write_bytes(data)
    if rng.random() < 0.2:
        return Case(["inspect", "c.npz"], (0, 1, 2))
    return _run("good.tif", "--codebook", "c.npz")


def _forged_codebook(rng, meta):
    """An archive whose hash is right for what it says, where it says something strange."""
    from engine.codebook import Codebook, Scaling

    odd = lambda: rng.choice((0.0, 1.0, np.nan, np.inf, -np.inf, 1e308, -1e308, 255.0))
    shape = rng.choice(((3, 3), (3, 3), (0, 3), (1, 3), (255, 3), (3, 0), (3,), (3, 3, 3), (1000, 3)))
    centres = np.full(shape, odd(), np.float32) if rng.random() < 0.5 else np.zeros(shape, np.float32)
    kernel = rng.choice((
        meta["kernel"], meta["kernel"], {**meta["kernel"], "resolution": rng.choice((0, -1, 33, 10**9, "x", None, 1.5))},
        {**meta["kernel"], "features": rng.choice((0, -1, 4, 10**12, "x", None))}, {"name": "cnn"}, {}, {"name": "x"},
        {"name": "cnn", "upsample": "x", "model": "/etc/passwd"},
    ))  # fmt: skip
    scaling = None if rng.random() < 0.6 else Scaling(np.full(3, odd()), np.full(3, odd()))
    try:
        data = Codebook(
            centres=centres, kernel=kernel, bands=rng.choice(((1, 2, 3), (1, 2), (), (9, 9, 9), (-1, 0, 1), ("a", "b", "c"), ("__class__", 1, 2))),
            dtype=rng.choice(("uint8", "uint8", "float32", "int64")), band_mean=np.full(rng.choice((3, 3, 2)), odd()),
            scaling=scaling, fit=rng.choice(({}, {"model": "/etc/passwd"}, {"share": 3}, {"share": ["x"]}, {"cells_read": None})),
        ).to_bytes()  # fmt: skip
    except (ValueError, TypeError):
        data = b"PK"
    if rng.random() < 0.3:
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
    _good(folder)
    data = _made(files.model)
    kind = rng.randrange(5)
    evil = b"cos\nsystem\n(S'touch MARKER'\ntR."
    if kind == 0:
        data = damaged(data, rng, len(data))
    elif kind == 1:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {n: archive.read(n) for n in archive.namelist()}
        name = rng.choice(sorted(members))
        members[name] = rng.choice((evil, b"", damaged(members[name], rng, len(members[name])), bytes(200 << 20)))
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        data = buffer.getvalue()
    elif kind == 2:
        data = rng.choice((evil, struct.pack("<Q", 2**62) + b"{}", b"PK\x03\x04", b"\x7fELF", b"[" * 99999, b"\0" * 99))
    elif kind == 3:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for member in ("x/constants.pkl", "x/data.pkl", "../../evil.py", "x/code/__torch__.py", "x/version"):
                archive.writestr(member, rng.choice((evil, b"3\n", b"def f(", b"")))
        data = buffer.getvalue()
    (folder / rng.choice(("m.pt", "m.pth", "m.safetensors"))).write_bytes(data)
    return _run("good.tif", "--method", "cnn", "--model", next(p.name for p in folder.glob("m.*")))


def lists(folder, rng):
    _good(folder)
    lines = (
        "good.tif", "@l.txt", "/etc/passwd", "*", "/dev/zero", "\0", "x" * 5000, "http://127.0.0.1:1/x.tif", "# a",
        "good.tif\r", "../" * 40 + "etc/passwd", "pipe", "-o", "~", "$(touch MARKER)", "[", "**/**/**", "é\u202e", "",
    )  # fmt: skip
    os.mkfifo(folder / "pipe")
    some = "\n".join(rng.choice(lines) for _ in range(rng.choice((1, 2, 5, 60))))
    (folder / "l.txt").write_bytes(some.encode() if rng.random() < 0.8 else damaged(some.encode() or b"x", rng, 99))
    return _run("@l.txt", *rng.choice(([], [], ["--mosaic"])), "--no-network")


def vectors(folder, rng):
    _good(folder)
    suffix, data = rng.choice(sorted(_made(files.areas).items()))
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
    return _run("good.tif", "--aoi", f"a.{suffix}")


def names(folder, rng):
    pieces = ("a", "%41", "%s", "\n", "\r", "\t", ":", " ", "..", "\x1b[2J", "é", "\u202e", "日", "'", '"', "\\", "*", "?")
    pieces += ("[", "]", "$(touch MARKER)", "`id`", ";", "&", "<", ">", "|", "\x7f", "~", "=", "@", "-", "\udc80", "run", "CON")
    pieces += ("<VRTDataset>", "NETCDF:", "vrt://", "http:", "#", "{", "}", ",")
    stem = "".join(rng.choice(pieces) for _ in range(rng.randrange(1, 6)))
    name = stem.replace("/", "_").encode("utf-8", "surrogateescape")[:200] + b".tif"
    (folder / "n").mkdir()
    path = os.path.join(os.fsencode(folder / "n"), name)
    (folder / "x.tif").write_bytes((folder / _good(folder)).read_bytes())
    os.rename(folder / "x.tif", path)
    source = rng.choice((os.path.join("n", os.fsdecode(name)), "n", f"{folder}/n/{os.fsdecode(name)}"))
    return _run(source, *rng.choice(([], ["--format", "zarr"])))


def descriptions(folder, rng):
    """Names and texts inside of files, and band expressions."""
    import rasterio

    words = ("../../x", "\n\n", "a" * 5000, "\x1b[31m", "%s%n", "<b>", "NaN", "b1", "red,green", "", "é", "(nir", "__class__")
    path = write_geotiff(folder / "r.tif", noise(3, 60, 70))
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = [rng.choice(words) for _ in range(3)]
        dataset.update_tags(**{rng.choice(("AREA_OR_POINT", "X", "TILEWRIGHT_CODEBOOK")): rng.choice(words)})
        dataset.update_tags(ns=rng.choice(("SUBDATASETS", "OVERVIEWS", "RPC", "GEOLOCATION")), OVERVIEW_FILE="/etc/passwd", LINE_OFF="NaN", X_DATASET="/dev/zero", SUBDATASET_1_NAME="/etc/passwd")  # fmt: skip
    bits = ("b1", "b2", "red", "(", ")", "+", "-", "*", "/", "**", "9" * 400, "1e999", ",", ".", "__import__('os')", "b99999", "#1", "sqrt", "[0]", "\n", "%", "if", ":=")  # fmt: skip
    bands = "".join(rng.choice(bits) for _ in range(rng.choice((1, 3, 5, 9, 400))))
    if rng.random() < 0.2:
        return Case(["inspect", "r.tif"], (0, 1, 2))
    return _run("r.tif", *rng.choice(([], [f"--bands={bands}"], [f"--bands={bands}"])))


def _finished(folder):
    """The files of a run that was done, as names and bytes."""
    from pipeline.cli import main

    os.makedirs(folder / "w", exist_ok=True)
    here = os.getcwd()
    os.chdir(folder / "w")
    try:
        _good(folder / "w")
        assert main(["run", "good.tif", *_RUN[:-1], "none"]) == 0
    finally:
        os.chdir(here)
    out = folder / "w" / "out"
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def records(folder, rng):
    """What a run left in OUT, changed, and the run again."""
    _good(folder)
    members = dict(_made(_finished))
    changed = rng.choice(("run.json", "run.json", "codebook.npz"))
    data = members[changed]
    if changed.endswith("json"):
        value = json.loads(data)
        if rng.random() < 0.6:
            _odd_value(value, rng)
            data = json.dumps(value).encode()
        else:
            data = reworded(data, rng)
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
    return _run("good.tif", *rng.choice(([], ["--overwrite"])))


def _odd_value(value, rng):
    """Replace one value somewhere in a tree."""
    strange = (None, -1, 2**63, 1.5, "", "../../../good", "/etc/passwd", [], {}, [[]], "x" * 9999, True, "\n", "good.tif")
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        if isinstance(value[key], (dict, list)) and value[key] and rng.random() < 0.75:
            value = value[key]
            continue
        value[key] = rng.choice(strange)
        return


KINDS = {
    tiff_bytes: 1200, tiff_tags: 1200, vrt: 800, formats: 600, stores: 250, configs: 250, codebooks: 250,
    models: 150, lists: 100, vectors: 250, names: 150, descriptions: 150, records: 250,
}  # fmt: skip
"""How many of each make the 5,600 of `make test-all`."""


def maker(kind, seed):
    """The function that fills a folder with one input."""
    return lambda folder: kind(folder, random.Random(f"{kind.__name__} {seed}"))
