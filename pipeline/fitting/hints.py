"""Hints on what a run may have been meant to do otherwise: one line each, and nothing changes by them."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.config import RunConfig
from pipeline.events.kinds import Warned
from pipeline.fitting.collars import Collars, Colour
from pipeline.source.band_files import band_files
from pipeline.source.raster import Raster
from pipeline.source.view import View


def undeclared_nodata(config: RunConfig, views: Sequence[View], collars: Collars) -> Warned | None:
    """A hint on rasters with a collar of one colour that nothing declares as nodata; None without any.

    Parameters
    ----------
    config
        The run's: who said `--nodata` needs no hint.
    views
        What the fit looked at.
    collars
        What it saw, by their index.
    """
    if config.nodata is not None:
        return None
    undeclared = [(i, view.raster) for i, view in enumerate(views) if not view.raster.declares_nodata]
    collared = [(raster, *collar) for i, raster in undeclared if (collar := collars.of(i)) is not None]
    if not collared:
        return None
    raster, colour, share = collared[0]
    others = f" (and {len(collared) - 1} rasters more like it)" if len(collared) > 1 else ""
    return Warned(
        f"{raster.path}{others}: about {share:.0%} has the one colour {_listed(colour)} up to the edge, and "
        f"nothing declares nodata; if that is a collar, give --nodata{_value(raster, colour)} "
        "(or --nodata none, if it is not)"
    )


def bands_in_files(config: RunConfig, views: Sequence[View]) -> Warned | None:
    """A hint on rasters whose names say that they are single bands of scenes; None without any.

    Parameters
    ----------
    config
        The run's: who joins files, or chooses bands, knows them.
    views
        The rasters.
    """
    if config.mosaic or config.stack or config.bands:
        return None
    single = {view.path: view.raster for view in views if len(view.raster.bands) == 1}
    found = band_files(single)
    if found is None:
        return None
    sizes = {(single[file].height, single[file].width) for file in found.files}
    scenes = f"{found.scenes} scenes" if found.scenes > 1 else "one scene"
    return Warned(
        f"{found.files[0]} and others look like single bands of {scenes}, and each is segmented by itself; "
        f'to segment scenes by all their bands, give --stack "{found.stack}"'
        f"{' --resample bilinear' if len(sizes) > 1 else ''} in place of SOURCE"
    )


def _listed(colour: Colour) -> str:
    return ",".join(map(str, colour))


def _value(raster: Raster, colour: Colour) -> str:
    """The value of the option where it can be said: that of a palette is a colour's number."""
    if "palette" in raster.origin:
        return ""
    if len(set(colour)) == 1:
        return f" {colour[0]}"
    return f" {_listed(colour)}" if raster.bands == tuple(range(1, len(colour) + 1)) else ""
