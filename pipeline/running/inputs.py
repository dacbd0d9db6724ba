"""From the options of a run to its rasters: opened, joined where that is asked for, and cropped.

`run`, `plan` and `fit` share `open_inputs`, so that they mean the same by the same options.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from engine.codebook import Band
from engine.grid import tiles
from pipeline.config import RunConfig
from pipeline.errors import ContainerError, NoRasterError, RasterError, UsageError
from pipeline.events.observer import Advance, ignore_progress
from pipeline.source import unchanged
from pipeline.source.arguments import Source, numbered, part_label, resolve
from pipeline.source.bands.computed import choose
from pipeline.source.gdal import handles
from pipeline.source.gdal import remote as network
from pipeline.source.gdal.raster import FileRaster
from pipeline.source.joined import mosaic_building, stack
from pipeline.source.limits import refuse_region
from pipeline.source.opening import open_numbered
from pipeline.source.raster import Raster, SingleRaster
from pipeline.source.unchanged import Mark
from pipeline.source.vector import interest
from pipeline.source.view import View, crop
from pipeline.workers.pool import Pool

_COORDINATES = re.compile(
    r"latitude|longitude|time|(projection|grid)_[xy]_coordinate|degrees?_(north|east).*"
)
_BOUNDS = re.compile(r".*(_bnds|_bounds|_vertices)")

_MOST_IN_A_TASK = 64
_T = TypeVar("_T")

Bands = Sequence[Band] | None


@dataclass(frozen=True)
class Input:
    """One raster of a run, or a part of one that gets outputs of its own.

    Parameters
    ----------
    source
        Where it is, and the name of its outputs.
    view
        The raster and which part of it.
    mark
        Tells this state of its files from another.
    whole
        Of a part: all of what it is a part of.
    """

    source: Source
    view: View
    mark: Mark
    whole: View | None = None

    @property
    def fingerprint(self) -> str:
        """Of all that its pixels depend on; "" where that is not cheaply known."""
        return self.mark.fingerprint


class Opened(NamedTuple):
    """What the sources of a run came to; `sources` are those of both others, in order.

    `area` tells the polygons of `--aoi` from others; None without it.
    """

    inputs: list[Input]
    failures: list[tuple[Source, RasterError]]
    sources: list[Source]
    area: str | None


_Found = tuple[Source, Raster | RasterError, Mark]


def open_inputs(
    config: RunConfig, pool: Pool, cell_px: int, bands: Bands = None, advance: Advance = ignore_progress
) -> Opened:
    """Open the rasters of a run.

    Parameters
    ----------
    config
        Names them, and what to make of them.
    pool
        Opens files.
    cell_px
        Side of a cell: areas of interest are cropped to whole ones.
    bands
        Bands to use where the configuration names none: those of a saved codebook.
    advance
        Hears of files opened and of their number.

    Returns
    -------
    Opened
        Rasters that cannot be opened are among its failures; they raise nothing. A `NoRasterError` is
        a part of a container that is not meant to be segmented.

    Raises
    ------
    UsageError
        If the request cannot be carried out, such as a mosaic of files that do not fit.
    """
    bands = config.bands or bands
    if config.output_tiles and config.output_tiles % cell_px:
        raise UsageError(
            f"--output-tiles {config.output_tiles}: the cells of this network are {cell_px} px; "
            "give a multiple of that"
        )
    if config.stack:
        found = [_stack(config.stack, bands, pool, remote=config.network)]
    elif config.mosaic:
        found = [_mosaic(resolve(config.sources), bands, config, pool, advance)]
    else:
        sources = resolve(config.sources)
        found = []
        for some in _each(pool, _open_source, [(s, bands, config.network) for s in sources], advance):
            found += some
        names = numbered([source.name for source, _, _ in found])
        found = [(replace(s, name=n), r, f) for (s, r, f), n in zip(found, names, strict=True)]
    return _cropped(found, config, cell_px)


def sampled(inputs: Sequence[Input]) -> list[View]:
    """What a fit looks at: each raster once, however many outputs it is cut into."""
    views = [one.whole or one.view for one in inputs]
    return list({id(view): view for view in views}.values())


def _each(
    pool: Pool, function: Callable[..., _T], calls: Sequence[tuple[Any, ...]], advance: Advance
) -> Iterator[_T]:
    """Results of a function in the order of its calls, of which some make a task: a file is little work."""
    size = max(1, min(_MOST_IN_A_TASK, len(calls) // (8 * pool.count)))
    groups = [(function, calls[i : i + size]) for i in range(0, len(calls), size)]
    done = 0
    for results in pool.each(_several, groups):
        for result in results:
            done += 1
            advance(done, len(calls))
            yield result


def _several(function: Callable[..., _T], calls: Sequence[tuple[Any, ...]]) -> list[_T]:
    return [function(*call) for call in calls]


def _cropped(found: Sequence[_Found], config: RunConfig, cell_px: int) -> Opened:
    wanted = interest(config.extent, config.aoi)
    opened = Opened([], [], [], wanted.digest if wanted and config.aoi else None)
    for source, raster, mark in found:
        try:
            if isinstance(raster, RasterError):
                raise raster
            view = View(raster, raster.bounds, tolerant=config.on_bad_chunk == "nodata")
            one = Input(source, crop(view, wanted, cell_px), mark)
            refuse_region(raster.path, one.view.region, raster.pixel_bytes)
        except RasterError as error:
            opened.failures.append((source, error))
            opened.sources.append(source)
            continue
        parts = list(_cut(one, config.output_tiles)) if config.output_tiles else [one]
        opened.inputs.extend(parts)
        opened.sources.extend(part.source for part in parts)
    return opened


def _cut(one: Input, side: int) -> Iterator[Input]:
    """The parts of a raster at the multiples of a side, but for those where it has nothing."""
    for region in tiles(one.view.region, side):
        if one.view.raster.covers(region):
            place = f"r{region.row // side:03d}_c{region.col // side:03d}"
            source = replace(one.source, path=f"{one.source.path} {place}", name=f"{one.source.name}_{place}")
            yield Input(source, replace(one.view, region=region), one.mark, one.view)


def _open_source(source: Source, bands: Bands, remote: bool) -> list[_Found]:  # noqa: FBT001  (a task's)
    """Header and fingerprint of a source, or of the rasters in it, or why it cannot be opened."""
    try:
        if not remote:
            network.refuse(source.path)
        return [_open_one(source, bands)]
    except ContainerError as error:
        return _open_container(source, error, bands)
    except RasterError as error:
        return [(source, error, Mark())]


def _open_one(source: Source, bands: Bands) -> _Found:
    try:
        chosen = choose(bands, lambda: open_numbered(source.path))
        raster, mark = _marked(source.path, chosen.numbers)
    except OSError as error:
        raise RasterError(source.path, f"cannot be read ({error.strerror})") from None
    return source, chosen.of(raster), unchanged.together([mark])


def _marked(path: str, numbers: Sequence[int] | None) -> tuple[SingleRaster, Mark]:
    stamp = unchanged.stamp_of(path)
    raster = open_numbered(path, numbers)
    return raster, unchanged.mark_of(raster, stamp)


def _open_container(source: Source, container: ContainerError, bands: Bands) -> list[_Found]:
    found: list[_Found] = []
    for part in container.parts:
        label = part_label(part.rpartition(source.path)[2] or part.rpartition(":")[2])
        one = Source(part, f"{source.name}_{label}", source.files)
        try:
            _refuse_others(part, source.path)
            opened = _open_one(one, bands)
            _refuse_coordinates(part, opened[1])
            found.append(opened)
        except RasterError as error:
            found.append((one, error, Mark()))
    if all(isinstance(raster, NoRasterError) for _, raster, _ in found):
        return [(source, RasterError(source.path, container.nothing), Mark())]
    return found


def _refuse_others(part: str, container: str) -> None:
    """Raise what tells that a file names another one as a part of itself."""
    if container not in part:
        raise RasterError(part, f"is named by {container}, of which it is no part")


def _refuse_coordinates(path: str, raster: Raster | RasterError) -> None:
    """Raise `NoRasterError` for what a container holds beside its rasters."""
    if isinstance(raster, RasterError):
        return
    if min(raster.height, raster.width) < 2:
        raise NoRasterError(path, f"{raster.width} x {raster.height} values are no raster")
    tags: dict[str, str] = {}
    if isinstance(raster, FileRaster):
        tags = handles.opened(path, lambda dataset: {**dataset.tags(), **dataset.tags(1)})
    said = [tags.get(key, "") for key in ("standard_name", "units")]
    if any(_COORDINATES.fullmatch(text) for text in said) or _BOUNDS.fullmatch(path.casefold()):
        raise NoRasterError(path, "coordinates or their bounds are no raster")


def _open_tile(
    path: str,
    numbers: Sequence[int] | None,
    remote: bool,  # noqa: FBT001  (a task's)
) -> tuple[SingleRaster, Mark] | RasterError:
    try:
        if not remote:
            network.refuse(path)
        return _marked(path, numbers)
    except RasterError as error:
        return error
    except OSError as error:
        return RasterError(path, f"cannot be read ({error.strerror})")


def _mosaic(
    sources: Sequence[Source], bands: Bands, config: RunConfig, pool: Pool, advance: Advance
) -> _Found:
    """All sources as one raster; it fails with a tile that cannot be opened, for none is left out unseen."""
    paths = tuple(source.path for source in sources)
    label = f"mosaic of {len(paths)} tiles ({paths[0]}{', ...' if len(paths) > 1 else ''})"
    source = Source(label, "mosaic", tuple(f for s in sources for f in s.files))
    marks: list[Mark] = []

    def opened(numbers: Sequence[int] | None) -> Iterator[SingleRaster]:
        for found in _each(pool, _open_tile, [(path, numbers, config.network) for path in paths], advance):
            if isinstance(found, RasterError):
                raise found
            marks.append(found[1])
            yield found[0]

    try:
        if not config.network:
            network.refuse(paths[0])
        chosen = choose(bands, lambda: open_numbered(paths[0]))
        raster = chosen.of(mosaic_building.build(opened(chosen.numbers), config.overlap, label))
    except RasterError as error:
        return source, RasterError(label, f"tile {error}"), Mark()
    return source, raster, unchanged.together(marks)


def _stack(members: Sequence[tuple[str, str]], bands: Bands, pool: Pool, *, remote: bool) -> _Found:
    """The files of a stack as one raster."""
    label = f"stack of {', '.join(f'{name}={path}' for name, path in members)}"
    source = Source(label, "stack", tuple(path for _, path in members))
    layers, marks = [], {}
    for (name, _), found in zip(
        members, pool.each(_open_tile, [(path, None, remote) for _, path in members]), strict=True
    ):
        if isinstance(found, RasterError):
            return source, RasterError(label, f"{name}: {found}"), Mark()
        layers.append((name, found[0]))
        marks[found[0].path] = found[1]
    whole = stack.build(layers, label)
    try:
        chosen = choose(bands, lambda: whole)
    except RasterError as error:
        return source, error, Mark()
    used = whole.only(chosen.numbers)
    return source, chosen.of(used), unchanged.together(marks[one.path] for one in used.members)
