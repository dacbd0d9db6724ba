"""A built-in network without weights to download: oriented filters at a few scales.

Derivatives of Gaussians in several directions, as texture segmentation has used them since
Malik and Perona, "Preattentive texture discrimination with early vision mechanisms", JOSA A 7 (1990):
local mean of each band, and rectified responses pooled over a stride. Used by the demo and the tests.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

PREFIX = "builtin:filters-"
STRIDES = (4, 8, 16)
_VERSION = b"tilewright-filters-1"
_DIRECTIONS = 4
_SIGMAS = (1.0, 2.0)
_SIDE = 13
_GAIN = 4.0  # responses are weaker than means; with this gain texture counts as much as colour


def describe(name: str) -> bytes:
    """The bytes that the digest of a built-in network is computed from.

    Raises
    ------
    ValueError
        If there is no such network.
    """
    stride = name.removeprefix(PREFIX)
    if stride not in map(str, STRIDES):
        raise ValueError(f"model {name}: built-in networks are {', '.join(f'{PREFIX}{s}' for s in STRIDES)}")
    return _VERSION + stride.encode()


def kernels() -> np.ndarray[Any, np.dtype[np.float32]]:
    """The filters, shape (directions x scales, side, side), float32, each of zero mean and unit L1 norm."""
    axis = np.arange(_SIDE) - _SIDE // 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    filters = []
    for sigma in _SIGMAS:
        for i in range(_DIRECTIONS):
            angle = math.pi * i / _DIRECTIONS
            along = x * math.cos(angle) + y * math.sin(angle)
            bell = np.exp(-(x * x + y * y) / (2 * sigma * sigma))
            wave = -along / (sigma * sigma) * bell
            wave -= wave.mean()
            filters.append(wave / np.abs(wave).sum())
    return np.array(filters, np.float32)


def build(name: str) -> Any:
    """The network as a torch module; without padding.

    Its input is (1, 3, h, w), 0 to 1; its output (1, 11, h', w').
    """
    import torch

    stride = int(name.removeprefix(PREFIX))
    bank = torch.from_numpy(kernels())[:, None]
    half = _SIDE // 2

    class Filters(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            grey = x.mean(dim=1, keepdim=True)
            edges = torch.nn.functional.conv2d(grey, bank.to(x.device)).abs() * _GAIN
            colours = x[:, :, half:-half, half:-half]
            return torch.nn.functional.avg_pool2d(torch.cat([colours, edges], dim=1), 2 * stride, stride)

    return Filters().eval()
