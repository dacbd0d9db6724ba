"""The colours in which the eye would see classes: which bands are red, green and blue, and their means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engine.codebook import Band, Codebook
from engine.colours import Colour

Rgb = tuple[int, int, int]
"""Indices of the red, the green and the blue band."""

_BRIGHTNESS = 0.4
_MOST_GAMMA = 2.4  # of sRGB: measured light is shown with it as the eye would see it

_NAMES = ({"red", "r"}, {"green", "g"}, {"blue", "b"})


def red_green_blue(bands: Sequence[Band], names: Sequence[Sequence[str]], dtype: str) -> Rgb | None:
    """Indices of the red, green and blue band; None where there are none.

    Parameters
    ----------
    bands
        Band numbers, names or expressions.
    names
        What the bands are called: one or more sequences of a name for each band, "" for none.
    dtype
        Dtype of the pixels: the first three of three or four bands of 8 bits are taken for red, green and
        blue where nothing says otherwise, as programs show them.
    """
    called = [
        {str(name).strip().casefold() for name in (band, *each)}
        for band, *each in zip(bands, *names, strict=True)
    ]
    found = [[i for i, own in enumerate(called) if own & wanted] for wanted in _NAMES]
    if all(len(some) == 1 for some in found):
        red, green, blue = (some[0] for some in found)
        return red, green, blue
    nameless = not any(name for each in names for name in each if name not in ("gray", "undefined"))
    if dtype == "uint8" and nameless and tuple(bands) in ((1, 2, 3), (1, 2, 3, 4)):
        return 0, 1, 2
    return None


def of_codebook(codebook: Codebook) -> tuple[Colour, ...]:
    """Mean colour of each class of a codebook; () where it cannot say."""
    if codebook.mean_colours:
        return codebook.mean_colours
    names = codebook.band_names or ("",) * len(codebook.bands)
    rgb = red_green_blue(codebook.bands, [names], codebook.dtype)
    return () if rgb is None else of_centres(codebook, rgb)


def of_centres(codebook: Codebook, rgb: Rgb) -> tuple[Colour, ...]:
    """Mean colour of each class from its centre; () where features are no bands."""
    values = codebook.centre_values
    return () if values is None else displayed(codebook, rgb, values)


def displayed(codebook: Codebook, rgb: Rgb, values: npt.NDArray[np.float64]) -> tuple[Colour, ...]:
    """Colours in which values of bands are shown.

    Parameters
    ----------
    codebook
        Bytes are shown as they are, wider values from black to white between the codebook's limits (without
        limits between the least and the largest of `values`), and brighter in between where most of the scene
        would be too dark to see, as below a few clouds.
    rgb
        The bands that are shown.
    values
        Shape (n, B), float64, values of all bands.
    """
    chosen = values[:, list(rgb)]
    if codebook.dtype != "uint8":
        scaling = codebook.scaling
        low, high = (chosen.min(), chosen.max()) if scaling is None else (scaling.low, scaling.high)
        low, high = (np.broadcast_to(limit, values.shape[1:])[list(rgb)] for limit in (low, high))
        spread = high - low
        share = np.divide(chosen - low, spread, out=np.zeros_like(chosen), where=spread > 0).clip(0, 1)
        chosen = 255 * share ** _exponent(share, codebook.fit.get("share"))
    rounded = np.clip(np.rint(chosen), 0, 255).astype(int).tolist()
    return tuple((red, green, blue) for red, green, blue in rounded)


def _exponent(share: npt.NDArray[np.float64], weights: Sequence[float] | None) -> float:
    """The exponent that makes classes (K, 3), 0 to 1, as bright as `_BRIGHTNESS` in the mean, within limits.

    One for all bands, so that greys stay grey, and never one that darkens.
    """
    # a codebook is data: its shares may be anything
    sound = weights and min(weights) >= 0 and 0 < sum(weights) < np.inf
    mean = float(np.average(share.mean(axis=1), weights=weights if sound else None))
    return float(np.clip(np.log(_BRIGHTNESS) / np.log(np.clip(mean, 1e-3, 1 - 1e-3)), 1 / _MOST_GAMMA, 1))
