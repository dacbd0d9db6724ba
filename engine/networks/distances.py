"""Squared distances of features to centres, and labels from distances interpolated between features."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.arrays import F32
from engine.jit import compiled
from engine.networks.simd import loops
from engine.networks.simd.emitter import LANES


def squared_distances(features: F32, centres: F32) -> F32:
    """Squared distances (K, h, w) in float32 of features (h, w, D) to centres (K, D)."""
    height, width, dims = features.shape
    count, panels = height * width, -(-len(centres) // LANES)
    wide = np.zeros((panels * LANES, dims), np.float32)
    wide[: len(centres)] = centres
    panelled = np.ascontiguousarray(wide.reshape(panels, LANES, dims).transpose(0, 2, 1))
    out = np.empty((count, panels * LANES), np.float32)
    loops.distances(features.reshape(-1), count, dims, panelled.reshape(-1), panels, out.reshape(-1))
    return np.ascontiguousarray(out[:, : len(centres)].T).reshape(-1, height, width)


@compiled
def nearest_interpolated(distances: Any, stride: int, row: int, col: int, height: int, width: int) -> Any:
    """Label of the smallest interpolated distance at each pixel centre, shape (height, width).

    `distances` has a ring of one feature around the window that was evaluated; `row` and `col` are the
    offset of the wanted pixels in that window.
    """
    k = distances.shape[0]
    out = np.empty((height, width), np.uint8)
    best = np.empty(width, np.float32)
    left = np.empty(width, np.int64)
    right_weight = np.empty(width, np.float32)
    for x in range(width):
        position = (np.float32(col + x) + np.float32(0.5)) / np.float32(stride) + np.float32(0.5)
        left[x] = np.int64(position)
        right_weight[x] = position - np.float32(left[x])
    line = np.empty(distances.shape[2], np.float32)
    for y in range(height):
        position = (np.float32(row + y) + np.float32(0.5)) / np.float32(stride) + np.float32(0.5)
        top = np.int64(position)
        down_weight = position - np.float32(top)
        for c in range(k):
            for j in range(line.size):
                line[j] = (
                    distances[c, top, j] * (np.float32(1) - down_weight)
                    + distances[c, top + 1, j] * down_weight
                )
            for x in range(width):
                d = line[left[x]] * (np.float32(1) - right_weight[x]) + line[left[x] + 1] * right_weight[x]
                if c == 0 or d < best[x]:
                    best[x] = d
                    out[y, x] = c
    return out
