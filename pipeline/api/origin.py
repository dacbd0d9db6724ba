"""What an array remembers of the raster that it was opened from, as one attribute that xarray keeps."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

import xarray as xr

from engine.codebook import Band
from engine.grid import Window
from pipeline.grid.georeference import Georeference, GroundControlPoint

ATTRIBUTE = "tilewright_georeference"


@dataclass(frozen=True)
class Origin:
    """Where the pixel grid of an array lies, to the last bit, and what the array was opened with.

    Parameters
    ----------
    georeference
        Of the whole raster, of which the array may be a slice.
    corner
        True where coordinates are those of the pixels' upper-left corners (stackstac), not of their centres.
    bands, dtype
        Number of bands and dtype of the raster as it was opened.
    nodata
        The nodata value that all bands had then, or None.
    needs
        Coordinates without which validity is not known (masks and alpha bands are in no pixel).
    size
        (height, width) of the whole raster, where only the area `region` of it was opened; else None.
    region
        That area, in pixels of the raster; else None.
    names
        Each value of the coordinate `band`, and what the file calls that band; "" where it does not say.
    """

    georeference: Georeference = field(default_factory=Georeference)
    corner: bool = False
    bands: int = 0
    dtype: str = ""
    nodata: float | None = None
    needs: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    region: Window | None = None
    names: tuple[tuple[Band, str], ...] = ()

    @classmethod
    def of(cls, array: xr.DataArray) -> Origin | None:
        """The origin that an array remembers, or None."""
        text = array.attrs.get(ATTRIBUTE)
        if not isinstance(text, str) or not text.startswith("{"):
            return None
        values = json.loads(text)
        place = values["georeference"]
        return cls(
            Georeference(
                place["crs_wkt"],
                tuple(place["transform"]) if place["transform"] else None,
                tuple(GroundControlPoint(**point) for point in place["gcps"]),
                place["area_or_point"],
                tuple((name, text) for name, text in place["rpcs"]),
            ),
            values["corner"],
            values["bands"],
            values["dtype"],
            values["nodata"],
            tuple(values["needs"]),
            tuple(values["size"]) if values["size"] else None,
            Window(**values["region"]) if values["region"] else None,
            tuple((band, name) for band, name in values["names"]),
        )

    @property
    def text(self) -> str:
        """The origin as JSON: text survives every operation of xarray and keeps every bit."""
        return json.dumps(asdict(self))

    def of_labels(self) -> Origin:
        """What labels of the array remember: only where they lie."""
        return Origin(self.georeference, self.corner)
