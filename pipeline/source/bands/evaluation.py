"""What expressions of bands are worth, element by element in float64.

So a result does not depend on how a raster is cut up. What is true is 1 and what is false is 0; what depends
on a value that is not known (NaN) is NaN, unless the rest decides it alone: ``true or unknown`` is true.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from pipeline.source.bands.expression import Name, Node, Number

Values = npt.NDArray[np.float64]

_EXACT = 2.0**53  # whole numbers below are exact in float64


def evaluate(node: Node, bands: Mapping[str, Values]) -> Values:
    """The value of an expression; NaN or infinite where it has none.

    Parameters
    ----------
    node
        From `expression.parse`.
    bands
        Arrays of one shape, float64, for `expression.names(node)`.
    """
    if isinstance(node, Number):
        return np.float64(node.value)  # type: ignore[return-value]  # broadcasts like an array
    if isinstance(node, Name):
        return bands[node.name]
    values = [evaluate(o, bands) for o in node.operands]
    with np.errstate(all="ignore"):
        return _OPERATORS[node.operator](*values)


def holds(node: Node, bands: Mapping[str, Values]) -> npt.NDArray[np.bool_]:
    """Whether a condition is true, or a number not 0; False where that is not known.

    Parameters
    ----------
    node, bands
        As of `evaluate`.
    """
    value = evaluate(node, bands)
    true: npt.NDArray[np.bool_] = (value != 0) & ~np.isnan(value)
    return true


def _folded(function: Callable[[Values, Values], Values]) -> Callable[..., Values]:
    """A function of two numbers as one of several, from the left."""

    def fold(first: Values, *others: Values) -> Values:
        result = first
        for other in others:
            result = function(result, other)
        return result

    return fold


def _known(truth: npt.NDArray[np.bool_], unknown: npt.NDArray[np.bool_]) -> Values:
    """1 and 0 for what is true and false, NaN for what is not known."""
    result = truth.astype(np.float64)
    return np.where(unknown, np.nan, result) if unknown.any() else result


def _compared(function: Callable[[Values, Values], npt.NDArray[np.bool_]]) -> Callable[..., Values]:
    """A comparison, NaN where a side is."""
    return lambda a, b: _known(function(a, b), np.isnan(a) | np.isnan(b))


def _not(value: Values) -> Values:
    return _known(value == 0, np.isnan(value))


def _and(a: Values, b: Values) -> Values:
    perhaps = (a != 0) & (b != 0)
    return _known(perhaps, perhaps & (np.isnan(a) | np.isnan(b)))


def _or(a: Values, b: Values) -> Values:
    unknown = np.isnan(a), np.isnan(b)
    sure = ((a != 0) & ~unknown[0]) | ((b != 0) & ~unknown[1])
    return _known(sure, ~sure & (unknown[0] | unknown[1]))


def _in(value: Values, *items: Values) -> Values:
    equal = np.logical_or.reduce(np.broadcast_arrays(*(value == item for item in items)))
    unknown = np.logical_or.reduce(np.broadcast_arrays(np.isnan(value), *map(np.isnan, items)))
    return _known(equal, unknown & ~equal)


def _where(condition: Values, a: Values, b: Values) -> Values:
    return np.where(np.isnan(condition), np.nan, np.where(condition != 0, a, b))


def _bits(function: Callable[..., npt.NDArray[np.int64]]) -> Callable[..., Values]:
    """An operation on bits, NaN where an operand is no whole number that float64 holds exactly."""

    def operate(*values: Values) -> Values:
        whole = [(np.abs(v) < _EXACT) & (np.floor(v) == v) for v in values]
        integers = [np.where(w, v, 0).astype(np.int64) for w, v in zip(whole, values, strict=True)]
        return np.where(np.logical_and.reduce(np.broadcast_arrays(*whole)), function(*integers), np.nan)

    return operate


_OPERATORS: dict[str, Callable[..., Values]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "**": np.power,
    "negative": np.negative,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "min": _folded(np.minimum),
    "max": _folded(np.maximum),
    "where": _where,
    "<": _compared(np.less),
    "<=": _compared(np.less_equal),
    ">": _compared(np.greater),
    ">=": _compared(np.greater_equal),
    "==": _compared(np.equal),
    "!=": _compared(np.not_equal),
    "in": _in,
    "and": _and,
    "or": _or,
    "not": _not,
    "bits and": _bits(np.bitwise_and),
    "bits or": _bits(np.bitwise_or),
    "bits not": _bits(np.invert),
}
