"""Band arithmetic: expressions such as ``(nir-red)/(nir+red)``, parsed by hand and never executed.

The language has numbers, band names, ``+ - * /``, signs, parentheses, and the functions `min`, `max`,
`sqrt` and `abs`. Text, nesting and the number of parts are bounded. Evaluation is element by element in
float64, so that a result does not depend on how a raster is cut up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.errors import UsageError

MAX_LENGTH = 1000
MAX_DEPTH = 32
MAX_PARTS = 256

FUNCTIONS = {"min": (2, 16), "max": (2, 16), "sqrt": (1, 1), "abs": (1, 1)}
"""Functions, and how many arguments each takes at least and at most."""

Values = npt.NDArray[np.float64]

_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([^\W\d]\w*)|([-+*/(),]))")


@dataclass(frozen=True, slots=True)
class Number:
    """A constant."""

    value: float


@dataclass(frozen=True, slots=True)
class Name:
    """A band."""

    name: str


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator or function (``+ - * / negative min max sqrt abs``) with its operands."""

    operator: str
    operands: tuple[Node, ...]


Node = Number | Name | Operation


def parse(text: str) -> Node:
    """The tree of an expression.

    Raises
    ------
    UsageError
        If it is not one, too long or nested too deep; says where.
    """
    return _Parser(text).whole()


def split(text: str) -> list[str]:
    """The parts of a comma-separated list, where commas within parentheses do not count."""
    parts, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and depth <= 0:
            parts.append(text[start:i])
            start = i + 1
    return [*parts, text[start:]]


def names(node: Node) -> list[str]:
    """The bands that an expression needs, each once, in order."""
    if isinstance(node, Name):
        return [node.name]
    if isinstance(node, Operation):
        return list(dict.fromkeys(n for o in node.operands for n in names(o)))
    return []


def evaluate(node: Node, bands: Mapping[str, Values]) -> Values:
    """The value of an expression, element by element; NaN or infinite where it has none.

    Parameters
    ----------
    node
        From `parse`.
    bands
        Arrays of one shape, float64, for `names(node)`.
    """
    if isinstance(node, Number):
        return np.float64(node.value)  # type: ignore[return-value]  # broadcasts like an array
    if isinstance(node, Name):
        return bands[node.name]
    values = [evaluate(o, bands) for o in node.operands]
    with np.errstate(all="ignore"):
        return _apply(node.operator, values)


def _apply(operator: str, values: list[Values]) -> Values:
    if operator == "sqrt":
        return np.sqrt(values[0])
    if operator == "abs":
        return np.abs(values[0])
    if operator == "negative":
        return np.negative(values[0])
    function = {
        "+": np.add,
        "-": np.subtract,
        "*": np.multiply,
        "/": np.divide,
        "min": np.minimum,
        "max": np.maximum,
    }[operator]
    result = values[0]
    for value in values[1:]:
        result = function(result, value)
    return result


class _Parser:
    """Recursive descent: a sum is of products, a product of factors, a factor of what stands alone."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._parts = 0
        if len(text) > MAX_LENGTH:
            raise UsageError(
                f"expression of {len(text)} characters, more than {MAX_LENGTH}: {text[:40]!r}...; shorten it"
            )
        self._kind, self._word = "", ""
        self._next()

    def whole(self) -> Node:
        """The expression, and nothing after it."""
        node = self._sum(0)
        if self._kind != "end":
            raise self._unexpected("an operator")
        return node

    def _next(self) -> None:
        found = _TOKEN.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
            kinds = ("number", "name", "mark")
            self._kind, self._word = next(
                (k, t) for k, t in zip(kinds, found.groups(), strict=True) if t is not None
            )
        elif self._text[self._at :].strip():
            self._word = self._text[self._at :].strip()[0]
            raise self._unexpected("a band, a number or one of + - * / ( )")
        else:
            self._kind, self._word = "end", "the end"

    def _unexpected(self, wanted: str) -> UsageError:
        here = self._word if self._word == "the end" else repr(self._word)
        return UsageError(f"expression {self._text!r}: {here} stands where {wanted} is wanted")

    def _node(self, operator: str, *operands: Node) -> Node:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise UsageError(f"expression {self._text[:40]!r}...: more than {MAX_PARTS} parts; shorten it")
        return Operation(operator, operands)

    def _take(self, *marks: str) -> str:
        """The next mark if it is one of these, and go on; else ""."""
        if self._kind != "mark" or self._word not in marks:
            return ""
        mark = self._word
        self._next()
        return mark

    def _sum(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise UsageError(
                f"expression {self._text[:40]!r}...: nested deeper than {MAX_DEPTH}; simplify it"
            )
        node = self._product(depth)
        while mark := self._take("+", "-"):
            node = self._node(mark, node, self._product(depth))
        return node

    def _product(self, depth: int) -> Node:
        node = self._factor(depth)
        while mark := self._take("*", "/"):
            node = self._node(mark, node, self._factor(depth))
        return node

    def _factor(self, depth: int) -> Node:
        signs = 0
        negative = False
        while mark := self._take("+", "-"):
            signs += 1
            negative ^= mark == "-"
            if signs > MAX_DEPTH:
                raise UsageError(
                    f"expression {self._text[:40]!r}...: more than {MAX_DEPTH} signs in a row; simplify it"
                )
        node = self._alone(depth)
        return self._node("negative", node) if negative else node

    def _alone(self, depth: int) -> Node:
        kind, token = self._kind, self._word
        if self._take("("):
            node = self._sum(depth + 1)
            if not self._take(")"):
                raise self._unexpected("')'")
            return node
        if kind == "number":
            value = float(token)
            if not math.isfinite(value):
                raise UsageError(f"expression {self._text!r}: {token} is too large a number")
            self._next()
            return Number(value)
        if kind == "name":
            self._next()
            return self._call(token, depth) if self._take("(") else Name(token)
        raise self._unexpected("a band, a number or '('")

    def _call(self, function: str, depth: int) -> Node:
        if function not in FUNCTIONS:
            known = ", ".join(FUNCTIONS)
            raise UsageError(f"expression {self._text!r}: no function {function!r}; there are {known}")
        arguments = [self._sum(depth + 1)]
        while self._take(","):
            arguments.append(self._sum(depth + 1))
        if not self._take(")"):
            raise self._unexpected("')'")
        least, most = FUNCTIONS[function]
        if not least <= len(arguments) <= most:
            wanted = f"{least} argument" if least == most else f"{least} to {most} arguments"
            raise UsageError(f"expression {self._text!r}: {function} takes {wanted}, not {len(arguments)}")
        return self._node(function, *arguments)
