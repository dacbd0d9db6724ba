"""Softmax of a vector of any length."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from engine.networks.simd.emitter import (
    F32,
    I64,
    LANES,
    VECTOR,
    WORDS,
    ZERO,
    Emit,
    Value,
    constant,
    instruction,
)


def _exp(e: Emit, x: Value) -> Value:
    """e**x for x <= 0: 2**n times a polynomial, within 2 units in the last place."""
    b = e.b
    x = e.most(x, constant(-87))
    shifted = e.times_plus(x, constant(1.4426950408889634), constant(12582912))  # rounds to a whole number n
    n = b.fsub(shifted, constant(12582912))
    r = e.times_plus(n, constant(-1.42860682030941e-06), e.times_plus(n, constant(-0.693145751953125), x))
    total = constant(1 / 5040)
    for k in (1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0):
        total = e.times_plus(total, r, constant(k))
    power = b.shl(b.add(b.fptosi(n, WORDS), WORDS([127] * LANES)), WORDS([23] * LANES))
    return b.fmul(total, b.bitcast(power, VECTOR))


def _emit_softmax(e: Emit, x: Any, count: Any, y: Any) -> None:
    """Softmax of the first `count` numbers at `x`; the rest of the last vector of `y` becomes 0."""
    b = e.b
    vectors = b.sdiv(b.add(count, I64(LANES - 1)), I64(LANES))

    def masked(i: Any, vector: Any, other: float) -> Any:
        remaining = e.splat(b.sitofp(b.sub(count, b.mul(i, I64(LANES))), F32))
        within = b.fcmp_ordered("<", ir.Constant(VECTOR, [float(n) for n in range(LANES)]), remaining)
        return b.select(within, vector, constant(other))

    def largest(i: Any, carried: list[Any]) -> list[Any]:
        return [e.most(carried[0], masked(i, e.load(e.at(x, (i, LANES))), -3e38))]

    top = e.across(e.loop(vectors, [constant(-3e38)], largest)[0], e.most)

    def powers(i: Any, carried: list[Any]) -> list[Any]:
        power = masked(i, _exp(e, b.fsub(e.load(e.at(x, (i, LANES))), top)), 0)
        e.store(power, e.at(y, (i, LANES)))
        return [b.fadd(carried[0], power)]

    share = b.fdiv(constant(1), e.across(e.loop(vectors, [ZERO], powers)[0], b.fadd))

    def shares(i: Any, _: list[Any]) -> list[Any]:
        e.store(b.fmul(e.load(e.at(y, (i, LANES))), share), e.at(y, (i, LANES)))
        return []

    e.loop(vectors, [], shares)


softmax = instruction("softmax", "pip", _emit_softmax)
