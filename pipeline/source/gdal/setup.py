"""What GDAL is told before it reads: for good in a process of ours, around our own reads in any other.

A process of ours is there for one command (`python -m pipeline`) or for tasks (a worker process). There
`configure` is called before GDAL starts. Nothing is configured by an import: in a process that is somebody
else's (a notebook that calls `pipeline.open_raster`) each open and read of ours goes with the same settings,
which end with it, and names the drivers that may open a file (`dataset_opening`).

What reaches beyond our own reads there, and why:

- While one of our reads lasts, its settings hold for the whole process if it runs in the main thread:
  rasterio sets options of an `Env` for one thread only in other threads.
- While one lasts, rasterio's loggers have a handler of ours, for the reason of a failed request is found in
  no exception; while a file is opened, `NotGeoreferencedWarning` is ignored, in all threads.
- GDAL registers its drivers once for the whole process. What a VRT refers to is opened by GDAL itself with
  all of them, so `references` refuses what looks like a request to a service before. That is by name where a
  VRT lies in an archive or on a network; there the drivers of services are kept out by `configure` alone.
- The vector library has a GDAL of its own, which has settings for the whole process and not for a thread:
  they are put back when a vector file has been read.
- What is `GDAL_CACHEMAX` for is the caller's in their own process: GDAL keeps up to 5 % of the memory there.
- PROJ has one folder of data for the whole process, which rasterio takes from `PROJ_DATA` or `PROJ_LIB` each
  time that an `Env` begins. Where rasterio brings its own, our reads go with that, until the next `Env`.
- A message of GDAL's that is no UTF-8 shows there as an exception that Python ignored.

It imports nothing that takes long, so that the command line can call it first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Container
from typing import Any

from pipeline.process import foreign, open_files

SERVICES = (
    *("ADBC", "AmigoCloud", "CSW", "Carto", "DAAS", "DERIVED", "EEDA", "EEDAI", "Elasticsearch", "GDALG"),
    *("GTI", "HTTP", "NGW", "OAPIF", "OGCAPI", "OGR_VRT", "PLMOSAIC", "PLSCENES", "STACIT", "STACTA"),
    *("WCS", "WFS", "WMS", "WMTS"),
)
"""GDAL's drivers whose files are requests to a service, or tell GDAL what else to open and to run."""

MOST_LISTED = 200
"""Files of a folder that GDAL looks for sidecars by listing it; in larger ones it asks for each by name."""

_DEFAULTS = {
    # folders of thousands of tiles are not listed for each tile that is opened
    "GDAL_READDIR_LIMIT_ON_OPEN": str(MOST_LISTED),
    # a request that does not get on is given up, and repeated where the server is to blame
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
    "GDAL_HTTP_LOW_SPEED_TIME": "30",
    "GDAL_HTTP_MAX_RETRY": "2",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
}
"""Settings of a read; what the environment has wins, or an `Env` of rasterio's around the read."""

_FIXED = {
    # of a VRT's sources that meet inside a pixel the last has it; GDAL 3.10 reads them in several threads,
    # and then it is any of them
    "VRT_NUM_THREADS": "1",
}
"""Settings that labels depend on; nothing else wins."""

_OF_PROCESS = {
    # a block cache for the whole process, which would otherwise take 5 % of the memory
    "GDAL_CACHEMAX": "64",
}
"""Settings of a process, which only the process of a command or of tasks gets."""


def configure() -> None:
    """Configure GDAL for the whole of this process, which is there for a command or for tasks.

    It sets variables of the environment, which worker processes inherit, and so has to be called before
    GDAL starts: GDAL reads `GDAL_SKIP` when it registers its drivers, in the raster library and in the
    vector library. Called again, it changes nothing.

    What the environment says of other installations' data, or of how files are read, is left out (`foreign`);
    before it is called, `foreign.ignored` names what a user should know of.
    """
    foreign.leave_out()
    open_files.allow_more()
    # sources of VRTs that stay open; each thread that reads one needs a place
    most = max(16, min(100, (open_files.most_open_files() - open_files.OURS) // 4))
    os.environ.setdefault("GDAL_MAX_DATASET_POOL_SIZE", str(most))
    for name, value in {**_OF_PROCESS, **_DEFAULTS}.items():
        os.environ.setdefault(name, value)
    os.environ.update(_FIXED)
    skipped = os.environ.get("GDAL_SKIP", "").replace(" ", ",").split(",")
    os.environ["GDAL_SKIP"] = ",".join(dict.fromkeys([*SERVICES, *filter(None, skipped)]))
    if not isinstance(sys.unraisablehook, _QuietHook):
        sys.unraisablehook = _QuietHook(sys.unraisablehook)


def missing_options(given: Container[str] = ()) -> dict[str, str]:
    """Options that a read needs and that this process does not have; {} where it is configured.

    Parameters
    ----------
    given
        Names of options that the caller of the read has set for it.
    """
    options = {n: value for n, value in _DEFAULTS.items() if n not in os.environ and n not in given}
    options |= {name: value for name, value in _FIXED.items() if os.environ.get(name) != value}
    return options | foreign.overriding()


class _QuietHook:
    """Ignores GDAL's messages that are no UTF-8: rasterio cannot log them, and raises their errors."""

    def __init__(self, usual: Any) -> None:
        self._usual = usual

    def __call__(self, unraisable: Any) -> None:
        """Pass on what is of anything else."""
        if unraisable.object != "rasterio._env.log_error":
            self._usual(unraisable)
