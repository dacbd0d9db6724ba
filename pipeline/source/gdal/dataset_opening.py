"""How every dataset is opened, local or remote: with which settings of GDAL's, and by which drivers."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rasterio
from rasterio.crs import CRS
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.session import DummySession

from pipeline.errors import one_line
from pipeline.process import foreign
from pipeline.process.warning_filters import ignored
from pipeline.source.gdal import setup
from pipeline.source.gdal.remote import NOWHERE, UNCACHED, gdal_path, is_remote


@contextlib.contextmanager
def environment(path: str, *, afresh: bool = False) -> Iterator[None]:
    """GDAL's settings for a path.

    Remote folders are not listed; sidecar files are asked for by name. From a local path nothing leads
    to a network.

    Parameters
    ----------
    path
        A raster, local or not.
    afresh
        Forget what is remembered of it. GDAL 3.10 takes the first half of an answer that broke off
        for all of it, a file that it could not reach for one that is not there, and remembers both.
    """
    options = setup.missing_options(rasterio.env.getenv() if rasterio.env.hasenv() else ())
    remote = is_remote(path)
    # whatever else says so: with EMPTY_DIR there would be no masks and world files beside a raster
    by_name = remote or _is_crowded(os.path.dirname(path))  # noqa: PTH120  (for each tile)
    options["GDAL_DISABLE_READDIR_ON_OPEN"] = "TRUE" if by_name else "FALSE"
    if not remote:
        # what a local file names is not followed to a network
        with rasterio.Env(DummySession(), CPL_VSIL_CURL_ALLOWED_FILENAME=NOWHERE, **options):
            foreign.use_own_proj_data()
            yield
        return
    if afresh:
        options["CPL_VSIL_CURL_NON_CACHED"] = UNCACHED
    with rasterio.Env(DummySession(), **options):
        foreign.use_own_proj_data()
        if afresh:
            # what was remembered goes when a handle that was opened under this setting is closed
            with contextlib.suppress(RasterioError):
                open_dataset(path).close()
        yield


def open_dataset(path: str, **options: Any) -> Any:
    """Open what a path names for reading, within `environment`; no driver of a service may open it.

    Parameters
    ----------
    path
        A raster, local or not.
    options
        Open options of GDAL's.

    Raises
    ------
    RasterioError
        If none of the drivers that may takes it.
    """
    # a raster without georeference is as good as any other; numpy warns of a nodata value beyond the dtype
    with ignored(NotGeoreferencedWarning), ignored(RuntimeWarning):
        return rasterio.DatasetReader(gdal_path(path), driver=_drivers(), **options)


def proj_problem() -> str:
    """Why PROJ knows no CRS at all in this process, within `environment`; "" where it does."""
    try:
        CRS.from_epsg(4326)
    except CRSError as error:
        return one_line(error).rpartition(": ")[2]
    return ""


@functools.lru_cache(maxsize=64)
def _is_crowded(folder: str) -> bool:
    """Whether a folder holds more files than GDAL lists: it would begin to, for each file that it opens."""
    try:
        return any(True for _ in itertools.islice(Path(folder).iterdir(), setup.MOST_LISTED, None))
    except (OSError, ValueError):
        return False


@functools.cache
def _drivers() -> list[str] | None:
    """The drivers that may open a file; None for all, where GDAL was started without those of services."""
    with rasterio.Env(DummySession()) as gdal:
        registered = list(gdal.drivers())
    foreign.use_own_proj_data()
    harmless = [name for name in registered if name not in setup.SERVICES]
    return None if harmless == registered else harmless
