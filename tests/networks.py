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


class Strided(torch.nn.Module):
    """One convolution of a given stride, padding and dilation."""

    def __init__(self, side=7, stride=4, padding=0, dilation=1):
        super().__init__()
        self.only = torch.nn.Conv2d(3, 6, side, stride, padding, dilation)

    def forward(self, x):
        return self.only(x)


class Wide(torch.nn.Module):
    """Taps 80 px apart at a stride of 8: a small image never shows them."""

    def __init__(self):
        super().__init__()
        self.only = torch.nn.Conv2d(3, 6, 3, dilation=10, padding=10)

    def forward(self, x):
        return self.only(torch.nn.functional.avg_pool2d(x, 8))


class Decoder(Padded):
    """Features that are repeated to four times their number."""

    def forward(self, x):
        return torch.nn.functional.interpolate(super().forward(x), scale_factor=4.0)


class Infinite(Strided):
    """Features that are not numbers."""

    def forward(self, x):
        return super().forward(x) * 1e30 * 1e30


class Random(Strided):
    """Dropout that stays on."""

    def forward(self, x):
        return torch.nn.functional.dropout(super().forward(x), 0.5, training=True)


class Picky(Padded):
    """Takes multiples of 32 only."""

    def forward(self, x):
        return super().forward(x.reshape(x.shape[0], 3, x.shape[2] // 32 * 32, x.shape[3] // 32 * 32))


class Flat(torch.nn.Module):
    """A classifier: one vector for an image."""

    def forward(self, x):
        return x.mean(dim=(2, 3))


def save(module, path, seed=0, bands=3):
    """Trace a module with seeded weights into a file; gives its path."""
    torch.manual_seed(seed)
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(
            module.eval(), torch.rand(1, bands, 128, 128), strict=False, check_trace=False
        )
        torch.jit.save(traced, str(path))
    return path
