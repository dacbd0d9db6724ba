"""Band arithmetic and conditions, as ``(nir-red)/(nir+red)`` and ``scl in (4, 5)``: parsed, never executed.

The language has numbers, band names, ``+ - * / **``, signs, comparisons, ``in (...)``, ``and or not``, bits
with ``& | ~``, parentheses, and `min`, `max`, `sqrt`, `abs` and `where`. Operators bind as in Python.
Text, nesting and the number of parts are bounded. `evaluation` says what an expression is worth.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pipeline.errors import UsageError

MAX_LENGTH = 1000
MAX_DEPTH = 32
MAX_PARTS = 256

FUNCTIONS = {"min": (2, 16), "max": (2, 16), "sqrt": (1, 1), "abs": (1, 1), "where": (3, 3)}
"""Functions, and how many arguments each takes at least and at most."""

KEYWORDS = ("and", "or", "not", "in")
"""Words that are operators, so no bands can have them as names."""

COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")

_CONDITIONS = frozenset({*COMPARISONS, "in", "and", "or", "not"})
_BITS = {"&": ("bits and", "and"), "|": ("bits or", "or"), "~": ("bits not", "not")}
_MARKS = r"\*\*|[<>=!]=|[-+*/(),<>&|~]"
_TOKEN = re.compile(rf"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([^\W\d]\w*)|({_MARKS}))")


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
    """An operator or function with its operands; signs, bits and ``not in`` have names of their own.

    These are ``negative``, ``bits and``, ``bits or``, ``bits not``; ``a not in b`` is ``not`` of ``in``.
    """

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


def is_condition(node: Node) -> bool:
    """Whether an expression is true or false, and no number."""
    return isinstance(node, Operation) and node.operator in _CONDITIONS


def canonical(text: str) -> str:
    """An expression without blanks that mean nothing: one stays between two words, as in ``a in(1,2)``."""
    return re.sub(r"\s+", "", re.sub(r"(?<=\w)\s+(?=\w)", "\0", text)).replace("\0", " ")


def bit_names(node: Node) -> list[str]:
    """The bands whose bits an expression looks at."""
    if not isinstance(node, Operation):
        return []
    if node.operator.startswith("bits"):
        return names(node)
    return list(dict.fromkeys(n for o in node.operands for n in bit_names(o)))


class _Parser:
    """Recursive descent: a method for each strength of binding, from `_either` to what stands alone."""

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
        node = self._either(0)
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
            if self._word in KEYWORDS:
                self._kind = "mark"
        elif self._text[self._at :].strip():
            self._word = self._text[self._at :].strip()[0]
            raise self._unexpected("a band, a number, an operator or one of ( )")
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

    def _bits(self, mark: str, *operands: Node) -> Node:
        """An operator of bits where its operands are numbers; of conditions it is the word."""
        of_numbers, of_conditions = _BITS[mark]
        kinds = {is_condition(operand) for operand in operands}
        if len(kinds) > 1:
            raise UsageError(
                f"expression {self._text!r}: {mark} joins two conditions or the bits of two numbers, "
                f"not one of each; compare the number, such as (qa & 8) != 0"
            )
        return self._node(of_conditions if kinds == {True} else of_numbers, *operands)

    def _take(self, *marks: str) -> str:
        """The next mark if it is one of these, and go on; else ""."""
        if self._kind != "mark" or self._word not in marks:
            return ""
        mark = self._word
        self._next()
        return mark

    def _count(self, *marks: str) -> list[str]:
        """The marks of these that follow in a row."""
        row = []
        while mark := self._take(*marks):
            row.append(mark)
            if len(row) > MAX_DEPTH:
                raise UsageError(
                    f"expression {self._text[:40]!r}...: more than {MAX_DEPTH} signs in a row; simplify it"
                )
        return row

    def _either(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise UsageError(
                f"expression {self._text[:40]!r}...: nested deeper than {MAX_DEPTH}; simplify it"
            )
        node = self._both(depth)
        while self._take("or"):
            node = self._node("or", node, self._both(depth))
        return node

    def _both(self, depth: int) -> Node:
        node = self._negated(depth)
        while self._take("and"):
            node = self._node("and", node, self._negated(depth))
        return node

    def _negated(self, depth: int) -> Node:
        negations = self._count("not")
        node = self._compared(depth)
        for _ in negations:
            node = self._node("not", node)
        return node

    def _compared(self, depth: int) -> Node:
        node = self._bit_sum(depth)
        if mark := self._take(*COMPARISONS):
            node = self._node(mark, node, self._bit_sum(depth))
        elif mark := self._take("in", "not"):
            if mark == "not" and not self._take("in"):
                raise self._unexpected("'in'")
            if not self._take("("):
                raise self._unexpected("'(' and a list, such as in (3, 8, 9),")
            node = self._node("in", node, *self._list(depth))
            node = self._node("not", node) if mark == "not" else node
        if self._kind == "mark" and self._word in (*COMPARISONS, "in", "not"):
            raise UsageError(
                f"expression {self._text!r}: two comparisons in a row; put each in parentheses, "
                "joined by `and`"
            )
        return node

    def _bit_sum(self, depth: int) -> Node:
        node = self._bit_product(depth)
        while mark := self._take("|"):
            node = self._bits(mark, node, self._bit_product(depth))
        return node

    def _bit_product(self, depth: int) -> Node:
        node = self._sum(depth)
        while mark := self._take("&"):
            node = self._bits(mark, node, self._sum(depth))
        return node

    def _sum(self, depth: int) -> Node:
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
        signs = self._count("+", "-", "~")
        node = self._power(depth)
        # two signs in a row are none: -- is what it was before there were ~ and **
        negative = False
        for sign in reversed(signs):
            if sign == "~":
                node = self._bits("~", self._node("negative", node) if negative else node)
                negative = False
            else:
                negative ^= sign == "-"
        return self._node("negative", node) if negative else node

    def _power(self, depth: int) -> Node:
        node = self._alone(depth)
        if self._take("**"):
            if depth >= MAX_DEPTH:
                raise UsageError(
                    f"expression {self._text[:40]!r}...: nested deeper than {MAX_DEPTH}; simplify it"
                )
            # from the right, and a sign of the exponent binds more closely: 2**-3**2
            node = self._node("**", node, self._factor(depth + 1))
        return node

    def _alone(self, depth: int) -> Node:
        kind, token = self._kind, self._word
        if self._take("("):
            node = self._either(depth + 1)
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

    def _list(self, depth: int) -> list[Node]:
        """Expressions between commas, and the parenthesis after them."""
        items = [self._either(depth + 1)]
        while self._take(","):
            items.append(self._either(depth + 1))
        if not self._take(")"):
            raise self._unexpected("')'")
        return items

    def _call(self, function: str, depth: int) -> Node:
        if function not in FUNCTIONS:
            known = ", ".join(FUNCTIONS)
            raise UsageError(f"expression {self._text!r}: no function {function!r}; there are {known}")
        arguments = self._list(depth)
        least, most = FUNCTIONS[function]
        if not least <= len(arguments) <= most:
            wanted = (
                f"{least} argument{'s' if least > 1 else ''}"
                if least == most
                else f"{least} to {most} arguments"
            )
            raise UsageError(f"expression {self._text!r}: {function} takes {wanted}, not {len(arguments)}")
        return self._node(function, *arguments)
