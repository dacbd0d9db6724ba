"""From the options of a run to its rasters: opened, joined where that is asked for, and cropped.

`run`, `plan` and `fit` share `open_inputs`, so that they mean the same by the same options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from engine.codebook import Codebook
from engine.grid import tiles
from engine.labels.smoothing import Smoothing
from pipeline.config import RunConfig
from pipeline.errors import RasterError, UsageError
from pipeline.events.observer import Advance, ignore_progress
from pipeline.out.previous_run import made_in
from pipeline.running.opening_tasks import SourceRaster, open_source, open_tile
from pipeline.source import scenes, unchanged
from pipeline.source.aoi import interest
from pipeline.source.arguments import Source, numbered, resolve
from pipeline.source.bands.computed import choose
from pipeline.source.bands.fitted import FittedBands
from pipeline.source.bands.selection import Selection
from pipeline.source.declared import Declared
from pipeline.source.gdal.remote import refuse
from pipeline.source.joined import mosaic_building, stack
from pipeline.source.limits import refuse_region
from pipeline.source.naming.paths import absolute
from pipeline.source.naming.searching import EVERYWHERE, Search
from pipeline.source.opening import open_numbered
from pipeline.source.raster import Raster, SingleRaster
from pipeline.source.unchanged import Mark
from pipeline.source.view import View, crop
from pipeline.workers.pool import Pool

_MOST_IN_A_TASK = 64
_T = TypeVar("_T")


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

    `area` tells the polygons of `--aoi` from others; None without it. `choice` is as of `Interest`.
    """

    inputs: list[Input]
    failures: list[tuple[Source, RasterError]]
    sources: list[Source]
    area: str | None
    choice: str = ""

    def renamed(self, sources: Mapping[Source, Source]) -> Opened:
        """The same with other names of outputs."""
        return Opened(
            [replace(one, source=sources[one.source]) for one in self.inputs],
            [(sources[source], error) for source, error in self.failures],
            [sources[source] for source in self.sources],
            self.area,
            self.choice,
        )


def open_inputs(
    config: RunConfig,
    pool: Pool,
    cell_px: int,
    codebook: Codebook | None = None,
    advance: Advance = ignore_progress,
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
    codebook
        A saved codebook, whose bands are used.
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
    fitted = None
    if codebook is not None:
        fitted = FittedBands.of(codebook, config.bands, by_order=config.codebook_bands == "any")
    used = config.bands or (None if codebook is None else codebook.bands)
    selection = Selection(used, config.valid, config.nodata, config.raw_values, fitted)
    if config.output_tiles and config.output_tiles % cell_px:
        raise UsageError(
            f"--output-tiles {config.output_tiles}: the cells of this network are {cell_px} px; "
            "give a multiple of that"
        )
    search = EVERYWHERE if config.out is None else Search(config.out, partial(made_in, Path(config.out)))
    if config.stack:
        rasters = list(_stacks(scenes.resolve(config.stack, search), selection, config, pool, advance))
    elif config.mosaic:
        sources = resolve(config.sources, recursive=config.recursive, search=search)
        rasters = [_mosaic(sources, selection, config, pool, advance)]
    else:
        sources = resolve(config.sources, recursive=config.recursive, search=search)
        calls = [(source, selection, config.network) for source in sources]
        rasters = [raster for opened in _each(pool, open_source, calls, advance) for raster in opened]
        names = numbered([source.name for source, _, _ in rasters])
        rasters = [(replace(s, name=n), r, m) for (s, r, m), n in zip(rasters, names, strict=True)]
    return _cropped(rasters, config, cell_px)


def sampled(inputs: Sequence[Input]) -> list[View]:
    """What a fit looks at: each raster once, however many outputs it is cut into."""
    views = [raster.whole or raster.view for raster in inputs]
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


def _cropped(rasters: Sequence[SourceRaster], config: RunConfig, cell_px: int) -> Opened:
    wanted = interest(config.extent, config.aoi)
    digest = wanted.digest if wanted and config.aoi else None
    opened = Opened([], [], [], digest, wanted.choice if wanted else "")
    for source, raster, mark in rasters:
        try:
            if isinstance(raster, RasterError):
                raise raster
            view = View(raster, raster.bounds, tolerant=config.on_bad_chunk == "nodata")
            whole = Input(source, crop(view, wanted, cell_px), mark)
            refuse_region(raster.path, whole.view.region, raster.pixel_bytes)
        except RasterError as error:
            opened.failures.append((source, error))
            opened.sources.append(source)
            continue
        inputs = list(_cut(whole, config.output_tiles)) if config.output_tiles else [whole]
        opened.inputs.extend(inputs)
        opened.sources.extend(cut.source for cut in inputs)
    _refuse_wide(config.smoothing, (one.view.raster for one in opened.inputs))
    return opened


def _refuse_wide(smoothing: Smoothing | None, rasters: Iterable[Raster]) -> None:
    """Refuse a window that is wider than each of some rasters; beside a larger one there may be small ones.

    Raises
    ------
    UsageError
        If it is.
    """
    sides = [(min(raster.height, raster.width), raster) for raster in rasters]
    if smoothing is None or not sides or smoothing.window_px <= max(side for side, _ in sides):
        return
    _, largest = max(sides, key=lambda side: side[0])
    raise UsageError(
        f"--smooth {smoothing}: the window is wider than {largest.path}, which has {largest.width} x "
        f"{largest.height} px; give a smaller one"
    )


def _cut(raster: Input, side: int) -> Iterator[Input]:
    """The parts of a raster at the multiples of a side, but for those where it has nothing."""
    source, view = raster.source, raster.view
    for region in tiles(view.region, side):
        if view.raster.covers(region):
            label = f"r{region.row // side:03d}_c{region.col // side:03d}"
            cut = replace(source, path=f"{source.path} {label}", name=f"{source.name}_{label}")
            yield Input(cut, replace(view, region=region), raster.mark, view)


def _mosaic(
    sources: Sequence[Source], selection: Selection, config: RunConfig, pool: Pool, advance: Advance
) -> SourceRaster:
    """All sources as one raster; it fails with a tile that cannot be opened, for none is left out unseen."""
    paths = tuple(source.path for source in sources)
    tiles = tuple(map(absolute, paths))
    label = f"mosaic of {len(tiles)} tiles ({tiles[0]}{', ...' if len(tiles) > 1 else ''})"
    source = Source(label, "mosaic", tiles)
    marks: list[Mark] = []

    def opened(numbers: Sequence[int] | None) -> Iterator[SingleRaster]:
        calls = [(path, numbers, selection.declared, config.network) for path in paths]
        for tile in _each(pool, open_tile, calls, advance):
            if isinstance(tile, RasterError):
                raise tile
            raster, mark = tile
            marks.append(mark)
            yield raster

    try:
        if not config.network:
            refuse(paths[0])
        chosen = choose(selection, lambda: open_numbered(paths[0]))
        tiles_opened = opened(chosen.numbers)
        joined = mosaic_building.build(tiles_opened, config.overlap, label, physical=not selection.raw_values)
        raster = chosen.of(joined)
    except RasterError as error:
        return source, RasterError(label, f"tile {error}"), Mark()
    return source, raster, unchanged.together(marks)


def _stacks(
    sources: Sequence[Source], selection: Selection, config: RunConfig, pool: Pool, advance: Advance
) -> Iterator[SourceRaster]:
    """Each scene's files as one raster."""
    # nodata values are those of the whole stack, and its files have none of their own then
    declared = Declared(None if selection.nodata is None else (None,), selection.declared.physical)
    calls = [(path, None, declared, config.network) for source in sources for path in source.files]
    opened = _each(pool, open_tile, calls, advance)
    for source in sources:
        members = list(islice(opened, len(source.stack)))
        try:
            yield _stack(source, members, selection, config)
        except RasterError as error:
            yield source, error, Mark()


def _stack(
    source: Source,
    members: Sequence[tuple[SingleRaster, Mark] | RasterError],
    selection: Selection,
    config: RunConfig,
) -> SourceRaster:
    """The files of a scene as one raster.

    Raises
    ------
    RasterError
        If one of them could not be opened, or does not fit.
    """
    layers, marks = [], {}
    for (name, _), member in zip(source.stack, members, strict=True):
        if isinstance(member, RasterError):
            raise RasterError(source.path, f"{name}: {member}") from member
        raster, mark = member
        layers.append((name, raster))
        marks[raster.path] = mark
    label = scenes.label(tuple((name, absolute(file)) for name, file in source.stack))
    whole = stack.build(layers, label, config.resample, config.reference_band)
    chosen = choose(selection, lambda: whole)
    used = (whole if selection.nodata is None else whole.declaring(selection.nodata)).only(chosen.numbers)
    return source, chosen.of(used), unchanged.together(marks[member.path] for member in used.members)
