"""Paths as people write them: taken apart, from the root, and with the home folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import pipeline
from engine.codebook import Codebook
from pipeline import cli
from pipeline.config import RunConfig, build
from pipeline.config_file import load_file
from pipeline.source.arguments import resolve
from pipeline.source.naming.paths import absolute, expanded, parts
from tests.rasters import noise, write_geotiff


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home folder, which is not the current one."""
    folder = tmp_path / "home"
    for path in (folder, tmp_path / "here"):
        path.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(folder))
    monkeypatch.chdir(tmp_path / "here")
    return folder


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("in/a.tif", "in/a.tif"),
        ("a:b.tif", "a:b.tif"),
        ('NETCDF:"in/a.nc":band', "in/a.nc"),
        ("HDF5:in/a.h5://group/band", "in/a.h5"),
        ("GTIFF_DIR:2:in/a.tif", "in/a.tif"),
        ("/vsizip/in/a.zip/b/c.tif", "in/a.zip"),
        ("/vsizip//in/a.zip/b/c.tif", "/in/a.zip"),
        ("/vsizip/{in/odd.file}/c.tif", "in/odd.file"),
        ("/vsigzip/in/a.tif.gz", "in/a.tif.gz"),
        ("/vsizip//vsicurl/https://example.org/a.zip/b.tif", ""),
        ("/vsicurl/https://example.org/a.tif", ""),
        ("/vsis3/bucket/a.tif", ""),
        ('HDF5:"https://example.org/a.h5"://group', ""),
        ('NETCDF:"/vsicurl/https://example.org/a.nc":band', ""),
        ("s3://bucket/a.tif", ""),
    ],
)
def test_the_file_of_a_path_is_known_and_nothing_is_lost(home, path, file):
    found = parts(path)
    assert "".join(found) == path
    assert found.file == file
    expected = path.replace(file, os.path.abspath(file)) if file else path
    assert absolute(path) == expected
    assert absolute(absolute(path)) == absolute(path)


def test_a_tilde_is_the_home_folder_unless_there_is_a_file_of_that_name(home):
    assert expanded("~/a.tif") == f"{home}/a.tif"
    assert expanded("~") == str(home)
    assert expanded('NETCDF:"~/a.nc":v') == f'NETCDF:"{home}/a.nc":v'
    for other in ("a~/b.tif", "~nobody-of-that-name/a.tif", "https://example.org/~/a.tif"):
        assert expanded(other) == other
    Path("~").mkdir()
    Path("~/a.tif").touch()
    assert expanded("~/a.tif") == "~/a.tif"


def test_yaml_has_the_home_folder_for_a_tilde(home, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "sources: [~/in/*.tif]\nout: ~/out\nmodel: ~/m.pt\naoi: ~/a.gpkg\ncodebook: ~/c.npz\n"
        "palette: ~/p.csv\nmethod: cnn\n"
    )
    config = build(*load_file(str(path))[:1])
    named = [config.out, config.model, config.aoi, config.codebook, config.palette]
    assert named == [f"{home}/{name}" for name in ("out", "m.pt", "a.gpkg", "c.npz", "p.csv")]
    write_geotiff(home / "a.tif", noise(3, 60, 70))
    path.write_text("sources: ~/*.tif\nout: ~/out\nsegments: 3\n")
    assert cli.main(["run", "--config", "~/../c.yaml", "-q"]) == 0
    assert (home / "out" / "a.tif").exists()
    assert not Path("~").exists()


def test_every_command_has_the_home_folder_for_a_tilde(home):
    write_geotiff(home / "a.tif", noise(3, 60, 70))
    (home / "list.txt").write_text("~/a.tif\n")
    (home / "p.csv").write_text("0,#102030,water\n")
    for line in (
        ["run", "@~/list.txt", "--out=~/out", "-k3", "--palette=~/p.csv", "-q"],
        ["run", "--stack=red=~/a_{scene}.tif", "-o~/stacks", "-k3", "-q"],
        ["run", "--retry-bad=~/out", "-q"],
        ["fit", "~/a.tif", "-o~/c.npz", "-k3", "-q"],
        ["inspect", "~/a.tif"],
        ["codebook", "~/c.npz", "--names-from=~/p.csv", "-o~/d.npz"],
        ["codebook", "~/c.npz", "--palette=~/p.csv"],
        ["status", "~/out"],
        ["verify", "~/out", "-q"],
    ):
        if "--stack=red=~/a_{scene}.tif" in line:
            write_geotiff(home / "a_x.tif", noise(1, 60, 70))
        assert cli.main(line) == 0, line
    assert {"out", "stacks", "c.npz", "d.npz"} <= {path.name for path in home.iterdir()}
    assert not Path("~").exists()
    assert list(Path().iterdir()) == []


def test_from_python_too(home):
    write_geotiff(home / "a.tif", noise(3, 60, 70))
    array = pipeline.open_raster("~/a.tif")
    assert pipeline.open_raster(["~/a.tif"], mosaic=True).shape == array.shape
    codebook = pipeline.fit("~/a.tif", segments=3)
    codebook.save("~/c.npz")
    assert Codebook.load("~/c.npz").content_hash == codebook.content_hash
    pipeline.write(pipeline.segment(array, codebook), "~/labels.tif")
    assert (home / "labels.tif").exists()
    assert RunConfig(sources=("~/a.tif",), out="~/o").out == f"{home}/o"
    assert [source.path for source in resolve(["~/a.tif"])] == [f"{home}/a.tif"]
    assert not Path("~").exists()
