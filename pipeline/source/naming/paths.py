"""Paths as people write them: the file that one names, from any folder, with `~` as a shell has it."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

_CONTAINER = re.compile(r'(?P<before>[A-Za-z][A-Za-z0-9_]+:"?)(?P<file>[^"]+?)(?P<after>"?:.+)')
_ARCHIVE = re.compile(r"(?:/vsi(?:zip|tar|gzip|7z|rar)/)+")


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
    if "://" in path or "\0" in path:
        return Parts(path, "", "")
    if match := _ARCHIVE.match(path):
        return _in_archive(match[0], path[match.end() :])
    if path.startswith("/vsi"):
        return Parts(path, "", "")
    if (match := _CONTAINER.fullmatch(path)) and not os.path.lexists(path):
        # C:\... is no format, for that has more than one letter
        return Parts(match["before"], match["file"], match["after"])
    return Parts("", path, "")


def absolute(path: str) -> str:
    """A path from the root, so that it is of use in any folder; an address stays as it is."""
    before, file, after = parts(path)
    return f"{before}{os.path.abspath(file)}{after}" if file else path


def expanded(path: str) -> str:
    """A path whose ``~`` is the home folder, as where a shell has read it; a file of that name is itself."""
    before, file, after = parts(path)
    # on Windows any other ~NAME is guessed to be the home of somebody
    is_home = file == "~" or file.startswith(("~/", f"~{os.sep}")) or (file[:1] == "~" and os.name != "nt")
    return f"{before}{os.path.expanduser(file)}{after}" if is_home and not os.path.lexists(file) else path  # noqa: PTH111  (it leaves an unknown ~NAME as it is)


def _in_archive(before: str, rest: str) -> Parts:
    """The archive is the first of the names that is a file; it may be in braces."""
    if rest.startswith("/vsi"):
        return Parts(before + rest, "", "")
    if rest.startswith("{") and "}" in rest:
        file, _, after = rest[1:].partition("}")
        return Parts(before + "{", file, "}" + after)
    ends = [match.start() for match in re.finditer("/", rest) if match.start()]
    end = next((i for i in ends if os.path.isfile(rest[:i])), len(rest))  # noqa: PTH113
    return Parts(before, rest[:end], rest[end:])
