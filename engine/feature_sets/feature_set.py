"""Sets of features that K-Means clusters in place of bands, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from engine.arrays import F64

WINDOW_PX = 9
"""Side of the window around a pixel in which texture is seen."""

DEVIATION_WEIGHT = 2
"""What a deviation counts beside a mean."""

Name = Literal["bands", "lab", "texture", "lab+texture"]


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """Features of each pixel, before they are averaged over blocks; by default its bands as they are.

    ``lab`` puts CIELAB in place of red, green and blue of bytes, so that distances are those that people see.
    ``texture`` puts the mean in the window of `WINDOW_PX` around the pixel in place of each value, and adds
    `DEVIATION_WEIGHT` times the standard deviation in it: of L with ``lab``, else the root of the bands' mean
    variance. It is made of bytes as they are; other values are scaled to 0..255 first, with clipping, by the
    limits that the fit finds for bands. Invalid pixels, and what lies beyond the raster, do not count.

    Window and weight were chosen on labelled aerial tiles, where others are nearly as good; what each set is
    worth on these and others is in `benchmarks/RESULTS.md`.

    Parameters
    ----------
    lab, texture
        What it has of these.
    """

    lab: bool = False
    texture: bool = False

    @classmethod
    def parse(cls, name: object) -> FeatureSet:
        """The set of a name.

        Raises
        ------
        ValueError
            If there is none.
        """
        sets = {
            str(one): one for one in (cls(), cls(lab=True), cls(texture=True), cls(lab=True, texture=True))
        }
        if not isinstance(name, str) or name not in sets:
            raise ValueError(f"features {name!r}; kmeans has {', '.join(sets)}")
        return sets[name]

    def __str__(self) -> str:
        """Its name."""
        return "+".join(["lab"] * self.lab + ["texture"] * self.texture) or "bands"

    @property
    def is_bands(self) -> bool:
        """Whether features are the bands as they are."""
        return not (self.lab or self.texture)

    @property
    def halo_px(self) -> int:
        """Pixels beyond a pixel that its features depend on."""
        return WINDOW_PX // 2 if self.texture else 0

    def why_not(self, bands: int, dtype: str, *, scaled: bool) -> str:
        """The reason why pixels have no such features; "" if they have.

        Parameters
        ----------
        bands, dtype
            Their number of bands, and dtype.
        scaled
            Whether they are scaled by limits.
        """
        if self.lab and ((bands, dtype) != (3, "uint8") or scaled):
            limits = " scaled by limits" if scaled else ""
            return f"{self} is of red, green and blue in uint8 as they are, not of {bands} x {dtype}{limits}"
        if self.texture and dtype != "uint8" and not scaled:
            return f"{self} of {dtype} needs limits that scale it"
        return ""

    def names(self, bands: Sequence[str]) -> tuple[str, ...]:
        """Names of the features of pixels with such bands."""
        means = ("L", "a", "b") if self.lab else tuple(bands)
        return (*means, "deviation") if self.texture else means

    def unweighted(self, vectors: F64) -> F64:
        """Vectors (n, D) with deviations as they are, for people."""
        if not self.texture:
            return vectors
        weights = np.ones(vectors.shape[1])
        weights[-1] = DEVIATION_WEIGHT
        return vectors / weights
