"""Rasters that GDAL opens, as they are: their headers, and reading windows of them."""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.enums import ColorInterp, MaskFlags

from engine.grid import Window
from pipeline.errors import ContainerError, RasterError
from pipeline.grid.georeference import Georeference, GroundControlPoint
from pipeline.source import bad_blocks
from pipeline.source.declared import AS_IN_FILE, Declared, declared_nodata, is_exact, nodata_of, scales_of
from pipeline.source.fingerprint import combined
from pipeline.source.gdal import dataset_opening, handles, transient
from pipeline.source.gdal.dataset import files_of, nodata_in, reading_of, rpcs_of
from pipeline.source.gdal.planes import BandPlanes, MaskPlanes
from pipeline.source.gdal.references import block_pixel_bytes, named_file, refuse_references, refuse_strange
from pipeline.source.limits import refuse_block, refuse_claim
from pipeline.source.raster import SingleRaster, Stack
from pipeline.source.reading import ReadContext

_VRT_HEAD_BYTES = 64 << 10
_HDF4 = b"\x0e\x03\x13\x01"
_OWN_MASK = (MaskFlags.all_valid, MaskFlags.nodata, MaskFlags.alpha, MaskFlags.per_dataset)


@dataclass(frozen=True, kw_only=True)
class FileRaster(SingleRaster):
    """A raster that GDAL opens.

    Parameters
    ----------
    driver
        GDAL's short name of the format.
    numbers
        1-based numbers of the bands used, in order.
    colours
        What each of them shows, as GDAL says ("red", "gray", "undefined").
    dtypes
        Their dtypes in the file.
    mask_bands
        Bands whose masks are stored apart (internal mask, .msk, a mask in a VRT); all have to be valid.
    alpha_band
        Alpha band, or None.
    palette
        True where the values are colour numbers and not intensities.
    """

    driver: str
    numbers: tuple[int, ...]
    colours: tuple[str, ...]
    dtypes: tuple[str, ...]
    mask_bands: tuple[int, ...]
    alpha_band: int | None
    palette: bool

    def reopened(self) -> FileRaster:
        """It as it is now."""
        return open_header(self.path, self.numbers, self.declared)

    @property
    def declares_nodata(self) -> bool:
        """Whether it has nodata values, masks or alpha."""
        return super().declares_nodata or bool(self.mask_bands or self.alpha_band)

    def dtype_of(self, indices: Sequence[int]) -> str:
        """Common dtype of some of its bands in the file."""
        return str(np.result_type(*(self.dtypes[i] for i in indices)))

    def read_masked(self, window: Window, context: ReadContext) -> Stack:
        """Pixels, valid as far as alpha and masks say."""
        bands = BandPlanes(
            path=self.path,
            driver=self.driver,
            bounds=self.bounds,
            dtype=self.dtype,
            numbers=self.numbers,
            alpha_band=self.alpha_band,
            one_dtype=len(set(self.dtypes)) == 1,
            halo_px=context.halo_px,
        )
        stack = bad_blocks.read(bands, window, context)
        if self.mask_bands:
            masks = MaskPlanes(
                path=self.path,
                driver=self.driver,
                bounds=self.bounds,
                dtype="uint8",
                numbers=self.mask_bands,
            )
            stack[-1] *= bad_blocks.read(masks, window, context)[0]
        return stack


def open_header(
    path: str | Path, bands: Sequence[int] | None = None, declared: Declared = AS_IN_FILE
) -> FileRaster:
    """Read a raster's header.

    Parameters
    ----------
    path
        Anything GDAL opens.
    bands
        1-based band numbers to use (default: all but alpha).
    declared
        What is declared in place of the header.

    Raises
    ------
    RasterError
        If it cannot be opened, has no georeferenceable grid of real numbers, or lacks a band.
    """
    path = str(path)
    beneath = check_readable(path)

    return handles.opened(path, lambda dataset: header_of(path, dataset, bands, beneath, declared))


def check_readable(path: str) -> str:
    """Say plainly what GDAL words badly, and refuse what it would follow; returns `refuse_strange`'s digest.

    Raises
    ------
    RasterError
        If the file is missing, empty, or refers to what it should not.
    """
    file = Path(path)
    try:
        state = file.stat() if path else None
    except (OSError, ValueError):
        state = None
    exists = state is not None
    if state is not None and stat.S_ISREG(state.st_mode) and state.st_size == 0:
        raise RasterError(path, "the file is empty (0 bytes); fetch it again")
    if exists and file.suffix.lower() == ".hdf" and file.is_file():
        with file.open("rb") as opened:
            if opened.read(4) == _HDF4:
                raise RasterError(path, "HDF4 is not among the formats of this GDAL; convert it to GeoTIFF")
    elsewhere = path.startswith("/vsi") or (path and ":" in file.parts[0])
    beneath = refuse_strange(path)
    if not exists and not elsewhere:
        raise RasterError(path, "no such file; check the name")
    return beneath


def header_of(
    path: str, dataset: Any, wanted: Sequence[int] | None, beneath: str, declared: Declared = AS_IN_FILE
) -> FileRaster:
    """The header of an open dataset; see `open_header`.

    Parameters
    ----------
    path, dataset
        What was opened.
    wanted
        1-based band numbers to use, or None.
    beneath
        Digest of what it refers to, as `check_readable` returns it.
    declared
        What is declared in place of the header.
    """
    if dataset.count == 0:
        raise ContainerError(path, tuple(dataset.subdatasets))
    # asked for once: rasterio collects each again from all bands, of which there may be thousands
    colours, dtypes, in_header = dataset.colorinterp, dataset.dtypes, nodata_in(dataset)
    factors, offsets = dataset.scales, dataset.offsets
    shapes, names = dataset.block_shapes, dataset.descriptions
    alpha = next((i for i, c in enumerate(colours, 1) if c == ColorInterp.alpha), None)
    all_numbers = tuple(i for i in range(1, dataset.count + 1) if i != alpha)
    numbers = tuple(wanted) if wanted else all_numbers
    if missing := [b for b in numbers if not 1 <= b <= dataset.count]:
        raise RasterError(path, f"has bands 1 to {dataset.count}, not {missing[0]}; change --bands")
    if not numbers:
        raise RasterError(path, "has an alpha band only; there is nothing to segment")
    dtype = np.result_type(*(_dtype(path, kind) for kind in dict.fromkeys(dtypes[b - 1] for b in numbers)))
    refuse_references(path, dataset)
    _refuse_sizes(path, dataset, numbers[0])
    files = files_of(named_file(path), dataset)
    if declared.nodata is None:
        nodata = tuple(nodata_of(in_header[b - 1], dtype) for b in numbers)
    else:
        positions = [None if b == alpha else all_numbers.index(b) for b in numbers]
        nodata = declared_nodata(path, declared.nodata, dtype, positions, len(all_numbers))
    scales = scales_of([factors[b - 1] for b in numbers], [offsets[b - 1] for b in numbers])
    state = reading_of(dataset, scales if declared.physical else ()).digest
    return FileRaster(
        path=path,
        width=dataset.width,
        height=dataset.height,
        bands=numbers,
        band_names=tuple(names[b - 1] or f"band {b}" for b in numbers),
        dtype=str(dtype),
        nodata=nodata,
        block_shape=shapes[numbers[0] - 1],
        georeference=_georeference(path, dataset),
        scales=scales,
        driver=dataset.driver,
        numbers=numbers,
        colours=tuple(colours[b - 1].name for b in numbers),
        dtypes=tuple(dtypes[b - 1] for b in (*numbers, *((alpha,) if alpha else ()))),
        mask_bands=_mask_bands(dataset, numbers, by_nodata=declared.nodata is None),
        alpha_band=alpha,
        palette=any(colours[b - 1] == ColorInterp.palette for b in numbers),
        # of a description what it says counts and not its bytes: GDAL writes statistics into it
        files=files[1:] if beneath else files,
        state=combined((state, beneath)) if beneath else state,
        declared=declared,
    )


def _mask_bands(dataset: Any, numbers: Sequence[int], *, by_nodata: bool) -> tuple[int, ...]:
    """The bands whose masks have to be read: one of the dataset, or those of single bands.

    GDAL's own masks are needed for nodata too where a value is too large for the float64 in which it comes,
    and where the header's nodata counts (`by_nodata`).
    """
    masked = []
    all_flags, all_nodata, dtypes = dataset.mask_flag_enums, nodata_in(dataset), dataset.dtypes
    for number in dict.fromkeys(numbers):
        flags, nodata = all_flags[number - 1], all_nodata[number - 1]
        if flags == [MaskFlags.per_dataset]:
            return (number,)
        large = by_nodata and dtypes[number - 1] in ("int64", "uint64") and MaskFlags.nodata in flags
        if not set(flags) & set(_OWN_MASK) or (large and not is_exact(nodata)):
            masked.append(number)
    return tuple(masked)


def _refuse_sizes(path: str, dataset: Any, number: int) -> None:
    """Refuse a header that claims what no file of its size holds, or blocks that memory does not."""
    refuse_block(path, dataset.block_shapes[number - 1], block_pixel_bytes(dataset))
    if Path(path).is_file():
        files = (Path(file) for file in dataset.files)
        refuse_claim(path, dataset.width, dataset.height, (f.stat().st_size for f in files if f.is_file()))


def _dtype(path: str, name: str) -> np.dtype[Any]:
    if name.startswith("complex"):
        raise RasterError(path, f"pixels are complex numbers ({name}); segment its amplitude instead")
    return np.dtype(name)


def _georeference(path: str, dataset: Any) -> Georeference:
    gcps, gcp_crs = dataset.gcps
    transform = tuple(dataset.transform)[:6]
    placed = not dataset.transform.is_identity
    if not np.isfinite([*transform, *(v for p in gcps for v in (p.row, p.col, p.x, p.y))]).all():
        raise RasterError(path, "its place on the ground is not finite; assign one (gdal_edit -a_ullr)")
    crs = gcp_crs if gcps and not placed else dataset.crs
    wkt = str(crs.to_wkt()) if crs else None
    _refuse_unresolved_crs(path, dataset, wkt)
    return Georeference(
        crs_wkt=wkt,
        transform=transform if placed else None,
        gcps=() if placed else tuple(GroundControlPoint(p.row, p.col, p.x, p.y, p.z or 0.0) for p in gcps),
        area_or_point=dataset.tags().get("AREA_OR_POINT", "Area"),
        rpcs=rpcs_of(dataset),
    )


def _refuse_unresolved_crs(path: str, dataset: Any, wkt: str | None) -> None:
    """Refuse a CRS that GDAL takes for a local one, or for none, because PROJ does not know it."""
    if wkt is None and dataset.driver != "VRT":
        return
    if problem := dataset_opening.proj_problem():
        raise RasterError(path, f"its CRS cannot be resolved ({problem}); unset PROJ_DATA and PROJ_LIB")
    if wkt is None:
        named = named_file(path)
        code = _srs_in_vrt(Path(named)) if Path(named).is_file() else ""
    else:
        code = transient.unknown_crs() if wkt.startswith("LOCAL_CS") else ""
    if code:
        raise RasterError(path, f"its CRS, {code}, is not known here; assign another (gdal_edit -a_srs)")


def _srs_in_vrt(file: Path) -> str:
    """The CRS that a VRT names, of which GDAL says nothing where it is unknown."""
    with file.open("rb") as opened:
        head = opened.read(_VRT_HEAD_BYTES)
    match = re.search(rb"<SRS[^>]*>\s*([^<]+?)\s*</SRS>", head)
    return match[1].decode(errors="replace")[:60] if match else ""
