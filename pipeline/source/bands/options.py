"""The values of `--bands` and `--stack`, parsed."""

from __future__ import annotations

import re
from collections.abc import Mapping

from engine.codebook import Band
from pipeline.errors import UsageError
from pipeline.source.bands import expression

_MOST_BANDS = 4096
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
    text = "".join(str(item).split())
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


def read_stack(value: object) -> tuple[tuple[str, str], ...] | None:
    """Names and files of a stack's bands, from ``b4=FILE4,b3=FILE3``, a mapping, or a list of pairs.

    Raises
    ------
    UsageError
        If it is none of these, or a name occurs twice.
    """
    if value is None:
        return None
    if isinstance(value, str):
        # pairs are separated by commas before NAME=; file names may hold other commas
        value = [pair.partition("=")[::2] for pair in re.split(rf",(?=\s*{_NAME}\s*=)", value)]
    elif isinstance(value, Mapping):
        value = list(value.items())
    pairs = []
    for pair in value if isinstance(value, (list, tuple)) else ():
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(isinstance(v, str) for v in pair):
            raise UsageError(f"--stack {pair!r}: give NAME=FILE pairs, such as b4=B4.tif,b3=B3.tif")
        name, path = (v.strip() for v in pair)
        if not re.fullmatch(_NAME, name) or not path or name in expression.FUNCTIONS:
            raise UsageError(f"--stack {name}={path}: give NAME=FILE pairs, such as b4=B4.tif,b3=B3.tif")
        pairs.append((name, path))
    if not 0 < len(pairs) <= _MOST_BANDS:
        raise UsageError("--stack: give NAME=FILE pairs, such as b4=B4.tif,b3=B3.tif")
    names = [name.casefold() for name, _ in pairs]
    if repeated := next((n for n in names if names.count(n) > 1), None):
        raise UsageError(f"--stack: two bands are called {repeated}")
    return tuple(pairs)
