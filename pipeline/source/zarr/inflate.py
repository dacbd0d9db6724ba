"""Bounded decompression: a few stored bytes can decompress to gigabytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numcodecs

KINDS = frozenset({"gzip", "zlib", "bz2", "lzma", "zstd", "blosc", "lz4"})
"""Names of the codecs that decompress."""

_BLOSC_HEADER = 16
_ZSTD_BLOCK = 1 << 17
_ZSTD_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
_RUN = 1  # type of a block that is one repeated byte
_COMPRESSED = 2  # type of a compressed block
_PLAIN = MappingProxyType(
    {kind: numcodecs.get_codec({"id": kind}).decode for kind in ("zstd", "blosc", "lz4")}
)


def inflated(kind: str, options: Mapping[str, Any], data: memoryview, limit: int) -> bytes:
    """The decompressed bytes; no more memory is used than the limit allows.

    Parameters
    ----------
    kind
        One of `KINDS`.
    options
        Options of the codec; lzma needs some of them to decode.
    data
        The compressed bytes.
    limit
        The most bytes of the result.

    Raises
    ------
    ValueError
        If the result would be larger, or the data ends too early.
    """
    if kind in _PLAIN:
        # these decoders allocate what the data's own header claims, and no more
        refuse(_claimed(kind, data), limit, "inflates to")
        result: bytes = _PLAIN[kind](data)
        return result
    if kind == "zlib":
        stream = zlib.decompressobj()
        result = stream.decompress(data, limit + 1)
        if len(result) <= limit and not stream.eof:
            raise ValueError("the data ends too early")
    else:
        with _file(kind, options, io.BytesIO(data)) as file:
            result = file.read(limit + 1)
    refuse(len(result), limit, "inflates to")
    return result


def refuse(size: int, limit: int, verb: str) -> None:
    """Refuse a chunk that is larger than its limit; `verb` completes the message.

    Raises
    ------
    ValueError
        If it is.
    """
    if size > limit:
        raise ValueError(f"a chunk {verb} more than the {limit} bytes that its store declares")


def _file(kind: str, options: Mapping[str, Any], data: io.BytesIO) -> Any:
    if kind == "gzip":
        return gzip.GzipFile(fileobj=data)
    if kind == "bz2":
        return bz2.BZ2File(data)
    return lzma.LZMAFile(data, format=options.get("format", lzma.FORMAT_XZ), filters=options.get("filters"))


def _claimed(kind: str, data: memoryview) -> int:
    """The decompressed size that a header claims, or more."""
    if kind == "zstd":
        return _zstd(data)
    if kind == "lz4":
        return int.from_bytes(data[:4], "little")
    # blosc's decoder reads as many bytes as its header claims
    if len(data) < _BLOSC_HEADER or int.from_bytes(data[12:16], "little") > len(data):
        raise ValueError("the data ends too early")
    return int.from_bytes(data[4:8], "little")


def _zstd(data: memoryview) -> int:
    """Decompressed size of the frames of a zstd stream; a lower bound if a header does not state it."""

    def number(start: int, size: int) -> int:
        return int.from_bytes(data[start : start + size], "little")

    position = total = 0
    spare = 0  # only the last block of a frame may hold less than a full block
    while position < len(data):
        if number(position, 4) in _ZSTD_SKIPPABLE:
            position += 8 + number(position + 4, 4)
            continue
        flags, window = number(position + 4, 1), number(position + 5, 1)
        single = flags >> 5 & 1
        largest = (1 << 10 + (window >> 3)) // 8 * (8 + (window & 7))
        full = _ZSTD_BLOCK if single else min(largest, _ZSTD_BLOCK)
        position += 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
        size = (single, 2, 4, 8)[flags >> 6]
        content = number(position, size) + (256 if size == 2 else 0)
        position += size
        blocks = last = 0
        while not last and position < len(data):
            head = number(position, 3)
            last, kind, length = head & 1, head >> 1 & 3, head >> 3
            position += 3 + (1 if kind == _RUN else length)
            blocks += full if kind == _COMPRESSED else length
        position += 4 * (flags >> 2 & 1)
        total += content if size else blocks
        spare = spare if size else full - 1
    return max(0, total - spare)
