"""zlib data of labels: deflate with the only two distances that label maps are made of.

What repeats in labels is the pixel to the left (runs) or the row above (blocks, edges that run down), so only
these are looked at, eight pixels at a time. That takes less time than libdeflate's level 1, and the data are
smaller than those of its level 2, by half for blocks of 4 x 4 pixels.

Source: P. Deutsch, RFC 1950 (zlib) and RFC 1951 (deflate), 1996.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from engine.jit import compiled
from engine.kernel import Labels
from pipeline.sinks.deflate.codes import END, FAR, FARTHEST, ITEMS, LONGEST, MATCHES, SHORTEST, block_codes

_ZLIB_HEADER = b"\x78\x01"
_PADDING = 8  # bytes behind the pixels, which are compared and never counted
_MOST_BYTES = 8  # of an item: no more than 48 bits


def compress(labels: Labels) -> bytes:
    """The labels as zlib data, which any zlib decompresses to their bytes.

    Parameters
    ----------
    labels
        Shape (y, x), uint8, with at least one pixel.
    """
    count, width = labels.size, labels.shape[1]
    pixels = np.zeros(count + _PADDING, np.uint8)
    pixels[:count].reshape(labels.shape)[...] = labels
    # a row above that is too far away for deflate is none, and one that is the pixel to the left says no more
    row = width if 1 < width <= FARTHEST else count
    items, counts = np.empty(count + 1, np.int32), np.zeros(ITEMS, np.int64)
    used = _match(pixels, count, row, items, counts)
    codes = block_codes(counts, near=1, far=min(max(row, 2), FARTHEST))
    out = np.empty(int(counts @ codes.widths) // 8 + _MOST_BYTES * (codes.header[0].size + 1), np.uint8)
    size = _write(*codes.header, codes.values, codes.widths, items[:used], out)
    return _ZLIB_HEADER + out[:size].tobytes() + zlib.adler32(pixels[:count].data).to_bytes(4, "big")


def _define_equal_bytes(_: Any, pixels: Any, i: Any, j: Any) -> Any:
    word = ir.IntType(64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        first, second = (
            builder.load(builder.bitcast(builder.gep(data, [index]), word.as_pointer()), align=1)
            for index in arguments[1:]
        )
        differing = builder.xor(first, second)
        return builder.lshr(builder.cttz(differing, ir.IntType(1)(0)), word(3))

    return types.int64(pixels, i, j), generate


# how many bytes of pixels from i on are equal to those from j on, up to 8, on a little-endian processor
_equal_bytes: Any = intrinsic(_define_equal_bytes)


@compiled
def _match(pixels: Any, count: int, row: int, items: Any, counts: Any) -> int:
    """Write what pixels consist of: labels, and matches to the left and above, and the end; returns how many.

    No branch depends on whether there is a match: in noisy labels no processor foresees that.
    """
    items[0] = pixels[0]
    counts[pixels[0]] += 1
    written, i = 1, 1
    while i < count:
        left = _equal_bytes(pixels, i, i - 1)
        above = _equal_bytes(pixels, i, i - row) if i >= row else 0
        equal = 8 if left == 8 else 0
        while equal == 8 and left < LONGEST:
            equal = _equal_bytes(pixels, i + left, i + left - 1)
            left += equal
        equal = 8 if above == 8 and left < LONGEST else 0
        while equal == 8 and above < LONGEST:
            equal = _equal_bytes(pixels, i + above, i + above - row)
            above += equal
        is_above = 1 if above > left else 0
        length = min(left + is_above * (above - left), LONGEST, count - i)
        is_match = 1 if length >= SHORTEST else 0
        label = int(pixels[i])
        item = label + is_match * (MATCHES + length + FAR * is_above - label)
        items[written] = item
        counts[item] += 1
        written += 1
        i += 1 + is_match * (length - 1)
    items[written] = END
    counts[END] = 1
    return written + 1


@compiled
def _write(header: Any, header_widths: Any, values: Any, widths: Any, items: Any, out: Any) -> int:
    """Write the header and the items, each as its value of some bits; returns how many bytes these are."""
    at, held, bits = 0, np.uint64(0), 0
    for index in range(header.size + items.size):
        if index < header.size:
            value, width = header[index], header_widths[index]
        else:
            item = items[index - header.size]
            value, width = values[item], widths[item]
        held |= value << np.uint64(bits)
        bits += width
        while bits >= 16:
            out[at] = held & np.uint64(255)
            out[at + 1] = (held >> np.uint64(8)) & np.uint64(255)
            held >>= np.uint64(16)
            at += 2
            bits -= 16
    while bits > 0:
        out[at] = held & np.uint64(255)
        held >>= np.uint64(8)
        at += 1
        bits -= 8
    return at
