"""Hash sampling: the same choice of cells and blocks whatever the order they are met in.

The hash is splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014), applied to absolute grid coordinates. Taking the items of the
smallest hashes ("bottom-k") is mergeable: the bottom-k of a union is the bottom-k of the
parts' bottom-k, so neither chunking nor order can change the sample.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]


def mix(x: U64) -> U64:
    """The splitmix64 finaliser of each element; uint64 in, uint64 out, same shape."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def key(*parts: object) -> int:
    """A 64-bit key of some values, by BLAKE2b of their `repr`; the same in every process."""
    text = "\x1f".join(map(repr, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def grid_hash(seed: int, rows: npt.ArrayLike, cols: npt.ArrayLike) -> U64:
    """Hashes of the positions of a grid.

    Parameters
    ----------
    seed
        64-bit key that selects the hash function.
    rows, cols
        Integer coordinates, broadcast against each other.

    Returns
    -------
    numpy.ndarray
        uint64, the broadcast shape.
    """
    r = mix(np.asarray(rows).astype(np.uint64) ^ np.uint64(seed))
    return mix(r + mix(np.asarray(cols).astype(np.uint64)))


def bottom(hashes: U64, k: int) -> npt.NDArray[np.intp]:
    """Indices of the `k` smallest hashes, smallest first; ties by position."""
    if hashes.size > k:
        # every hash up to the k-th smallest, so that a tie at the edge cannot depend on the partition
        edge = np.partition(hashes, k - 1)[k - 1]
        near = np.flatnonzero(hashes <= edge)
        return near[np.argsort(hashes[near], kind="stable")][:k]
    return np.argsort(hashes, kind="stable")
