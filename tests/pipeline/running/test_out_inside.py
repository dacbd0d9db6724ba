"""OUT in the folder that is searched: what stands there is no input."""

from __future__ import annotations

import shutil

import pytest

from pipeline.commands.plan.plan import plan
from pipeline.config import RunConfig
from pipeline.errors import UsageError
from pipeline.running.run import run
from tests.rasters import noise, write_geotiff


@pytest.fixture
def data(tmp_path):
    for seed, name in enumerate(("a", "sub/b")):
        path = tmp_path / "data" / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_geotiff(path, noise(1, 60, 70, seed=seed))
    return tmp_path / "data"


def config(*sources, out, **options):
    return RunConfig(sources=tuple(map(str, sources)), out=str(out), segments=3, **options)


@pytest.mark.parametrize("named", ["**/*.tif", "*/*.tif", "", "**/{scene}.tif"])
@pytest.mark.parametrize("format_", ["cog", "zarr"])
def test_the_same_command_is_taken_up(data, named, format_):
    sources, options = (data / named,), {"format": format_}
    if "{" in named:
        sources, options = (), {**options, "stack": f"red={data}/{named}"}
    asked = config(*sources, out=data / "out", recursive=not named, **options)
    first = run(asked)
    assert not first.failed
    assert first.done
    for _ in range(2):
        again = run(asked)
        assert (sorted(again.skipped), again.done, again.failed) == (sorted(first.done), [], {})
    assert plan(asked).rasters == len(first.done)


def test_what_else_stands_in_out_is_no_input_even_before_the_first_run(data):
    (data / "out").mkdir()
    shutil.copy(data / "a.tif", data / "out" / "other.tif")
    asked = config(data / "**/*.tif", out=data / "sub" / ".." / "out")
    assert plan(asked).rasters == 2
    assert sorted(run(asked).done) == ["a", "b"]
    # but if it is named, it is one
    assert run(config(data / "out" / "other.tif", out=data.parent / "o")).done == ["other"]


def test_labels_of_other_runs_are_no_input_but_a_foreign_run_json_hides_nothing(data):
    run(config(data / "a.tif", out=data / "labels"))
    (data / "sub" / "run.json").write_text('{"model": "hydrology"}')
    assert sorted(run(config(data / "**/*.tif", out=data.parent / "o")).done) == ["a", "b"]
    # a folder that is named is searched, whatever it is
    assert run(config(data / "labels" / "*.tif", out=data.parent / "p")).done == ["a"]


def test_labels_beside_their_inputs_are_none(data):
    for path in (data / "a.tif", data / "sub" / "b.tif"):
        path.rename(path.with_suffix(".gtiff"))
    for named in ("**/*", ""):
        asked = config(data / named, out=data, recursive=True)
        run(asked)
        assert sorted(run(asked).skipped) == ["a", "b"]


def test_a_pattern_that_only_labels_match_says_so(data):
    asked = config(data / "out" / ".." / "*" / "a.tif", out=data / "out")
    run(config(data / "a.tif", out=data / "out"))
    with pytest.raises(UsageError, match=r"no file matches this pattern \(what lies in the OUT of this run"):
        run(asked)
