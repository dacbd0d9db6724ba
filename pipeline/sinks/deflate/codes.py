"""The codes of one deflate block, and its header, from what the block consists of.

Sources: P. Deutsch, RFC 1951 (deflate), 1996; D. Huffman, "A method for the construction of
minimum-redundancy codes", Proc. IRE 40 (1952); J. van Leeuwen, "On the construction of Huffman trees",
ICALP 1976 (two queues).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

SHORTEST, LONGEST = 3, 258
"""Bytes of a match."""
FARTHEST = 1 << 15
"""Bytes back to the match before."""
MATCHES = 256
"""Items of a block: bytes, matches at a near distance (MATCHES and the length) or a far one, the end."""
FAR = LONGEST + 1
"""From the item of a match at the near distance to that of one as long at the far one."""
END = MATCHES + 2 * FAR
ITEMS = END + 1

_MATCH_STARTS = MATCHES + SHORTEST, MATCHES + FAR + SHORTEST
_END_SYMBOL, _LITERALS, _DISTANCES, _LENGTHS = 256, 286, 30, 19  # deflate's alphabets
_MOST_BITS, _MOST_LENGTH_BITS = 15, 7
# the order in which deflate writes the lengths of the codes for code lengths
_ORDER = np.array([16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15])
_REVERSED = np.array([int(f"{code:015b}"[::-1], 2) for code in range(1 << _MOST_BITS)])


def _length_symbols() -> tuple[Integers, Integers, Integers]:
    """For each length of a match: its symbol, how many bits follow, and those bits (RFC 1951, 3.2.5)."""
    extra = [0] * 8 + [bits for bits in range(1, 6) for _ in range(4)]
    starts = np.cumsum([SHORTEST, *(1 << bits for bits in extra)])
    lengths = np.arange(SHORTEST, LONGEST + 1)
    index = np.searchsorted(starts, lengths, side="right") - 1
    symbols, bits, rest = 257 + index, np.array([*extra, 0])[index], lengths - starts[index]
    symbols[-1], bits[-1], rest[-1] = 285, 0, 0
    return symbols, bits, rest


_SYMBOLS, _BITS, _REST = _length_symbols()


class BlockCodes(NamedTuple):
    """The codes of a block.

    Parameters
    ----------
    values, widths
        Shape (ITEMS,), uint64 and int64: each item as a number of so many bits, the first bit lowest.
    header
        The block's header, as values and widths of the same kind.
    """

    values: npt.NDArray[np.uint64]
    widths: Integers
    header: tuple[npt.NDArray[np.uint64], Integers]


def block_codes(counts: Integers, near: int, far: int) -> BlockCodes:
    """Codes for the one and last block of deflate data.

    Parameters
    ----------
    counts
        Shape (ITEMS,): how often each item occurs, the end once.
    near, far
        The two distances of matches, in bytes, up to FARTHEST. They are different.
    """
    at_near, at_far = (counts[start : start + _SYMBOLS.size] for start in _MATCH_STARTS)
    occurring = np.bincount(_SYMBOLS, at_near + at_far, _LITERALS).astype(np.int64)
    occurring[:MATCHES] = counts[:MATCHES]
    occurring[_END_SYMBOL] = 1
    distances = np.zeros(_DISTANCES, np.int64)
    coded = [_distance(pixels) for pixels in (near, far)]
    for (symbol, _, _), matches in zip(coded, (at_near, at_far), strict=True):
        distances[symbol] += matches.sum()
    literal_widths, distance_widths = (_code_widths(c, _MOST_BITS) for c in (occurring, distances))
    literal_codes, distance_codes = (_codes(widths) for widths in (literal_widths, distance_widths))

    values, widths = np.zeros(ITEMS, np.int64), np.zeros(ITEMS, np.int64)
    values[:MATCHES], widths[:MATCHES] = literal_codes[:MATCHES], literal_widths[:MATCHES]
    values[END], widths[END] = literal_codes[_END_SYMBOL], literal_widths[_END_SYMBOL]
    own = literal_widths[_SYMBOLS]
    lengths, length_widths = literal_codes[_SYMBOLS] | _REST << own, own + _BITS
    for start, (symbol, bits, rest) in zip(_MATCH_STARTS, coded, strict=True):
        distance = distance_codes[symbol] | rest << distance_widths[symbol]
        values[start : start + lengths.size] = lengths | distance << length_widths
        widths[start : start + lengths.size] = length_widths + distance_widths[symbol] + bits
    return BlockCodes(values.astype(np.uint64), widths, _header(literal_widths, distance_widths))


def _distance(back: int) -> tuple[int, int, int]:
    """A distance's symbol, how many bits follow it, and those bits (RFC 1951, 3.2.5)."""
    if back <= 4:
        return back - 1, 0, 0
    bits = (back - 1).bit_length() - 2
    return 2 * (bits + 1) + ((back - 1) >> bits & 1), bits, (back - 1) & ((1 << bits) - 1)


def _code_widths(counts: Integers, most: int) -> Integers:
    """Bits of Huffman's code of each symbol, 0 where it does not occur.

    Where a code would have more than `most` bits, rare symbols are taken to be more frequent until none has.
    """
    widths = np.zeros(counts.size, np.int64)
    order = np.argsort(counts, kind="stable")
    order = order[np.searchsorted(counts[order], 1) :]
    weights: list[int] = counts[order].tolist()
    depths = _depths(weights)
    while max(depths, default=0) > most:
        weights = [weight // 2 + 1 for weight in weights]
        depths = _depths(weights)
    widths[order] = depths
    return widths


def _depths(weights: Sequence[int]) -> list[int]:
    """How deep each weight stands in Huffman's tree of them; they ascend, and a single one stands at 1."""
    leaves = len(weights)
    if leaves < 2:
        return [1] * leaves
    # joined nodes come in ascending order too, so the two lightest are at the heads of two queues
    nodes, parents = [*weights], [0] * (2 * leaves - 1)
    leaf, inner = 0, leaves
    for node in range(leaves, 2 * leaves - 1):
        weight = 0
        for _ in range(2):
            if leaf < leaves and (inner == node or nodes[leaf] <= nodes[inner]):
                child = leaf
                leaf += 1
            else:
                child = inner
                inner += 1
            weight += nodes[child]
            parents[child] = node
        nodes.append(weight)
    depths = [0] * (2 * leaves - 1)
    for node in range(2 * leaves - 3, -1, -1):
        depths[node] = depths[parents[node]] + 1
    return depths[:leaves]


def _codes(widths: Integers) -> Integers:
    """The code of each symbol, its first bit lowest, from how many bits each has (RFC 1951, 3.2.2)."""
    codes = np.zeros(widths.size, np.int64)
    code = width = 0
    for symbol in np.argsort(widths, kind="stable")[np.count_nonzero(widths == 0) :].tolist():
        code <<= int(widths[symbol]) - width
        width = int(widths[symbol])
        codes[symbol] = _REVERSED[code] >> (_MOST_BITS - width)
        code += 1
    return codes


def _header(literals: Integers, distances: Integers) -> tuple[npt.NDArray[np.uint64], Integers]:
    """The header of a block from the widths of its codes (RFC 1951, 3.2.7), as values of some bits."""
    used = int(np.flatnonzero(literals)[-1]) + 1
    reached = int(np.flatnonzero(distances)[-1]) + 1 if distances.any() else 1
    symbols, repeats = _run_lengths([*literals[:used].tolist(), *distances[:reached].tolist()])
    widths = _code_widths(np.bincount(symbols, minlength=_LENGTHS), _MOST_LENGTH_BITS)
    codes = _codes(widths)
    ordered = widths[_ORDER]
    written = max(4, int(np.flatnonzero(ordered)[-1]) + 1)
    # the last block, with codes of its own; how many widths there are of each alphabet
    start = 1 | 2 << 1 | (used - 257) << 3 | (reached - 1) << 8 | (written - 4) << 13
    own = widths[symbols]
    values = np.concatenate([[start], ordered[:written], codes[symbols] | np.array(repeats) << own])
    extra = np.array([3, 7])[np.subtract(symbols, 17).clip(0)] * (np.array(symbols) > 16)
    return values.astype(np.uint64), np.concatenate([[17], np.full(written, 3), own + extra])


def _run_lengths(widths: Sequence[int]) -> tuple[list[int], list[int]]:
    """Widths as symbols of deflate, which has two for runs of zeros, and what follows each symbol."""
    symbols: list[int] = []
    repeats: list[int] = []
    for width, run in groupby(widths):
        count = len(list(run))
        # 18 is 11 to 138 times 0, 17 is 3 to 10 times
        while width == 0 and count > 2:
            zeros = min(count, 138)
            symbols.append(18 if zeros > 10 else 17)
            repeats.append(zeros - (11 if zeros > 10 else 3))
            count -= zeros
        symbols += [width] * count
        repeats += [0] * count
    return symbols, repeats
