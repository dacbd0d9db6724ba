"""What the JSON files of an OUT say, whatever stands in them: what is strange is noted and left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.durable.bounded_json import read_object
from pipeline.errors import one_line

_MOST = 1 << 62
_LONGEST = 4096
_LONGEST_NAME = 255

Damaged = dict[Path, str]
"""The first thing that is wrong with each file."""


@dataclass(frozen=True)
class LooseJson:
    """An object in a JSON file that may hold anything.

    Parameters
    ----------
    path
        The file.
    damaged
        Where to note what is wrong with it.
    value
        The object.
    """

    path: Path
    damaged: Damaged
    value: dict[str, Any] = field(default_factory=dict)

    def text(self, key: str, among: Collection[str] | None = None) -> str | None:
        """Text, one of some where they are given."""
        found: str | None = self._of(key, lambda v: isinstance(v, str) and (among is None or v in among))
        return None if found is None else found[:_LONGEST]

    def number(self, key: str) -> float | None:
        """A number, no infinity: that is no JSON."""
        found = self._of(key, lambda v: _is(v, int, float) and -_MOST < v < _MOST)
        return None if found is None else float(found)

    def count(self, key: str) -> int | None:
        """A whole number, not negative."""
        found: int | None = self._of(key, lambda v: _is(v, int) and 0 <= v < _MOST)
        return found

    def moment(self, key: str) -> float | None:
        """A time, in seconds since 1970."""
        return _moment(self._of(key, lambda v: _moment(v) is not None))

    def name(self, key: str) -> str | None:
        """A name of a file or of outputs: the file is data, and may not lead out of its folder."""
        found: str | None = self._of(key, is_name)
        return found

    def names(self, key: str) -> list[str]:
        """Names of files."""
        return self._of(key, lambda v: isinstance(v, list) and all(map(is_name, v))) or []

    def object(self, key: str) -> LooseJson:
        """An object; an empty one where there is none."""
        return LooseJson(self.path, self.damaged, self._of(key, lambda v: isinstance(v, dict)) or {})

    def objects(self, key: str) -> list[LooseJson]:
        """The objects of a list."""
        found = self._of(key, lambda v: isinstance(v, list)) or []
        good = [LooseJson(self.path, self.damaged, one) for one in found if isinstance(one, dict)]
        if len(good) < len(found):
            self._note(key)
        return good

    def _of(self, key: str, good: Callable[[Any], bool]) -> Any:
        """What stands under a key; None where that is nothing, or not as it should be."""
        found = self.value.get(key)
        if found is None or good(found):
            return found
        self._note(key)
        return None

    def _note(self, key: str) -> None:
        self.damaged.setdefault(self.path, f"strange {key}")


def read(path: Path, damaged: Damaged) -> LooseJson:
    """What a file says: nothing where there is none, and where it is damaged, which is noted."""
    try:
        return LooseJson(path, damaged, read_object(path))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        damaged.setdefault(path, f"cannot be read ({error.strerror})")
    except ValueError as error:
        damaged.setdefault(path, one_line(error))
    return LooseJson(path, damaged)


def is_name(value: object) -> bool:
    """Whether a value can be the name of a file in a given folder."""
    if not isinstance(value, str):
        return False
    try:
        size = len(os.fsencode(value))
    except UnicodeEncodeError:
        return False
    return 0 < size <= _LONGEST_NAME and value not in (".", "..") and not {"/", "\0", os.sep} & set(value)


def _is(value: object, *kinds: type) -> bool:
    # True is an int to Python
    return isinstance(value, kinds) and not isinstance(value, bool)


def _moment(value: object) -> float | None:
    try:
        return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else None
    except (ValueError, OverflowError, OSError):
        return None
