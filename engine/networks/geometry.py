"""The geometry of a network: stride, receptive field and halo, read or probed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.errors import NetworkError
from engine.networks import straight
from engine.networks.network import STRAIGHT, TORCHSCRIPT, Network

# heights and widths of the image that geometry is probed with: the first that is large enough
_PROBES = ((160, 64), (320, 160), (640, 448))


_CHANNELS = (3, 1, 4, 2, *range(5, 17))


_CLOSE = 1e-3  # share of the largest feature by which those of two forms may differ


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a network's features lie on its input, in pixels.

    Parameters
    ----------
    channels
        Bands that it takes.
    features
        Length D of a feature vector.
    stride_px
        Pixels from one feature to the next.
    field_px
        Side of the receptive field.
    offset_px
        First pixel of the receptive field of feature 0 (negative where the network pads).
    """

    channels: int
    features: int
    stride_px: int
    field_px: int
    offset_px: int

    def halo_px(self, ring: int) -> int:
        """Pixels to add on each side of a cell so that each block of `stride_px` has its feature.

        With this halo the centre of a feature's receptive field is the centre of its block (half a
        pixel off where field and stride differ by an odd number), and no feature that is used sees
        the network's own padding. `ring` more features on each side serve interpolation.
        """
        return self.lead + self.pad * self.stride_px + ring * self.stride_px

    @property
    def lead(self) -> int:
        """Pixels from the start of a feature's receptive field to its block, if there is no padding."""
        return self.offset_px + (self.field_px - self.stride_px) // 2

    @property
    def pad(self) -> int:
        """Features at each side that see the network's own padding, and are dropped."""
        reach = -(-(self.field_px - self.stride_px) // 2)
        return -(-max(0, reach - self.lead) // self.stride_px)


def probe(network: Network) -> Geometry:
    """Geometry of a network: from its steps, or from where NaN in one row of pixels shows up in its features.

    Raises
    ------
    NetworkError
        If it takes no images of 1 to 16 bands, its features do not lie on one regular grid that
        divides a cell, or they depend on more than their surroundings.
    """
    if (line := network.line) is not None and _alike(network, line):
        return Geometry(line.channels, line.dims, line.stride_px, line.field_px, 0)
    failures: list[NetworkError] = []
    for height, width in _PROBES:
        channels = _channels(network, height, width, failures)
        if channels and (found := _probed(network, channels, height, width)):
            return found
    if failures and not channels:
        raise failures[-1]
    raise NetworkError(
        f"{network.path}: each feature depends on the whole image, or not on all pixels of a square, so "
        "labels would depend on how the raster is cut; use one without global pooling, group norm or gaps"
    )


def _alike(network: Network, line: straight.Straight) -> bool:
    """Whether a network does what its steps say, on one small image."""
    # more than a field, so that features of other places or of another stride cannot be taken for these
    side = line.field_px + 2 * line.stride_px + 1
    image = np.random.default_rng(0).random((line.channels, side, side), np.float32)
    want, found = (network.features(image, form) for form in (TORCHSCRIPT, STRAIGHT))
    return want.shape == found.shape and bool(np.abs(want - found).max() <= _CLOSE * np.abs(want).max())


def _channels(network: Network, height: int, width: int, failures: list[NetworkError]) -> int:
    """Bands that a network takes; 0 if it takes no image of this size."""
    for channels in _CHANNELS:
        try:
            network.features(np.zeros((channels, height, width), np.float32))
        except NetworkError as error:
            failures.append(error)
        else:
            return int(channels)
    return 0


def _probed(network: Network, channels: int, height: int, width: int) -> Geometry | None:
    """Geometry as an image of this size shows it, or None if it is too small to tell."""
    rows = int(network.features(np.zeros((channels, height, width), np.float32)).shape[1])
    begins: list[tuple[int, int]] = []
    ends: list[tuple[int, int]] = []
    before: tuple[int, int] | None = None
    for row in range(height // 2, height):
        image = np.full((channels, height, width), 0.5, np.float32)
        image[:, row] = np.nan
        features = network.features(image)
        hit = np.flatnonzero(np.isnan(features).any(axis=(0, 2)))
        if len(hit) == 0 or hit[0] == 0 or hit[-1] == rows - 1:
            return None
        first, last = int(hit[0]), int(hit[-1])
        if before is not None:
            if last - before[1] > 1 or first - before[0] > 1 or last < before[1] or first < before[0]:
                raise NetworkError(
                    f"{network.path}: its features do not lie on one regular grid (a decoder that "
                    "upsamples?), so they cannot be placed; use the features before it"
                )
            if last > before[1]:
                begins.append((row, last))  # the receptive field of feature `last` begins at this row
            if first > before[0]:
                ends.append((row, before[0]))  # that of the feature before ended at the row above
        before = first, last
        if len(begins) > 2 and len(ends) > 1:
            stride = begins[1][0] - begins[0][0]
            if begins[2][0] - begins[1][0] != stride or ends[1][0] - ends[0][0] != stride:
                raise NetworkError(f"{network.path}: its features do not lie on one regular grid")
            offset = begins[0][0] - stride * begins[0][1]
            field = ends[0][0] - offset - stride * ends[0][1]
            return Geometry(channels, len(features), stride, field, offset)
    return None


def verify(network: Network, geometry: Geometry, side: int, halo_px: int) -> None:
    """Evaluate a network as it will be, on a cell with its halo, and a part of it: both have to agree.

    Parameters
    ----------
    network, geometry
        The network, and its geometry as probed.
    side
        Side of a cell in pixels.
    halo_px
        Pixels around it.

    Raises
    ------
    NetworkError
        If features are missing, not finite, not repeatable, or see more than their receptive field.
    """
    stride, pad = geometry.stride_px, geometry.pad
    if side % stride:
        raise NetworkError(
            f"{network.path}: a stride of {stride} px does not divide cells of {side} px; strides "
            "of 1, 2, 4, 8, 16 and 32 px do"
        )
    if network.line is not None:
        return  # none of what is looked for here can be in it
    rng = np.random.default_rng(0)
    image = rng.random((geometry.channels, side + 2 * halo_px, side + 2 * halo_px), np.float32)
    whole = network.features(image)
    count = (side + 2 * halo_px - 2 * geometry.halo_px(0)) // stride
    if min(whole.shape[1:]) < pad + count:
        raise NetworkError(
            f"{network.path}: gives {whole.shape[2]} x {whole.shape[1]} features for {count} x {count} "
            "blocks; rows and columns have to have one stride"
        )
    if not np.isfinite(whole).all():
        raise NetworkError(f"{network.path}: gives features that are not finite numbers")
    start, half = side // 4 // stride * stride, side // 2 // stride * stride
    cut = slice(start, start + half + 2 * halo_px)
    part = network.features(image[:, cut, cut])
    again = network.features(image[:, cut, cut])
    if not np.array_equal(part, again):
        raise NetworkError(
            f"{network.path}: gives other features each time (dropout?); export it in eval mode"
        )
    inner = count - (side - half) // stride
    at, to = slice(pad + start // stride, pad + start // stride + inner), slice(pad, pad + inner)
    scale = float(np.abs(whole).max()) or 1.0
    if np.abs(whole[:, at, at] - part[:, to, to]).max() > 1e-3 * scale:
        raise NetworkError(
            f"{network.path}: features see more of the image than their receptive field of "
            f"{geometry.field_px} px as probed (wide dilation?); use another network"
        )
