"""Hash sampling: a choice of cells and blocks that does not depend on the order of processing.

The hash is splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014), applied to absolute grid coordinates. Taking the items of the
smallest hashes ("bottom-k") is mergeable: the bottom-k of a union is the bottom-k of the
bottom-k of its subsets, so neither chunking nor order can change the sample.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.jit import compiled

U64 = npt.NDArray[np.uint64]


@compiled
def _mix(x: Any) -> Any:
    x = np.uint64(x) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@compiled
def _mix_each(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = _mix(x[i])


@compiled
def _hash_each(seed: Any, rows: Any, cols: Any, out: Any) -> None:
    for i in range(rows.size):
        out[i] = _mix(_mix(rows[i] ^ seed) + _mix(cols[i]))


@compiled
def _hash_mask(seed: Any, mask: Any, row: Any, col: Any, limit: Any, hashes: Any, indices: Any) -> int:
    """Write hashes up to `limit` and their flat indices, as many as fit; return how many there are."""
    height, width = mask.shape
    across = np.empty(width, np.uint64)
    for x in range(width):
        across[x] = _mix(np.uint64(col + x))
    count = 0
    for y in range(height):
        down = _mix(np.uint64(row + y) ^ seed)
        for x in range(width):
            value = _mix(down + across[x])
            if value <= limit and mask[y, x]:
                if count < hashes.size:
                    hashes[count] = value
                    indices[count] = y * width + x
                count += 1
    return count


def mix(x: U64) -> U64:
    """The splitmix64 finaliser of each element; uint64 in, uint64 out, same shape."""
    out = np.empty(x.shape, np.uint64)
    _mix_each(np.ascontiguousarray(x).reshape(-1), out.reshape(-1))
    return out


def key(*values: object) -> int:
    """A 64-bit key of some values: BLAKE2b of their `repr`, so it is equal in every process."""
    text = "\x1f".join(map(repr, values)).encode()
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
    r, c = np.broadcast_arrays(np.asarray(rows, np.int64), np.asarray(cols, np.int64))
    out = np.empty(r.shape, np.uint64)
    _hash_each(np.uint64(seed), r.ravel().view(np.uint64), c.ravel().view(np.uint64), out.reshape(-1))
    return out


def mask_bottom(
    seed: int, mask: npt.NDArray[np.bool_], row: int, col: int, k: int
) -> tuple[U64, npt.NDArray[np.int64], int]:
    """The grid positions with the smallest hashes, of those where a mask is True.

    Parameters
    ----------
    seed
        64-bit key that selects the hash function.
    mask
        Shape (y, x).
    row, col
        Grid position of its first element.
    k
        Number of positions wanted, at least 1.

    Returns
    -------
    hashes
        uint64, shape (n,), n at most k, smallest first: `grid_hash` of the positions.
    indices
        int64, shape (n,): indices of the positions in the flattened mask; ties by index.
    total
        Number of True elements of the mask.
    """
    mask = np.ascontiguousarray(mask)
    total = int(np.count_nonzero(mask))
    # the limit is set so that nearly always at least k, and few more, lie below it: few hashes are sorted
    wanted = k + 8 * math.isqrt(k) + 8
    room = 2 * wanted
    limit = 1.0 if wanted >= total else wanted / total
    while True:
        hashes, indices = np.empty(min(room, total), np.uint64), np.empty(min(room, total), np.int64)
        edge = np.uint64(min(int(limit * 2**64), 2**64 - 1))
        below = _hash_mask(np.uint64(seed), mask, row, col, edge, hashes, indices)
        if below > len(hashes):
            room = below
        elif below < min(k, total):
            limit *= 2
        else:
            order = np.argsort(hashes[:below], kind="stable")[:k]
            return hashes[order], indices[order], total


def bottom(hashes: U64, k: int) -> npt.NDArray[np.intp]:
    """Indices of the `k` smallest hashes, smallest first; ties by position."""
    if hashes.size > k:
        # all hashes up to the k-th smallest: np.partition picks arbitrarily among ties at the edge
        edge = np.partition(hashes, k - 1)[k - 1]
        near = np.flatnonzero(hashes <= edge)
        return near[np.argsort(hashes[near], kind="stable")][:k]
    return np.argsort(hashes, kind="stable")
