"""Zarr groups and arrays as the metadata files of format 3 or 2.

They are a few JSON documents, written here so that a store's bytes are known and no run waits for
the import of zarr. The tests check that zarr-python, xarray and GDAL read them.

Source: Zarr specifications 3 and 2; consolidated metadata as zarr-python writes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline.sinks.zarr_shard import ZSTD_LEVEL

_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
_ZSTD = {"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}}
_V2_TYPES = {"uint8": "|u1", "int64": "<i8", "float64": "<f8"}

Document = dict[str, Any]


@dataclass(frozen=True)
class Array:
    """Type, shape and chunks of an array.

    Parameters
    ----------
    dtype
        uint8, int64 or float64.
    dims, shape, chunks
        Names and lengths of the dimensions, and shape of a chunk; all empty for a scalar.
    fill
        Value of chunks that are not stored.
    shards
        Shape of a Zarr shard of several chunks (format 3 only), or None.
    """

    dtype: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    fill: float
    shards: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Node:
    """A group, or the array in it.

    Parameters
    ----------
    path
        Below the store's root; "" for the root.
    attributes
        User attributes.
    array
        None for a group.
    """

    path: str
    attributes: Document = field(default_factory=dict)
    array: Array | None = None


def chunk_key(array: str, indices: tuple[int, ...], version: int) -> str:
    """Path, below the store's root, of a chunk (of a Zarr shard, if the array has them)."""
    if version == 3:
        return "/".join((array, "c", *map(str, indices)))
    return f"{array}/{'/'.join(map(str, indices)) or 0}"


def metadata_files(nodes: list[Node], version: int) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every metadata file of a store, the consolidated one included.

    Parameters
    ----------
    nodes
        All groups and arrays, the root first.
    version
        Zarr format, 3 or 2.
    """
    yield from _files_3(nodes) if version == 3 else _files_2(nodes)


def _files_3(nodes: list[Node]) -> Iterator[tuple[str, bytes]]:
    root, *inner = nodes
    documents = {n.path: _document_3(n) for n in inner}
    for path, document in documents.items():
        yield f"{path}/zarr.json", _text(document)
    # not in the specification yet: readers that know it use it, others have to ignore it
    consolidated = {"kind": "inline", "must_understand": False, "metadata": documents}
    yield "zarr.json", _text({**_document_3(root), "consolidated_metadata": consolidated})


def _document_3(node: Node) -> Document:
    if node.array is None:
        return {"zarr_format": 3, "node_type": "group", "attributes": node.attributes}
    array, codecs = node.array, [_BYTES, _ZSTD]
    if array.shards is not None:
        inner = {
            "chunk_shape": array.chunks,
            "codecs": codecs,
            "index_codecs": [_BYTES, {"name": "crc32c"}],
            "index_location": "end",
        }
        codecs = [{"name": "sharding_indexed", "configuration": inner}]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": array.shape,
        "data_type": array.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": array.shards or array.chunks}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": array.fill,
        "codecs": codecs,
        "dimension_names": array.dims,
        "attributes": node.attributes,
    }


def _files_2(nodes: list[Node]) -> Iterator[tuple[str, bytes]]:
    documents = {
        f"{node.path}/{name}".lstrip("/"): document
        for node in nodes
        for name, document in _documents_2(node).items()
    }
    for name, document in documents.items():
        yield name, _text(document)
    yield ".zmetadata", _text({"zarr_consolidated_format": 1, "metadata": documents})


def _documents_2(node: Node) -> dict[str, Document]:
    if node.array is None:
        return {".zgroup": {"zarr_format": 2}, ".zattrs": node.attributes}
    array = node.array
    return {
        ".zarray": {
            "zarr_format": 2,
            "shape": array.shape,
            "chunks": array.chunks,
            "dtype": _V2_TYPES[array.dtype],
            "compressor": {"id": "zstd", "level": ZSTD_LEVEL},
            "fill_value": array.fill,
            "order": "C",
            "filters": None,
            "dimension_separator": "/",
        },
        ".zattrs": {**node.attributes, "_ARRAY_DIMENSIONS": array.dims},
    }


def _text(document: Document) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
