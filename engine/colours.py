"""Colours of classes: near their mean colours, and far enough from each other to be told apart.

Distances are CIE76 (Euclidean in CIELAB). Mean colours of imagery are dull, and there CIE76 agrees with
CIEDE2000, which mends it for saturated colours.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Rgb = npt.NDArray[np.uint8]

Colour = tuple[int, int, int]
"""Red, green and blue of sRGB, 0 to 255."""

FLOOR = 10.0
"""Least distance between the colours of any two of up to `_FEW` classes: easily seen side by side."""

_FEW = 8
_HUE_WEIGHT = 3.0
_REACH = 3.0  # in floors: where a free colour is looked for first
WHITE = np.array([0.95047, 1.0, 1.08883])
"""X, Y and Z of D65, the white of sRGB (IEC 61966-2-1)."""

TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""From linear red, green and blue of sRGB to X, Y and Z."""


def to_hex(colour: Iterable[int]) -> str:
    """A colour as text, such as ``#33aa0f``."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def from_hex(text: str) -> Colour:
    """The colour that ``#rrggbb`` names.

    Raises
    ------
    ValueError
        If it is no such text.
    """
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise ValueError(f"{text!r} is no colour such as #33aa0f")
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def linear(share: F64) -> F64:
    """Linear light of values of sRGB, both 0 to 1."""
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def cube_root(share: F64) -> F64:
    """CIELAB's function of X, Y and Z as shares of white: the cube root, and a line near 0."""
    return np.where(share > (6 / 29) ** 3, np.cbrt(share), share / (3 * (6 / 29) ** 2) + 4 / 29)


def lab(colours: Rgb) -> F64:
    """CIELAB of sRGB colours, both of shape (n, 3)."""
    f = cube_root(linear(colours.astype(np.float64) / 255) @ TO_XYZ.T / WHITE)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def least_distance(count: int) -> float:
    """The distance that `made_distinct` keeps between any two of so many colours.

    Mean colours of one scene lie near a surface (from dark to bright, and in few hues), so the distance that
    leaves each of them close to where it was falls with the square root of their number.
    """
    return FLOOR * math.sqrt(_FEW / max(_FEW, count))


def made_distinct(colours: Rgb, weights: F64) -> Rgb:
    """Colours near some others, of which no two are closer than `least_distance`.

    Parameters
    ----------
    colours
        Shape (n, 3), uint8, sRGB.
    weights
        Shape (n,): of two that are too close, that of less weight is moved (of equal ones the later).

    Returns
    -------
    numpy.ndarray
        Shape (n, 3), uint8. A colour is moved no further than needed, and rather in lightness and
        saturation than in hue, for hue is what says "wood" or "roof".
    """
    floor, result, places = least_distance(len(colours)), colours.copy(), lab(colours)
    candidates, lattice = _lattice()
    # squared distance of each candidate to the nearest colour that is taken
    room = np.full(len(candidates), np.inf)
    taken: list[int] = []
    for i in np.argsort(-weights, kind="stable").tolist():
        if taken and ((places[taken] - places[i]) ** 2).sum(axis=1).min() < floor**2:
            chosen = _nearest_free(places[i], lattice, room, floor)
            result[i], places[i] = candidates[chosen], lattice[:, chosen]
        taken.append(i)
        np.minimum(room, _squared(lattice, places[i]), out=room)
    return result


def _nearest_free(place: F64, lattice: F64, room: F64, floor: float) -> int:
    """The candidate of least cost that is far enough from what is taken, or else the farthest one."""
    for reach in (_REACH * floor, 3 * _REACH * floor, np.inf):
        # a cost is no less than the distance squared, so one within reach is the least of all
        near = np.flatnonzero((_squared(lattice, place) <= reach**2) & (room >= floor**2))
        cost = _cost(place, lattice[:, near])
        if cost.size and cost.min() <= reach**2:
            return int(near[np.argmin(cost)])
    return int(np.argmax(room))


def _squared(lattice: F64, place: F64) -> F64:
    """Squared distances of candidates (3, n) to one place (3,)."""
    lightness, a, b = lattice
    squared: F64 = (lightness - place[0]) ** 2 + (a - place[1]) ** 2 + (b - place[2]) ** 2
    return squared


def _cost(place: F64, lattice: F64) -> F64:
    """How far candidates (3, n) are, squared, where a change of hue costs more than one of the same size."""
    lightness, a, b = lattice
    whole = _squared(lattice, place)
    chroma = np.hypot(a, b) - np.hypot(place[1], place[2])
    hue = np.maximum(0, whole - (lightness - place[0]) ** 2 - chroma**2)
    cost: F64 = whole + (_HUE_WEIGHT**2 - 1) * hue
    return cost


@functools.cache
def _lattice() -> tuple[Rgb, F64]:
    """Colours to choose from (n, 3), and their places in CIELAB (3, n)."""
    levels = np.r_[0:256:8, 255].astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    return colours, np.ascontiguousarray(lab(colours).T)
