"""The values of `--bands`, `--stack`, `--nodata` and `--valid`, parsed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from engine.codebook import Band
from pipeline.errors import UsageError
from pipeline.source.bands import expression
from pipeline.source.declared import Nodata

_MOST_BANDS = 4096
_RESERVED = (*expression.FUNCTIONS, *expression.KEYWORDS)
_NODATA_WANTED = "give VALUE or VALUE,VALUE,... (one for each band), or none"
_STACK_WANTED = "--stack: give NAME=FILE pairs, such as b4=B4.tif,b3=B3.tif"
_NAME = r"[^\W\d]\w*"


def read_bands(value: object) -> tuple[Band, ...] | None:
    """Band numbers, names and expressions, from text such as ``4,3,(nir-red)/(nir+red)`` or from a list.

    Raises
    ------
    UsageError
        If an item is none of these.
    """
    if value is None:
        return None
    items = expression.split(value) if isinstance(value, str) else value
    if isinstance(items, int):
        items = [items]
    if not isinstance(items, (list, tuple)) or not 0 < len(items) <= _MOST_BANDS:
        raise UsageError("--bands: give band numbers, names or expressions, such as 4,3,(b4-b3)/(b4+b3)")
    return tuple(_band(item) for item in items)


def _band(item: object) -> Band:
    text = expression.canonical(str(item))
    if isinstance(item, bool) or not isinstance(item, (int, str)):
        raise UsageError(f"--bands {item!r}: neither a band number nor an expression")
    if re.fullmatch(r"[-+]?\d+", text):
        if len(text) > 9 or int(text) < 1:
            raise UsageError(f"--bands {text}: give band numbers from 1 on, such as 1,2,3")
        return int(text)
    try:
        # the original text: spaces between names or between numbers are errors
        expression.parse(str(item))
    except UsageError as error:
        raise UsageError(f"--bands: {error}") from None
    return text


def read_valid(value: object) -> str | None:
    """A condition of bands, from text such as ``scl in (4, 5)``.

    Raises
    ------
    UsageError
        If it is none, or names no band.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise UsageError(f'--valid {value!r}: give a condition of bands, such as "scl in (4, 5)"')
    try:
        node = expression.parse(value)
    except UsageError as error:
        raise UsageError(f"--valid: {error}") from None
    if not expression.names(node):
        raise UsageError(f'--valid {value}: names no band; give a condition such as "scl in (4, 5)"')
    return expression.canonical(value)


def read_nodata(value: object) -> Nodata | None:
    """Nodata values, from text such as ``0`` or ``0,0,255`` or ``none``, a number, or a list of these.

    ``none`` is no nodata value, and so is NaN: what is NaN is invalid in any case.

    Raises
    ------
    UsageError
        If it is none of these.
    """
    if value is None:
        return None
    items = value.split(",") if isinstance(value, str) else value
    items = items if isinstance(items, (list, tuple)) else [items]
    if not 0 < len(items) <= _MOST_BANDS:
        raise UsageError(f"--nodata: {_NODATA_WANTED}")
    return tuple(_nodata(item) for item in items)


def _nodata(item: object) -> float | None:
    if item is None or (isinstance(item, str) and item.strip().lower() == "none"):
        return None
    try:
        number = math.nan if isinstance(item, bool) else float(item)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"--nodata {item!r}: {_NODATA_WANTED}") from None
    if isinstance(item, bool) or math.isinf(number):
        raise UsageError(f"--nodata {item!r}: {_NODATA_WANTED}")
    return None if math.isnan(number) else number


class Scene(NamedTuple):
    """One stack of ``--stack``.

    Parameters
    ----------
    name
        Name of its outputs; "" where none is given.
    bands
        Name and file of each band; ``{scene}`` in files makes it a pattern of many scenes.
    """

    name: str
    bands: tuple[tuple[str, str], ...]


def read_stack(value: object) -> tuple[Scene, ...] | None:
    """The stacks of a run, all with the same bands in one order.

    Parameters
    ----------
    value
        One stack or a list of several, each text such as ``b4=FILE4,b3=FILE3``, a mapping, or a list of pairs
        of names and files; or a mapping of names of outputs to stacks, or a list of such pairs.

    Raises
    ------
    UsageError
        If it is none of these, a name occurs twice, or stacks have other bands than the first.
    """
    if value is None:
        return None
    if isinstance(value, Mapping) and not any(isinstance(file, str) for file in value.values()):
        named = [(name, read_pairs(stack)) for name, stack in value.items()]
    elif isinstance(value, (str, Mapping)) or (_is_list(value) and all(map(_is_pair, value))):
        named = [("", read_pairs(value))]
    else:
        items = value if _is_list(value) else []
        named = [_named(item) for item in items]
    if not named:
        raise UsageError(_STACK_WANTED)
    order = [name for name, _ in named[0][1]]
    return tuple(Scene(_scene_name(name), _in_order(pairs, order)) for name, pairs in named)


def read_pairs(value: object) -> tuple[tuple[str, str], ...]:
    """Names and files of one stack's bands, from ``b4=FILE4,b3=FILE3``, a mapping, or a list of pairs.

    Raises
    ------
    UsageError
        If it is none of these, or a name occurs twice.
    """
    if isinstance(value, str):
        # pairs are separated by commas before NAME=; file names may hold other commas
        value = [pair.partition("=")[::2] for pair in re.split(rf",(?=\s*{_NAME}\s*=)", value)]
    elif isinstance(value, Mapping):
        value = list(value.items())
    pairs = []
    for pair in value if _is_list(value) else ():
        if not _is_pair(pair):
            raise UsageError(f"--stack {pair!r}: give NAME=FILE pairs, such as b4=B4.tif,b3=B3.tif")
        name, path = (v.strip() for v in pair)
        if not re.fullmatch(_NAME, name) or not path or "\0" in path or name in _RESERVED:
            raise UsageError(
                f"--stack {name}={path!s:.80}: give NAME=FILE pairs, such as b4=B4.tif,b3=B3.tif"
            )
        pairs.append((name, path))
    if not 0 < len(pairs) <= _MOST_BANDS:
        raise UsageError(_STACK_WANTED)
    names = [name.casefold() for name, _ in pairs]
    if repeated := next((n for n in names if names.count(n) > 1), None):
        raise UsageError(f"--stack: two bands are called {repeated}")
    return tuple(pairs)


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, (list, tuple))


def _is_pair(value: object) -> bool:
    """Whether something is the name of a band and its file."""
    return _is_list(value) and len(value) == 2 and all(isinstance(v, str) for v in value)


def _named(item: object) -> tuple[object, tuple[tuple[str, str], ...]]:
    """The name and the bands of one of several stacks."""
    if _is_list(item) and len(item) == 2 and isinstance(item[0], str) and not isinstance(item[1], str):
        return item[0], read_pairs(item[1])
    return "", read_pairs(item)


def _scene_name(name: object) -> str:
    if not isinstance(name, str):
        raise UsageError(f"--stack {name!r}: the name of a stack's outputs is text")
    return name


def _in_order(pairs: Sequence[tuple[str, str]], order: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The bands of a stack in the order of the first one: a codebook may know them by their numbers."""
    files = dict(pairs)
    if sorted(files) != sorted(order):
        raise UsageError(
            f"--stack: one has the bands {', '.join(order)}, another one {', '.join(files)}; "
            "give each stack bands of the same names"
        )
    return tuple((name, files[name]) for name in order)


def stacked_bands(stack: object) -> object:
    """The names of the bands of stacks, however an option or a record has them."""
    if isinstance(stack, list) and all(isinstance(name, str) for name in stack):
        return stack  # a record has no more
    try:
        scenes = read_stack(stack)
    except UsageError:
        return stack  # a run.json that somebody has changed: it is another run
    return None if scenes is None else [name for name, _ in scenes[0].bands]
