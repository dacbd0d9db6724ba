"""Arrays of a Zarr store whose chunks take no more memory than the store declares for them.

Each codec of an array is replaced by one that gives at most what a chunk's shape and type let it give, and
files are read only as far as a chunk may be stored in. Codecs that nothing bounds are refused: some make any
number of values of a few bytes, and "pickle" runs what the file says.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, starmap
from typing import Any, cast

import numcodecs.abc
import numpy as np
import numpy.typing as npt
import zarr
from numcodecs.compat import ensure_contiguous_ndarray
from zarr.abc.codec import BytesBytesCodec, Codec
from zarr.abc.store import RangeByteRequest
from zarr.codecs import ShardingCodec
from zarr.core.array import AsyncArray
from zarr.storage import LocalStore, StorePath

from pipeline.source.limits import BLOCK_BYTES
from pipeline.source.zarr.inflate import KINDS, inflated, refuse

_TYPES = {
    "delta": ("dtype", "astype"),
    "fixedscaleoffset": ("dtype", "astype"),
    "quantize": ("dtype", "astype"),
    "astype": ("decode_dtype", "encode_dtype"),
}
"""Codecs that change the type of values, with their names for what they give and what they take."""

_SAME = frozenset({"adler32", "base64", "bitround", "bytes", "crc32", "crc32c", "fletcher32"})
_KNOWN = KINDS | _TYPES.keys() | _SAME
_KNOWN |= {"jenkins_lookup3", "packbits", "sharding_indexed", "shuffle", "transpose", "vlen-utf8"}

_INDEX_BYTES = 16  # of a chunk, in the index of a shard
_MOST_BYTES = BLOCK_BYTES * 2
_TEXT_BYTES = 1 << 12  # of a text, such as the name of a band


def bounded(node: Any) -> Any:
    """An array that reads within bounds; a group as it is.

    Raises
    ------
    ValueError
        If nothing bounds one of its codecs.
    """
    if not isinstance(node, zarr.Array):
        return node
    found, metadata = node.async_array, node.metadata
    root = cast("LocalStore", found.store_path.store).root
    metadata, whole, part = (_of_format_2 if metadata.zarr_format == 2 else _of_format_3)(node, metadata)
    store = _Store(root, whole, part)
    return zarr.Array(AsyncArray(metadata, StorePath(store, found.store_path.path), found.config))


def coordinate(group: Any, name: str, length: int) -> npt.NDArray[Any]:
    """Values of a dimension's coordinate.

    Raises
    ------
    KeyError, TypeError, ValueError
        If there are none, or not as many.
    """
    array = bounded(group[name])
    if getattr(array, "shape", None) != (length,):
        raise ValueError(f"not {length} values")
    return np.asarray(array[...])


def _of_format_2(node: Any, metadata: Any) -> tuple[Any, int, int]:
    """Bounded metadata, and the bytes that a chunk may be stored in."""
    filters = metadata.filters or ()
    codecs = [*filters, *([metadata.compressor] if metadata.compressor else [])]
    size = min(math.prod(metadata.chunks) * _value_bytes(node.dtype), _MOST_BYTES)
    sizes = list(accumulate(codecs, lambda size, codec: _encoded(codec.get_config(), size), initial=size))
    chain = list(starmap(_Filter, zip(codecs, sizes[:-1], sizes[1:], strict=True)))
    within = replace(
        metadata,
        filters=chain[: len(filters)] or None,
        compressor=chain[-1] if metadata.compressor else None,
    )
    return within, sizes[-1], sizes[-1]


def _of_format_3(node: Any, metadata: Any) -> tuple[Any, int, int]:
    """Bounded metadata, and the bytes that a shard and a chunk may be stored in."""
    codecs = list(map(_said, _all(metadata.codecs)))
    types = [t for codec in codecs for t in _types(codec)]
    values, value = math.prod(node.chunks), max(map(_value_bytes, [node.dtype, *types]))
    if types and values * value > BLOCK_BYTES:
        raise ValueError(f"its codecs make chunks of {values * value >> 20} MiB")
    part, whole = values * value, math.prod(node.shards or node.chunks) * (value + _INDEX_BYTES)
    for _ in codecs:
        part, whole = _roomier(part), _roomier(whole)
    return replace(metadata, codecs=_within(metadata.codecs)), whole, part


class _Store(LocalStore):
    """A folder of which no more is read at once than a chunk may be stored in."""

    def __init__(self, root: Any, whole: int, part: int, *, read_only: bool = True) -> None:
        super().__init__(root, read_only=read_only)
        self._whole = whole
        self._part = part

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        """What is stored under a name, or a part of it."""
        if isinstance(byte_range, RangeByteRequest):
            refuse(byte_range.end - byte_range.start, self._part, "is stored in")
        else:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                refuse((self.root / key).stat().st_size, self._whole, "is stored in")
        return await super().get(key, prototype, byte_range)


class _Filter(numcodecs.abc.Codec):  # type: ignore[misc]
    """A filter or compressor of format 2 that takes and gives no more than so many bytes."""

    codec_id = "bounded"

    def __init__(self, codec: Any, gives: int, takes: int) -> None:
        self._codec = codec
        self._gives = gives
        self._takes = takes

    def encode(self, buf: Any) -> Any:
        """Not asked for."""
        return self._codec.encode(buf)

    def decode(self, buf: Any, out: Any = None) -> Any:
        """What was encoded."""
        data = ensure_contiguous_ndarray(buf)
        refuse(data.nbytes, self._takes, "is stored in")
        options = self._codec.get_config()
        if _name(options) in KINDS:
            return inflated(_name(options), options, memoryview(data).cast("B"), self._gives)
        return self._codec.decode(buf, out)


@dataclass(frozen=True)
class _Inflating(BytesBytesCodec):
    """A codec of format 3 that gives no more bytes than a chunk may have before it, and `before` others."""

    codec: BytesBytesCodec
    before: int

    is_fixed_size = False

    def to_dict(self) -> dict[str, Any]:
        """The codec's own."""
        return self.codec.to_dict()

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        """The codec's own."""
        return self.codec.compute_encoded_size(input_byte_length, chunk_spec)

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        return await asyncio.to_thread(self._decode, chunk_bytes, chunk_spec)

    def _decode(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        limit = math.prod(chunk_spec.shape) * _value_bytes(chunk_spec.dtype.to_native_dtype())
        for _ in range(self.before):
            limit = _roomier(limit)
        limit = min(limit, _MOST_BYTES)
        data = memoryview(chunk_bytes.as_numpy_array()).cast("B")
        return chunk_spec.prototype.buffer.from_bytes(inflated(self._name, self._options, data, limit))

    @cached_property
    def _options(self) -> dict[str, Any]:
        return _said(self.codec)

    @cached_property
    def _name(self) -> str:
        return _name(self._options)


def _within(codecs: Iterable[Codec]) -> tuple[Codec, ...]:
    """Codecs of format 3, of which those that inflate are bounded."""
    found: list[Codec] = []
    before = 0
    for codec in codecs:
        if isinstance(codec, ShardingCodec):
            inner, index = _within(codec.codecs), _within(codec.index_codecs)
            found.append(replace(codec, codecs=inner, index_codecs=index))
        elif isinstance(codec, BytesBytesCodec):
            found.append(_Inflating(codec, before) if _name(_said(codec)) in KINDS else codec)
            before += 1
        else:
            found.append(codec)
    return tuple(found)


def _all(codecs: Iterable[Codec]) -> Iterator[Codec]:
    """Codecs of format 3, and those of shards."""
    for codec in codecs:
        yield codec
        if isinstance(codec, ShardingCodec):
            yield from _all((*codec.codecs, *codec.index_codecs))


def _said(codec: Codec) -> dict[str, Any]:
    """What a codec of format 3 says of itself, as one of format 2 does."""
    said: Any = codec.to_dict()
    return {**said.get("configuration", {}), "id": str(said["name"]).removeprefix("numcodecs.")}


def _name(said: Mapping[str, Any]) -> str:
    """Name of a codec.

    Raises
    ------
    ValueError
        If nothing bounds it.
    """
    if (name := str(said["id"])) not in _KNOWN:
        raise ValueError(f"its chunks are encoded by {name!r}, which is not read")
    return name


def _types(said: Mapping[str, Any]) -> list[Any]:
    """Types of values after and before a codec of those that change them."""
    if (name := _name(said)) not in _TYPES or (given := said.get(_TYPES[name][0])) is None:
        return []
    return [given, said.get(_TYPES[name][1]) or given]


def _encoded(said: Mapping[str, Any], size: int) -> int:
    """The most bytes that a codec of format 2 makes of so many."""
    if types := _types(said):
        given, taken = map(_value_bytes, types)
        return min(-(-size // given) * taken, _MOST_BYTES)
    if _name(said) == "packbits":
        return size // 8 + 2
    return min(_roomier(size), _MOST_BYTES)


def _roomier(size: int) -> int:
    """The most bytes that a codec makes of so many: those of base64 are a third more."""
    return size + size // 2 + 1024


def _value_bytes(dtype: Any) -> int:
    """Bytes of a value."""
    dtype = np.dtype(dtype)
    return _TEXT_BYTES if dtype.kind in "OT" else max(1, dtype.itemsize)
