"""Arrays of a Zarr store whose chunks take no more memory than the store declares for them.

Each codec of an array is replaced by one that returns at most as many bytes as the chunk's shape and dtype
allow, and no file is read beyond the size that a stored chunk can have. Codecs without a bound are refused:
some make any number of values from a few bytes, and "pickle" runs code from the file.
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
"""Codecs that change the dtype, with the names of their options for the decoded and the encoded dtype."""

_SAME_SIZE = frozenset({"adler32", "base64", "bitround", "bytes", "crc32", "crc32c", "fletcher32"})
_KNOWN = KINDS | _TYPES.keys() | _SAME_SIZE
_KNOWN |= {"jenkins_lookup3", "packbits", "sharding_indexed", "shuffle", "transpose", "vlen-utf8"}

_INDEX_BYTES = 16  # bytes per chunk in the index of a Zarr shard
_MOST_BYTES = BLOCK_BYTES * 2
_TEXT_BYTES = 1 << 12  # bytes assumed for a text value, such as the name of a band


def bounded(node: Any) -> Any:
    """An array whose reads are bounded; a group is returned unchanged.

    Raises
    ------
    ValueError
        If one of its codecs has no bound.
    """
    if not isinstance(node, zarr.Array):
        return node
    array, metadata = node.async_array, node.metadata
    root = cast("LocalStore", array.store_path.store).root
    of_format = _of_format_2 if metadata.zarr_format == 2 else _of_format_3
    metadata, file_bytes, range_bytes = of_format(node, metadata)
    store = _BoundedStore(root, file_bytes, range_bytes)
    return zarr.Array(AsyncArray(metadata, StorePath(store, array.store_path.path), array.config))


def coordinate(group: Any, name: str, length: int) -> npt.NDArray[Any]:
    """Values of a dimension's coordinate.

    Raises
    ------
    KeyError, TypeError, ValueError
        If there is no such array, or it does not have `length` values.
    """
    array = bounded(group[name])
    if getattr(array, "shape", None) != (length,):
        raise ValueError(f"not {length} values")
    return np.asarray(array[...])


def _of_format_2(node: Any, metadata: Any) -> tuple[Any, int, int]:
    """Bounded metadata, and (twice) the most bytes of a stored chunk."""
    filters = metadata.filters or ()
    codecs = [*filters, *([metadata.compressor] if metadata.compressor else [])]
    size = min(math.prod(metadata.chunks) * _value_bytes(node.dtype), _MOST_BYTES)
    sizes = list(accumulate(codecs, lambda size, codec: _encoded(codec.get_config(), size), initial=size))
    chain = list(starmap(_BoundedFilter, zip(codecs, sizes[:-1], sizes[1:], strict=True)))
    bounded_metadata = replace(
        metadata,
        filters=chain[: len(filters)] or None,
        compressor=chain[-1] if metadata.compressor else None,
    )
    return bounded_metadata, sizes[-1], sizes[-1]


def _of_format_3(node: Any, metadata: Any) -> tuple[Any, int, int]:
    """Bounded metadata, and the most bytes of a stored Zarr shard and of a stored chunk in it."""
    codecs = list(map(_options_of, _all(metadata.codecs)))
    types = [t for codec in codecs for t in _types(codec)]
    values, value_bytes = math.prod(node.chunks), max(map(_value_bytes, [node.dtype, *types]))
    if types and values * value_bytes > BLOCK_BYTES:
        raise ValueError(f"its codecs make chunks of {values * value_bytes >> 20} MiB")
    chunk_bytes = values * value_bytes
    shard_bytes = math.prod(node.shards or node.chunks) * (value_bytes + _INDEX_BYTES)
    for _ in codecs:
        chunk_bytes, shard_bytes = _most_encoded(chunk_bytes), _most_encoded(shard_bytes)
    return replace(metadata, codecs=_bounded_codecs(metadata.codecs)), shard_bytes, chunk_bytes


class _BoundedStore(LocalStore):
    """A folder from which no file and no byte range is read that is larger than a stored chunk can be."""

    def __init__(self, root: Any, file_bytes: int, range_bytes: int, *, read_only: bool = True) -> None:
        super().__init__(root, read_only=read_only)
        self._file_bytes = file_bytes
        self._range_bytes = range_bytes

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        """The bytes stored under a key, or a range of them."""
        if isinstance(byte_range, RangeByteRequest):
            refuse(byte_range.end - byte_range.start, self._range_bytes, "is stored in")
        else:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                refuse((self.root / key).stat().st_size, self._file_bytes, "is stored in")
        return await super().get(key, prototype, byte_range)


class _BoundedFilter(numcodecs.abc.Codec):  # type: ignore[misc]
    """A filter or compressor of format 2 with bounds on its decoded and its encoded bytes."""

    codec_id = "bounded"

    def __init__(self, codec: Any, decoded_bytes: int, encoded_bytes: int) -> None:
        self._codec = codec
        self._decoded_bytes = decoded_bytes
        self._encoded_bytes = encoded_bytes

    def encode(self, buf: Any) -> Any:
        """The codec's own; never used, because nothing is written."""
        return self._codec.encode(buf)

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The decoded bytes.

        Raises
        ------
        ValueError
            If they or `buf` exceed their bound.
        """
        data = ensure_contiguous_ndarray(buf)
        refuse(data.nbytes, self._encoded_bytes, "is stored in")
        options = self._codec.get_config()
        if _name(options) in KINDS:
            return inflated(_name(options), options, memoryview(data).cast("B"), self._decoded_bytes)
        return self._codec.decode(buf, out)


@dataclass(frozen=True)
class _BoundedCodec(BytesBytesCodec):
    """A codec of format 3 that decodes at most as many bytes as `before` codecs make of a chunk."""

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
            limit = _most_encoded(limit)
        limit = min(limit, _MOST_BYTES)
        data = memoryview(chunk_bytes.as_numpy_array()).cast("B")
        return chunk_spec.prototype.buffer.from_bytes(inflated(self._name, self._options, data, limit))

    @cached_property
    def _options(self) -> dict[str, Any]:
        return _options_of(self.codec)

    @cached_property
    def _name(self) -> str:
        return _name(self._options)


def _bounded_codecs(codecs: Iterable[Codec]) -> tuple[Codec, ...]:
    """Codecs of format 3, with the ones that decompress bounded."""
    result: list[Codec] = []
    before = 0
    for codec in codecs:
        if isinstance(codec, ShardingCodec):
            inner, index = _bounded_codecs(codec.codecs), _bounded_codecs(codec.index_codecs)
            result.append(replace(codec, codecs=inner, index_codecs=index))
        elif isinstance(codec, BytesBytesCodec):
            result.append(_BoundedCodec(codec, before) if _name(_options_of(codec)) in KINDS else codec)
            before += 1
        else:
            result.append(codec)
    return tuple(result)


def _all(codecs: Iterable[Codec]) -> Iterator[Codec]:
    """Codecs of format 3, including those inside Zarr shards."""
    for codec in codecs:
        yield codec
        if isinstance(codec, ShardingCodec):
            yield from _all((*codec.codecs, *codec.index_codecs))


def _options_of(codec: Codec) -> dict[str, Any]:
    """Options of a codec of format 3, in the form of format 2: with its name as "id"."""
    document: Any = codec.to_dict()
    return {**document.get("configuration", {}), "id": str(document["name"]).removeprefix("numcodecs.")}


def _name(options: Mapping[str, Any]) -> str:
    """Name of a codec.

    Raises
    ------
    ValueError
        If the codec has no bound.
    """
    if (name := str(options["id"])) not in _KNOWN:
        raise ValueError(f"its chunks are encoded by {name!r}, which is not read")
    return name


def _types(options: Mapping[str, Any]) -> list[Any]:
    """Decoded and encoded dtype of a codec; empty if it does not change the dtype."""
    if (name := _name(options)) not in _TYPES or (decoded := options.get(_TYPES[name][0])) is None:
        return []
    return [decoded, options.get(_TYPES[name][1]) or decoded]


def _encoded(options: Mapping[str, Any], size: int) -> int:
    """The most bytes that a codec of format 2 makes of `size` bytes."""
    if types := _types(options):
        decoded, encoded = map(_value_bytes, types)
        return min(-(-size // decoded) * encoded, _MOST_BYTES)
    if _name(options) == "packbits":
        return size // 8 + 2
    return min(_most_encoded(size), _MOST_BYTES)


def _most_encoded(size: int) -> int:
    """The most bytes that any codec makes of `size` bytes; base64 makes a third more."""
    return size + size // 2 + 1024


def _value_bytes(dtype: Any) -> int:
    """Bytes of a value."""
    dtype = np.dtype(dtype)
    return _TEXT_BYTES if dtype.kind in "OT" else max(1, dtype.itemsize)
