"""What a run leaves is of use from any folder, and in a project that was moved or copied."""

from __future__ import annotations

import json
import re
import shutil
import zipfile

import pytest
import rasterio.shutil
from rasterio.transform import from_origin

from pipeline import cli
from tests import networks
from tests.rasters import PLACE, noise, write_geotiff

NETCDF = 'NETCDF:"in/a.nc":Band1'


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project, as people have it: everything by its path in it."""
    folder = tmp_path / "project"
    (folder / "in").mkdir(parents=True)
    for number, name in enumerate("ab"):
        place = from_origin(500000 + 35 * number, 5800000, 0.5, 0.5)
        write_geotiff(folder / "in" / f"{name}.tif", noise(1, 60, 70, seed=number), transform=place)
    write_geotiff(folder / "in" / "rgb.tiff", noise(3, 60, 70))
    rasterio.shutil.copy(folder / "in" / "a.tif", folder / "in" / "a.nc", driver="NETCDF")
    with zipfile.ZipFile(folder / "in" / "z.zip", "w") as archive:
        archive.write(folder / "in" / "a.tif", "a.tif")
    ring = [[500000, 5800000], [500060, 5800000], [500060, 5799980], [500000, 5800000]]
    shape = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    crs = {"type": "name", "properties": {"name": "EPSG:32633"}}
    area = {"type": "FeatureCollection", "crs": crs, "features": [shape]}
    (folder / "area.geojson").write_text(json.dumps(area))
    (folder / "classes.csv").write_text("0,#102030,water\n1,#405060,wood\n2,#708090,road\n")
    (folder / "list.txt").write_text("in/a.tif\nin/b.tif\n")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def call(capsys):
    def call(*words):
        capsys.readouterr()
        code = cli.main([*map(str, words), "--progress", "none"])
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


RUNS = {
    "rasters": ("in/a.tif", "in/b.tif", "--aoi", "area.geojson"),
    "a network": ("in/rgb.tiff", "--method", "cnn", "--model", "network.pt"),
    "a mosaic of a folder": ("in/*.tif", "--mosaic"),
    "a mosaic of a list": ("@list.txt", "--mosaic", "--aoi", "area.geojson"),
    "a mosaic in parts": ("in/*.tif", "--mosaic", "--output-tiles", "512"),
    "a stack": ("--stack", "red=in/a.tif,nir=in/a.tif", "--palette", "classes.csv"),
    "scenes": ("--stack", "red=in/{scene}.tif", "--aoi", "area.geojson"),
    "a container": (NETCDF,),
    "an archive": ("/vsizip/in/z.zip/a.tif",),
}


def moved(words, elsewhere):
    """The same words in another folder than that of the project; lines of a list stay what they are."""
    words = [re.sub("@list.txt", "in/*.tif", word) for word in words]
    return [re.sub(r"\b(in/|area|network|classes|list)(?=\S)", rf"{elsewhere}/\1", word) for word in words]


@pytest.mark.parametrize("named", RUNS)
def test_run_json_is_of_use_in_any_folder(project, call, tmp_path, monkeypatch, named):
    if "network" in named:
        networks.save(networks.Strided(), project / "network.pt")
    words = ["run", "-k", "3", *RUNS[named]]
    assert call(*words, "-o", "out") == (0, "")
    recorded = json.loads((project / "out" / "run.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    # it repeats the run, goes on with it, and proves it
    run_json, out = project / "out" / "run.json", project / "out"
    assert call("run", "--config", run_json, "-o", "again")[0] == 0
    for labels in (project / "out").glob("*.tif"):
        assert labels.read_bytes() == (other / "again" / labels.name).read_bytes()
    before = {path: path.read_bytes() for path in out.glob("*.tif")}
    next(iter(before)).unlink()
    for _ in range(2):
        assert call("run", "--config", run_json)[0] == 0
    assert {path: path.read_bytes() for path in out.glob("*.tif")} == before
    code, said = call("verify", "../project/out")
    assert (code, "note" in said, "recomputed: 0" in said) == (0, False, False), said
    code, said = call(*moved(words, "../project"), "-o", "../project/out")
    assert code == 0, said
    # no path is one of a folder that nobody knows
    for record in (recorded, *(json.loads(path.read_text()) for path in out.glob("*.json"))):
        text = json.dumps(record)
        for name in ("in/a", "in/b", "in/rgb", "in/z", "area.geo", "network.pt", "classes.csv"):
            assert text.count(name) == text.count(f"{project}/{name}")


@pytest.mark.parametrize("named", RUNS)
def test_a_project_that_was_copied_is_taken_up(project, call, tmp_path, monkeypatch, named):
    if "network" in named:
        networks.save(networks.Strided(), project / "network.pt")
    words = ["run", "-k", "3", *RUNS[named], "-o", "out"]
    assert call(*words) == (0, "")
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    shutil.rmtree(project)
    monkeypatch.chdir(copy)
    times = {path: path.stat().st_mtime_ns for path in (copy / "out").glob("*.tif")}
    assert call(*words)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in (copy / "out").glob("*.tif")} == times
    code, said = call("verify", "out")
    assert (code, "recomputed: 0" in said) == (0, False), said


def test_another_area_or_network_is_another_run(project, call):
    assert call("run", "in/a.tif", "--aoi", "area.geojson", "-k", "3", "-o", "out")[0] == 0
    shutil.copy("area.geojson", "area2.geojson")
    for other in ([], ["--aoi", "area2.geojson"]):
        code, said = call("run", "in/a.tif", *other, "-k", "3", "-o", "out")
        assert code == 2
        assert f"aoi {project}/area.geojson, not " in said
    (project / "sub").mkdir()
    area = (project / "area.geojson").read_text()
    (project / "sub" / "area.geojson").write_text(area.replace("500060", "500050"))
    code, said = call("run", "in/a.tif", "--aoi", "sub/area.geojson", "-k", "3", "-o", "out")
    assert (code, "polygons of --aoi have changed" in said) == (2, True)


def test_a_mosaic_of_other_tiles_of_the_same_names_is_another_run(project, call, tmp_path):
    assert call("run", "in/*.tif", "--mosaic", "-k", "3", "-o", "out")[0] == 0
    other = tmp_path / "elsewhere"
    other.mkdir()
    for number, name in enumerate("ab"):
        write_geotiff(other / f"{name}.tif", noise(1, 60, 70, seed=7 + number), **PLACE)
    code, said = call("run", other, "--mosaic", "-k", "3", "-o", "out")
    assert (code, "has changed since" in said) == (2, True), said
    (project / "in" / "c.tif").symlink_to(other / "a.tif")
    code, said = call("run", "in/*.tif", "--mosaic", "-k", "3", "-o", "out")
    assert (code, "it lacks the source mosaic of 3 tiles" in said) == (2, True), said


def test_what_could_not_be_looked_at_is_said_in_the_total(project, call):
    assert call("run", "in/a.tif", "in/b.tif", "-k", "3", "-o", "out")[0] == 0
    (project / "in" / "b.tif").unlink()
    code, said = call("verify", "out")
    assert code == 0
    first, second, total = said.splitlines()
    assert first.startswith("a: ok; windows recomputed: ")
    assert second.startswith("b: files ok, labels not compared with the input; windows recomputed: 0")
    assert "2 rasters ok, 0 wrong" in total
    assert "of 1 that are ok only the files were looked at" in total
    found = json.loads(call("verify", "out", "--json")[1])
    assert (found["unproved"], [r["unproved"] for r in found["rasters"]]) == (1, [False, True])
    assert "unproved" not in call("verify", "out", "--sample", "0")[1]
