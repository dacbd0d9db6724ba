"""SOURCE arguments: files, folders, globs and lists are resolved to paths, each with an output name."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import out_names
from pipeline.errors import UsageError
from pipeline.source.naming import paths
from pipeline.source.naming.same_file import each_once
from pipeline.source.naming.searching import EVERYWHERE, Search
from pipeline.source.zarr.names import is_store
from pipeline.text import decoded

SUFFIXES = frozenset({
    ".tif", ".tiff", ".gtiff", ".vrt", ".jp2", ".j2k", ".img", ".png", ".jpg", ".jpeg", ".webp", ".gif",
    ".bmp", ".nc", ".nc4", ".hdf", ".h5", ".hdf5", ".he5", ".grb", ".grb2", ".grib", ".grib2", ".asc",
    ".dem", ".hgt", ".dt0", ".dt1", ".dt2", ".bil", ".bip", ".bsq", ".ntf", ".nitf", ".mrf", ".bag",
    ".rst", ".sdat", ".grd", ".pix", ".ers", ".mbtiles",
})  # fmt: skip
"""Suffixes that a folder is searched for: GDAL's raster formats, without sidecars and rare ones."""

_QUOTE = '"'
_LIST_LIMIT_BYTES = 64 << 20
# A raster called so would have run.json as its record, or its workspace where a file of the run stands.
_OWN_FILES = frozenset(
    {
        out_names.RUN.removesuffix(out_names.RECORD_SUFFIX),
        out_names.STATUS,
        out_names.OWNER,
        "owner.json",  # no file of today; outputs that were named around it keep their names
    }
)


@dataclass(frozen=True, slots=True)
class Source:
    """One raster to be segmented.

    Parameters
    ----------
    path
        Path to open; for a raster made of several files, its name in messages.
    name
        Name of its outputs.
    parts
        What it is made of, if that is not `path`: tiles with their paths from the root, or a container.
    stack
        Name and file of each band, if it is a stack.
    """

    path: str
    name: str
    parts: tuple[str, ...] = ()
    stack: tuple[tuple[str, str], ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that it is read from."""
        named = tuple(file for _, file in self.stack) or self.parts or (self.path,)
        return tuple(paths.parts(path).file or path for path in named)


def resolve(
    arguments: Sequence[str], *, recursive: bool = False, search: Search = EVERYWHERE
) -> list[Source]:
    """The rasters that SOURCE arguments name, in order, each file once, with distinct output names.

    Parameters
    ----------
    arguments
        Files, folders, patterns and lists.
    recursive
        Whether folders are searched with all that they hold.
    search
        Finds what folders and patterns stand for.

    Raises
    ------
    UsageError
        If an argument names no raster at all, or a list cannot be read.
    """
    found = each_once(p for a in arguments for p in _expand(a, search, recursive=recursive))
    if not found:
        raise UsageError("no SOURCE given; name at least one raster, folder, glob or @list.txt")
    return [Source(p, n, _container(p)) for p, n in zip(found, _names(found), strict=True)]


def from_root(arguments: Sequence[str]) -> list[str]:
    """The same arguments for any folder: those in lists in place of these, whose lines are of this folder.

    Raises
    ------
    UsageError
        If a list cannot be read.
    """
    result = []
    for argument in arguments:
        if argument.startswith("@"):
            result += from_root(_lines(argument[1:]))
        elif glob.has_magic(argument) and not os.path.lexists(argument) and paths.parts(argument).file:
            here = "" if argument.startswith("~") else glob.escape(os.getcwd())  # noqa: PTH109
            result.append(os.path.join(here, paths.expanded(argument)))  # noqa: PTH118
        else:
            result.append(paths.absolute(paths.expanded(argument)))
    return result


def _expand(argument: str, search: Search, *, recursive: bool) -> Iterable[str]:
    if not argument:
        raise UsageError("an empty SOURCE; name a raster, a folder, a glob or @list.txt")
    if "\0" in argument:
        raise UsageError(f"{argument[:80]!r}: no file's name has a zero in it; check this SOURCE")
    if argument.startswith("@"):
        return [p for line in _lines(argument[1:]) for p in _expand(line, search, recursive=recursive)]
    if "://" in argument or argument.startswith("/vsi"):
        return [argument]
    argument = paths.expanded(argument)
    try:
        if Path(argument).is_dir() and not is_store(argument):
            return _folder(argument, search, recursive=recursive)
        if not os.path.lexists(argument) and glob.has_magic(argument):
            return _matching(argument, search)
    except (OSError, ValueError):
        # for example a name too long for the file system: it fails later, as one raster
        pass
    return [argument]


def _folder(path: str, search: Search, *, recursive: bool) -> list[str]:
    """Paths of the rasters in a folder, sorted: files by suffix, and Zarr stores."""
    found = search.folder(path, recursive=recursive)
    paths = [p for p in found if Path(p).suffix.lower() in SUFFIXES or Path(p).is_dir()]
    if not paths:
        kinds = " ".join(sorted(SUFFIXES))
        inside = "in this folder and those in it" if recursive else "in this folder"
        below = "" if recursive else ", or search folders below it too (--recursive)"
        raise UsageError(f"{path}: no rasters {inside} (looked for {kinds}); name the files{below}")
    return paths


def _matching(pattern: str, search: Search) -> list[str]:
    found = search.matching(pattern)
    if paths := [p for p in found if Path(p).is_file() or is_store(p)]:
        return paths
    apart = f" (what lies in the OUT of this run, {search.out}, is no input)" if search.out else ""
    raise UsageError(f"{pattern}: no file matches this pattern{apart}")


def _lines(path: str) -> list[str]:
    """What a list names, one a line; empty lines and comments are left out."""
    path = paths.expanded(path)
    try:
        if Path(path).stat().st_size > _LIST_LIMIT_BYTES:
            raise UsageError(f"{path}: a list of more than {_LIST_LIMIT_BYTES >> 20} MiB; split it")
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot read this list of sources ({error}); one path a line") from None
    try:
        lines = re.split(r"\r\n|\r|\n", decoded(data))
    except UnicodeDecodeError:
        lines = [_of_bytes(path, number, line) for number, line in enumerate(data.splitlines(), 1)]
    lines = [line.removeprefix("\ufeff").strip() for line in lines]
    return [_unquoted(line) for line in lines if line and not line.startswith(("#", "@"))]


def _of_bytes(path: str, number: int, line: bytes) -> str:
    """A line of a list in no Unicode: the name of a file as the disk or as Windows has it."""
    if line.isascii():
        return line.decode()
    for text in (os.fsdecode(line), line.decode("cp1252", errors="replace")):
        if "\0" not in text and os.path.lexists(paths.expanded(_unquoted(text.strip()))):
            return text
    raise UsageError(
        f"{path}: cannot read this list of sources (line {number} is not text in UTF-8, and no file is "
        "called so); save the list as UTF-8, one path a line"
    )


def _unquoted(line: str) -> str:
    """A path without the quotes that spreadsheets, file managers and shells put around it."""
    quote = line[0]
    if quote not in "\"'" or line[-1] != quote or len(line) < 3 or os.path.lexists(line):
        return line
    return line[1:-1].replace(quote * 2, quote)


def _names(paths: Sequence[str]) -> list[str]:
    """Output names: the file's stem, with its folder's name or its suffix where stems collide."""
    stems = [_stem(p) for p in paths]
    count = Counter(s.casefold() for s in stems)
    count.update(dict.fromkeys(_OWN_FILES, 2))
    for longer in (_with_folder, _with_suffix):
        names = [longer(p) if count[s.casefold()] > 1 else s for p, s in zip(paths, stems, strict=True)]
        if len({*_OWN_FILES, *(n.casefold() for n in names)}) == len(names) + len(_OWN_FILES):
            return names
    return numbered([_with_folder(p) for p in paths])


def clean(text: str) -> str:
    """A name that is safe in every file system: no separators, control or reserved characters."""
    text = text.encode(errors="replace").decode()
    text = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|]+', "_", text).strip(" .")
    # 200 bytes leave space for suffixes within the 255 bytes that file systems allow
    return text.encode()[:200].decode(errors="ignore").rstrip(" .") or "raster"


def part_label(part: str) -> str:
    """The name of a raster within a container, in a form that can be appended to an output name."""
    return clean(re.sub(r"[^\w.-]+", "_", part).strip("_")).strip("_") or "part"


def _file_and_suffix(path: str) -> tuple[Path, str]:
    """The file that a path names, and a suffix for the raster within it ("" for the whole file)."""
    if "://" in path:
        return Path(path.partition("://")[2].partition("?")[0]), ""
    before, file, part = paths.parts(path)
    if part and not before.startswith("/vsi"):
        return Path(file), f"_{part_label(part.removeprefix(_QUOTE).removeprefix(':'))}"
    return Path(path), ""


def _container(path: str) -> tuple[str, ...]:
    """The file of the container that a path names a raster of; empty if it names a whole file."""
    file, suffix = _file_and_suffix(path)
    return (str(file),) if suffix else ()


def _stem(path: str) -> str:
    file, suffix = _file_and_suffix(path)
    return clean(file.stem + suffix)


def _with_suffix(path: str) -> str:
    file, suffix = _file_and_suffix(path)
    return clean(file.name.replace(".", "_") + suffix)


def _with_folder(path: str) -> str:
    file, suffix = _file_and_suffix(path)
    return clean(f"{Path(os.path.abspath(file)).parent.name}_{file.stem}{suffix}")


def numbered(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """Names made distinct, also from those taken, by a number in brackets, as file managers do."""
    taken = {*_OWN_FILES, *(name.casefold() for name in taken)}
    result = []
    for name in names:
        n, unique = 2, name
        while unique.casefold() in taken:
            unique, n = f"{name} ({n})", n + 1
        taken.add(unique.casefold())
        result.append(unique)
    return result
