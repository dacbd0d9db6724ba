"""Scenes: which files belong to one, and what its outputs are called."""

from __future__ import annotations

import os
import re

import pytest

from pipeline.config import RunConfig
from pipeline.errors import UsageError
from pipeline.source.scenes import resolve


@pytest.fixture
def incoming(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def touch(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()

    return touch


def scenes(*stack):
    """Name and files of each scene."""
    sources = resolve(RunConfig(stack=list(stack)).stack)
    return {source.name: [file.replace(os.sep, "/") for _, file in source.stack] for source in sources}


def test_each_stack_is_a_scene_with_the_name_that_its_files_share(incoming):
    incoming("in/dem.tif")
    found = scenes(
        "red=in/S1_B4.tif,nir=in/S1_B8.tif,dem=in/dem.tif",
        "nir=a/two/nir.tif,red=a/two/red.tif,dem=in/dem.tif",
        "red=in/S3red.tif,nir=in/S3-nir.tif,dem=in/dem.tif",
        "red=x/red.tif,nir=y/nir.tif,dem=in/dem.tif",
    )
    # in the order of the bands of the first
    assert found["two"] == ["a/two/red.tif", "a/two/nir.tif", "in/dem.tif"]
    assert list(found) == ["S1", "two", "in", "stack"]


def test_the_only_stack_is_called_so_and_one_that_is_given_twice_is_one():
    assert list(scenes("red=S1_B4.tif,nir=S1_B8.tif")) == ["stack"]
    assert list(scenes("red=S1_B4.tif,nir=S1_B8.tif", "nir=S1_B8.tif,red=S1_B4.tif")) == ["stack"]
    assert list(scenes("red=a/S1_B4.tif", "red=b/S1_B4.tif")) == ["S1_B4", "S1_B4 (2)"]


def test_a_mapping_names_the_outputs_and_its_stacks_are_mappings_too():
    sources = resolve(
        RunConfig(stack={"June": {"red": "a", "nir": "b"}, "July": {"nir": "d", "red": "c"}}).stack
    )
    assert [(s.name, s.stack) for s in sources] == [
        ("June", (("red", "a"), ("nir", "b"))),
        ("July", (("red", "c"), ("nir", "d"))),
    ]


def test_a_pattern_names_every_scene_that_there_is(incoming):
    incoming("in/S2_B4.tif", "in/S2_B8.tif", "in/S1_B4.tif", "in/S1_B8.tif", "in/._S1_B4.tif", "in/S1_B9.tif")
    wanted = {"S1": ["in/S1_B4.tif", "in/S1_B8.tif"], "S2": ["in/S2_B4.tif", "in/S2_B8.tif"]}
    assert scenes("red=in/{scene}_B4.tif,nir=in/{scene}_B8.tif") == wanted
    # what is the same in every scene is in each
    incoming("dem.tif")
    found = scenes("red=in/{scene}_B4.tif,dem=dem.tif")
    assert found == {name: [files[0], "dem.tif"] for name, files in wanted.items()}


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("in/{scene}/B4.tif", ["in/S1/B4.tif", "in/S2/B4.tif"]),
        ("in/{scene}/{scene}_B4.tif", ["in/S1/S1_B4.tif", "in/S2/S2_B4.tif"]),
        ("in/{scene}/*_B0[34]_10m.jp2", ["in/S1/T33_B04_10m.jp2", "in/S2/T34_B04_10m.jp2"]),
        ("in/{scene}/**/B4.tif", ["in/S1/B4.tif", "in/S2/x/y/B4.tif"]),
        ("in/?/{scene}.[!a]if", ["in/a/S1.tif", "in/b/S2.tif"]),
        ("in/L_{scene}_*[0-9].tif", ["in/L_S1_4.tif", "in/L_S2_B11.tif"]),
    ],
)
def test_folders_and_globs_are_part_of_a_pattern(incoming, pattern, files):
    incoming(*files, "in/S1/S2_B4.tif", "in/other.txt")
    assert scenes(f"red={pattern}") == {f"S{i + 1}": [file] for i, file in enumerate(files)}


def test_a_glob_in_a_stack_is_of_one_file(incoming):
    incoming("S1/T1_B4.tif", "S1/T1_B8.tif", "a[1].tif")
    assert scenes("red=S1/*_B4.tif,nir=S1/*_B8.tif,x=a[1].tif,gone=S2/*.tif") == {
        "stack": ["S1/T1_B4.tif", "S1/T1_B8.tif", "a[1].tif", "S2/*.tif"]
    }


def test_a_scene_that_lacks_a_file_has_the_name_of_it(incoming):
    incoming("in/S1_B4.tif", "in/S1_B8.tif", "in/S2_B4.tif")
    found = scenes("red=in/{scene}_B4.tif,nir=in/{scene}_B8.tif")
    assert found["S2"] == ["in/S2_B4.tif", "in/S2_B8.tif"]


@pytest.mark.parametrize(
    ("stack", "said"),
    [
        (["red={scene}_B4.tif,nir={scene}_B9.tif"], "nir={scene}_B9.tif: no file matches this pattern"),
        (
            ["red={scene}_B4.tif,nir=x{scene}_B8.tif"],
            "no scene has a file of every band: S1 lacks nir; S2 lacks",
        ),
        (["red={Scene}_B4.tif"], "red={Scene}_B4.tif: {Scene} stands for nothing; write {scene}"),
        (["red={scene}_B4.tif,nir={scene}*.tif"], "{scene} takes all of a name that the rest of its pattern"),
        (["red={scene}_B*.tif"], "red=S1_B*.tif: matches several files (S1_B4.tif, S1_B8.tif), where"),
        (["red=S1_*.tif"], "red=S1_*.tif: matches several files"),
        (["red=https://x/{scene}_B4.tif"], "give --stack once for each scene"),
        ({"S1": {"red": "{scene}_B4.tif"}}, "{scene} names the outputs; leave this name out"),
        (["red=a,nir=b", "red=a,green=b"], "one has the bands red, nir, another one red, green"),
        (["red=a,nir=b", "red=a"], "give each stack bands of the same names"),
        (["red=a\0b"], "give NAME=FILE pairs"),
        ([], "give NAME=FILE pairs"),
        ([3], "give NAME=FILE pairs"),
        ({"S1": {"red": "a"}, "S2": 3}, "give NAME=FILE pairs"),
        ({3: {"red": "a"}}, "the name of a stack's outputs is text"),
    ],
)
def test_what_cannot_be_meant_is_refused(incoming, stack, said):
    incoming("S1_B4.tif", "S1_B8.tif", "xT_B8.tif", "S2_B4.tif")
    with pytest.raises(UsageError, match=re.escape(said)):
        resolve(RunConfig(stack=stack).stack)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"resample": "average"}, "--resample and --reference-band belong to --stack"),
        ({"reference_band": "red"}, "--resample and --reference-band belong to --stack"),
        (
            {"stack": "red=a", "reference_band": "nir"},
            "--reference-band nir: no band of --stack, which has red",
        ),
    ],
)
def test_options_that_say_nothing_are_refused(options, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        RunConfig(**options)
