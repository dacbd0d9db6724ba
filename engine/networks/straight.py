"""Networks that are one straight line of known steps, evaluated by our own compiled loops.

The steps are those of the old system's networks: 3 x 3 convolutions without padding, each followed by
2 x 2 max pooling and relu; then optionally a 1 x 1 convolution and a softmax. On a CPU this form takes a
small fraction of TorchScript's time; it computes in float32 and is as exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.arrays import F32
from engine.networks.simd import loops
from engine.networks.simd.emitter import LANES
from engine.networks.simd.products import PANEL
from engine.networks.simd.winograd import SIDE, G

Rows = Callable[[int, int], F32]

_STRIP_PX = 256  # rows of the image evaluated at a time, so that intermediate results stay small
_FEW = 16  # below this many channels, Winograd's transforms cost more than they save
_SLACK = 8  # pixels beyond the last one that the loops may read or write


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
        True if the last step is a softmax over channels.
    """

    def __init__(self, stages: list[Convolution], last: Convolution | None, *, softmax: bool) -> None:
        self._bands = stages[0].weights.shape[1]
        self._dims = len((last or stages[-1]).weights)
        self._softmax = softmax
        self._stages = [_Stage(stages[0], self._bands)]
        for stage in stages[1:]:
            self._stages.append(_Stage(stage, self._stages[-1].out))
        channels = self._stages[-1].out
        self._last = (np.empty(0, np.float32), np.empty(0, np.float32), 0)
        if last is not None:
            self._last = (_panels(_widened(last.weights, channels)[..., 0, 0].T[None]), *_bias(last))

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
        """Side of the receptive field, which begins at the feature's first pixel; 3 * stride - 2."""
        return 3 * self.stride_px - 2

    @property
    def _wanted(self) -> str:
        return f"takes images of {self._bands} bands that are large enough for one feature"

    def features(self, image: F32) -> F32:
        """Features (h, w, D) of an image (band, y, x), float32.

        Raises
        ------
        ValueError
            If it has another number of bands, or too few pixels.
        """
        if image.shape[0] != self._bands:
            raise ValueError(self._wanted)
        strips = [*self.strips(lambda row, end: image[:, row:end], *image.shape[1:])]
        return strips[0] if len(strips) == 1 else np.concatenate(strips)

    def strips(self, rows: Rows, height: int, width: int) -> Iterator[F32]:
        """The features of an image from top to bottom, some rows of features at a time.

        A feature is bit-identical in all images whose first pixels are multiples of two strides apart, if
        the number of features is even along both axes: then each step computes the same Winograd tiles.

        Parameters
        ----------
        rows
            ``rows(start, stop)`` returns these rows of the image, (band, y, x), float32; each row is
            requested once, in order.
        height, width
            Size of the image.

        Yields
        ------
        numpy.ndarray
            Shape (rows, w, D), float32.

        Raises
        ------
        ValueError
            If the image has too few pixels.
        """
        steps = len(self._stages)
        count, across = _sizes(height, steps)[-1][0], _sizes(width, steps)
        if min(count, across[-1][0]) < 1:
            raise ValueError(self._wanted)
        even = count + count % 2
        step = min(even, max(2, _STRIP_PX // self.stride_px // 2 * 2))
        channels = [self._bands, *(stage.out for stage in self._stages)]
        lines = [size[1] * n for size, n in zip(across, channels, strict=True)]
        held = [
            np.zeros(_needed(step, steps - i) * line + _SLACK * channels[i], np.float32)
            for i, line in enumerate(lines)
        ]
        for first in range(0, even, step):
            end = min(first + step, even)
            # the last two rows of each step's input are needed again for the next strip
            kept = 2 if first else 0
            from_row, to_row = _needed(first, steps) * (first > 0), _needed(end, steps)
            self._fill(held[0], lines[0], kept, rows, (from_row, to_row), height, width)
            for i, stage in enumerate(self._stages):
                after = steps - i - 1
                computed = _needed(end, after) - (_needed(first, after) if first else 0)
                into = held[i + 1][kept * lines[i + 1] if after else 0 :]
                stage.run(held[i], across[i][1], into, across[i + 1][1], (computed, across[i + 1][0]))
            wanted = min(end, count) - first
            yield self._head(held[-1], across[-1], channels[-1], wanted)
            for i, line in enumerate(lines[:-1]):
                filled = kept + _needed(end, steps - i) - (_needed(first, steps - i) if first else 0)
                held[i][: 2 * line] = held[i][(filled - 2) * line : filled * line].copy()

    def _fill(
        self, held: F32, line: int, kept: int, rows: Rows, span: tuple[int, int], height: int, width: int
    ) -> None:
        """Write rows of the image, channels last, behind the rows kept; 0 beyond the image."""
        row, end = span
        target = held[kept * line : (kept + end - row) * line].reshape(end - row, -1, self._bands)
        available = min(end, height) - row
        target[:available, :width] = np.moveaxis(rows(row, row + available), 0, -1)
        target[available:] = 0

    def _head(self, x: F32, across: tuple[int, int], channels: int, height: int) -> F32:
        """Features (height, w, D) from the output of the last stage."""
        width, x_width = across
        features = np.empty(height * width * self._dims + LANES, np.float32)
        line = np.empty((width + _SLACK) * self._last[2], np.float32)
        loops.head(
            *(x, x_width, channels, self._last, line, features),
            *(height, width, self._dims, int(self._softmax)),
        )
        return features[: height * width * self._dims].reshape(height, width, self._dims)


class _Stage:
    """A 3 x 3 convolution with pooling and relu; its weights are packed for the compiled loops."""

    def __init__(self, layer: Convolution, channels: int) -> None:
        self._channels = channels
        weights = _widened(layer.weights, channels)
        self._few = channels < _FEW
        if self._few:
            packed = _panels(weights.transpose(2, 3, 1, 0).reshape(1, 9 * channels, -1))
        else:
            g = np.array(G)
            packed = _panels(
                (g @ weights.astype(np.float64) @ g.T).transpose(2, 3, 1, 0).reshape(36, channels, -1)
            )
        self._layer = (packed, *_bias(layer))

    @property
    def out(self) -> int:
        """Number of output channels, padded to whole panels."""
        return self._layer[2]

    def run(self, x: F32, x_width: int, y: F32, y_width: int, pooled: tuple[int, int]) -> None:
        """Fill at least `pooled` (rows, columns) of `y`, whose rows have `y_width` pixels."""
        rows, cols = (size + size % 2 for size in pooled)
        if self._few:
            loops.few_channels(x, x_width, self._channels, self._layer, y, y_width, rows, cols)
            return
        area = SIDE**2 * loops.TILES
        buffers = np.empty(area * self._channels, np.float32), np.empty(area * PANEL, np.float32)
        tiles = rows // 2, cols // 2
        loops.many_channels(x, x_width, self._channels, self._layer, y, y_width, *tiles, buffers)


def _needed(end: int, steps: int) -> int:
    """Rows of a step's input that the feature rows before `end` need, that many `steps` later."""
    return int(2**steps * (end + 2) - 2)


def _sizes(size: int, stages: int) -> list[tuple[int, int]]:
    """(pixels, pixels to allocate) along one axis, of the image and of each stage's result.

    Stages compute pooled pixels in pairs; the values beyond the result are never used.
    """
    sizes = [size]
    for _ in range(stages):
        sizes.append((sizes[-1] - 2) // 2)
    even = [s + s % 2 for s in sizes]
    needed = [2 * e + 2 for e in even[1:]] + [0]
    return [(s, max(e, n)) for s, e, n in zip(sizes, even, needed, strict=True)]


def _whole_panels(channels: int) -> int:
    """The number of channels, rounded up to whole panels."""
    return -(-channels // PANEL) * PANEL


def _widened(weights: F32, channels: int) -> F32:
    """Weights padded with zeros for an input with more channels."""
    return np.pad(weights, ((0, 0), (0, channels - weights.shape[1]), (0, 0), (0, 0)))


def _bias(layer: Convolution) -> tuple[F32, int]:
    """The bias, padded to whole panels, and the number of channels with the padding."""
    out = _whole_panels(len(layer.bias))
    return np.pad(layer.bias, (0, out - len(layer.bias))), out


def _panels(matrices: npt.NDArray[Any]) -> F32:
    """Matrices (n, in, out) in the order in which the loops read them: (n, panel, in, PANEL), flat."""
    count, rows, cols = matrices.shape
    wide = np.pad(matrices, ((0, 0), (0, 0), (0, _whole_panels(cols) - cols)))
    panelled = wide.reshape(count, rows, -1, PANEL).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(panelled, np.float32).reshape(-1)
