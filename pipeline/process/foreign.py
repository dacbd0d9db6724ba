"""Settings of the environment that are not for us: data of other installations, and how files are read.

QGIS, conda and module systems set variables for every process that they start. Wheels of rasterio, pyproj and
pyogrio bring data of PROJ and GDAL with them; pyproj and pyogrio use those, but rasterio those that
`PROJ_DATA`, `PROJ_LIB` and `GDAL_DATA` name. A rasterio of a distribution has none of its own, and there the
variables are right.

Nor shall labels and their place depend on options of GDAL's that somebody set for another program.

Sources: GDAL's "Configuration options" and the pages of its drivers; PROJ's "Environment variables";
`rasterio/env.py`.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path

_PROJ_FOLDERS = ("PROJ_DATA", "PROJ_LIB", "PROJ_USER_WRITABLE_DIRECTORY")
_GDAL_FOLDERS = ("GDAL_DATA", "GDAL_DRIVER_PATH", "GDAL_PYTHON_DRIVER_PATH", "OGR_DRIVER_PATH")
_LISTING = "GDAL_DISABLE_READDIR_ON_OPEN"
_CONFIG_FILE = "GDAL_CONFIG_FILE"
_CONFIG_HOME = ".gdal/gdalrc"

_FAMILIES = (
    *("DTED_", "GDAL_GCPS_TO_GEOTRANSFORM_", "GDAL_GEOREF_", "GDAL_NETCDF_", "GDAL_PAM_", "GDAL_WARP_"),
    *("GRIB_", "GTIFF_", "HFA_USE_", "JP2OPENJPEG_PROMOTE_", "OGR_ARC_", "OGR_CT_", "OSR_", "PROJ_NETWORK"),
)
_OPTIONS = frozenset(
    {
        *("AAIGRID_DATATYPE", "CENTER_LONG", "CONVERT_YCBCR_TO_RGB", "ENVI_RPC_EMULATION", "ESRI_XML_PAM"),
        *("GDAL_ERROR_ON_LIBJPEG_WARNING", "GDAL_IGNORE_AXIS_ORIENTATION", "GDAL_JPEG_TO_RGB"),
        *("GDAL_JP2K_ALT_OFFSETVECTOR_ORDER", "GDAL_NO_COSTLY_OVERVIEW", "GDAL_RASTERIO_RESAMPLING"),
        *("GDAL_OVERVIEW_OVERSAMPLING_THRESHOLD", "GDAL_TIFF_INTERNAL_MASK_TO_8BIT", "GDAL_USE_GEOJP2"),
        *("GDAL_USE_GMLJP2", "GDAL_VRT_WARP_USE_DATASET_RASTERIO", "GML_FACE_HOLE_NEGATIVE"),
        *("JPEG_MASK_BIT_ORDER", "JPEG_READ_MASK", "NITF_OPEN_UNDERLYING_DS", "OGR_APPLY_GEOM_SET_PRECISION"),
        *("OGR_ENABLE_PARTIAL_REPROJECTION", "OGR_GEOMETRY_ACCEPT_UNCLOSED_RING", "OGR_ORGANIZE_POLYGONS"),
        *("OGR_STROKE_CURVE", "PDS4_FORCE_MASK", "PROJ_AUX_DB", "PROJ_FORCE_SEARCH_PIVOT"),
        *("PROJ_IGNORE_CELESTIAL_BODY", "PROJ_ONLY_BEST_DEFAULT", "PROJ_USE_PROJ4_INIT_RULES"),
        *("RAW_CHECK_FILE_SIZE", "REPORT_VERTCRS", "RMF_SET_VERTCS", "SENTINEL2_USE_MAIN_MTD"),
        *("TIFF_READ_STREAMING", "USE_TILE_AS_BLOCK", "VRT_SHARED_SOURCE", "VRT_VIRTUAL_OVERVIEWS"),
    }
)
"""Options that change pixels, masks or place, in the raster library or the vector library."""

_USUAL = {
    # a file without its mask and world file is another raster
    _LISTING: "FALSE",
    "AAIGRID_DATATYPE": "",
    "CONVERT_YCBCR_TO_RGB": "YES",
    "GDAL_JPEG_TO_RGB": "YES",
    "GDAL_PAM_ENABLED": "YES",
    "GDAL_RASTERIO_RESAMPLING": "NEAR",
    "GDAL_TIFF_INTERNAL_MASK_TO_8BIT": "YES",
    "GTIFF_HONOUR_NEGATIVE_SCALEY": "NO",
    "GTIFF_IGNORE_READ_ERRORS": "NO",
    "GTIFF_POINT_GEO_IGNORE": "NO",
    "GTIFF_REPORT_COMPD_CS": "NO",
    "JPEG_READ_MASK": "YES",
}
"""What GDAL does where nothing is said, for reads in a process whose environment is not ours to change."""


def ignored() -> tuple[str, ...]:
    """Settings of this process' environment that `leave_out` would leave out, and that a user should know of.

    Returns
    -------
    tuple of str
        Names of variables, or the file that GDAL takes options from. Those are missing of which the outcome
        is the same as if they were not set, or could only be worse.
    """
    file = _config_file()
    return (*sorted(filter(_changes_reads, os.environ)), *([str(file)] if file else []))


def leave_out() -> None:
    """Take settings that are not for us out of this process' environment, before GDAL starts or after."""
    if _config_file():
        os.environ[_CONFIG_FILE] = os.devnull
    own = [*(_PROJ_FOLDERS if own_proj_data() else ()), *(_GDAL_FOLDERS if own_gdal_data() else ())]
    for name in [*own, _LISTING, *filter(_changes_reads, list(os.environ))]:
        os.environ.pop(name, None)
    if own_proj_data():
        # grids that somebody has fetched place an area elsewhere than on all other machines
        os.environ["PROJ_SKIP_READ_USER_WRITABLE_DIRECTORY"] = "YES"
    if own_gdal_data():
        # drivers that are no part of this GDAL were built for another
        os.environ["GDAL_DRIVER_PATH"] = "disable"


def overriding() -> dict[str, str]:
    """Options that a read of ours needs where the environment says otherwise; {} after `leave_out`."""
    options = {name: value for name, value in _USUAL.items() if name in os.environ}
    if "GDAL_DATA" in os.environ and (folder := own_gdal_data()):
        options["GDAL_DATA"] = folder
    return options


def use_own_proj_data() -> None:
    """Go with the data of PROJ that rasterio brings, where the `Env` that just began took those of others."""
    if ("PROJ_DATA" in os.environ or "PROJ_LIB" in os.environ) and (folder := own_proj_data()) is not None:
        from rasterio._env import set_proj_data_search_path

        set_proj_data_search_path(folder)


@functools.cache
def own_proj_data() -> str | None:
    """The folder of PROJ's data that rasterio brings with it; None if that of the system is its own."""
    return _beside_rasterio("proj_data", "proj.db")


@functools.cache
def own_gdal_data() -> str | None:
    """The same for GDAL."""
    return _beside_rasterio("gdal_data", "gdalvrt.xsd")


def _beside_rasterio(folder: str, file: str) -> str | None:
    spec = importlib.util.find_spec("rasterio")  # without importing it
    roots: Iterable[str] = spec.submodule_search_locations or () if spec else ()
    return next((str(Path(root, folder)) for root in roots if Path(root, folder, file).is_file()), None)


def _changes_reads(name: str) -> bool:
    return name.upper() in _OPTIONS or name.upper().startswith(_FAMILIES)


def _config_file() -> Path | None:
    """The file that GDAL takes options from when it starts, if it says how files are read."""
    file = Path(os.environ.get(_CONFIG_FILE) or Path(os.path.expanduser("~"), _CONFIG_HOME))  # noqa: PTH111
    try:
        lines = file.read_text("utf-8", errors="replace").splitlines()
    except (OSError, ValueError):
        return None
    names = (line.partition("=")[0].strip() for line in lines)
    return file if any(name.upper() == _LISTING or _changes_reads(name) for name in names) else None
