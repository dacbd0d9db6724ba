"""Settings of the environment that are meant for other programs: the same bytes, or one clear line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform_geom

from pipeline.process import foreign
from tests.rasters import noise, write_geotiff

ROOT = Path(__file__).resolve().parents[3]
HARMLESS = ("PROJ_", "GDAL_", "OGR_", "OSR_", "GTIFF_")


def clean_environment():
    return {k: v for k, v in os.environ.items() if not k.startswith(HARMLESS)} | {"PYTHONPATH": str(ROOT)}


def python(*arguments, **settings):
    """A finished child process, whose environment has these settings and no others of GDAL's."""
    environment = clean_environment()
    for name, value in settings.items():
        environment[name] = f"{environment[name]}{os.pathsep}{value}" if name == "PYTHONPATH" else str(value)
    return subprocess.run(
        [sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A raster with a mask beside it, an area in another CRS, and what is wrong for all sorts of settings."""
    folder = tmp_path_factory.mktemp("inputs")
    pixels = noise(3, 300, 320, seed=3)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False):
        write_geotiff(folder / "scene.tif", pixels, crs="EPSG:25832")
        with rasterio.open(folder / "scene.tif", "r+") as dataset:
            dataset.write_mask(
                np.where(np.arange(320) < 60, 0, 255).astype("uint8") * np.ones((300, 1), "uint8")
            )
    assert (folder / "scene.tif.msk").exists()
    corners = [(500010, 5799990), (500150, 5799985), (500140, 5799860), (500020, 5799855), (500010, 5799990)]
    area = transform_geom("EPSG:25832", "EPSG:4326", {"type": "Polygon", "coordinates": [corners]})
    (folder / "area.geojson").write_text(json.dumps(area))
    (folder / "empty").mkdir()
    (folder / "home" / ".gdal").mkdir(parents=True)
    options = "[configoptions]\nGDAL_DISABLE_READDIR_ON_OPEN=EMPTY_DIR\n"
    (folder / "home" / ".gdal" / "gdalrc").write_text(options)
    return folder


def labelled(inputs, out, **settings):
    """A run's files of labels and place, and what it said."""
    command = ["-m", "pipeline", "run", inputs / "scene.tif", "--aoi", inputs / "area.geojson", "-o", out]
    done = python(*command, "--segments", "3", "--progress", "none", **settings)
    assert done.returncode == 0, done.stderr
    return [(out / name).read_bytes() for name in ("scene.tif", "scene.tif.aux.xml")], done.stderr


@pytest.fixture(scope="module")
def usual(inputs, tmp_path_factory):
    files, said = labelled(inputs, tmp_path_factory.mktemp("usual") / "out")
    assert not said
    return files


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PROJ_LIB", "{inputs}/missing", ""),
        ("PROJ_DATA", "{inputs}/empty", ""),
        ("GDAL_DATA", "{inputs}/missing", ""),
        ("GDAL_DRIVER_PATH", "{inputs}/missing", ""),
        ("GDAL_DISABLE_READDIR_ON_OPEN", "EMPTY_DIR", ""),
        ("GDAL_GEOREF_SOURCES", "NONE", "GDAL_GEOREF_SOURCES"),
        ("PYTHONPATH", "{inputs}/missing", ""),
        ("LANG", "xx_YY.nothing", ""),
        ("HOME", "{inputs}/missing", ""),
        pytest.param("HOME", "{inputs}/home", "gdalrc", id="HOME-with-gdalrc"),
        ("TMPDIR", "{inputs}/missing", ""),
    ],
)
def test_labels_are_the_same_whatever_is_set(inputs, usual, tmp_path, name, value, said):
    files, heard = labelled(inputs, tmp_path / "out", **{name: value.format(inputs=inputs)})
    assert files == usual
    assert len(heard.splitlines()) == bool(said)
    assert said in heard


def test_worker_processes_of_somebody_else_s_program_use_our_own_data_too(inputs, usual, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, pipeline\n"
        "if __name__ == '__main__':\n"
        "    source, aoi, out = sys.argv[1:]\n"
        "    options = {'segments': 3, 'aoi': aoi, 'workers': 'processes:1'}\n"
        "    assert not pipeline.run(pipeline.RunConfig(sources=(source,), out=out, **options)).failed\n"
    )
    wrong = {"PROJ_DATA": inputs / "empty", "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
    done = python(script, inputs / "scene.tif", inputs / "area.geojson", tmp_path / "out", **wrong)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / "out" / name).read_bytes() for name in ("scene.tif", "scene.tif.aux.xml")] == usual


READ = (
    "import sys, pipeline\n"
    "array = pipeline.open_raster(sys.argv[1])\n"
    "print(array.rio.crs.to_epsg(), int(array.valid.values.sum()))\n"
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROJ_LIB", "{inputs}/empty"),
        ("PROJ_DATA", "{inputs}/missing"),
        ("GDAL_DATA", "{inputs}/missing"),
        ("GDAL_DISABLE_READDIR_ON_OPEN", "EMPTY_DIR"),
        ("GDAL_PAM_ENABLED", "NO"),
    ],
)
def test_a_read_in_somebody_else_s_process_uses_our_own_data(inputs, name, value):
    done = python("-c", READ, inputs / "scene.tif", **{name: value.format(inputs=inputs)})
    assert done.stdout.split() == ["25832", str(300 * 260)], done.stderr


# Libraries of a distribution, which bring no data


def test_where_the_libraries_bring_no_data_those_of_the_environment_are_used(monkeypatch):
    for name in ("PROJ_DATA", "GDAL_DATA", "GDAL_DRIVER_PATH"):
        monkeypatch.setenv(name, "/usr/share/somewhere")
    monkeypatch.setenv("GTIFF_SRS_SOURCE", "EPSG")
    for name in ("own_proj_data", "own_gdal_data"):
        monkeypatch.setattr(foreign, name, lambda: None)
    foreign.leave_out()
    assert {os.environ[name] for name in ("PROJ_DATA", "GDAL_DATA", "GDAL_DRIVER_PATH")} == {
        "/usr/share/somewhere"
    }
    assert "GTIFF_SRS_SOURCE" not in os.environ


def test_a_crs_that_proj_cannot_resolve_is_an_error_and_names_the_variables(inputs, tmp_path):
    code = (
        "import sys\n"
        "from pipeline.process import foreign\n"
        "foreign.own_proj_data = lambda: None\n"
        "from pipeline.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = ["run", inputs / "scene.tif", "-o", tmp_path / "out", "--segments", "3", "--progress", "none"]
    done = python("-c", code, *command, PROJ_DATA=inputs / "empty")
    assert done.returncode != 0
    assert "its CRS cannot be resolved" in done.stderr
    assert "PROJ_DATA" in done.stderr
    assert not list((tmp_path / "out").glob("*.tif"))


# Modules of another Python


@pytest.mark.parametrize("name", ["numpy", "psutil"])
def test_modules_of_another_python_are_one_line(inputs, tmp_path, name):
    (tmp_path / f"{name}.py").write_text("raise ImportError('built for another Python:\\n\\nread this')")
    command = ["-m", "pipeline", "inspect", inputs / "scene.tif"]
    done = python(*command, PYTHONPATH=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: cannot start: built for another Python: read this; unset PYTHONPATH"
    ]
