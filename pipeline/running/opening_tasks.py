"""Tasks of workers that open the sources of a run: a file, or the rasters in a container."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.errors import ContainerError, NoRasterError, RasterError
from pipeline.source import unchanged
from pipeline.source.arguments import Source, part_label
from pipeline.source.bands.computed import choose
from pipeline.source.bands.selection import Selection
from pipeline.source.declared import Declared
from pipeline.source.gdal import handles
from pipeline.source.gdal.raster import FileRaster
from pipeline.source.gdal.remote import refuse
from pipeline.source.opening import open_numbered
from pipeline.source.raster import Raster, SingleRaster
from pipeline.source.unchanged import Mark

_COORDINATES = re.compile(
    r"latitude|longitude|time|(projection|grid)_[xy]_coordinate|degrees?_(north|east).*"
)
_BOUNDS = re.compile(r".*(_bnds|_bounds|_vertices)")

SourceRaster = tuple[Source, Raster | RasterError, Mark]
"""A source, its raster or why it cannot be opened, and its mark."""


def open_source(source: Source, selection: Selection, remote: bool) -> list[SourceRaster]:  # noqa: FBT001  (a task's)
    """Header and fingerprint of a source, or of the rasters in it, or why it cannot be opened.

    An address is refused unless `remote` is True.
    """
    try:
        if not remote:
            refuse(source.path)
        return [_opened(source, selection)]
    except ContainerError as error:
        return _open_container(source, error, selection)
    except RasterError as error:
        return [(source, error, Mark())]


def open_tile(
    path: str,
    numbers: Sequence[int] | None,
    declared: Declared,
    remote: bool,  # noqa: FBT001  (a task's)
) -> tuple[SingleRaster, Mark] | RasterError:
    """Some bands of a file with its mark, or why it cannot be opened; `remote` as of `open_source`."""
    try:
        if not remote:
            refuse(path)
        return _marked(path, numbers, declared)
    except RasterError as error:
        return error
    except OSError as error:
        return RasterError(path, f"cannot be read ({error.strerror})")


def _opened(source: Source, selection: Selection) -> SourceRaster:
    try:
        chosen = choose(selection, lambda: open_numbered(source.path))
        raster, mark = _marked(source.path, chosen.numbers, selection.declared)
    except OSError as error:
        raise RasterError(source.path, f"cannot be read ({error.strerror})") from None
    return source, chosen.of(raster), unchanged.together([mark])


def _marked(path: str, numbers: Sequence[int] | None, declared: Declared) -> tuple[SingleRaster, Mark]:
    stamp = unchanged.stamp_of(path)
    raster = open_numbered(path, numbers, declared)
    return raster, unchanged.mark_of(raster, stamp)


def _open_container(source: Source, container: ContainerError, selection: Selection) -> list[SourceRaster]:
    rasters: list[SourceRaster] = []
    for path in container.parts:
        label = part_label(path.rpartition(source.path)[2] or path.rpartition(":")[2])
        member = Source(path, f"{source.name}_{label}", source.files)
        try:
            _refuse_others(path, source.path)
            opened = _opened(member, selection)
            _refuse_coordinates(path, opened[1])
            rasters.append(opened)
        except RasterError as error:
            rasters.append((member, error, Mark()))
    if all(isinstance(raster, NoRasterError) for _, raster, _ in rasters):
        return [(source, RasterError(source.path, container.nothing), Mark())]
    return rasters


def _refuse_others(path: str, container: str) -> None:
    """Raise `RasterError` if a file names another one as a part of itself."""
    if container not in path:
        raise RasterError(path, f"is named by {container}, of which it is no part")


def _refuse_coordinates(path: str, raster: Raster | RasterError) -> None:
    """Raise `NoRasterError` for what a container holds beside its rasters."""
    if isinstance(raster, RasterError):
        return
    if min(raster.height, raster.width) < 2:
        raise NoRasterError(path, f"{raster.width} x {raster.height} values are no raster")
    tags: dict[str, str] = {}
    if isinstance(raster, FileRaster):
        tags = handles.opened(path, lambda dataset: {**dataset.tags(), **dataset.tags(1)})
    texts = [tags.get(key, "") for key in ("standard_name", "units")]
    if any(_COORDINATES.fullmatch(text) for text in texts) or _BOUNDS.fullmatch(path.casefold()):
        raise NoRasterError(path, "coordinates or their bounds are no raster")
