"""Where a raster lies on the ground."""

from __future__ import annotations

from dataclasses import dataclass

Transform = tuple[float, float, float, float, float, float]
"""Affine coefficients (a, b, c, d, e, f): x = a * col + b * row + c, y = d * col + e * row + f."""


@dataclass(frozen=True, slots=True)
class GroundControlPoint:
    """One ground control point: pixel (row, col) and where it lies (x, y, z)."""

    row: float
    col: float
    x: float
    y: float
    z: float


@dataclass(frozen=True)
class Georeference:
    """Where a raster lies on the ground, carried through to outputs unchanged.

    Parameters
    ----------
    crs_wkt
        WKT of the CRS (of the ground control points, where there are some), or None.
    transform
        Affine coefficients (a, b, c, d, e, f), rotated and south-up included, or None.
    gcps
        Ground control points of a raster without a transform.
    area_or_point
        GDAL's AREA_OR_POINT.
    """

    crs_wkt: str | None = None
    transform: Transform | None = None
    gcps: tuple[GroundControlPoint, ...] = ()
    area_or_point: str = "Area"

    def shifted(self, row: int, col: int) -> Georeference:
        """The georeference of the part that begins at a pixel offset."""
        if (row, col) == (0, 0):
            return self
        gcps = tuple(GroundControlPoint(p.row - row, p.col - col, p.x, p.y, p.z) for p in self.gcps)
        transform = self.transform
        if transform is not None:
            a, b, c, d, e, f = transform
            transform = (a, b, a * col + b * row + c, d, e, d * col + e * row + f)
        return Georeference(self.crs_wkt, transform, gcps, self.area_or_point)
