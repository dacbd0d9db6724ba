"""The XML of VRT and MRF files, read as far as it names files or code.

GDAL's own parser takes capitals and small letters, attributes and elements for the same; so does this.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from xml.parsers import expat

_DEPTH = 64
_NAME_CHARACTERS = 4096
_KINDS = frozenset({
    "", "vrtsourcedrasterband", "vrtderivedrasterband", "vrtwarpeddataset", "vrtwarpedrasterband",
    "vrtpansharpeneddataset", "vrtpansharpenedrasterband",
})  # fmt: skip
_FILES = frozenset({"sourcefilename", "sourcedataset", "dempath"})
_BESIDE = frozenset({"datafile", "indexfile"})
_KERNEL, _SIZE = ["kernelfilteredsource", "kernel"], re.compile(" [1-9][0-9]{0,3}")
_ASIDE = frozenset({"histograms", "metadata", "overview", "overviewlist", "sourceproperties"})
"""What GDAL and QGIS write into a description that they only look at; no pixel depends on it."""

_WATCHED = _FILES | _BESIDE | {"size", "subclass", "pixelfunctionlanguage", "relativetovrt"}


class NotUnderstoodError(ValueError):
    """A description that names what it may not; the message goes on after the file's name."""


@dataclass
class Description:
    """What a description names.

    Parameters
    ----------
    references
        Names of files, each once, and whether they are relative to the description's own folder.
    digest
        Tells what it says from what another says, but for statistics, overviews and blanks.
    """

    references: dict[tuple[str, bool], None] = field(default_factory=dict)
    digest: str = ""


def described(text: Iterable[bytes]) -> Description:
    """Read a description, a piece at a time.

    Raises
    ------
    NotUnderstoodError
        If it is no XML, has a document type, or asks for raw pixels, code or a cache.
    """
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reader.doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        for piece in text:
            parser.Parse(piece)
        parser.Parse(b"", True)  # noqa: FBT003  (expat takes it by place)
    except expat.ExpatError as error:
        raise NotUnderstoodError(f"is not well-formed XML ({error}); write it again") from None
    reader.found.digest = reader.meaning.digest
    return reader.found


class _Meaning:
    """The digest of a description's elements, without those that are aside."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._aside = 0

    @property
    def digest(self) -> str:
        """Of what was heard so far."""
        return self._hash.hexdigest()

    def start(self, name: str, values: dict[str, str]) -> None:
        """An element begins."""
        if self._aside or name in _ASIDE:
            self._aside += 1
        else:
            self._add(f"<{name} {sorted(values.items())}>")

    def text(self, text: str) -> None:
        """A piece of text, of which blanks say nothing: GDAL writes others."""
        if not self._aside:
            self._add("".join(text.split()))

    def end(self) -> None:
        """An element ends."""
        if self._aside:
            self._aside -= 1
        else:
            self._add("</>")

    def _add(self, text: str) -> None:
        self._hash.update(text.encode())


class _Reader:
    """Hears of the elements of a description."""

    def __init__(self) -> None:
        self.found = Description()
        self.meaning = _Meaning()
        self._above: list[str] = []
        self._kernels: list[str] = []
        self._name = ""
        self._pieces: list[str] = []
        self._length = 0
        self._relative = False

    def doctype(self, *_: object) -> None:
        """A document type could define entities; GDAL writes none."""
        raise NotUnderstoodError("has a document type, which a VRT does not need; take it out")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        name = name.casefold().rpartition(":")[2]
        self._above.append(name)
        if len(self._above) > _DEPTH:
            raise NotUnderstoodError(f"is nested deeper than {_DEPTH}; write it again")
        if self._name in _FILES:
            raise NotUnderstoodError(f"has an element in a file's name ({name}); write it again")
        if name == "pixelfunctioncode":
            raise NotUnderstoodError("has code of its own (PixelFunctionCode), which is never run")
        if name == "cachedsource":
            raise NotUnderstoodError("is a cache of another raster (CachedSource); name that one")
        if name == "kernelfilteredsource":
            self._kernels.clear()
        if self._above[-2:] == _KERNEL:
            self._kernels.append("")
        values = {key.casefold(): value for key, value in attributes.items()}
        self.meaning.start(name, values)
        if (relative := values.pop("relativetovrt", "0")) not in ("0", "1"):
            raise NotUnderstoodError(f"has a relativeToVRT of {relative[:40]!r}, where 0 or 1 is needed")
        self._relative = relative == "1"
        for key, value in values.items():
            self._value(key, value, relative=False)
        self._name = name if name in _WATCHED else ""
        self._pieces, self._length = [], 0

    def text(self, text: str) -> None:
        """A piece of an element's text."""
        self.meaning.text(text)
        if self._name:
            self._length += len(text)
            if self._length > _NAME_CHARACTERS:
                raise NotUnderstoodError(f"has a name of more than {_NAME_CHARACTERS} characters")
            self._pieces.append(text)

    def end(self, _: str) -> None:
        """An element ends."""
        name = self._above.pop()
        self.meaning.end()
        if self._name:
            self._value(self._name, "".join(self._pieces).strip(), relative=self._relative)
        self._name = ""
        # GDAL 3.10 ends the process where a filter has no kernel
        if name == "kernelfilteredsource" and not _SIZE.fullmatch(",".join(self._kernels)):
            raise NotUnderstoodError("has a KernelFilteredSource without one kernel and its size")

    def _value(self, name: str, value: str, *, relative: bool) -> None:
        if name == "relativetovrt":
            raise NotUnderstoodError("has relativeToVRT as an element; write it as an attribute")
        if name == "subclass" and value.casefold() not in _KINDS:
            raise NotUnderstoodError(f"has a {value[:40]}, which may read any file; convert it to GeoTIFF")
        if name == "pixelfunctionlanguage" and value.casefold() != "c":
            raise NotUnderstoodError(f"has a pixel function in {value[:40]}, which is never run")
        if name == "pixelfunctioncode":
            raise NotUnderstoodError("has code of its own (PixelFunctionCode), which is never run")
        if name in _BESIDE and (not value or any(c in value for c in "/\\:<")):
            raise NotUnderstoodError(f"names {value[:80]!r}, which does not lie beside it")
        if name == "size" and self._above[-2:] == _KERNEL:
            self._kernels[-1] += f" {value}"
        if name in _FILES:
            self.found.references[value, relative] = None
