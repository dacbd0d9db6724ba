"""Loops over pixels, of products, transforms and softmax.

Arrays are flat, float32, channels last; channels are padded to whole panels.
"""

from __future__ import annotations

from typing import Any

from engine.jit import compiled
from engine.networks.simd.emitter import LANES
from engine.networks.simd.products import (
    PANEL,
    ROWS,
    eight_squared,
    one_squared,
    tile,
    tile_biased,
    tile_pooled,
)
from engine.networks.simd.softmax import softmax
from engine.networks.simd.winograd import OUT, SIDE, input_transform, output_transform

TILES = 48
"""Winograd tiles that go through a whole layer at a time, so that their data stays in the cache."""

_BLOCK_ROWS = 96  # rows of a 1 x 1 convolution per panel of weights, so that they stay in the cache


@compiled
def few_channels(
    x: Any, x_width: int, channels: int, layer: Any, y: Any, y_width: int, rows: int, cols: int
) -> None:
    """3 x 3 convolution, 2 x 2 pooling and relu of an image with few channels, by direct products.

    `x` and `y` are flat images of widths `x_width` and `y_width`; `layer` is weights, bias and number of
    output channels. `rows` and `cols` count pooled pixels; `cols` is even.
    """
    weights, bias, out = layer
    line = x_width * channels
    for r in range(rows):
        for p in range(out // PANEL):
            for c in range(0, cols, ROWS // 4):
                source = 2 * (r * x_width + c) * channels
                to = (r * y_width + c) * out + p * PANEL
                tile_pooled(
                    *(x, source, channels, line, 2 * channels, 3, line, 3 * channels),
                    *(weights, p * 9 * channels * PANEL, bias, p * PANEL, y, to, out),
                )


@compiled
def many_channels(
    x: Any, x_width: int, channels: int, layer: Any, y: Any, y_width: int, down: int, across: int, room: Any
) -> None:
    """The same as `few_channels` for an image with many channels, by Winograd's products.

    `down` and `across` count tiles; `room` is two buffers for TILES tiles, before and after the product.
    """
    weights, bias, out = layer
    v, m = room
    half, panels = OUT // 2, out // PANEL
    for start in range(0, down * across, TILES):
        count = min(TILES, down * across - start)
        for k in range(count):
            row, col = (start + k) // across, (start + k) % across
            source = (row * x_width + col) * OUT * channels
            for c in range(0, channels, LANES):
                input_transform(
                    x, source + c, x_width * channels, channels, v, k * channels + c, TILES * channels
                )
        for p in range(panels):
            for i in range(SIDE * SIDE):
                for k in range(0, count, ROWS):
                    source, to = (i * TILES + k) * channels, (i * TILES + k) * PANEL
                    tile(
                        *(v, source, channels, 2 * channels, 4 * channels, 1, 0, channels),
                        *(weights, (i * panels + p) * channels * PANEL, bias, 0, m, to, PANEL),
                    )
            for k in range(count):
                row, col = (start + k) // across, (start + k) % across
                to = (row * y_width + col) * half * out + p * PANEL
                for c in range(0, PANEL, LANES):
                    output_transform(
                        m, k * PANEL + c, TILES * PANEL, bias, p * PANEL + c, y, to + c, y_width * out, out
                    )


@compiled
def _linear(x: Any, start: int, count: int, channels: int, layer: Any, y: Any) -> None:
    """1 x 1 convolution of `count` pixels from pixel `start`; reads and writes up to 7 pixels beyond."""
    weights, bias, out = layer
    for block in range(0, count, _BLOCK_ROWS):
        for p in range(out // PANEL):
            for k in range(block, min(count, block + _BLOCK_ROWS), ROWS):
                tile_biased(
                    *(x, (start + k) * channels, channels, 2 * channels, 4 * channels, 1, 0, channels),
                    *(weights, p * channels * PANEL, bias, p * PANEL, y, k * out + p * PANEL, out),
                )


@compiled
def head(
    x: Any,
    x_width: int,
    channels: int,
    layer: Any,
    line: Any,
    y: Any,
    rows: int,
    cols: int,
    dims: int,
    soft: int,
) -> None:
    """Features (rows, cols, dims): a 1 x 1 convolution if `layer` has channels, a softmax if `soft`.

    `line` is a buffer for one row of the convolution; up to LANES - 1 zeros are written behind the features.
    """
    for r in range(rows):
        source, start, stride = x, r * x_width, channels
        if layer[2] > 0:
            _linear(x, start, cols, channels, layer, line)
            source, start, stride = line, 0, layer[2]
        for k in range(cols):
            begin, to = (start + k) * stride, (r * cols + k) * dims
            if soft:
                softmax(source, begin, dims, y, to)
            else:
                y[to : to + dims] = source[begin : begin + dims]


@compiled
def distances(x: Any, count: int, dims: int, centres: Any, panels: int, y: Any) -> None:
    """Squared distances (count, panels * LANES) of vectors to centres (panels, dims, LANES)."""
    eights = count - count % 8
    for p in range(panels):
        weights, to = p * dims * LANES, p * LANES
        for k in range(0, eights, 8):
            eight_squared(
                *(x, k * dims, dims, 2 * dims, 4 * dims, 1, 0, dims),
                *(centres, weights, centres, 0, y, k * panels * LANES + to, panels * LANES),
            )
        for k in range(eights, count):
            one_squared(
                *(x, k * dims, 0, 0, 0, 1, 0, dims),
                *(centres, weights, centres, 0, y, k * panels * LANES + to, panels * LANES),
            )
