"""Names and colours of classes from files: every form is read, and each wrong line is named."""

from __future__ import annotations

import pytest

from pipeline.errors import UsageError
from pipeline.legend.palette_files import read_entries

CLASSES = [
    (0, (51, 170, 15), "Forest"),
    (1, (255, 0, 0), "Roof, red"),
    (7, None, "Water"),
    (9, (1, 2, 3), None),
]

CSV = """\
label,colour,name
0,#33aa0f,Forest

1, #FF0000, "Roof, red"
7,,Water
9,#010203
255,#000000,nothing
"""
TABLE = """\
# QGIS Generated Color Map Export File
INTERPOLATION:EXACT
nv 0 0 0 0
0,51,170,15,255,Forest
1: 255 0 0 Roof, red
9\t1\t2\t3
255 0 0 0 0
"""
QML = """\
<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.34.1"><pipe><rasterrenderer type="paletted"><colorPalette>
<paletteEntry value="0" color="#33aa0f" alpha="255" label="Forest"/>
<paletteEntry alpha="255" label="Roof, red" color="#ff0000ff" value="1.0"/>
<paletteEntry value="9" color="#010203" label=""/>
<paletteEntry value="255" color="#000000" label="nothing"/>
</colorPalette></rasterrenderer></pipe></qgis>
"""
RAMP = QML.replace("paletteEntry", "item").replace("paletted", "singlebandpseudocolor")


def written(tmp_path, name, text):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("p.csv", CSV, CLASSES),
        ("P.CSV", b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode(), CLASSES),
        (
            "p.csv",
            "0;#33aa0f;Forest, old\n7;;Water\n",
            [(0, (51, 170, 15), "Forest, old"), (7, None, "Water")],
        ),
        ("p.csv", "label\tcolour\n0\t#33aa0f\n", [(0, (51, 170, 15), None)]),
        (
            "p.qml",
            RAMP.replace('"9"', '"inf"'),
            [(0, *CLASSES[0][1:]), (1, *CLASSES[1][1:]), (2, (1, 2, 3), None)],
        ),
        ("p.txt", TABLE, [c for c in CLASSES if c[0] != 7]),
        ("p.clr", "3 0 0 0 2nd growth\n4 9 9 9 40\n", [(3, (0, 0, 0), "2nd growth"), (4, (9, 9, 9), None)]),
        ("p.qml", QML, [c for c in CLASSES if c[0] != 7]),
        ("p.qml", RAMP, [c for c in CLASSES if c[0] != 7]),
    ],
)
def test_each_form_is_read(tmp_path, name, text, expected):
    entries = read_entries(written(tmp_path, name, text))
    assert [(e.label, e.colour, e.name) for e in entries] == expected


@pytest.mark.parametrize(
    ("name", "text", "where", "what"),
    [
        ("p.csv", "0,#33aa0f,a\n1,#33aa0,b\n", ":2: ", "'#33aa0' is no colour"),
        ("p.csv", "label,colour\nx,#33aa0f\n", ":2: ", "'x' is no label"),
        ("p.csv", "1.5,#33aa0f\n", ":1: ", "'1.5' is no label"),
        ("p.csv", "nan,#33aa0f\n", ":1: ", "is no label"),
        ("p.csv", "256,#33aa0f\n", ":1: ", "labels are 0 to 254"),
        ("p.csv", "0,#33aa0f\n\n0,#33aa10\n", ":3: ", "label 0 stands in line 1 too"),
        ("p.csv", "0,#33aa0f,a,b\n", ":1: ", "4 fields"),
        ("p.csv", "0\n", ":1: ", "1 fields"),
        ("p.csv", b"0,#33aa0f\n1,#33aa0f,\xff\n", ":2: ", "not text in UTF-8"),
        ("p.csv", '0,#33aa0f,"a\x00b"\n', ":1: ", ""),
        ("p.csv", f"0,#33aa0f,{'a' * 201}\n", ":1: ", "longer than 200"),
        ("p.csv", "0,#33aa0f,\u202e\n", ":1: ", "no text"),
        ("p.csv", "255,#33aa0f\n", ": ", "says nothing of any class"),
        ("p.csv", "", ": ", "says nothing of any class"),
        ("p.txt", "0 1 2 3\n1 2 3\n", ":2: ", "value red green blue"),
        ("p.txt", "0 1 2 256\n", ":1: ", "1 2 256 is no colour"),
        ("p.txt", "0 1 2 " + "9" * 5000 + "\n", ":1: ", "is no colour"),
        ("p.txt", "0 red\n", ":1: ", "value red green blue"),
        ("p.qml", QML.replace("#33aa0f", "33aa0f"), ":3: ", "is no colour"),
        ("p.qml", QML.replace("</pipe>", ""), ":7: ", "not well-formed XML"),
        ("p.qml", QML.replace("'SYSTEM'", "'SYSTEM' [<!ENTITY a 'b'>]"), ":1: ", "declares entities"),
        ("p.qml", RAMP.replace('"0"', '"inf"'), ":3: ", "'inf' is no label"),
        ("p.qml", "<qgis/>", ": ", "says nothing of any class"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, name, text, where, what):
    path = written(tmp_path, name, text)
    with pytest.raises(UsageError) as caught:
        read_entries(path)
    message = str(caught.value)
    assert message.startswith(f"{path}{where}")
    assert what in message
    assert "\n" not in message
    assert len(message) < 400 + len(str(path))


def test_what_is_no_file_is_named(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path, "nat\0ural"):
        with pytest.raises(UsageError, match="cannot read this palette"):
            read_entries(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with pytest.raises(UsageError, match="more than 4 MiB"):
        read_entries(written(tmp_path, "p.csv", b" " * (4 << 20) + b"0"))


def test_long_lines_take_no_long_time(tmp_path):
    with pytest.raises(UsageError, match=r"p\.txt:1: "):
        read_entries(written(tmp_path, "p.txt", "1" + " ,:" * 1_000_000 + "x"))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("name", ["p.csv", "p.txt"])
def test_a_palette_is_read_as_whatever_program_wrote_it(tmp_path, encoding, name):
    text = "0;#102030;Wälder\r\n" if name == "p.csv" else "0 16 32 48 255 Wälder\r\n"
    (tmp_path / name).write_bytes(text.encode(encoding))
    (entry,) = read_entries(tmp_path / name)
    assert (entry.label, entry.colour, entry.name) == (0, (16, 32, 48), "Wälder")
