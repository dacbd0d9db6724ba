"""Hostile rasters: damaged, forged, and such as refer to what they should not; by seed.

Each function fills a folder from a source of chance and gives the command line to try.
"""

from __future__ import annotations

import os
import zipfile

import rasterio

from tests.hostile import files
from tests.hostile.changes import NUMBERS, damaged, retagged, reworded
from tests.hostile.common import good, made, mostly, run
from tests.hostile.judge import Case
from tests.rasters import noise, write_geotiff


def tiff_bytes(folder, rng):
    name, data = rng.choice(sorted(made(files.tiffs).items()))
    (folder / "r.tif").write_bytes(damaged(data, rng, 700))
    method = ["--method", "cnn"] if rng.random() < 0.1 else []
    fit = ["--fit", "exact"] if rng.random() < 0.1 and not method else []
    return run("r.tif", *method, *fit, measure="r.tif" if name != "palette" else None)


def tiff_tags(folder, rng):
    _, data = rng.choice(sorted(made(files.tiffs).items()))
    data = retagged(data, rng)
    (folder / "r.tif").write_bytes(damaged(data, rng, 300) if rng.random() < 0.2 else data)
    return run("r.tif", measure="r.tif")


def formats(folder, rng):
    suffix, parts = rng.choice(sorted(made(files.others).items()))
    parts = dict(parts)
    name = rng.choice(sorted(parts))
    if name.endswith(("hdr", "prj", "xml", "rdc", "mrf", "ers", "asc", "sgrd")):
        parts[name] = reworded(parts[name], rng)
    else:
        parts[name] = damaged(parts[name], rng, 400)
    for part, data in parts.items():
        (folder / part).write_bytes(data)
    source = f"r.{suffix}"
    if rng.random() < 0.1:
        (folder / "r.tif").write_bytes((folder / source).read_bytes())
        source = "r.tif"
    return run(source)


_TEMPLATE = (
    '<VRTDataset rasterXSize="{w}" rasterYSize="{h}"{sub}>{more}'
    "<GeoTransform>{gt}</GeoTransform>"
    '<VRTRasterBand dataType="{dt}" band="1"{bandsub}>{inner}</VRTRasterBand></VRTDataset>'
)
_SOURCE = (
    '<{kind}><SourceFilename relativeToVRT="{rel}">{name}</SourceFilename><SourceBand>{band}</SourceBand>'
    '<SrcRect xOff="{a}" yOff="0" xSize="{b}" ySize="60"/><DstRect xOff="0" yOff="0" xSize="{c}" ySize="{d}"/>'
    "{tail}</{kind}>"
)


_SOURCES = (
    "r.vrt", "s.vrt", "/etc/passwd", "/dev/zero", "/dev/stdin", "pipe", "http://127.0.0.1:1/x.tif", "",
    "/vsicurl/http://127.0.0.1:1/x", "/vsistdin/", "../../../etc/passwd", "WMS:http://127.0.0.1:1/", "a" * 5000,
    "&lt;VRTDataset rasterXSize='9' rasterYSize='9'/&gt;", "vrt://good.tif?bands=1", "/vsizip/z.zip/a.vrt",
    "/vsisubfile/0_100,/etc/passwd", "/vsigzip//etc/passwd", "NETCDF:good.tif:x", "GTIFF_DIR:1:good.tif",
    "/vsis3/bucket/key", "DERIVED_SUBDATASET:AMPLITUDE:good.tif",
)  # fmt: skip
_TAILS = (
    "<LUT>0:0,NaN:1e308</LUT>", "<ScaleRatio>1e308</ScaleRatio>", "<NODATA>x</NODATA>",
    '<Kernel normalized="1"><Size>99999999</Size><Coefs>1 2</Coefs></Kernel>',
    "<Kernel><Size>3</Size><Coefs>0 1 0 1 -4 1 0 1 0</Coefs></Kernel>",
    "<SourceProperties RasterXSize='2147483647' RasterYSize='2147483647' DataType='Byte' BlockXSize='2147483647' BlockYSize='1'/>",
    "<OpenOptions><OOI key='NUM_THREADS'>999999</OOI></OpenOptions>",
)  # fmt: skip
_CODE = (
    "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
    "<PixelFunctionCode>import os\ndef f(*a, **k):\n  os.system('touch MARKER')\n</PixelFunctionCode>"
)
_RAW = "<SourceFilename>/etc/passwd</SourceFilename><ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset>"
_EXTRAS = (
    _RAW,
    _CODE,
    "<PixelFunctionType>mul</PixelFunctionType>",
    "<MaskBand/>",
    "<NoDataValue>nan</NoDataValue>",
)
_SUBCLASSES = (
    ' subClass="VRTWarpedDataset"', ' subClass="VRTPansharpenedDataset"', ' subclass="VRTProcessedDataset"',
)  # fmt: skip
_BAND_SUBCLASSES = (
    ' subClass="VRTRawRasterBand"', ' subClass="VRTDerivedRasterBand"', ' SUBCLASS="vrtrawrasterband"',
    ' blockXSize="2147483647" blockYSize="2147483647"',
)  # fmt: skip
_PARTS = "<Metadata domain='SUBDATASETS'><MDI key='SUBDATASET_1_NAME'>/etc/passwd</MDI></Metadata>"
_WARP = "<GDALWarpOptions><WarpMemoryLimit>{}</WarpMemoryLimit><SourceDataset relativeToVRT='1'>{}</SourceDataset></GDALWarpOptions>"
_HEADS = (b"\n\n  ", b"<?xml version='1.0'?>", b"<!DOCTYPE x [<!ENTITY e 'x'>]>", b"\xef\xbb\xbf")


def vrt(folder, rng):
    good(folder)

    def number(usual):
        return mostly(rng, usual, *NUMBERS, -1, "NaN", "1e300", "", "x", chance=0.03)

    def source():
        kinds = ("ComplexSource", "AveragedSource", "KernelFilteredSource", "NoDataSource")
        return _SOURCE.format(
            kind=mostly(rng, "SimpleSource", *kinds, chance=0.3),
            rel=mostly(rng, 1, 0, "x", chance=0.05),
            name=mostly(rng, "good.tif", *_SOURCES, chance=0.2),
            band=number(1),
            a=number(0),
            b=number(70),
            c=number(70),
            d=number(60),
            tail=mostly(rng, "", *_TAILS, chance=0.2),
        )

    warp = _WARP.format(number(6e7), mostly(rng, "good.tif", *_SOURCES, chance=0.2))
    text = _TEMPLATE.format(
        w=number(70),
        h=number(60),
        dt=mostly(rng, "Byte", "UInt16", "Float32", "CFloat64", "Oops", "Int8", chance=0.3),
        sub=mostly(rng, "", *_SUBCLASSES),
        bandsub=mostly(rng, "", *_BAND_SUBCLASSES),
        inner=mostly(rng, "", *_EXTRAS) + "".join(source() for _ in range(rng.choice((1, 1, 2, 3)))),
        more=mostly(rng, "", warp, _PARTS),
        gt=",".join(str(number(v)) for v in (500000, 0.5, 0, 5800000, 0, -0.5)),
    )
    data = text.encode()
    data = mostly(rng, b"", *_HEADS) + data
    if rng.random() < 0.2:
        data = damaged(data, rng, len(data))
    if rng.random() < 0.05:
        data = data.replace(b"<VRTRasterBand", b"<A>" * rng.choice((50, 100, 5000)) + b"<VRTRasterBand")
    name = mostly(rng, "r.vrt", "r.tif", "r.png", chance=0.3)
    (folder / name).write_bytes(data)
    (folder / "s.vrt").write_text(text if rng.random() < 0.5 else text.replace("s.vrt", "r.vrt"))
    os.mkfifo(folder / "pipe")
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        archive.writestr("a.vrt", data)
    return run(mostly(rng, name, text, "/vsizip/z.zip/a.vrt", "vrt://r.vrt", chance=0.3))


def stores(folder, rng):
    version = rng.choice((2, 3))
    members = dict(made(files.store, version))
    name = rng.choice(sorted(members))
    text = name.endswith("json") or name.startswith(".") or "/." in name
    members[name] = (reworded if text else lambda d, r: damaged(d, r, 64))(members[name], rng)
    if text and rng.random() < 0.3:
        word = rng.choice(
            (b'"gzip"', b'"zlib"', b'"pickle"', b'"object"', b'"|O"', b'"..\\/..\\/x"', b"[" * 9999)
        )
        members[name] = members[name].replace(
            rng.choice((b'"uint8"', b'"zstd"', b'"|u1"', b'"image"', b"3")), word
        )
    for path, data in members.items():
        (folder / "s.zarr" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "s.zarr" / path).write_bytes(data)
    return run(rng.choice(("s.zarr", 'ZARR:"s.zarr":/image')))


def names(folder, rng):
    pieces = (
        "a",
        "%41",
        "%s",
        "\n",
        "\r",
        "\t",
        ":",
        " ",
        "..",
        "\x1b[2J",
        "é",
        "\u202e",
        "日",
        "'",
        '"',
        "\\",
        "*",
        "?",
    )
    pieces += (
        "[",
        "]",
        "$(touch MARKER)",
        "`id`",
        ";",
        "&",
        "<",
        ">",
        "|",
        "\x7f",
        "~",
        "=",
        "@",
        "-",
        "\udc80",
        "run",
        "CON",
    )
    pieces += ("<VRTDataset>", "NETCDF:", "vrt://", "http:", "#", "{", "}", ",")
    stem = "".join(rng.choice(pieces) for _ in range(rng.randrange(1, 6)))
    name = stem.replace("/", "_").encode("utf-8", "surrogateescape")[:200] + b".tif"
    (folder / "n").mkdir()
    path = folder / "n" / os.fsdecode(name)
    (folder / "x.tif").write_bytes((folder / good(folder)).read_bytes())
    (folder / "x.tif").rename(path)
    source = rng.choice((f"n/{path.name}", "n", str(path)))
    return run(source, *rng.choice(([], ["--format", "zarr"])))


def grown(rng, depth):
    """An expression that can be parsed, or nearly."""
    if depth == 0 or rng.random() < 0.2:
        return rng.choice(
            ("b1", "b2", "b3", "0", "1e308", "-1", "2.5", "9007199254740993", "b1/0", "b9", "qa")
        )
    forms = ("({}){}({})", "where({0}, {2}, {0})", "not ({0})", "({0}) in ({2}, {0})", "~({0})", "-({0})**({2})", "sqrt({0})", "min({0}, {2})")  # fmt: skip
    operators = ("+", "-", "*", "/", "**", "<", "<=", "==", "!=", "&", "|", " and ", " or ")
    parts = grown(rng, depth - 1), rng.choice(operators), grown(rng, depth - 1)
    return rng.choice((forms[0], *forms)).format(*parts)


def descriptions(folder, rng):
    """Names, texts and scales inside of files, and expressions and conditions of bands."""
    words = (
        "../../x",
        "\n\n",
        "a" * 5000,
        "\x1b[31m",
        "%s%n",
        "<b>",
        "NaN",
        "b1",
        "red,green",
        "",
        "é",
        "(nir",
        "__class__",
    )
    path = write_geotiff(folder / "r.tif", noise(3, 60, 70))
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = [rng.choice(words) for _ in range(3)]
        if rng.random() < 0.5:
            numbers = (0.0, 1.0, -1.0, float("nan"), float("inf"), 1e308, 5e-324)
            dataset.scales, dataset.offsets = ([rng.choice(numbers) for _ in range(3)] for _ in range(2))
        dataset.update_tags(**{rng.choice(("AREA_OR_POINT", "X", "TILEWRIGHT_CODEBOOK")): rng.choice(words)})
        dataset.update_tags(ns=rng.choice(("SUBDATASETS", "OVERVIEWS", "RPC", "GEOLOCATION")), OVERVIEW_FILE="/etc/passwd", LINE_OFF="NaN", X_DATASET="/dev/zero", SUBDATASET_1_NAME="/etc/passwd")  # fmt: skip
    bits = ("b1", "b2", "red", "(", ")", "+", "-", "*", "/", "**", "9" * 400, "1e999", ",", ".", "__import__('os')", "b99999", "#1", "sqrt", "[0]", "\n", "%", "if", ":=", "<", ">=", "==", "!=", "&", "|", "~", " and ", " or ", " not ", " in ", "where", " in (1,2)", "(b1 & 8)", "**b1**", "not " * 50, "~" * 50)  # fmt: skip
    text = "".join(rng.choice(bits) for _ in range(rng.choice((1, 3, 5, 9, 400))))
    text = rng.choice((text, grown(rng, rng.randrange(7))))
    nodata = rng.choice(
        ("0", "none", "nan", "inf", "1e999", "0,0,0", "-1", "9" * 400, ",", "0" * 9999, "b1", "1,2")
    )
    if rng.random() < 0.2:
        return Case(["inspect", "r.tif"], (0, 1, 2))
    options = ([], ["--bands=b1/b2"], [f"--bands={text}"], [f"--valid={text}"], [f"--nodata={nodata}"])
    return run("r.tif", *rng.choice(options), *rng.choice(([], ["--raw-values"])))
