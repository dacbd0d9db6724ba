"""Networks that are one straight line of known steps, evaluated by our own compiled loops.

The steps are those of the old system's networks: 3 x 3 convolutions without padding, each pooled by 2 x 2
and cut off at 0, then perhaps a 1 x 1 convolution, then perhaps a softmax. On a CPU this form takes a
small part of TorchScript's time, in float32, and is as exact.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.networks import simd

F32 = npt.NDArray[np.float32]
Rows = Callable[[int, int], F32]

_BAND_PX = 256  # rows of the image that are evaluated at a time: what is between two steps stays small
_FEW = 16  # below this many channels, Winograd's transforms cost more than they save
_SLACK = 8  # pixels that the loops may read or write behind the last


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution of stride 1 without padding.

    Parameters
    ----------
    weights
        Shape (out, in, side, side), float32.
    bias
        Shape (out,), float32.
    """

    weights: F32
    bias: F32


class Straight:
    """A network as a straight line.

    Parameters
    ----------
    stages
        3 x 3 convolutions, each followed by pooling and relu.
    last
        The 1 x 1 convolution, or None.
    softmax
        True if features are a softmax over channels.
    """

    def __init__(self, stages: list[Convolution], last: Convolution | None, *, softmax: bool) -> None:
        self._bands = stages[0].weights.shape[1]
        self._dims = len((last or stages[-1]).weights)
        self._softmax = softmax
        self._stages = [_Stage(stages[0], self._bands)]
        for stage in stages[1:]:
            self._stages.append(_Stage(stage, self._stages[-1].out))
        held = self._stages[-1].out
        self._last = (np.empty(0, np.float32), np.empty(0, np.float32), 0)
        if last is not None:
            self._last = (_panels(_widened(last.weights, held)[..., 0, 0].T[None]), *_bias(last))

    @property
    def channels(self) -> int:
        """Bands that it takes."""
        return int(self._bands)

    @property
    def dims(self) -> int:
        """Length D of a feature vector."""
        return self._dims

    @property
    def stride_px(self) -> int:
        """Pixels from one feature to the next: each stage doubles them."""
        return int(2 ** len(self._stages))

    @property
    def field_px(self) -> int:
        """Side of the receptive field, which begins where the feature does: each stage adds three steps."""
        return 3 * self.stride_px - 2

    @property
    def _wanted(self) -> str:
        return f"takes images of {self._bands} bands that are large enough for one feature"

    def features(self, image: F32) -> F32:
        """Features (h, w, D) of an image (band, y, x), float32.

        Raises
        ------
        ValueError
            If it has other bands, or too few pixels.
        """
        if image.shape[0] != self._bands:
            raise ValueError(self._wanted)
        found = [*self.bands(lambda row, end: image[:, row:end], *image.shape[1:])]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def bands(self, rows: Rows, height: int, width: int) -> Iterator[F32]:
        """The features of an image, from top to bottom, some rows of them at a time.

        A feature is the same to the last bit in every image whose first pixel is a multiple of two strides
        away, if the features are even in number along both axes: each step goes by tiles that lie alike then.

        Parameters
        ----------
        rows
            Gives the rows from one to before another, (band, y, x), float32; asked for each once, in order.
        height, width
            Of the image.

        Yields
        ------
        numpy.ndarray
            Shape (rows, w, D), float32.

        Raises
        ------
        ValueError
            If it has too few pixels.
        """
        steps = len(self._stages)
        count, across = _sizes(height, steps)[-1][0], _sizes(width, steps)
        if min(count, across[-1][0]) < 1:
            raise ValueError(self._wanted)
        even = count + count % 2
        step = min(even, max(2, _BAND_PX // self.stride_px // 2 * 2))
        channels = [self._bands, *(stage.out for stage in self._stages)]
        lines = [size[1] * n for size, n in zip(across, channels, strict=True)]
        held = [
            np.zeros(_needed(step, steps - i) * line + _SLACK * channels[i], np.float32)
            for i, line in enumerate(lines)
        ]
        for first in range(0, even, step):
            end = min(first + step, even)
            # of what goes into a step, the last two rows are needed again
            kept = 2 if first else 0
            from_row, to_row = _needed(first, steps) * (first > 0), _needed(end, steps)
            self._fill(held[0], lines[0], kept, rows, (from_row, to_row), height, width)
            for i, stage in enumerate(self._stages):
                after = steps - i - 1
                made = _needed(end, after) - (_needed(first, after) if first else 0)
                into = held[i + 1][kept * lines[i + 1] if after else 0 :]
                stage.run(held[i], across[i][1], into, across[i + 1][1], (made, across[i + 1][0]))
            wanted = min(end, count) - first
            yield self._head(held[-1], across[-1], channels[-1], wanted)
            for i, line in enumerate(lines[:-1]):
                there = kept + _needed(end, steps - i) - (_needed(first, steps - i) if first else 0)
                held[i][: 2 * line] = held[i][(there - 2) * line : there * line].copy()

    def _fill(
        self, held: F32, line: int, kept: int, rows: Rows, span: tuple[int, int], height: int, width: int
    ) -> None:
        """Put rows of the image, channels last, behind those that are kept; 0 where there are none."""
        row, end = span
        into = held[kept * line : (kept + end - row) * line].reshape(end - row, -1, self._bands)
        there = min(end, height) - row
        into[:there, :width] = np.moveaxis(rows(row, row + there), 0, -1)
        into[there:] = 0

    def _head(self, x: F32, across: tuple[int, int], channels: int, height: int) -> F32:
        """Features (height, w, D) from what the stages give."""
        width, x_width = across
        found = np.empty(height * width * self._dims + simd.LANES, np.float32)
        line = np.empty((width + _SLACK) * self._last[2], np.float32)
        simd.head(
            *(x, x_width, channels, self._last, line, found), *(height, width, self._dims, int(self._softmax))
        )
        return found[: height * width * self._dims].reshape(height, width, self._dims)


class _Stage:
    """A 3 x 3 convolution with pooling and relu, its weights as the loops take them."""

    def __init__(self, layer: Convolution, channels: int) -> None:
        self._channels = channels
        weights = _widened(layer.weights, channels)
        self._few = channels < _FEW
        if self._few:
            packed = _panels(weights.transpose(2, 3, 1, 0).reshape(1, 9 * channels, -1))
        else:
            g = np.array(simd.WEIGHS)
            packed = _panels(
                (g @ weights.astype(np.float64) @ g.T).transpose(2, 3, 1, 0).reshape(36, channels, -1)
            )
        self._layer = (packed, *_bias(layer))

    @property
    def out(self) -> int:
        """Channels that it gives, whole panels."""
        return self._layer[2]

    def run(self, x: F32, x_width: int, y: F32, y_width: int, pooled: tuple[int, int]) -> None:
        """Fill `y`, an image of width `y_width`, at least as far as `pooled` (rows, columns)."""
        rows, cols = (size + size % 2 for size in pooled)
        if self._few:
            simd.few_channels(x, x_width, self._channels, self._layer, y, y_width, rows, cols)
            return
        area = simd.SIDE**2 * simd.TILES
        room = np.empty(area * self._channels, np.float32), np.empty(area * simd.PANEL, np.float32)
        tiles = rows // 2, cols // 2
        simd.many_channels(x, x_width, self._channels, self._layer, y, y_width, *tiles, room)


def _needed(end: int, steps: int) -> int:
    """Rows of an image that have to be there for the features of rows 0 to `end`, some steps later."""
    return int(2**steps * (end + 2) - 2)


def _sizes(size: int, stages: int) -> list[tuple[int, int]]:
    """Pixels along one axis of the image and of each stage's result, and how many there is to be room for.

    Stages are computed in pairs of pooled pixels; what stands in the room beyond the result is never used.
    """
    sizes = [size]
    for _ in range(stages):
        sizes.append((sizes[-1] - 2) // 2)
    even = [s + s % 2 for s in sizes]
    needed = [2 * e + 2 for e in even[1:]] + [0]
    return [(s, max(e, n)) for s, e, n in zip(sizes, even, needed, strict=True)]


def _whole(channels: int) -> int:
    return -(-channels // simd.PANEL) * simd.PANEL


def _widened(weights: F32, channels: int) -> F32:
    """Weights for an input of more channels, which count for nothing."""
    return np.pad(weights, ((0, 0), (0, channels - weights.shape[1]), (0, 0), (0, 0)))


def _bias(layer: Convolution) -> tuple[F32, int]:
    """The bias and the number of channels, whole panels."""
    out = _whole(len(layer.bias))
    return np.pad(layer.bias, (0, out - len(layer.bias))), out


def _panels(matrices: npt.NDArray[Any]) -> F32:
    """Matrices (n, in, out) as the loops read them: (n, panel, in, PANEL), flat."""
    count, rows, cols = matrices.shape
    wide = np.pad(matrices, ((0, 0), (0, 0), (0, _whole(cols) - cols)))
    parted = wide.reshape(count, rows, -1, simd.PANEL).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(parted, np.float32).reshape(-1)


def read(torch: Any, module: Any) -> Straight | None:
    """A TorchScript module as a straight line, or None if it is anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch 2.13 calls TorchScript deprecated
            graph = torch.jit.freeze(module).graph
    except RuntimeError:
        return None
    outputs = list(graph.outputs())
    if outputs and outputs[0].node().kind() == "prim::TupleConstruct":
        # features are the last of a tuple that is there
        outputs = [v for v in outputs[0].node().inputs() if v.type().kind() != "NoneType"]
    steps: list[Any] = []
    value = outputs[-1] if outputs else None
    image = list(graph.inputs())[1:]
    while value is not None and [value.debugName()] != [v.debugName() for v in image]:
        node = value.node()
        if (step := _step(node)) is None:
            return None
        steps.insert(0, step)
        value = next(iter(node.inputs()))
    return _line(steps)


def _line(steps: list[Any]) -> Straight | None:
    """The straight line of steps, or None if it is not of the kind that we evaluate."""
    stages: list[Convolution] = []
    while (
        len(steps) > 2 and isinstance(steps[0], Convolution) and {*map(str, steps[1:3])} == {"pool", "relu"}
    ):
        stages.append(steps[0])
        steps = steps[3:]
    last = steps.pop(0) if steps and isinstance(steps[0], Convolution) else None
    sides = [s.weights.shape[2:] for s in stages] + ([] if last is None else [last.weights.shape[2:]])
    if not stages or sides != [(3, 3)] * len(stages) + ([] if last is None else [(1, 1)]):
        return None
    if steps not in ([], ["softmax"]):
        return None
    return Straight(stages, last, softmax=bool(steps))


def _step(node: Any) -> Convolution | str | None:
    """What a node of the graph does to its first input, or None if that is nothing that we know."""
    kind = node.kind().removesuffix("_")
    given = [v.toIValue() for v in node.inputs()][1:]  # None of what is computed
    if kind == "aten::relu":
        return "relu"
    if (
        kind == "aten::max_pool2d"
        and given[:2] in ([[2, 2], [2, 2]], [[2, 2], []])
        and given[2:] == [[0, 0], [1, 1], False]
    ):
        return "pool"
    if kind == "aten::softmax" and given[0] in (1, -3) and given[1] is None:
        return "softmax"
    plain = [[1, 1], [0, 0], [1, 1]]
    if kind == "aten::conv2d" and given[2:] == [*plain, 1]:
        return _convolution(*given[:2])
    if kind == "aten::_convolution" and given[2:8] == [*plain, False, [0, 0], 1]:
        return _convolution(*given[:2])
    return None


def _convolution(weights: Any, bias: Any) -> Convolution | None:
    if weights is None:
        return None
    kernel = weights.float().contiguous().numpy()
    shift = np.zeros(len(kernel), np.float32) if bias is None else bias.float().numpy()
    # what is not finite would reach more pixels by Winograd's way than by the straight one
    return Convolution(kernel, shift) if np.isfinite(kernel).all() and np.isfinite(shift).all() else None
