"""LLVM instructions on vectors, emitted into loops that numba compiles.

numba does not turn a loop into a register-blocked matrix product, and the available libraries choose their
instructions by the processor's vendor; so the few instructions that matter are emitted here. All arithmetic
is per element and in a fixed order, with fused multiply-add where the processor has it. The number of lanes
or rows that a processor takes at once changes no bit of a result.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
"""Channels of a vector; processors with narrower registers split it."""

I32, I64, F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()
VECTOR, WORDS = ir.VectorType(F32, LANES), ir.VectorType(I32, LANES)
Value = Any
Matrix = Sequence[Sequence[float]]


class Emit:
    """Emits instructions on vectors into a function that numba compiles."""

    def __init__(self, builder: Any) -> None:
        self.b = builder

    def call(self, name: str, *vectors: Value) -> Value:
        """An LLVM intrinsic on vectors of floats."""
        kind = ir.FunctionType(VECTOR, [VECTOR] * len(vectors))
        function = cgutils.get_or_insert_function(self.b.module, kind, f"llvm.{name}.v{LANES}f32")
        return self.b.call(function, vectors)

    def times_plus(self, x: Value, y: Value, z: Value) -> Value:
        """Product of x and y, plus z, rounded once where the processor can."""
        return self.call("fmuladd", x, y, z)

    def most(self, x: Value, *others: Value) -> Value:
        """The largest, or NaN if one is."""
        for y in others:
            x = self.call("maximum", x, y)
        return x

    def at(self, address: Value, *steps: Any) -> Value:
        """`address` plus the steps, in floats; each step is a number, or a pair of factors."""
        for step in steps:
            offset = self.b.mul(step[0], I64(step[1])) if isinstance(step, tuple) else step
            address = self.b.gep(address, [I64(offset) if isinstance(offset, int) else offset])
        return address

    def load(self, address: Value) -> Value:
        """The vector at an address."""
        return self.b.load(self.b.bitcast(address, VECTOR.as_pointer()), align=4)

    def store(self, vector: Value, address: Value) -> None:
        """Write a vector to an address."""
        self.b.store(vector, self.b.bitcast(address, VECTOR.as_pointer()), align=4)

    def splat(self, scalar: Value) -> Value:
        """A vector with the scalar in all lanes."""
        undefined = ir.Constant(VECTOR, ir.Undefined)
        first_lane = self.b.insert_element(undefined, scalar, I32(0))
        return self.b.shuffle_vector(first_lane, undefined, ir.Constant(WORDS, None))

    def across(self, vector: Value, join: Callable[[Value, Value], Value]) -> Value:
        """A vector with all lanes reduced by `join`, halves first: the same order on every processor."""
        for step in (8, 4, 2, 1):
            rotated = ir.Constant(WORDS, [(i + step) % LANES for i in range(LANES)])
            vector = join(vector, self.b.shuffle_vector(vector, vector, rotated))
        return vector

    def loop(
        self, count: Value, start: list[Value], body: Callable[[Value, list[Value]], list[Value]]
    ) -> list[Value]:
        """`body(i, carried)` for i from 0 to count - 1, at least once; returns the last carried values."""
        entry, head = self.b.block, self.b.append_basic_block("loop")
        self.b.branch(head)
        self.b.position_at_end(head)
        i, carried = self.b.phi(I64), [self.b.phi(VECTOR) for _ in start]
        results = body(i, carried)
        following = self.b.add(i, I64(1))
        for phi, first, then in zip([i, *carried], [I64(0), *start], [following, *results], strict=True):
            phi.add_incoming(first, entry)
            phi.add_incoming(then, self.b.block)
        done = self.b.append_basic_block("done")
        self.b.cbranch(self.b.icmp_signed("<", following, count), head, done)
        self.b.position_at_end(done)
        return results

    def combined(self, matrix: Matrix, vectors: Sequence[Value]) -> list[Value]:
        """A matrix of constants times some vectors."""
        result = []
        for row in matrix:
            # terms with factor 1 come first, so that the sum starts without a product
            terms = sorted(((k, v) for k, v in zip(row, vectors, strict=True) if k), key=lambda t: t[0] != 1)
            total = terms[0][1] if terms[0][0] == 1 else self.b.fmul(terms[0][1], constant(terms[0][0]))
            for k, v in terms[1:]:
                total = self.b.fadd(total, v) if k == 1 else self.times_plus(v, constant(k), total)
            result.append(total)
        return result


def constant(number: float) -> ir.Constant:
    """A constant vector with the number in all lanes."""
    return ir.Constant(VECTOR, [float(number)] * LANES)


ZERO = constant(0)


def instruction(name: str, kinds: str, emit: Callable[..., None]) -> Any:
    """A function that compiled loops can call, and whose LLVM instructions `emit` makes.

    Parameters
    ----------
    name
        Appears in numba's messages.
    kinds
        Its parameters: "p" is an address, passed as an array and an offset; "i" is an integer.
    emit
        Called with an `Emit` and the parameters' values.
    """
    plain_kinds = kinds.replace("p", "ai")  # each address is an array ("a") and an offset

    def define(_: Any, *argument_types: Any) -> Any:
        signature = types.void(
            *(t if k == "a" else types.int64 for k, t in zip(plain_kinds, argument_types, strict=True)),
        )

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            operands, rest = [], iter(zip(signature.args, values, strict=True))
            for kind in kinds:
                argument_type, value = next(rest)
                if kind == "p":
                    value = builder.gep(
                        context.make_array(argument_type)(context, builder, value).data, [next(rest)[1]]
                    )
                operands.append(value)
            emit(Emit(builder), *operands)
            return context.get_dummy_value()

        return signature, generate

    define.__name__ = name
    # numba reads the names of the parameters from the signature
    names = ["context", *(f"x{i}" for i in range(len(plain_kinds)))]
    by_position = inspect.Parameter.POSITIONAL_OR_KEYWORD
    define.__signature__ = inspect.Signature([inspect.Parameter(n, by_position) for n in names])  # type: ignore[attr-defined]
    return intrinsic(define)
