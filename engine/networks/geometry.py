"""The geometry of a network: stride, receptive field and halo, read or probed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.errors import NetworkError
from engine.networks import straight
from engine.networks.network import STRAIGHT, TORCHSCRIPT, Network

# (height, width) of the images to probe with; the first one that is large enough is used
_PROBES = ((160, 64), (320, 160), (640, 448))
_CHANNELS = (3, 1, 4, 2, *range(5, 17))  # numbers of bands to try, likely ones first
_CLOSE = 1e-3  # largest difference between features of two forms, as a share of the largest feature


@dataclass(frozen=True, slots=True)
class Geometry:
    """Positions of a network's features on its input, in pixels.

    Parameters
    ----------
    channels
        Number of bands that it takes.
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
        pixel off where field and stride differ by an odd number), and no feature that is used depends
        on the network's own padding. `ring` is the number of extra features on each side, which
        interpolation needs.
        """
        return self.lead + self.pad * self.stride_px + ring * self.stride_px

    @property
    def lead(self) -> int:
        """Pixels from the start of a feature's receptive field to its block, without padding."""
        return self.offset_px + (self.field_px - self.stride_px) // 2

    @property
    def pad(self) -> int:
        """Features at each side that depend on the network's own padding, and are dropped."""
        reach = -(-(self.field_px - self.stride_px) // 2)
        return -(-max(0, reach - self.lead) // self.stride_px)


def probe(network: Network) -> Geometry:
    """Geometry of a network: from its steps, or from which features one row of NaN pixels reaches.

    Raises
    ------
    NetworkError
        If it takes no images of 1 to 16 bands, its features do not lie on one regular grid, or
        they depend on the whole image.
    """
    if (line := network.line) is not None and _alike(network, line):
        return Geometry(line.channels, line.dims, line.stride_px, line.field_px, 0)
    failures: list[NetworkError] = []
    for height, width in _PROBES:
        channels = _channels(network, height, width, failures)
        if channels and (geometry := _probed(network, channels, height, width)):
            return geometry
    if failures and not channels:
        raise failures[-1]
    raise NetworkError(
        f"{network.path}: each feature depends on the whole image, or not on all pixels of a square, so "
        "labels would depend on how the raster is cut; use one without global pooling, group norm or gaps"
    )


def _alike(network: Network, line: straight.Straight) -> bool:
    """Whether our loops and TorchScript compute the same features of one small image."""
    # larger than a receptive field, so that shifted features or another stride show up as a difference
    side = line.field_px + 2 * line.stride_px + 1
    image = np.random.default_rng(0).random((line.channels, side, side), np.float32)
    expected, actual = (network.features(image, form) for form in (TORCHSCRIPT, STRAIGHT))
    return expected.shape == actual.shape and bool(
        np.abs(expected - actual).max() <= _CLOSE * np.abs(expected).max()
    )


def _channels(network: Network, height: int, width: int, failures: list[NetworkError]) -> int:
    """Number of bands that a network takes; 0 if it takes no image of this size."""
    for channels in _CHANNELS:
        try:
            network.features(np.zeros((channels, height, width), np.float32))
        except NetworkError as error:
            failures.append(error)
        else:
            return int(channels)
    return 0


def _probed(network: Network, channels: int, height: int, width: int) -> Geometry | None:
    """Geometry measured on an image of this size, or None if the image is too small."""
    rows = int(network.features(np.zeros((channels, height, width), np.float32)).shape[1])
    begins: list[tuple[int, int]] = []
    ends: list[tuple[int, int]] = []
    before: tuple[int, int] | None = None
    for row in range(height // 2, height):
        image = np.full((channels, height, width), 0.5, np.float32)
        image[:, row] = np.nan
        features = network.features(image)
        reached = np.flatnonzero(np.isnan(features).any(axis=(0, 2)))
        if len(reached) == 0 or reached[0] == 0 or reached[-1] == rows - 1:
            return None
        first, last = int(reached[0]), int(reached[-1])
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
    """Check that a network returns the same features for a cell with its halo and for a crop of it.

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
        return  # a straight line of known steps cannot fail these checks
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
    crop = slice(start, start + half + 2 * halo_px)
    cropped = network.features(image[:, crop, crop])
    again = network.features(image[:, crop, crop])
    if not np.array_equal(cropped, again):
        raise NetworkError(
            f"{network.path}: gives other features each time (dropout?); export it in eval mode"
        )
    inner = count - (side - half) // stride
    in_whole, in_crop = slice(pad + start // stride, pad + start // stride + inner), slice(pad, pad + inner)
    scale = float(np.abs(whole).max()) or 1.0
    if np.abs(whole[:, in_whole, in_whole] - cropped[:, in_crop, in_crop]).max() > 1e-3 * scale:
        raise NetworkError(
            f"{network.path}: features see more of the image than their receptive field of "
            f"{geometry.field_px} px as probed (wide dilation?); use another network"
        )
