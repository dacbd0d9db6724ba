"""TorchScript modules read as a straight line of steps, if they are one."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from engine.networks.straight import Convolution, Straight


def straight_of(torch: Any, module: Any) -> Straight | None:
    """A TorchScript module as a straight line, or None if it is not one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch 2.13 calls TorchScript deprecated
            graph = torch.jit.freeze(module).graph
    except RuntimeError:
        return None
    outputs = list(graph.outputs())
    if outputs and outputs[0].node().kind() == "prim::TupleConstruct":
        # features are the last value of the tuple that is not None
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
    """The steps as a `Straight`, or None if their order is not the supported one."""
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
    """The step that a node of the graph applies to its first input, or None if it is not supported."""
    kind = node.kind().removesuffix("_")
    constants = [v.toIValue() for v in node.inputs()][1:]  # None for inputs that are not constants
    if kind == "aten::relu":
        return "relu"
    if (
        kind == "aten::max_pool2d"
        and constants[:2] in ([[2, 2], [2, 2]], [[2, 2], []])
        and constants[2:] == [[0, 0], [1, 1], False]
    ):
        return "pool"
    if kind == "aten::softmax" and constants[0] in (1, -3) and constants[1] is None:
        return "softmax"
    plain = [[1, 1], [0, 0], [1, 1]]
    if kind == "aten::conv2d" and constants[2:] == [*plain, 1]:
        return _convolution(*constants[:2])
    if kind == "aten::_convolution" and constants[2:8] == [*plain, False, [0, 0], 1]:
        return _convolution(*constants[:2])
    return None


def _convolution(weights: Any, bias: Any) -> Convolution | None:
    if weights is None:
        return None
    kernel = weights.float().contiguous().numpy()
    offset = np.zeros(len(kernel), np.float32) if bias is None else bias.float().numpy()
    # a weight that is not finite would spread to more pixels by Winograd's products than by direct ones
    return Convolution(kernel, offset) if np.isfinite(kernel).all() and np.isfinite(offset).all() else None
