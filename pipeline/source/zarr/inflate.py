"""Compressed data inflated within a bound: a few stored bytes may claim gigabytes, and deliver them."""

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
"""Names of the codecs that make more bytes of fewer."""

_BLOSC_HEADER = 16
_ZSTD_BLOCK = 1 << 17
_ZSTD_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
_RUN = 1  # a block of one byte, repeated
_COMPRESSED = 2
_PLAIN = MappingProxyType(
    {kind: numcodecs.get_codec({"id": kind}).decode for kind in ("zstd", "blosc", "lz4")}
)


def inflated(kind: str, options: Mapping[str, Any], data: memoryview, limit: int) -> bytes:
    """What compressed data holds; no more memory is taken than its bound says.

    Parameters
    ----------
    kind
        One of `KINDS`.
    options
        Of the codec; lzma has some that it needs to decode.
    data
        The compressed bytes.
    limit
        The most bytes that they may hold.

    Raises
    ------
    ValueError
        If they hold more.
    """
    if kind in _PLAIN:
        # these decoders take all the memory that the data's own header asks for, and no more
        refuse(_claimed(kind, data), limit, "inflates to")
        held: bytes = _PLAIN[kind](data)
        return held
    if kind == "zlib":
        stream = zlib.decompressobj()
        found = stream.decompress(data, limit + 1)
        if len(found) <= limit and not stream.eof:
            raise ValueError("the data ends too early")
    else:
        with _file(kind, options, io.BytesIO(data)) as file:
            found = file.read(limit + 1)
    refuse(len(found), limit, "inflates to")
    return found


def refuse(size: int, limit: int, what: str) -> None:
    """Refuse a chunk of more bytes than it may have.

    Raises
    ------
    ValueError
        If it has.
    """
    if size > limit:
        raise ValueError(f"a chunk {what} more than the {limit} bytes that its store declares")


def _file(kind: str, options: Mapping[str, Any], data: io.BytesIO) -> Any:
    if kind == "gzip":
        return gzip.GzipFile(fileobj=data)
    if kind == "bz2":
        return bz2.BZ2File(data)
    return lzma.LZMAFile(data, format=options.get("format", lzma.FORMAT_XZ), filters=options.get("filters"))


def _claimed(kind: str, data: memoryview) -> int:
    """Bytes that a header says, or more."""
    if kind == "zstd":
        return _zstd(data)
    if kind == "lz4":
        return int.from_bytes(data[:4], "little")
    # its decoder reads as far as the header says
    if len(data) < _BLOSC_HEADER or int.from_bytes(data[12:16], "little") > len(data):
        raise ValueError("the data ends too early")
    return int.from_bytes(data[4:8], "little")


def _zstd(data: memoryview) -> int:
    """Bytes in the frames of a zstd stream; as few as their blocks can hold where a header does not say."""

    def number(start: int, size: int) -> int:
        return int.from_bytes(data[start : start + size], "little")

    place = total = 0
    spare = 0  # every block is full but the last
    while place < len(data):
        if number(place, 4) in _ZSTD_SKIPPABLE:
            place += 8 + number(place + 4, 4)
            continue
        flags, window = number(place + 4, 1), number(place + 5, 1)
        single = flags >> 5 & 1
        largest = (1 << 10 + (window >> 3)) // 8 * (8 + (window & 7))
        full = _ZSTD_BLOCK if single else min(largest, _ZSTD_BLOCK)
        place += 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
        size = (single, 2, 4, 8)[flags >> 6]
        content = number(place, size) + (256 if size == 2 else 0)
        place += size
        blocks = last = 0
        while not last and place < len(data):
            head = number(place, 3)
            last, kind, length = head & 1, head >> 1 & 3, head >> 3
            place += 3 + (1 if kind == _RUN else length)
            blocks += full if kind == _COMPRESSED else length
        place += 4 * (flags >> 2 & 1)
        total += content if size else blocks
        spare = spare if size else full - 1
    return max(0, total - spare)
