"""Labelled rasters, where there are some: pictures, and what people drew on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import pipeline
from benchmarks.data import PHOTOS

UNLABELLED = 255

_FOLDER = PHOTOS.parent / "labelled"
_DUBAI = {0x3C1098: 0, 0x8429F6: 1, 0x6EC1E4: 2, 0xFEDD3A: 3, 0xE2A929: 4}


@dataclass(frozen=True)
class LabelledSet:
    """Pictures of one kind with their reference.

    Parameters
    ----------
    name
        Of the set.
    classes
        What the classes are.
    pairs
        Each picture with its reference, on the same pixels.
    colours
        Class of each colour of the references, as 0xRRGGBB; None where they hold classes.
    """

    name: str
    classes: tuple[str, ...]
    pairs: tuple[tuple[Path, Path], ...]
    colours: Mapping[int, int] | None = None

    def truth(self, reference: Path) -> npt.NDArray[np.uint8]:
        """Classes of a reference's pixels, shape (y, x); `UNLABELLED` where it says nothing."""
        # some references are palettes, which this reads as colours
        bands = pipeline.open_raster(reference).values.astype(np.int32)
        if self.colours is None:
            known = bands[0] < len(self.classes)
            return np.where(known, bands[0], UNLABELLED).astype(np.uint8)
        packed = (bands[0] << 16) | (bands[1] << 8) | bands[2]
        truth = np.full(packed.shape, UNLABELLED, np.uint8)
        for colour, label in self.colours.items():
            truth[packed == colour] = label
        return truth


def labelled_sets() -> list[LabelledSet]:
    """The sets that are there."""
    tiles = sorted((_FOLDER / "dubai-hitl").glob("Tile */images/*.jpg"))
    dubai = [(tile, tile.parents[1] / "masks" / f"{tile.stem}.png") for tile in tiles]
    trees = [
        (tile, tile.with_name(f"response_{tile.name}"))
        for tile in sorted((_FOLDER / "detectree").glob("img_*.tif"))
    ]
    sets = [
        LabelledSet("dubai-hitl", ("building", "land", "road", "vegetation", "water"), tuple(dubai), _DUBAI),
        LabelledSet("detectree", ("other", "tree"), tuple(trees)),
    ]
    for mask in sorted(_FOLDER.glob("hotosm-*/*_buildings_mask.tif")):
        place = mask.name.removesuffix("_buildings_mask.tif")
        pictures = sorted(PHOTOS.glob(f"{place}_*.tif"))
        sets.append(LabelledSet(place, ("other", "building"), tuple((p, mask) for p in pictures)))
    return [one for one in sets if one.pairs]
