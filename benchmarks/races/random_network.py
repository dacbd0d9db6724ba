"""A network of the old system's shape with random weights.

`python -m benchmarks.races.random_network STRIDE FILE` writes it as TorchScript.

Convolutions of 3 x 3 without padding, each followed by a maximum over 2 x 2 and a ReLU, then one of 1 x 1
and a softmax over the channels. Time does not depend on the weights.
"""

from __future__ import annotations

import sys
import warnings

_CHANNELS = {4: (192, 384), 8: (96, 192, 288), 16: (48, 96, 144, 192)}


def save(stride_px: int, path: str) -> None:
    """Write the network of a stride of 4, 8 or 16 pixels as a TorchScript file."""
    import torch

    torch.manual_seed(0)
    layers: list[torch.nn.Module] = []
    before = 3
    for channels in _CHANNELS[stride_px]:
        layers += [torch.nn.Conv2d(before, channels, 3), torch.nn.MaxPool2d(2), torch.nn.ReLU()]
        before = channels
    layers += [torch.nn.Conv2d(before, before, 1), torch.nn.Softmax(1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch 2.13 calls TorchScript deprecated; it still saves
        torch.jit.script(torch.nn.Sequential(*layers).eval()).save(path)


if __name__ == "__main__":
    save(int(sys.argv[1]), sys.argv[2])
