"""SOURCE arguments: files, folders, globs and lists become paths with an output name each."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UsageError

SUFFIXES = frozenset({".tif", ".tiff", ".vrt", ".jp2", ".img", ".png", ".jpg", ".jpeg", ".nc"})
_LIST_LIMIT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """One raster to do: where it is, and the name of its outputs."""

    path: str
    name: str


def resolve(arguments: Sequence[str]) -> list[Source]:
    """The rasters that SOURCE arguments stand for, in order, each once, with distinct names.

    Raises
    ------
    UsageError
        If an argument stands for no raster at all, or a list cannot be read.
    """
    paths = list(dict.fromkeys(p for a in arguments for p in _expand(a)))
    if not paths:
        raise UsageError("no SOURCE given; name at least one raster, folder, glob or @list.txt")
    return [Source(p, n) for p, n in zip(paths, _names(paths), strict=True)]


def _expand(argument: str) -> Iterable[str]:
    if argument.startswith("@"):
        return [p for line in _lines(argument[1:]) for p in _expand(line)]
    if Path(argument).is_dir():
        found = sorted(
            str(p) for p in Path(argument).iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()
        )
        if not found:
            kinds = " ".join(sorted(SUFFIXES))
            raise UsageError(f"{argument}: no rasters in this folder (looked for {kinds}); name the files")
        return found
    if not os.path.lexists(argument) and glob.has_magic(argument):
        found = sorted(p for p in glob.glob(argument, recursive=True) if Path(p).is_file())  # noqa: PTH207
        if not found:
            raise UsageError(f"{argument}: no file matches this pattern")
        return found
    return [argument]


def _lines(path: str) -> list[str]:
    try:
        if Path(path).stat().st_size > _LIST_LIMIT_BYTES:
            raise UsageError(f"{path}: a list of more than {_LIST_LIMIT_BYTES >> 20} MiB; split it")
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot read this list of sources ({error}); one path a line") from None
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith(("#", "@"))]


def _names(paths: Sequence[str]) -> list[str]:
    """Output names: the file's stem, with its folder or its suffix where stems collide."""
    stems = [_stem(p) for p in paths]
    count = Counter(s.casefold() for s in stems)
    for longer in (_with_folder, _with_suffix):
        names = [longer(p) if count[s.casefold()] > 1 else s for p, s in zip(paths, stems, strict=True)]
        if len({n.casefold() for n in names}) == len(names):
            return names
    return _numbered([_with_folder(p) for p in paths])


def _clean(text: str) -> str:
    """A name that is safe in every file system: no separators, control or reserved characters."""
    text = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|]+', "_", text).strip(" .")
    # 200 bytes leave room for suffixes within the 255 that file systems allow
    return text.encode()[:200].decode(errors="ignore") or "raster"


def _stem(path: str) -> str:
    return _clean(Path(path).stem)


def _with_suffix(path: str) -> str:
    return _clean(Path(path).name.replace(".", "_"))


def _with_folder(path: str) -> str:
    return _clean(f"{Path(os.path.abspath(path)).parent.name}_{Path(path).stem}")


def _numbered(names: Iterable[str]) -> list[str]:
    """Names made distinct by a number in brackets, as file managers do."""
    seen: set[str] = set()
    result = []
    for name in names:
        n, unique = 2, name
        while unique.casefold() in seen:
            unique, n = f"{name} ({n})", n + 1
        seen.add(unique.casefold())
        result.append(unique)
    return result
