"""Paths as people write them: the file that one names, from any folder, with `~` as a shell has it."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

_CONTAINER = re.compile(
    r'(GTIFF_DIR:(?:off:)?\d+:)(.+)()|([A-Za-z][A-Za-z0-9_]+:"?)([^"]+?)("?:.+)', re.DOTALL
)
_ARCHIVES = (".zip", ".kmz", ".tar", ".tgz", ".gz", ".7z", ".rar")
_ARCHIVE = re.compile(r"(?:/vsi(?:zip|tar|gzip|7z|rar)/)+")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class Parts(NamedTuple):
    """A path taken apart; put together again it is the same text.

    Parameters
    ----------
    before
        What names a format or an archive.
    file
        The file or folder on disk; "" where a path names none, as an address does.
    after
        What names a raster within it.
    """

    before: str
    file: str
    after: str


def parts(path: str) -> Parts:
    """A path of a raster taken apart, such as ``NETCDF:"a.nc":band`` or ``/vsizip/a.zip/b.tif``."""
    if _ADDRESS.match(path) or "\0" in path:
        return Parts(path, "", "")
    if match := _ARCHIVE.match(path):
        return _in_archive(match[0], path[match.end() :])
    if path.startswith("/vsi"):
        return Parts(path, "", "")
    if (match := _CONTAINER.fullmatch(path)) and not os.path.lexists(path):
        # C:\... is no format, for that has more than one letter
        before, file, after = (group for group in match.groups() if group is not None)
        far = file.startswith("/vsi") or _ADDRESS.match(file + after)
        return Parts(path, "", "") if far else Parts(before, file, after)
    return Parts("", path, "")


def absolute(path: str) -> str:
    """A path from the root, so that it is of use in any folder; an address stays as it is."""
    before, file, after = parts(path)
    return f"{before}{os.path.abspath(file)}{after}" if file else path


def rooted(path: str) -> str:
    """As `absolute`, of any other file than a raster: whatever it is called, it is in no container."""
    return path if "://" in path or path.startswith("/vsi") else os.path.abspath(path)


def expanded(path: str) -> str:
    """A path whose ``~`` is the home folder, as where a shell has read it; a file of that name is itself."""
    if "~" not in path:
        return path
    before, file, after = parts(path)
    # on Windows any other ~NAME is guessed to be the home of somebody
    is_home = file == "~" or file.startswith(("~/", f"~{os.sep}")) or (file[:1] == "~" and os.name != "nt")
    return f"{before}{os.path.expanduser(file)}{after}" if is_home and not os.path.lexists(file) else path  # noqa: PTH111  (it leaves an unknown ~NAME as it is)


def _in_archive(before: str, rest: str) -> Parts:
    """The archive is the first of the names that is a file, or is called so; it may be in braces."""
    if rest.startswith("/vsi") or _ADDRESS.match(rest):
        return Parts(before + rest, "", "")
    if rest.startswith("{") and "}" in rest:
        file, _, after = rest[1:].partition("}")
        return Parts(before + "{", file, "}" + after)
    ends = [match.start() for match in re.finditer("/", rest) if match.start()]
    named = (i for i in ends if rest[:i].lower().endswith(_ARCHIVES))
    end = next((i for i in ends if os.path.isfile(rest[:i])), next(named, len(rest)))  # noqa: PTH113
    return Parts(before, rest[:end], rest[end:])
