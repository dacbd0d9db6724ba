"""Compiled loops over vectors of channels: convolutions, softmax and distances for one thread.

numba does not turn a loop into a register-blocked matrix product, and the available libraries choose their
instructions by the processor's vendor; so the few instructions that matter are emitted here. All arithmetic
is per element and in a fixed order, with fused multiply-add where the processor has it. The number of lanes
or rows that a processor takes at once changes no bit of a result.

Arrays are flat, float32, channels last; channels are padded to whole panels. Instructions and the loops
that use them are in one file, because numba caches a compiled loop until the loop's own file changes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from engine.jit import compiled

LANES = 16
"""Channels of a vector; processors with narrower registers split it."""

# rows x vectors of sums held in registers: 24 of the 32 of 16 floats, or 8 of the 16 of 8 floats
_ROWS, _VECTORS = (8, 3) if binding.get_host_cpu_features().get("avx512f") else (4, 1)
PANEL = LANES * _VECTORS
"""Output channels that a matrix product computes at a time."""

TILES = 48
"""Winograd tiles that go through a whole layer at a time, so that their data stays in the cache."""

_BLOCK_ROWS = 96  # rows of a 1 x 1 convolution per panel of weights, so that they stay in the cache

# Winograd's F(4 x 4, 3 x 3) by Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (2015), at
# the points 0, 1, -1, 2, -1/2 and infinity: 36 products instead of 144; the input and output transforms are
# exact in float32, the weights are transformed in float64
OUT = 4
SIDE = OUT + 2
GOES_IN = (
    (1, 1.5, -2, -1.5, 1, 0),
    (0, -1, -2.5, -0.5, 1, 0),
    (0, 1, 0.5, -2.5, 1, 0),
    (0, -0.5, -1, 0.5, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 1, 1.5, -2, -1.5, 1),
)
WEIGHS = (
    (1, 0, 0),
    (-1 / 3, -1 / 3, -1 / 3),
    (1 / 3, -1 / 3, 1 / 3),
    (1 / 15, 2 / 15, 4 / 15),
    (-16 / 15, 8 / 15, -4 / 15),
    (0, 0, 1),
)
COMES_OUT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -0.5, 0),
    (0, 1, 1, 4, 0.25, 0),
    (0, 1, -1, 8, -0.125, 1),
)

_I32, _I64, _F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()
_VECTOR, _WORDS = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES)
_Value = Any
Matrix = Sequence[Sequence[float]]


class _Emit:
    """Emits instructions on vectors into a function that numba compiles."""

    def __init__(self, builder: Any) -> None:
        self.b = builder

    def call(self, name: str, *vectors: _Value) -> _Value:
        """An LLVM intrinsic on vectors of floats."""
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(vectors))
        function = cgutils.get_or_insert_function(self.b.module, kind, f"llvm.{name}.v{LANES}f32")
        return self.b.call(function, vectors)

    def times_plus(self, x: _Value, y: _Value, z: _Value) -> _Value:
        """Product of x and y, plus z, rounded once where the processor can."""
        return self.call("fmuladd", x, y, z)

    def most(self, x: _Value, *others: _Value) -> _Value:
        """The largest, or NaN if one is."""
        for y in others:
            x = self.call("maximum", x, y)
        return x

    def at(self, address: _Value, *steps: Any) -> _Value:
        """`address` plus the steps, in floats; each step is a number, or a pair of factors."""
        for step in steps:
            offset = self.b.mul(step[0], _I64(step[1])) if isinstance(step, tuple) else step
            address = self.b.gep(address, [_I64(offset) if isinstance(offset, int) else offset])
        return address

    def load(self, address: _Value) -> _Value:
        """The vector at an address."""
        return self.b.load(self.b.bitcast(address, _VECTOR.as_pointer()), align=4)

    def store(self, vector: _Value, address: _Value) -> None:
        """Write a vector to an address."""
        self.b.store(vector, self.b.bitcast(address, _VECTOR.as_pointer()), align=4)

    def splat(self, scalar: _Value) -> _Value:
        """A vector with the scalar in all lanes."""
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        first_lane = self.b.insert_element(undefined, scalar, _I32(0))
        return self.b.shuffle_vector(first_lane, undefined, ir.Constant(_WORDS, None))

    def across(self, vector: _Value, join: Callable[[_Value, _Value], _Value]) -> _Value:
        """A vector with all lanes reduced by `join`, halves first: the same order on every processor."""
        for step in (8, 4, 2, 1):
            rotated = ir.Constant(_WORDS, [(i + step) % LANES for i in range(LANES)])
            vector = join(vector, self.b.shuffle_vector(vector, vector, rotated))
        return vector

    def loop(
        self,
        count: _Value,
        start: list[_Value],
        body: Callable[[_Value, list[_Value]], list[_Value]],
    ) -> list[_Value]:
        """`body(i, carried)` for i from 0 to count - 1, at least once; returns the last carried values."""
        entry, head = self.b.block, self.b.append_basic_block("loop")
        self.b.branch(head)
        self.b.position_at_end(head)
        i, carried = self.b.phi(_I64), [self.b.phi(_VECTOR) for _ in start]
        results = body(i, carried)
        following = self.b.add(i, _I64(1))
        for phi, first, then in zip([i, *carried], [_I64(0), *start], [following, *results], strict=True):
            phi.add_incoming(first, entry)
            phi.add_incoming(then, self.b.block)
        done = self.b.append_basic_block("done")
        self.b.cbranch(self.b.icmp_signed("<", following, count), head, done)
        self.b.position_at_end(done)
        return results

    def combined(self, matrix: Matrix, vectors: Sequence[_Value]) -> list[_Value]:
        """A matrix of constants times some vectors."""
        result = []
        for row in matrix:
            # terms with factor 1 come first, so that the sum starts without a product
            terms = sorted(((k, v) for k, v in zip(row, vectors, strict=True) if k), key=lambda t: t[0] != 1)
            total = terms[0][1] if terms[0][0] == 1 else self.b.fmul(terms[0][1], _all(terms[0][0]))
            for k, v in terms[1:]:
                total = self.b.fadd(total, v) if k == 1 else self.times_plus(v, _all(k), total)
            result.append(total)
        return result


def _all(number: float) -> ir.Constant:
    """A constant vector with the number in all lanes."""
    return ir.Constant(_VECTOR, [float(number)] * LANES)


_ZERO = _all(0)


def _instruction(name: str, kinds: str, emit: Callable[..., None]) -> Any:
    """A function that compiled loops can call, and whose LLVM instructions `emit` makes.

    Parameters
    ----------
    name
        Appears in numba's messages.
    kinds
        Its parameters: "p" is an address, passed as an array and an offset; "i" is an integer.
    emit
        Called with an `_Emit` and the parameters' values.
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
            emit(_Emit(builder), *operands)
            return context.get_dummy_value()

        return signature, generate

    define.__name__ = name
    # numba reads the names of the parameters from the signature
    names = ["context", *(f"x{i}" for i in range(len(plain_kinds)))]
    by_position = inspect.Parameter.POSITIONAL_OR_KEYWORD
    define.__signature__ = inspect.Signature([inspect.Parameter(n, by_position) for n in names])  # type: ignore[attr-defined]
    return intrinsic(define)


def _product(
    rows: int,
    vectors: int,
    term: Callable[[_Emit, _Value, _Value, _Value], _Value],
    finish: Callable[[_Emit, list[list[_Value]], _Value], list[list[_Value]]],
) -> Callable[..., None]:
    """Emits a matrix product of a few rows with a panel; all its sums stay in registers.

    Row m begins at ``x + (m & 1) * s0 + (m >> 1 & 1) * s1 + (m >> 2) * s2`` and consists of `runs` runs of
    `length` numbers that lie `step` apart. So a row can be a row of a matrix, or the neighbourhood of a
    pixel (four neighbouring rows are pooled together), without a copy. `term` adds one product to a sum;
    `finish` makes the output vectors from all sums.
    """

    def emit(
        e: _Emit, x: Any, s0: Any, s1: Any, s2: Any, runs: Any, step: Any, length: Any, panel: Any,
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

        sums = e.loop(runs, [_ZERO] * count, add_run)
        grouped = [sums[n : n + vectors] for n in range(0, count, vectors)]
        for m, line in enumerate(finish(e, grouped, bias)):
            for j, vector in enumerate(line):
                e.store(vector, e.at(y, (across, m), j * LANES))

    return emit


def _plain(_: _Emit, sums: list[list[_Value]], __: _Value) -> list[list[_Value]]:
    return sums


def _biased(e: _Emit, sums: list[list[_Value]], bias: _Value) -> list[list[_Value]]:
    return [[e.b.fadd(v, e.load(e.at(bias, j * LANES))) for j, v in enumerate(row)] for row in sums]


def _pooled(e: _Emit, sums: list[list[_Value]], bias: _Value) -> list[list[_Value]]:
    """Maximum of each four rows, then bias and relu.

    Rounding is monotone, so the bias may be added after the maximum.
    """
    fours = [[e.most(*four) for four in zip(*sums[n : n + 4], strict=True)] for n in range(0, len(sums), 4)]
    return [[e.most(v, _ZERO) for v in row] for row in _biased(e, fours, bias)]


def _squared(e: _Emit, x: _Value, c: _Value, total: _Value) -> _Value:
    """Adds (x - c)**2, each step rounded, without fused multiply-add: labels depend on these bits."""
    difference = e.b.fsub(x, c)
    return e.b.fadd(total, e.b.fmul(difference, difference))


def _emit_in(e: _Emit, x: Any, down: Any, across: Any, v: Any, spacing: Any) -> None:
    """Transforms a tile of SIDE x SIDE pixels into Winograd's domain."""
    columns = [
        e.combined(GOES_IN, [e.load(e.at(x, (across, c), (down, r))) for r in range(SIDE)])
        for c in range(SIDE)
    ]
    for r in range(SIDE):
        for c, vector in enumerate(e.combined(GOES_IN, [column[r] for column in columns])):
            e.store(vector, e.at(v, (spacing, r * SIDE + c)))


def _emit_out(e: _Emit, m: Any, spacing: Any, bias: Any, y: Any, down: Any, across: Any) -> None:
    """Transforms a tile back from Winograd's domain; 2 x 2 pooling of its OUT x OUT pixels, bias, relu."""
    columns = [
        e.combined(COMES_OUT, [e.load(e.at(m, (spacing, r * SIDE + c))) for r in range(SIDE)])
        for c in range(SIDE)
    ]
    rows = [e.combined(COMES_OUT, [column[r] for column in columns]) for r in range(OUT)]
    for r in range(0, OUT, 2):
        for c in range(0, OUT, 2):
            four = [[rows[r][c]], [rows[r][c + 1]], [rows[r + 1][c]], [rows[r + 1][c + 1]]]
            e.store(_pooled(e, four, bias)[0][0], e.at(y, (down, r // 2), (across, c // 2)))


def _exp(e: _Emit, x: _Value) -> _Value:
    """e**x for x <= 0: 2**n times a polynomial, within 2 units in the last place."""
    b = e.b
    x = e.most(x, _all(-87))
    shifted = e.times_plus(x, _all(1.4426950408889634), _all(12582912))  # rounds to a whole number n
    n = b.fsub(shifted, _all(12582912))
    r = e.times_plus(n, _all(-1.42860682030941e-06), e.times_plus(n, _all(-0.693145751953125), x))
    total = _all(1 / 5040)
    for k in (1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0):
        total = e.times_plus(total, r, _all(k))
    power = b.shl(b.add(b.fptosi(n, _WORDS), _WORDS([127] * LANES)), _WORDS([23] * LANES))
    return b.fmul(total, b.bitcast(power, _VECTOR))


def _emit_softmax(e: _Emit, x: Any, count: Any, y: Any) -> None:
    """Softmax of the first `count` numbers at `x`; the rest of the last vector of `y` becomes 0."""
    b = e.b
    vectors = b.sdiv(b.add(count, _I64(LANES - 1)), _I64(LANES))

    def masked(i: Any, vector: Any, other: float) -> Any:
        remaining = e.splat(b.sitofp(b.sub(count, b.mul(i, _I64(LANES))), _F32))
        within = b.fcmp_ordered("<", ir.Constant(_VECTOR, [float(n) for n in range(LANES)]), remaining)
        return b.select(within, vector, _all(other))

    def largest(i: Any, carried: list[Any]) -> list[Any]:
        return [e.most(carried[0], masked(i, e.load(e.at(x, (i, LANES))), -3e38))]

    top = e.across(e.loop(vectors, [_all(-3e38)], largest)[0], e.most)

    def powers(i: Any, carried: list[Any]) -> list[Any]:
        power = masked(i, _exp(e, b.fsub(e.load(e.at(x, (i, LANES))), top)), 0)
        e.store(power, e.at(y, (i, LANES)))
        return [b.fadd(carried[0], power)]

    share = b.fdiv(_all(1), e.across(e.loop(vectors, [_ZERO], powers)[0], b.fadd))

    def shares(i: Any, _: list[Any]) -> list[Any]:
        e.store(b.fmul(e.load(e.at(y, (i, LANES))), share), e.at(y, (i, LANES)))
        return []

    e.loop(vectors, [], shares)


_tile = _instruction("tile", "piiiiiipppi", _product(_ROWS, _VECTORS, _Emit.times_plus, _plain))
_tile_biased = _instruction(
    "tile_biased", "piiiiiipppi", _product(_ROWS, _VECTORS, _Emit.times_plus, _biased)
)
_tile_pooled = _instruction(
    "tile_pooled", "piiiiiipppi", _product(_ROWS, _VECTORS, _Emit.times_plus, _pooled)
)
_eight_squared = _instruction("eight_squared", "piiiiiipppi", _product(8, 1, _squared, _plain))
_one_squared = _instruction("one_squared", "piiiiiipppi", _product(1, 1, _squared, _plain))
_goes_in = _instruction("goes_in", "piipi", _emit_in)
_comes_out = _instruction("comes_out", "pippii", _emit_out)
_softmax = _instruction("softmax", "pip", _emit_softmax)


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
            for c in range(0, cols, _ROWS // 4):
                source = 2 * (r * x_width + c) * channels
                to = (r * y_width + c) * out + p * PANEL
                _tile_pooled(
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
                _goes_in(x, source + c, x_width * channels, channels, v, k * channels + c, TILES * channels)
        for p in range(panels):
            for i in range(SIDE * SIDE):
                for k in range(0, count, _ROWS):
                    source, to = (i * TILES + k) * channels, (i * TILES + k) * PANEL
                    _tile(
                        *(v, source, channels, 2 * channels, 4 * channels, 1, 0, channels),
                        *(weights, (i * panels + p) * channels * PANEL, bias, 0, m, to, PANEL),
                    )
            for k in range(count):
                row, col = (start + k) // across, (start + k) % across
                to = (row * y_width + col) * half * out + p * PANEL
                for c in range(0, PANEL, LANES):
                    _comes_out(
                        m, k * PANEL + c, TILES * PANEL, bias, p * PANEL + c, y, to + c, y_width * out, out
                    )


@compiled
def _linear(x: Any, start: int, count: int, channels: int, layer: Any, y: Any) -> None:
    """1 x 1 convolution of `count` pixels from pixel `start`; reads and writes up to 7 pixels beyond."""
    weights, bias, out = layer
    for block in range(0, count, _BLOCK_ROWS):
        for p in range(out // PANEL):
            for k in range(block, min(count, block + _BLOCK_ROWS), _ROWS):
                _tile_biased(
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
                _softmax(source, begin, dims, y, to)
            else:
                y[to : to + dims] = source[begin : begin + dims]


@compiled
def distances(x: Any, count: int, dims: int, centres: Any, panels: int, y: Any) -> None:
    """Squared distances (count, panels * LANES) of vectors to centres (panels, dims, LANES)."""
    eights = count - count % 8
    for p in range(panels):
        weights, to = p * dims * LANES, p * LANES
        for k in range(0, eights, 8):
            _eight_squared(
                *(x, k * dims, dims, 2 * dims, 4 * dims, 1, 0, dims),
                *(centres, weights, centres, 0, y, k * panels * LANES + to, panels * LANES),
            )
        for k in range(eights, count):
            _one_squared(
                *(x, k * dims, 0, 0, 0, 1, 0, dims),
                *(centres, weights, centres, 0, y, k * panels * LANES + to, panels * LANES),
            )
