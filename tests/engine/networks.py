"""Small networks with random weights, as TorchScript files; a fixed seed, so runs repeat."""

from __future__ import annotations

import warnings

import torch


class Valid(torch.nn.Module):
    """Two valid convolutions with pooling: the old system's shape at a hundredth of its size."""

    def __init__(self, features=12):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3)
        self.second = torch.nn.Conv2d(8, features, 3)

    def forward(self, x):
        x = torch.relu(torch.max_pool2d(self.first(x), 2))
        x = torch.relu(torch.max_pool2d(self.second(x), 2))
        return None, torch.softmax(x, dim=1)


class Padded(torch.nn.Module):
    """Strided convolutions that pad with zeros."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, 2, 1)
        self.second = torch.nn.Conv2d(8, 10, 3, 2, 1)

    def forward(self, x):
        return torch.relu(self.second(torch.relu(self.first(x))))


class Normed(Padded):
    """Group norm: every feature depends on the whole image."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.GroupNorm(2, 10)

    def forward(self, x):
        return self.norm(super().forward(x))


class Flat(torch.nn.Module):
    """A classifier: one vector for an image."""

    def forward(self, x):
        return x.mean(dim=(2, 3))


def save(module, path, seed=0):
    """Trace a module with seeded weights into a file; gives its path."""
    torch.manual_seed(seed)
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(module.eval(), torch.rand(1, 3, 64, 64), strict=False, check_trace=False)
        torch.jit.save(traced, str(path))
    return path
