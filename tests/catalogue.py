"""Real rasters by what they are: no test knows one by its name, so that any others serve as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import rasterio
from rasterio.errors import RasterioError

SUFFIXES = frozenset({".tif", ".tiff", ".vrt", ".jp2", ".jpg", ".png", ".nc"})


@dataclass(frozen=True)
class Found:
    """A raster as rasterio describes it."""

    path: Path
    driver: str
    width: int
    height: int
    dtypes: tuple[str, ...]
    nodata: tuple[float | None, ...]
    flags: frozenset[str]
    colours: tuple[str, ...]
    crs: object
    transform: rasterio.Affine
    gcps: int
    gcp_crs: object

    @property
    def pixels(self):
        return self.width * self.height

    @property
    def is_grid_of_numbers(self):
        """True for what can be segmented: real numbers that are not colour numbers."""
        return (
            bool(self.dtypes)
            and not any(d.startswith("complex") for d in self.dtypes)
            and "palette" not in self.colours
        )

    @property
    def is_rgb(self):
        return self.dtypes == ("uint8",) * 3


@dataclass(frozen=True)
class Catalogue:
    """Rasters that open, smallest first, and files that do not."""

    found: tuple[Found, ...]
    broken: tuple[Path, ...]

    @classmethod
    def of(cls, folder):
        found, broken = [], []
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
            try:
                with rasterio.open(path) as dataset:
                    found.append(_describe(path, dataset))
            except RasterioError:
                broken.append(path)
        return cls(tuple(sorted(found, key=lambda f: (f.pixels, str(f.path)))), tuple(broken))

    def some(self, what: str, wanted: Callable[[Found], bool], most: int = 3) -> list[Found]:
        """The smallest rasters that are wanted; the test is skipped where there are none."""
        chosen = [f for f in self.found if wanted(f)][:most]
        if not chosen:
            pytest.skip(f"none of the real rasters here is {what}")
        return chosen


def _describe(path, dataset):
    return Found(
        path=path,
        driver=dataset.driver,
        width=dataset.width,
        height=dataset.height,
        dtypes=dataset.dtypes,
        nodata=dataset.nodatavals,
        flags=frozenset(f.name for flags in dataset.mask_flag_enums for f in flags),
        colours=tuple(c.name for c in dataset.colorinterp),
        crs=dataset.crs,
        transform=dataset.transform,
        gcps=len(dataset.gcps[0]),
        gcp_crs=dataset.gcps[1],
    )
