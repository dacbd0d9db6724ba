"""Names and colours of classes from files: CSV, styles of QGIS (.qml), and colour tables of GDAL as text.

Every error names the file and, where there is one, the line.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

from engine.colours import Colour, from_hex
from engine.kernel import NODATA
from pipeline.errors import UsageError, printable
from pipeline.text import decoded

_LIMIT_BYTES = 4 << 20
_NAME_CHARACTERS = 200
_HEADER = ("label", "value", "class")
# value, red, green, blue, perhaps alpha and a name, as gdaldem reads and QGIS exports them
_TABLE_LINE = re.compile(
    r"([^\s,:]+)[\s,:]+(\d+)[\s,:]+(\d+)[\s,:]+(\d+)(?:[\s,:]+(\d+)(?![^\s,:]))?(?:[\s,:]+(.*))?"
)


@dataclass(frozen=True)
class Entry:
    """What a file says of one class.

    Parameters
    ----------
    label
        The class.
    colour, name
        None where the file does not say.
    line
        Where it stands, for messages.
    """

    label: int
    colour: Colour | None
    name: str | None
    line: int


def read_entries(path: str | Path) -> tuple[Entry, ...]:
    """What a file says of classes, one entry for each; that of nodata (255) is left out.

    Parameters
    ----------
    path
        By its suffix: ``.csv`` (``label,#rrggbb,name``, also with semicolons or tabs; colour or name may be
        empty, a header may stand above), ``.qml`` (paletted or pseudocolour); anything else is a colour table
        (``value red green blue [alpha] [name]``, ``#`` begins a comment).

    Raises
    ------
    UsageError
        If it cannot be read, or a line is wrong: the message begins with FILE:LINE.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(_LIMIT_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no name of a file"
        raise UsageError(
            f"{path}: cannot read this palette ({reason}); name a .csv, a .qml or a colour table, "
            "or say natural or distinct"
        ) from None
    if len(data) > _LIMIT_BYTES:
        raise UsageError(f"{path}: a palette of more than {_LIMIT_BYTES >> 20} MiB is refused")
    suffix = path.suffix.lower()
    if suffix == ".qml":
        read = _in_qml(path, data)
    else:
        try:
            text = decoded(data)
        except UnicodeDecodeError as error:
            raise _wrong(path, data[: error.start].count(b"\n") + 1, "not text in UTF-8") from None
        read = _in_csv(path, text) if suffix == ".csv" else _in_table(path, text)
    entries: dict[int, Entry] = {}
    for entry in read:
        if before := entries.get(entry.label):
            raise _wrong(path, entry.line, f"label {entry.label} stands in line {before.line} too; leave one")
        if entry.label != NODATA:
            entries[entry.label] = entry
    if not entries:
        raise UsageError(f"{path}: says nothing of any class; give lines such as 0,#33aa0f,Forest (.csv)")
    return tuple(entries.values())


def _wrong(path: Path, line: int, what: str) -> UsageError:
    return UsageError(f"{path}:{line}: {what}")


def _entry(path: Path, line: int, label: str, colour: str | Sequence[str], name: str) -> Entry:
    """An entry from the texts of its parts, checked; a colour is ``#rrggbb``, its three levels, or empty."""
    try:
        number = float(label)
        value = int(number)
    except (ValueError, OverflowError):
        value, number = -1, 0.0
    if value != number or not 0 <= value <= NODATA:
        raise _wrong(path, line, f"{printable(label)[:40]!r} is no label; labels are 0 to 254")
    try:
        shade = _levels(colour) if not isinstance(colour, str) else from_hex(colour) if colour else None
    except ValueError as error:
        raise _wrong(path, line, printable(str(error))[:120]) from None
    title = " ".join(name.split())
    if len(title) > _NAME_CHARACTERS or not title.isprintable():
        raise _wrong(
            path, line, f"the name of label {value} is longer than {_NAME_CHARACTERS} characters, or no text"
        )
    return Entry(value, shade, title or None, line)


def _in_csv(path: Path, text: str) -> Iterator[Entry]:
    # where a comma is the decimal sign, Excel writes semicolons; the first sign ends a label or its heading
    found = re.search("[,;\t]", text)
    rows = csv.reader(
        text.splitlines(keepends=True), delimiter=found[0] if found else ",", skipinitialspace=True
    )
    first = True
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise _wrong(path, rows.line_num, f"no CSV ({error})") from None
        if row is None:
            return
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        header, first = first and cells[0].casefold() in _HEADER, False
        if header:
            continue
        if not 2 <= len(cells) <= 3:
            raise _wrong(
                path, rows.line_num, f"{len(cells)} fields; a line is label,#rrggbb,name (quote commas)"
            )
        label, colour, name = (*cells, "")[:3]
        yield _entry(path, rows.line_num, label, colour, name)


def _in_table(path: Path, text: str) -> Iterator[Entry]:
    for number, line in enumerate(text.splitlines(), 1):
        content = line.strip()
        if not content or content.startswith(("#", "INTERPOLATION:", "nv")):
            continue
        match = _TABLE_LINE.fullmatch(content)
        if match is None:
            raise _wrong(
                path,
                number,
                "a line of a colour table is: value red green blue [alpha] [name], 0 to 255 each",
            )
        label, *levels, _, name = match.groups()
        yield _entry(path, number, label, levels, name or "")


def _levels(texts: Sequence[str]) -> Colour:
    if not all(len(text) <= 3 and int(text) <= 255 for text in texts):
        shown = " ".join(text[:9] for text in texts)
        raise ValueError(f"{shown} is no colour; red, green and blue are 0 to 255")
    red, green, blue = map(int, texts)
    return red, green, blue


def _in_qml(path: Path, data: bytes) -> Iterator[Entry]:
    """Entries of the paletted renderer, or items of the pseudocolour one."""
    found: list[Entry] = []
    parser = expat.ParserCreate()

    def start(name: str, attributes: dict[str, str]) -> None:
        if name in ("paletteEntry", "item") and {"value", "color"} <= attributes.keys():
            colour, value = attributes["color"], attributes["value"]
            if value == "inf" and found:
                value = str(found[-1].label + 1)  # the last one of discrete colours: all that is above
            found.append(
                _entry(
                    path,
                    parser.CurrentLineNumber,
                    value,
                    # some versions of QGIS write the alpha behind
                    colour[:7] if len(colour) == 9 else colour,
                    attributes.get("label", ""),
                )
            )

    def entity(*_: object) -> None:
        raise _wrong(path, parser.CurrentLineNumber, "declares entities, as no style of QGIS does")

    parser.StartElementHandler = start
    parser.EntityDeclHandler = entity
    try:
        parser.Parse(data, True)  # noqa: FBT003  (expat takes it by place)
    except expat.ExpatError as error:
        raise _wrong(path, error.lineno, f"not well-formed XML ({expat.ErrorString(error.code)})") from None
    return iter(found)
