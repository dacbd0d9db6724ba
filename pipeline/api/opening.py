"""What `open_raster` opens: a file, a stack, a mosaic or an area of one, as the command line opens them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from engine.codebook import Band
from engine.grid import CELL_PX
from engine.resampling import Method
from pipeline.api.imagery import INSIDE, VALID
from pipeline.errors import UsageError
from pipeline.source import scenes
from pipeline.source.aoi import interest
from pipeline.source.arguments import resolve
from pipeline.source.bands.computed import choose
from pipeline.source.bands.options import Scene, read_bands, read_pairs
from pipeline.source.bands.selection import Selection
from pipeline.source.declared import Declared
from pipeline.source.gdal.raster import FileRaster
from pipeline.source.joined import mosaic_building, stack
from pipeline.source.joined.mosaic import OVERLAPS
from pipeline.source.naming.paths import expanded
from pipeline.source.opening import open_numbered
from pipeline.source.raster import Raster
from pipeline.source.view import View, crop
from pipeline.source.zarr.raster import ZarrRaster


def open_view(
    path: str | Path | Sequence[str | Path] | Mapping[str, str | Path],
    selection: Selection,
    *,
    mosaic: bool,
    overlap: str,
    resample: Method | None,
    reference_band: str | None,
    extent: Sequence[float] | None,
    aoi: str | Path | None,
) -> View:
    """The raster, and the area of it that is wanted; see `api.arrays.open_raster` for the options."""
    if isinstance(path, Mapping):
        if mosaic:
            raise UsageError("a mapping of names to paths is a stack; mosaic=True takes a list of tiles")
        raster = _stack(path, selection, resample, reference_band)
    elif resample or reference_band:
        raise UsageError("resample= and reference_band= belong to a stack: a mapping of names to paths")
    elif mosaic:
        raster = _mosaic([path] if isinstance(path, (str, Path)) else path, selection, overlap)
    elif isinstance(path, (str, Path)):
        file = expanded(str(path))
        chosen = choose(selection, lambda: open_numbered(file))
        raster = chosen.of(open_numbered(file, chosen.numbers, selection.declared))
    else:
        raise UsageError(
            f"{len(path)} paths; say mosaic=True if they are tiles of one raster, give a mapping of names to "
            "paths if they are its bands, or open them one by one"
        )
    if extent is not None and len(extent) != 4:
        raise UsageError(f"extent= of {len(extent)} numbers; give (x0, y0, x1, y1) in the raster's CRS")
    wanted = interest(extent, None if aoi is None else expanded(str(aoi)))
    return crop(View.whole(raster), wanted, CELL_PX)


def read_some(bands: Sequence[Band] | str | None) -> tuple[Band, ...] | None:
    """Bands as `open_raster` takes them: text as of ``--bands``, or several."""
    return read_bands(list(bands) if isinstance(bands, Sequence) and not isinstance(bands, str) else bands)


def _stack(
    files: Mapping[str, str | Path], selection: Selection, resample: Method | None, reference_band: str | None
) -> Raster:
    pairs = read_pairs([(str(name), str(file)) for name, file in files.items()])
    sources = scenes.resolve([Scene("", pairs)])
    if len(sources) > 1:
        raise UsageError(
            f"the stack names {len(sources)} scenes ({sources[0].name}, ...); open them one by one"
        )
    members = sources[0].stack
    if resample not in (None, *get_args(Method)):
        raise UsageError(f"resample={resample!r}; it is one of {', '.join(get_args(Method))}")
    if reference_band not in (None, *(name for name, _ in members)):
        names = ", ".join(name for name, _ in members)
        raise UsageError(f"reference_band={reference_band!r}: no band of the stack, which has {names}")
    # nodata values are those of the whole stack, and its files have none of their own then
    declared = Declared(None if selection.nodata is None else (None,), selection.declared.physical)
    layers = [(name, open_numbered(file, None, declared)) for name, file in members]
    whole = stack.build(layers, sources[0].path, resample, reference_band)
    chosen = choose(selection, lambda: whole)
    whole = whole if selection.nodata is None else whole.declaring(selection.nodata)
    return chosen.of(whole.only(chosen.numbers))


def _mosaic(paths: Sequence[str | Path], selection: Selection, overlap: str) -> Raster:
    if overlap not in OVERLAPS:
        raise UsageError(f"overlap={overlap!r}; it is one of {', '.join(OVERLAPS)}")
    tiles = [source.path for source in resolve([str(path) for path in paths])]
    label = f"mosaic of {len(tiles)} tiles ({tiles[0]}{', ...' if len(tiles) > 1 else ''})"
    chosen = choose(selection, lambda: open_numbered(tiles[0]))
    opened = (open_numbered(tile, chosen.numbers, selection.declared) for tile in tiles)
    return chosen.of(mosaic_building.build(opened, overlap, label, physical=not selection.raw_values))


def common_nodata(raster: Raster) -> float | None:
    """The nodata value that all bands have, which an array can declare; None if there is no such value."""
    return raster.nodata[0] if len(set(map(repr, raster.nodata))) == 1 else None


def needed_coordinates(view: View) -> tuple[str, ...]:
    """Coordinates that hold what pixels do not say: masks, alpha, tiles that are not there, the area."""
    raster = view.raster
    said = isinstance(raster, ZarrRaster) or (
        isinstance(raster, FileRaster) and raster.alpha_band is None and not raster.mask_bands
    )
    said = said and len(set(map(repr, raster.nodata))) == 1
    return (*(() if said else (VALID,)), *(() if view.area is None else (INSIDE,)))
