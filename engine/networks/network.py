"""Convolutional networks, which evaluate one image.

A network is loaded from a TorchScript file (`engine.networks.loading`), once per process
(`engine.networks.cache`), and runs on one intra-op thread per cell; parallelism is over cells. Its geometry
is measured (`engine.networks.geometry`).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from engine.arrays import F32
from engine.errors import NetworkError
from engine.networks.loading import import_torch, load
from engine.networks.straight import Straight
from engine.networks.torch_graph import straight_of

TORCHSCRIPT = "torchscript"
"""TorchScript in float32: the form that every network has, and the reference for the others."""

STRAIGHT = "straight"
"""Our own loops on a CPU, for networks of a known kind (`engine.networks.straight`)."""


class Network:
    """A loaded network.

    Parameters
    ----------
    path
        TorchScript file; ``forward(x)`` returns features (1, D, h, w), or a tuple that ends with them.
    device
        Torch device.

    Raises
    ------
    NetworkError
        If the file is not such a network.
    """

    def __init__(self, path: str, device: str) -> None:
        self.path = path
        self._torch = import_torch()
        self._device = device
        self._module = load(self._torch, path, device)

    @functools.cached_property
    def line(self) -> Straight | None:
        """The network as a straight line of known steps, or None if it is not one."""
        return straight_of(self._torch, self._module)

    @property
    def straight(self) -> Straight:
        """The network as a straight line of known steps.

        Raises
        ------
        NetworkError
            If it is not one.
        """
        if self.line is None:
            raise NetworkError(f"{self.path}: is no straight line of known steps; fit the codebook again")
        return self.line

    def features(self, image: F32, form: str = TORCHSCRIPT) -> F32:
        """Features of one image.

        Parameters
        ----------
        image
            Shape (band, y, x), float32, 0 to 1.
        form
            How they are computed if the device is a CPU: `TORCHSCRIPT` or `STRAIGHT`.

        Returns
        -------
        numpy.ndarray
            Shape (D, h, w), float32, C-contiguous or (from `STRAIGHT`) channels last.

        Raises
        ------
        NetworkError
            If the network fails on the image, or does not return features.
        """
        if form == STRAIGHT and self._device == "cpu":
            try:
                return np.moveaxis(self.straight.features(image), -1, 0)
            except ValueError as error:
                raise NetworkError(f"{self.path}: {error}") from None
        torch = self._torch
        try:
            with torch.inference_mode():
                x = torch.from_numpy(np.ascontiguousarray(image))[None]
                # channels last: 1.7 times as fast as the default layout for the old networks on a CPU
                features = self._forward(x.to(self._device, memory_format=torch.channels_last))
                result: F32 = features[0].float().cpu().numpy()
        except RuntimeError as error:  # TorchScript's errors are RuntimeErrors with a trace of many lines
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            shape = " x ".join(map(str, image.shape))
            raise NetworkError(f"{self.path}: fails on an image of {shape} ({lines[-1][:160]})") from error
        return result

    def _forward(self, x: Any) -> Any:
        out = self._module(x)
        if isinstance(out, (tuple, list)):
            out = next((o for o in reversed(out) if o is not None), None)
        if not isinstance(out, self._torch.Tensor) or out.ndim != 4 or out.shape[0] != x.shape[0]:
            shape = tuple(out.shape) if isinstance(out, self._torch.Tensor) else type(out).__name__
            raise NetworkError(
                f"{self.path}: forward gives {shape}; features of shape (1, D, h, w) are needed"
            )
        return out
