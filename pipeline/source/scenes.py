"""Scenes: the stacks that `--stack` names, each with the files of its bands and the name of its outputs."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.source.arguments import Source, clean, numbered
from pipeline.source.bands.options import Scene
from pipeline.source.naming.paths import expanded
from pipeline.source.naming.same_file import FirstNames, each_once
from pipeline.source.naming.searching import EVERYWHERE, Search

PLACE = "{scene}"
"""Stands for the name of each scene in a pattern."""

ALONE = "stack"
"""Name of the outputs of a stack that is the only one and has no name."""

_GLOB = re.compile(r"(\{scene\}|\*\*/|\*+|\?|\[!?\]?[^\]/]*\])")
_OTHER_PLACE = re.compile(r"\{(?!scene\})\w*\}")
_MOST_LISTED = 3

Bands = tuple[tuple[str, str], ...]


def label(bands: Bands) -> str:
    """What a stack is called in messages and in run.json, and known by between the two."""
    return f"stack of {', '.join(f'{name}={file}' for name, file in bands)}"


def resolve(stacks: Sequence[Scene], search: Search = EVERYWHERE) -> list[Source]:
    """The scenes that ``--stack`` names, in order, those of the same files once, with distinct names.

    A scene of a pattern that lacks a file has the name that the file would have: it fails alone when it is
    opened, for the file may be there the next time.

    Parameters
    ----------
    stacks
        Stacks, and patterns of stacks.
    search
        Finds what patterns stand for.

    Raises
    ------
    UsageError
        If a pattern names no scene with all its files, or several files of one band of a scene.
    """
    stacks = [Scene(s.name, tuple((name, expanded(file)) for name, file in s.bands)) for s in stacks]
    for name, file in (band for stack in stacks for band in stack.bands):
        if (other := _OTHER_PLACE.search(file)) and not os.path.lexists(file):
            raise UsageError(f"--stack {name}={file}: {other[0]} stands for nothing; write {PLACE}")
    first_names, different = FirstNames(), dict[Bands, Scene]()
    for scene in (scene for stack in stacks for scene in _scenes(stack, search)):
        files = tuple((name, first_names.of(file)) for name, file in scene.bands)
        different.setdefault(files, scene)
    scenes = list(different.values())
    everywhere = set.intersection(*({file for _, file in scene.bands} for scene in scenes))
    alone = len(scenes) == 1
    names = [clean(s.name or (ALONE if alone else _common_name(s.bands, everywhere))) for s in scenes]
    return [
        Source(label(scene.bands), name, stack=scene.bands)
        for scene, name in zip(scenes, numbered(names), strict=True)
    ]


def _scenes(stack: Scene, search: Search) -> Iterator[Scene]:
    """The scenes of a pattern, or the one stack that it is, with the files that there are."""
    if not any(PLACE in file for _, file in stack.bands):
        yield Scene(stack.name, tuple((name, _one(name, file, search)) for name, file in stack.bands))
        return
    if stack.name:
        raise UsageError(f"--stack {stack.name}: {PLACE} names the outputs; leave this name out")
    found = {name: _matching(name, file, search) for name, file in stack.bands if PLACE in file}
    shared = {name: _one(name, file, search) for name, file in stack.bands if PLACE not in file}
    scenes = sorted({scene for files in found.values() for scene in files})
    _refuse_without_whole(scenes, found)
    for scene in scenes:
        yield Scene(
            scene,
            tuple(
                (name, shared[name] if name in shared else found[name].get(scene) or _would_be(file, scene))
                for name, file in stack.bands
            ),
        )


def _one(band: str, pattern: str, search: Search) -> str:
    """The one file that a name with ``*`` or ``?`` is of; a name of no file stays, and fails when opened."""
    if "://" in pattern or pattern.startswith("/vsi") or os.path.lexists(pattern):
        return pattern
    matching = each_once(search.matching(pattern)) if glob.has_magic(pattern) else []
    if len(matching) > 1:
        raise _several(band, pattern, matching)
    return matching[0] if matching else pattern


def _matching(band: str, pattern: str, search: Search) -> dict[str, str]:
    """The files of one band, by the names of their scenes.

    Raises
    ------
    UsageError
        If there are none, or several of one scene.
    """
    if "://" in pattern or pattern.startswith("/vsi"):
        raise UsageError(
            f"--stack {band}={pattern}: {PLACE} is looked for in folders, which nobody can list here; "
            "give --stack once for each scene"
        )
    expression = _expression(pattern)
    files: dict[str, str] = {}
    first_names = FirstNames()
    for file in search.matching(pattern.replace(PLACE, "*")):
        if (match := expression.fullmatch(_slashes(file))) is None:
            continue
        if first_names.of(file) == files.get(match[1]):
            continue
        if match[1] in files:
            raise _several(band, pattern.replace(PLACE, match[1]), [files[match[1]], file])
        files[match[1]] = file
    if not files:
        raise UsageError(f"--stack {band}={pattern}: no file matches this pattern; check folder and names")
    return files


def _expression(pattern: str) -> re.Pattern[str]:
    """A pattern as a regular expression whose first group is the scene, the same wherever it occurs."""
    text, group = "", "([^/]+)"
    for piece in _GLOB.split(_slashes(pattern)):
        if piece == PLACE:
            text, group = text + group, r"\1"
        elif piece == "**/":
            text += "(?:.*/)?"
        elif piece.startswith("*"):
            text += "[^/]*"
        elif piece == "?":
            text += "[^/]"
        elif _GLOB.fullmatch(piece):
            text += f"[{'^' if piece[1] == '!' else ''}{re.escape(piece[1:-1].removeprefix('!'))}]".replace(
                r"\-", "-"
            )
        else:
            text += re.escape(piece)
    return re.compile(text, re.IGNORECASE if os.name == "nt" else 0)


def _would_be(pattern: str, scene: str) -> str:
    """The name of a file that a scene lacks."""
    return pattern.replace(PLACE, scene)


def _refuse_without_whole(scenes: Sequence[str], files: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse patterns that have no scene in common: one of them is mistyped."""
    lacking = {scene: [band for band in files if scene not in files[band]] for scene in scenes}
    if all(lacking.values()):
        some = "; ".join(f"{scene} lacks {', '.join(lacking[scene])}" for scene in scenes[:_MOST_LISTED])
        more = f" (and {len(scenes) - _MOST_LISTED} more)" if len(scenes) > _MOST_LISTED else ""
        raise UsageError(
            f"--stack: no scene has a file of every band: {some}{more}; check the patterns "
            f"({PLACE} takes all of a name that the rest of its pattern leaves)"
        )


def _several(band: str, pattern: str, files: Sequence[str]) -> UsageError:
    return UsageError(
        f"--stack {band}={pattern}: matches several files ({', '.join(files[:_MOST_LISTED])}), "
        "where a band is one; make it narrower"
    )


def _common_name(bands: Bands, everywhere: set[str]) -> str:
    """What the names of a stack's files have in common, else the name of their folder.

    Files that are in every stack, such as an elevation model, say nothing of the scene.
    """
    files = [Path(os.path.abspath(file)) for _, file in bands if file not in everywhere]
    stems = [file.stem for file in files]
    common = os.path.commonprefix(stems)  # noqa: RUF071  (letter by letter)
    if any(_goes_on(stem, len(common)) for stem in stems):
        common = re.sub(r"[^\W_]+$", "", common)
    folders = {file.parent.name for file in files}
    return common.strip("_-. ") or (folders.pop() if len(folders) == 1 else "") or ALONE


def _goes_on(stem: str, length: int) -> bool:
    """Whether a name is cut within a word."""
    return 0 < length < len(stem) and stem[length - 1].isalnum() and stem[length].isalnum()


def _slashes(path: str) -> str:
    return path.replace(os.sep, "/")
