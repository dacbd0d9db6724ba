"""Transforms of Winograd's convolution F(4 x 4, 3 x 3).

Source: A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), at the points
0, 1, -1, 2, -1/2 and infinity. Of weights g and a tile d of the input, the result is
A^T ((G g G^T) * (B^T d B)) A: 36 products instead of 144. B^T and A^T are exact in float32; the weights are
transformed in float64.
"""

from __future__ import annotations

from typing import Any

from engine.networks.simd.emitter import Emit, instruction
from engine.networks.simd.products import pooled

OUT = 4
SIDE = OUT + 2

B_T = (
    (1, 1.5, -2, -1.5, 1, 0),
    (0, -1, -2.5, -0.5, 1, 0),
    (0, 1, 0.5, -2.5, 1, 0),
    (0, -0.5, -1, 0.5, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 1, 1.5, -2, -1.5, 1),
)
G = (
    (1, 0, 0),
    (-1 / 3, -1 / 3, -1 / 3),
    (1 / 3, -1 / 3, 1 / 3),
    (1 / 15, 2 / 15, 4 / 15),
    (-16 / 15, 8 / 15, -4 / 15),
    (0, 0, 1),
)
A_T = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -0.5, 0),
    (0, 1, 1, 4, 0.25, 0),
    (0, 1, -1, 8, -0.125, 1),
)


def _emit_input(e: Emit, x: Any, down: Any, across: Any, v: Any, spacing: Any) -> None:
    """Transforms a tile of SIDE x SIDE pixels into Winograd's domain."""
    columns = [
        e.combined(B_T, [e.load(e.at(x, (across, c), (down, r))) for r in range(SIDE)]) for c in range(SIDE)
    ]
    for r in range(SIDE):
        for c, vector in enumerate(e.combined(B_T, [column[r] for column in columns])):
            e.store(vector, e.at(v, (spacing, r * SIDE + c)))


def _emit_output(e: Emit, m: Any, spacing: Any, bias: Any, y: Any, down: Any, across: Any) -> None:
    """Transforms a tile back from Winograd's domain; 2 x 2 pooling of its OUT x OUT pixels, bias, relu."""
    columns = [
        e.combined(A_T, [e.load(e.at(m, (spacing, r * SIDE + c))) for r in range(SIDE)]) for c in range(SIDE)
    ]
    rows = [e.combined(A_T, [column[r] for column in columns]) for r in range(OUT)]
    for r in range(0, OUT, 2):
        for c in range(0, OUT, 2):
            four = [[rows[r][c]], [rows[r][c + 1]], [rows[r + 1][c]], [rows[r + 1][c + 1]]]
            e.store(pooled(e, four, bias)[0][0], e.at(y, (down, r // 2), (across, c // 2)))


input_transform = instruction("input_transform", "piipi", _emit_input)
output_transform = instruction("output_transform", "pippii", _emit_output)
