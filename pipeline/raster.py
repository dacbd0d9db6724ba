"""A raster on disk: what it is (`Raster`), and reading windows of it with their validity.

Handles are opened late, once per thread and raster, and bounded in number; GDAL's block cache
is bounded per process. A read that fails is retried with a fresh handle before it counts.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.grid import Window
from pipeline.errors import RasterError, UsageError, one_line

# GDAL reads these from the environment when it is first used; what the user set wins.
os.environ.setdefault("GDAL_CACHEMAX", "64")

import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window as FileWindow

_HANDLES_PER_THREAD = 4
_RETRY_AFTER_S = (0.05, 0.25)
_READ_ERRORS = (RasterioError, OSError, ValueError)


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
    transform: tuple[float, float, float, float, float, float] | None = None
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


@dataclass(frozen=True)
class Raster:
    """The header of a raster, with the bands that are used: a small value that pickles.

    Parameters
    ----------
    path
        What GDAL opens.
    width, height
        Size in pixels.
    bands
        1-based numbers of the bands used, in order.
    band_names
        Descriptions of those bands.
    dtype
        Dtype of the pixels (common to the bands used).
    nodata
        Nodata value of each band used, or None.
    mask_band
        Band whose mask is stored apart (internal mask, .msk), or None.
    alpha_band
        Alpha band, or None.
    palette
        True where the values are colour numbers and not intensities.
    block_shape
        (height, width) of the file's own blocks.
    georeference
        CRS, transform, ground control points.
    """

    path: str
    width: int
    height: int
    bands: tuple[int, ...]
    band_names: tuple[str, ...]
    dtype: str
    nodata: tuple[float | None, ...]
    mask_band: int | None
    alpha_band: int | None
    palette: bool
    block_shape: tuple[int, int]
    georeference: Georeference

    @property
    def bounds(self) -> Window:
        """All pixels."""
        return Window(0, 0, self.height, self.width)

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel in memory: its bands and its validity."""
        return np.dtype(self.dtype).itemsize * (len(self.bands) + 1)

    @property
    def identity(self) -> tuple[Any, ...]:
        """What the hash sample is seeded with: never a path."""
        transform = self.georeference.transform
        return (self.height, self.width, transform, len(self.bands), self.dtype)

    def read(self, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Pixels (band, y, x) and validity (y, x) of a window.

        Raises
        ------
        RasterError
            If the window cannot be read, after retries.
        """
        stack = self.read_stack(window)
        return stack[:-1], stack[-1] != 0

    def read_stack(self, window: Window) -> npt.NDArray[Any]:
        """Pixels with validity (1 or 0) as one more band: shape (band + 1, y, x)."""
        for delay in (*_RETRY_AFTER_S, None):
            try:
                with _handle(self.path) as dataset:
                    return self._read(dataset, window)
            except _READ_ERRORS as error:
                _forget(self.path)
                if delay is None:
                    raise RasterError(
                        self.path,
                        f"cannot read rows {window.row} to {window.row_end - 1}, columns {window.col} to "
                        f"{window.col_end - 1} ({one_line(error)}); the file is damaged or gone: repair or "
                        "fetch it again",
                    ) from error
                time.sleep(delay)
        raise AssertionError("unreachable")

    def _read(self, dataset: Any, window: Window) -> npt.NDArray[Any]:
        part = FileWindow(window.col, window.row, window.width, window.height)
        stack = np.empty((len(self.bands) + 1, window.height, window.width), self.dtype)
        if self.alpha_band is not None:
            dataset.read([*self.bands, self.alpha_band], window=part, out=stack)
            valid = stack[-1] != 0
        else:
            dataset.read(list(self.bands), window=part, out=stack[:-1])
            valid = (
                np.ones(stack.shape[1:], bool)
                if self.mask_band is None
                else dataset.read_masks(self.mask_band, window=part) != 0
            )
        stack[-1] = valid & self._has_data(stack[:-1])
        return stack

    def _has_data(self, pixels: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | np.bool_:
        """True where a pixel is neither nodata nor non-finite.

        In 8-bit imagery the nodata value is an ordinary grey value too (a black roof with nodata
        0), so there a pixel is nodata only where all its bands are; in wider dtypes one band that
        has no measurement is enough.
        """
        finite: npt.NDArray[np.bool_] | np.bool_ = np.True_
        if pixels.dtype.kind == "f":
            finite = np.isfinite(pixels).all(axis=0)
        missing = [
            band == np.asarray(value).astype(pixels.dtype)
            for band, value in zip(pixels, self.nodata, strict=True)
            if value is not None and not np.isnan(value)
        ]
        if not missing:
            return finite
        if pixels.dtype.itemsize == 1:
            if len(missing) < len(pixels):
                return finite
            missing = [np.logical_and.reduce(missing)]
        valid: npt.NDArray[np.bool_] = finite & ~np.logical_or.reduce(missing)
        return valid


def open_header(path: str | Path, bands: Sequence[int] | None = None) -> Raster:
    """Read a raster's header.

    Parameters
    ----------
    path
        Anything GDAL opens.
    bands
        1-based band numbers to use (default: all but alpha).

    Raises
    ------
    RasterError
        If it cannot be opened, has no georeferenceable grid of real numbers, or lacks a band.
    """
    path = str(path)
    _check_readable(path)
    try:
        with rasterio.open(path) as dataset:
            return _header(path, dataset, bands)
    except UsageError as error:
        raise RasterError(path, str(error)) from None
    except _READ_ERRORS as error:
        raise RasterError(
            path, f"not a raster that GDAL can open ({one_line(error)}); is it complete?"
        ) from error


def open_segmentable(path: str | Path, bands: Sequence[int] | None = None) -> Raster:
    """`open_header` of a raster that is to be segmented: its values have to be intensities.

    Raises
    ------
    RasterError
        As `open_header`, or if the raster has a palette.
    """
    raster = open_header(path, bands)
    if raster.palette:
        raise RasterError(
            raster.path,
            "a palette raster, whose values are colour numbers and not intensities; "
            "expand it first (gdal_translate -expand rgb)",
        )
    return raster


def _check_readable(path: str) -> None:
    """Say plainly what GDAL words badly: a file that is missing or empty."""
    file = Path(path)
    if path.startswith("/vsi") or (":" in file.parts[0] and not file.exists()):
        return
    if not file.exists():
        raise RasterError(path, "no such file; check the name")
    if file.is_file() and file.stat().st_size == 0:
        raise RasterError(path, "the file is empty (0 bytes); fetch it again")


def _header(path: str, dataset: Any, wanted: Sequence[int] | None) -> Raster:
    if dataset.count == 0:
        raise UsageError(
            f"holds no bands of its own but {len(dataset.subdatasets)} subdatasets; name one of them"
        )
    alpha = next((i for i, c in enumerate(dataset.colorinterp, 1) if c == ColorInterp.alpha), None)
    bands = tuple(wanted) if wanted else tuple(i for i in range(1, dataset.count + 1) if i != alpha)
    if missing := [b for b in bands if not 1 <= b <= dataset.count]:
        raise UsageError(f"has bands 1 to {dataset.count}, not {missing[0]}; change --bands")
    if not bands:
        raise UsageError("has an alpha band only; there is nothing to segment")
    dtype = np.result_type(*(_dtype(dataset.dtypes[b - 1]) for b in bands))
    flags = [dataset.mask_flag_enums[b - 1] for b in bands]
    apart = [b for b, f in zip(bands, flags, strict=True) if f == [MaskFlags.per_dataset]]
    return Raster(
        path=path,
        width=dataset.width,
        height=dataset.height,
        bands=bands,
        band_names=tuple(dataset.descriptions[b - 1] or f"band {b}" for b in bands),
        dtype=str(dtype),
        nodata=tuple(_nodata(dataset.nodatavals[b - 1], dtype) for b in bands),
        mask_band=apart[0] if apart else None,
        alpha_band=alpha,
        palette=ColorInterp.palette in [dataset.colorinterp[b - 1] for b in bands],
        block_shape=dataset.block_shapes[bands[0] - 1],
        georeference=_georeference(dataset),
    )


def _dtype(name: str) -> np.dtype[Any]:
    if name.startswith("complex"):
        raise UsageError(f"pixels are complex numbers ({name}); segment its amplitude instead")
    return np.dtype(name)


def _nodata(value: float | None, dtype: np.dtype[Any]) -> float | None:
    """A nodata value, unless no pixel of the dtype can have it (-9999 in a byte raster)."""
    if value is None or (dtype.kind in "iu" and not float(value).is_integer()):
        return None
    if dtype.kind in "iu" and not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
        return None
    return float(value)


def _georeference(dataset: Any) -> Georeference:
    gcps, gcp_crs = dataset.gcps
    transform = tuple(dataset.transform)[:6]
    placed = not dataset.transform.is_identity
    crs = gcp_crs if gcps and not placed else dataset.crs
    return Georeference(
        crs_wkt=crs.to_wkt() if crs else None,
        transform=transform if placed else None,
        gcps=() if placed else tuple(GroundControlPoint(p.row, p.col, p.x, p.y, p.z or 0.0) for p in gcps),
        area_or_point=dataset.tags().get("AREA_OR_POINT", "Area"),
    )


_local = threading.local()
_Key = tuple[str, int, int]


def _key(path: str) -> _Key:
    """What tells one state of a file from the next, so that a changed file is opened afresh."""
    try:
        stat = Path(path).stat()
    except OSError:
        return path, 0, 0
    return path, stat.st_mtime_ns, stat.st_size


@contextlib.contextmanager
def _handle(path: str) -> Iterator[Any]:
    """The handle of a raster in this thread, opened late and kept for the next window."""
    handles: OrderedDict[_Key, Any] | None = getattr(_local, "handles", None)
    if handles is None:
        handles = _local.handles = OrderedDict()
    key = _key(path)
    if key not in handles:
        while len(handles) >= _HANDLES_PER_THREAD:
            handles.popitem(last=False)[1].close()
        handles[key] = rasterio.open(path)
    handles.move_to_end(key)
    yield handles[key]


def _forget(path: str) -> None:
    """Close this thread's handles of a raster, so that the next read opens it afresh."""
    handles: OrderedDict[_Key, Any] = getattr(_local, "handles", None) or OrderedDict()
    for key in [k for k in handles if k[0] == path]:
        with contextlib.suppress(Exception):
            handles.pop(key).close()
