"""Products of a few rows with a panel of a matrix, whose sums all stay in registers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import binding

from engine.networks.simd.emitter import LANES, ZERO, Emit, Value, instruction

# rows x vectors of sums held in registers: 24 of the 32 of 16 floats, or 8 of the 16 of 8 floats
ROWS, VECTORS = (8, 3) if binding.get_host_cpu_features().get("avx512f") else (4, 1)
PANEL = LANES * VECTORS
"""Output channels that a matrix product computes at a time."""


def _product(
    rows: int,
    vectors: int,
    term: Callable[[Emit, Value, Value, Value], Value],
    finish: Callable[[Emit, list[list[Value]], Value], list[list[Value]]],
) -> Callable[..., None]:
    """Emits a matrix product of a few rows with a panel; all its sums stay in registers.

    Row m begins at ``x + (m & 1) * s0 + (m >> 1 & 1) * s1 + (m >> 2) * s2`` and consists of `runs` runs of
    `length` numbers that lie `step` apart. So a row can be a row of a matrix, or the neighbourhood of a
    pixel (four neighbouring rows are pooled together), without a copy. `term` adds one product to a sum;
    `finish` makes the output vectors from all sums.
    """

    def emit(
        e: Emit, x: Any, s0: Any, s1: Any, s2: Any, runs: Any, step: Any, length: Any, panel: Any,
        bias: Any, y: Any, across: Any,
    ) -> None:  # fmt: skip
        starts = [e.at(x, (s0, m & 1), (s1, m >> 1 & 1), (s2, m >> 2)) for m in range(rows)]
        count = rows * vectors

        def add_run(p: Any, sums: list[Any]) -> list[Any]:
            begin = e.b.mul(p, step)
            line = e.at(panel, (e.b.mul(p, length), vectors * LANES))

            def add_number(i: Any, sums: list[Any]) -> list[Any]:
                weights = [e.load(e.at(line, (i, vectors * LANES), j * LANES)) for j in range(vectors)]
                values = [e.splat(e.b.load(e.at(start, begin, i))) for start in starts]
                return [term(e, values[n // vectors], weights[n % vectors], sums[n]) for n in range(count)]

            return e.loop(length, sums, add_number)

        sums = e.loop(runs, [ZERO] * count, add_run)
        grouped = [sums[n : n + vectors] for n in range(0, count, vectors)]
        for m, line in enumerate(finish(e, grouped, bias)):
            for j, vector in enumerate(line):
                e.store(vector, e.at(y, (across, m), j * LANES))

    return emit


def _plain(_: Emit, sums: list[list[Value]], __: Value) -> list[list[Value]]:
    return sums


def _biased(e: Emit, sums: list[list[Value]], bias: Value) -> list[list[Value]]:
    return [[e.b.fadd(v, e.load(e.at(bias, j * LANES))) for j, v in enumerate(row)] for row in sums]


def pooled(e: Emit, sums: list[list[Value]], bias: Value) -> list[list[Value]]:
    """Maximum of each four rows, then bias and relu.

    Rounding is monotone, so the bias may be added after the maximum.
    """
    fours = [[e.most(*four) for four in zip(*sums[n : n + 4], strict=True)] for n in range(0, len(sums), 4)]
    return [[e.most(v, ZERO) for v in row] for row in _biased(e, fours, bias)]


def _squared(e: Emit, x: Value, c: Value, total: Value) -> Value:
    """Adds (x - c)**2, each step rounded, without fused multiply-add: labels depend on these bits."""
    difference = e.b.fsub(x, c)
    return e.b.fadd(total, e.b.fmul(difference, difference))


tile = instruction("tile", "piiiiiipppi", _product(ROWS, VECTORS, Emit.times_plus, _plain))
tile_biased = instruction("tile_biased", "piiiiiipppi", _product(ROWS, VECTORS, Emit.times_plus, _biased))
tile_pooled = instruction("tile_pooled", "piiiiiipppi", _product(ROWS, VECTORS, Emit.times_plus, pooled))
eight_squared = instruction("eight_squared", "piiiiiipppi", _product(8, 1, _squared, _plain))
one_squared = instruction("one_squared", "piiiiiipppi", _product(1, 1, _squared, _plain))
