"""What an import and a read leave as it was in a process that is somebody else's, and what holds there."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from pipeline.errors import RasterError, UsageError
from pipeline.process.warning_filters import ignored
from pipeline.source.aoi import interest
from pipeline.source.gdal import setup, transient
from pipeline.source.opening import open_segmentable
from tests.rasters import from_file, noise, write_geotiff, write_vrt

ROOT = Path(__file__).resolve().parents[4]

STATE = """
import gc, json, logging, os, signal, sys, threading, warnings

def state():
    loggers = [logging.getLogger(), *map(logging.getLogger, ("rasterio._err", "rasterio._env"))]
    return {
        "environment": dict(os.environ),
        "hooks": [sys.unraisablehook, sys.excepthook, threading.excepthook],
        "filters": list(warnings.filters),
        "log handlers": [list(logger.handlers) for logger in loggers],
        "log levels": [logger.level for logger in loggers],
        "hidden modules": [name for name, module in sys.modules.items() if module is None],
        "signal handlers": [signal.getsignal(s) for s in signal.valid_signals()],
        "garbage collector": (gc.get_threshold(), gc.get_freeze_count()),
    }

def unchanged(before, what):
    changed = {k: (before[k], v) for k, v in state().items() if v != before[k]}
    assert not changed, (what, changed)
"""


def run_python(code, *arguments, env=None):
    """What a fresh interpreter prints, in which nothing of ours runs but the code."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("GDAL_", "VRT_"))}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env=clean | (env or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def scene(tmp_path):
    return write_geotiff(tmp_path / "scene.tif", noise(3, 90, 120, seed=1))


@pytest.fixture
def plain(tmp_path):
    """A raster without georeference."""
    path = tmp_path / "plain.png"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", driver="PNG", width=9, height=8, count=1, dtype="uint8") as dataset:
            dataset.write(noise(1, 8, 9))
    return path


# Nothing is left behind


def test_an_import_changes_nothing_in_somebody_else_s_process():
    run_python(
        # what libraries do to the process is theirs
        "import dask.array, numba, pydantic, pyogrio, rasterio, rioxarray, xarray, zarr\n"
        f"{STATE}\n"
        "before = state()\n"
        "import importlib, pkgutil, pipeline\n"
        "unchanged(before, 'import pipeline')\n"
        "for module in pkgutil.walk_packages(pipeline.__path__, 'pipeline.'):\n"
        "    if module.name != 'pipeline.__main__':\n"
        "        importlib.import_module(module.name)\n"
        "        unchanged(before, module.name)\n"
    )


@pytest.mark.parametrize("name", ["scene", "plain"])
def test_opening_and_reading_changes_nothing_in_somebody_else_s_process(request, name):
    path = request.getfixturevalue(name)
    done = run_python(
        "import dask.array, numba, rasterio, rioxarray, xarray\n"
        f"{STATE}\n"
        "before = state()\n"
        "import pipeline\n"
        "array = pipeline.open_raster(sys.argv[1])\n"
        "unchanged(before, 'open_raster')\n"
        "for scheduler in ('synchronous', 'threads'):\n"
        "    assert array[:, :50, :60].compute(scheduler=scheduler).size\n"
        "    unchanged(before, scheduler)\n"
        "from rasterio.env import get_gdal_config\n"
        "for option in ('CPL_VSIL_CURL_ALLOWED_FILENAME', *pipeline.source.gdal.setup.missing_options()):\n"
        "    assert get_gdal_config(option) is None, option\n"
        "with rasterio.Env() as gdal:\n"
        "    assert 'WMS' in gdal.drivers()\n",
        path,
    )
    assert not done.stderr


def test_a_run_changes_nothing_in_somebody_else_s_process(scene, tmp_path):
    run_python(
        "import dask.array, numba, psutil, rasterio\n"
        f"{STATE}\n"
        "before = state()\n"
        "import pipeline\n"
        "config = pipeline.RunConfig(sources=(sys.argv[1],), out=sys.argv[2], segments=3, workers='2')\n"
        "assert not pipeline.run(config).failed\n"
        "unchanged(before, 'run')\n",
        scene,
        tmp_path / "out",
    )


def test_a_vector_file_leaves_the_vector_library_as_it_was(tmp_path):
    pyogrio = pytest.importorskip("pyogrio")
    name = "CPL_VSIL_CURL_ALLOWED_FILENAME"
    file = tmp_path / "aoi.geojson"
    file.write_text('{"type": "Polygon", "coordinates": [[[0, 0], [0, 9], [9, 9], [0, 0]]]}')
    pyogrio.set_gdal_config_options({name: "/vsicurl/theirs"})
    try:
        assert interest(None, str(file))
        assert pyogrio.get_gdal_config_option(name) == "/vsicurl/theirs"
    finally:
        pyogrio.set_gdal_config_options({name: None})
    assert interest(None, str(file))
    assert pyogrio.get_gdal_config_option(name) is None


# What holds while we read


WMS = (
    '<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:1/${z}/${x}/${y}.png</ServerUrl></Service>'
    "<DataWindow><UpperLeftX>0</UpperLeftX><UpperLeftY>9</UpperLeftY><LowerRightX>9</LowerRightX>"
    "<LowerRightY>0</LowerRightY><TileLevel>3</TileLevel></DataWindow></GDAL_WMS>"
)


def test_drivers_of_services_open_nothing_for_us_where_others_may_use_them(tmp_path):
    (tmp_path / "service.xml").write_text(WMS)
    run_python(
        "import sys, rasterio, pipeline\n"
        "from pipeline.errors import RasterError\n"
        "assert rasterio.open(sys.argv[1]).driver == 'WMS'\n"
        "try:\n"
        "    pipeline.open_raster(sys.argv[1])\n"
        "except RasterError as error:\n"
        "    assert 'not recognized' in str(error), error\n"
        "else:\n"
        "    raise AssertionError('opened')\n"
        "assert rasterio.open(sys.argv[1]).driver == 'WMS'\n",
        tmp_path / "service.xml",
    )


@pytest.mark.parametrize(
    "name",
    [
        "EEDAI:projects/x",
        "WMS:host/path",
        "PLMOSAIC:mosaic=x",
        "DERIVED_SUBDATASET:AMPLITUDE:r.tif",
        "a?service=WMS",
    ],
)
def test_a_vrt_that_names_a_service_is_refused(tmp_path, name):
    write_geotiff(tmp_path / "r.tif", noise(1, 9, 9))
    path = write_vrt(tmp_path / "r.vrt", (9, 9), ("Byte", from_file(name)))
    with pytest.raises(RasterError, match=r"is a request to a service|no such file"):
        open_segmentable(path)


def test_a_raster_that_is_a_request_to_a_service_too_is_no_source_of_a_vrt(tmp_path):
    # GDAL's drivers for services look at a file before that for raw pixels does
    header = "ENVI\nsamples = 9\nlines = 9\nbands = 1\nheader offset = 0\ndata type = 1\ninterleave = bsq\n"
    (tmp_path / "raw.hdr").write_text(header)
    path = write_vrt(tmp_path / "r.vrt", (9, 9), ("Byte", from_file("raw")))
    (tmp_path / "raw").write_bytes(bytes(range(81)))
    assert open_segmentable(path).driver == "VRT"
    (tmp_path / "raw").write_text(WMS)
    with pytest.raises(RasterError, match="is a request to a service"):
        open_segmentable(path)


def test_a_vector_file_that_refers_to_others_is_refused(tmp_path):
    path = tmp_path / "aoi.vrt"
    path.write_text(
        '<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>a.shp</SrcDataSource></OGRVRTLayer>'
    )
    with pytest.raises(UsageError, match="not a vector file that OGR can read"):
        interest(None, str(path))


def test_all_drivers_are_asked_where_those_of_services_were_left_out():
    code = (
        "from pipeline.source.gdal import setup\n"
        "setup.configure()\n"
        "from pipeline.source.gdal import dataset_opening\n"
        "assert dataset_opening._drivers() is None\n"
        "assert setup.missing_options() == {}\n"
    )
    run_python(code)
    run_python(
        code.replace("setup.configure()\n", "").replace("is None", "is not None").replace("== {}", "!= {}")
    )


def test_options_of_the_caller_win_but_for_what_labels_depend_on():
    run_python(
        "import rasterio\n"
        "from rasterio.env import get_gdal_config\n"
        "from pipeline.source.gdal import dataset_opening\n"
        "with rasterio.Env(GDAL_HTTP_MAX_RETRY=9, VRT_NUM_THREADS=4), dataset_opening.environment('a.tif'):\n"
        "    found = [get_gdal_config(f'GDAL_HTTP_{n}') for n in ('MAX_RETRY', 'CONNECTTIMEOUT')]\n"
        "    assert [*map(str, found)] == ['9', '10'], found\n"
        "    assert str(get_gdal_config('VRT_NUM_THREADS')) == '1'\n"
    )


# The process of a command


def test_configuring_twice_changes_nothing_more_and_keeps_what_the_user_set():
    done = run_python(
        "import os, sys\n"
        "from pipeline.source.gdal.setup import configure\n"
        "configure()\n"
        "before = dict(os.environ), sys.unraisablehook\n"
        "configure()\n"
        "assert before == (dict(os.environ), sys.unraisablehook)\n"
        "assert 'rasterio' not in sys.modules\n"
        "print(os.environ['GDAL_SKIP'], os.environ['GDAL_CACHEMAX'], os.environ['VRT_NUM_THREADS'])\n",
        env={"GDAL_SKIP": "PNG WMS", "GDAL_CACHEMAX": "7", "VRT_NUM_THREADS": "4"},
    )
    skipped, cache, threads = done.stdout.split()
    assert sorted(skipped.split(",")) == sorted([*setup.SERVICES, "PNG"])
    assert (cache, threads) == ("7", "1")


def test_the_hook_passes_on_all_but_messages_of_gdal_that_are_no_utf_8():
    class Unraisable:
        object = None

    passed, hook = [], None
    hook = setup._QuietHook(passed.append)
    unraisable = Unraisable()
    hook(unraisable)
    unraisable.object = "rasterio._env.log_error"
    hook(unraisable)
    assert passed == [unraisable]


# Warnings


def warns():
    with warnings.catch_warnings(record=True) as heard:
        warnings.warn("w", NotGeoreferencedWarning, stacklevel=1)
    return bool(heard)


def test_warnings_are_ignored_until_the_last_block_ends_in_any_order():
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        before = list(warnings.filters)
        inside, leave = threading.Event(), threading.Event()

        def other():
            with ignored(NotGeoreferencedWarning):
                inside.set()
                leave.wait(10)

        thread = threading.Thread(target=other)
        with ignored(NotGeoreferencedWarning):
            thread.start()
            assert inside.wait(10)
            assert not warns()
        assert not warns()
        leave.set()
        thread.join()
        assert warns()
        assert list(warnings.filters) == before


def test_a_filter_that_went_into_a_copy_of_the_list_is_removed_there_too():
    before = list(warnings.filters)
    block = ignored(NotGeoreferencedWarning)
    block.__enter__()
    with warnings.catch_warnings():
        block.__exit__(None, None, None)
        assert list(warnings.filters) == before
    assert list(warnings.filters) == before


def test_a_filter_of_somebody_else_that_says_the_same_stays():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        before = list(warnings.filters)
        block = ignored(NotGeoreferencedWarning)
        with warnings.catch_warnings():  # as rasterio does in another thread
            block.__enter__()
        block.__exit__(None, None, None)
        assert list(warnings.filters) == before
        warnings.warn("w", NotGeoreferencedWarning, stacklevel=1)


def test_the_ear_hears_only_while_somebody_listens():
    loggers = transient._EAR._loggers
    with transient.listening():
        with transient.listening():
            assert all(transient._EAR in logger.handlers for logger in loggers)
        assert all(transient._EAR in logger.handlers for logger in loggers)
    assert not any(transient._EAR in logger.handlers for logger in loggers)
