"""One file is one raster, however often and however it is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.config import RunConfig
from pipeline.running.run import run
from pipeline.source import scenes
from pipeline.source.arguments import resolve
from tests.rasters import noise, write_geotiff


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)


def paths(*arguments, **options):
    return [source.path for source in resolve(arguments, **options)]


def test_spellings_of_a_file_are_one_raster_and_the_first_name_is_its_own(here):
    touch("in/a.tif", "in/b.tif")
    Path("link").symlink_to("in")
    Path("c.tif").symlink_to("in/a.tif")
    Path("hard.tif").hardlink_to("in/a.tif")
    spellings = ["./in/a.tif", str(here / "in/a.tif"), "link/a.tif", "c.tif", "hard.tif", "in/../in/a.tif"]
    for first in spellings:
        assert paths(first, "in/b.tif", *spellings) == [first, "in/b.tif"]
    Path("list.txt").write_text("\n".join(spellings))
    assert paths("link/*.tif", "in", "@list.txt") == ["link/a.tif", "link/b.tif"]


def test_a_file_that_is_not_there_is_one_raster_too(here):
    assert paths("none.tif", "./none.tif", str(here / "none.tif"), "x/../none.tif") == ["none.tif"]


def test_rasters_in_one_container_are_told_apart_and_its_spellings_are_not(here):
    touch("a.nc", "z.zip")
    assert paths("NETCDF:a.nc:u", "NETCDF:./a.nc:u", "NETCDF:a.nc:v") == ["NETCDF:a.nc:u", "NETCDF:a.nc:v"]
    zipped = ["/vsizip/z.zip/a.tif", f"/vsizip/{here}/z.zip/a.tif", "/vsizip/z.zip/b.tif"]
    assert paths(*zipped) == [zipped[0], zipped[2]]


def test_equal_files_are_rasters_of_their_own(here):
    for name in ("a.tif", "b.tif"):
        Path(name).write_text("the same")
        os.utime(name, (5, 5))
    assert paths("a.tif", "b.tif") == ["a.tif", "b.tif"]


def test_a_hard_link_that_lies_elsewhere_is_a_raster_of_its_own(here):
    # of empty tiles with world files, what saves space on a disk makes one file
    touch("a.png", "a.pgw", "b.pgw")
    Path("b.png").hardlink_to("a.png")
    Path("c.png").hardlink_to("a.png")
    assert paths("a.png", "b.png", "c.png") == ["a.png", "b.png"]


@pytest.mark.parametrize("recursive", [True, False])
def test_links_to_a_folder_above_lead_nowhere_new(here, recursive):
    # two of them have more names for a file than anybody could list
    touch("d/a.tif", "d/e/b.tif", "d/f/c.tif")
    for link in ("d/back", "d/e/up", "d/f/up"):
        Path(link).symlink_to(here / "d")
    found = paths("d", recursive=True) if recursive else paths("d/**/*.tif")
    assert found == ["d/a.tif", "d/e/b.tif", "d/f/c.tif"]


def test_a_pattern_finds_what_it_did(here):
    touch(
        "a.tif", "d/b.tif", "d/.h/c.tif", "d/e/f/g.tif", "d/e/x.txt", "d/s.zarr/zarr.json", "d/s.zarr/0.tif"
    )
    assert paths("**/*.tif") == ["a.tif", "d/b.tif", "d/e/f/g.tif"]
    assert paths("**/f/*.tif") == paths("d/**/f/**") == paths("d/*/**/*.tif") == ["d/e/f/g.tif"]
    assert paths("d/**") == ["d/b.tif", "d/e/f/g.tif", "d/e/x.txt", "d/s.zarr"]
    assert paths(f"{here}/**/b.tif") == [f"{here}/d/b.tif"]


def test_scenes_of_the_same_files_are_one_and_links_are_not_several_files_of_a_band(here):
    touch("in/S1_B4.tif", "in/S1_B8.tif")
    Path("in/loop").symlink_to(".")
    stacks = [
        "red=in/S1_B4.tif,nir=in/S1_B8.tif",
        "red=./in/S1_B4.tif,nir=in/loop/S1_B8.tif",
        "red=in/**/{scene}_B4.tif,nir=in/**/S1_B8.tif",
    ]
    (found,) = scenes.resolve(RunConfig(stack=stacks).stack)
    assert found.stack == (("red", "in/S1_B4.tif"), ("nir", "in/S1_B8.tif"))


def test_a_mosaic_has_each_tile_once(here):
    write_geotiff(here / "a.tif", noise(3, 60, 70))
    Path("b.tif").symlink_to("a.tif")
    report = run(RunConfig(sources=("a.tif", "b.tif", "./a.tif"), out="out", segments=3, mosaic=True))
    assert report.done == ["mosaic"]
    assert '"tiles": 1' in (here / "out" / "mosaic.json").read_text()
