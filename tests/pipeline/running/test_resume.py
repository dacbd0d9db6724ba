"""Runs that were cut short are taken up: only what is missing is done, and the bytes are the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import RunConfig
from pipeline.durable import files
from pipeline.durable.checksums import checksum, seal_file
from pipeline.errors import StorageError, UnreachableError, UsageError
from pipeline.fitting import gathering, sampling
from pipeline.fitting.checkpoint import FitMemory
from pipeline.out_names import ASSEMBLED, CHECKED
from pipeline.process import signals
from pipeline.running import codebooks
from pipeline.running import run as run_module
from pipeline.sinks.sink import sink_of
from pipeline.tasks import assembling, labelling, publishing, units
from tests.rasters import noise, write_geotiff

SIDE = 512


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_geotiff(tmp_path_factory.mktemp("source") / "scene.tif", noise(3, 2300, 2700, seed=5))


@pytest.fixture(scope="module")
def few_colours(tmp_path_factory):
    """As large, but with a hundredth of the colours that a fit on every pixel has to weigh."""
    folder = tmp_path_factory.mktemp("few_colours")
    return write_geotiff(folder / "scene.tif", noise(3, 2300, 2700, seed=5, high=40))


def config(source, out, **options):
    return RunConfig(sources=(str(source),), out=str(out), chunk_size=SIDE, workers="1", **options)


def labels_of(out):
    """Bytes of all that a run leaves but for the times in its records."""
    files = (p for p in Path(out).rglob("*") if p.is_file() and p.suffix != ".json")
    return {str(p.relative_to(out)): p.read_bytes() for p in files if "run.log" not in p.name}


@pytest.fixture(scope="module", params=["cog", "zarr"])
def format_(request):
    return request.param


@pytest.fixture(scope="module")
def undisturbed(source, format_, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    run_module.run(config(source, out, format=format_))
    return labels_of(out)


class Calls:
    """Counts the units that are written, and stops or fails a run after some of them."""

    def __init__(self, monkeypatch, stop_after=None, error=None):
        self.units = []
        real = units.write_unit

        def write(job, stage, unit, labels, beside=()):
            if stop_after is not None and len(self.units) >= stop_after:
                raise error
            self.units.append((stage, unit))
            return real(job, stage, unit, labels, beside)

        monkeypatch.setattr(units, "write_unit", write)


def interrupted(source, out, format_, after, monkeypatch, **options):
    with monkeypatch.context() as patch:
        calls = Calls(patch, after, StorageError("full"))
        with pytest.raises(StorageError, match="full"):
            run_module.run(config(source, out, format=format_, **options))
    return calls.units


@pytest.mark.parametrize("after", [0, 1, 16, 29, 30])
def test_only_what_is_missing_is_done_and_the_bytes_are_the_same(
    source, format_, undisturbed, tmp_path, monkeypatch, after
):
    before = interrupted(source, tmp_path, format_, after, monkeypatch)
    assert not list(tmp_path.glob("scene.*"))
    calls = Calls(monkeypatch)
    report = run_module.run(config(source, tmp_path, format=format_))
    assert report.done == ["scene"]
    # a window that was under way is done again, whole
    again = set(before) & set(calls.units)
    assert len(again) <= 16
    assert {unit for stage, unit in {*before, *calls.units} if stage == 0} == {
        (i, j) for i in range(5) for j in range(6)
    }
    assert labels_of(tmp_path) == undisturbed
    assert not (tmp_path / ".partial").exists()


def test_what_was_altered_since_is_done_again(source, format_, undisturbed, tmp_path, monkeypatch):
    interrupted(source, tmp_path, format_, 30, monkeypatch)
    workspace = tmp_path / ".partial" / "scene"
    parts = sorted((workspace / "stage0").rglob("*.part"))
    parts[3].write_bytes(parts[3].read_bytes()[:-5])
    raw = bytearray(parts[7].read_bytes())
    raw[len(raw) // 2] ^= 4
    parts[7].write_bytes(raw)
    parts[11].unlink()
    if format_ == "zarr":
        shard = min(workspace.glob("scene.zarr/**/c/2/2"))
        shard.write_bytes(shard.read_bytes()[:-1] + b"\0")
    calls = Calls(monkeypatch)
    run_module.run(config(source, tmp_path, format=format_))
    redone = [unit for stage, unit in calls.units if stage == 0]
    places = [parts[i] for i in (3, 7, 11)]
    wanted = {(int(p.parent.name), int(p.stem)) for p in places} | ({(2, 2)} if format_ == "zarr" else set())
    assert set(redone) == wanted
    assert labels_of(tmp_path) == undisturbed


@pytest.mark.parametrize("failing", ["assemble", "write_json", "move"])
@pytest.mark.parametrize("call", [1, 2, 4])
def test_the_last_steps_are_taken_up_too(source, format_, undisturbed, tmp_path, monkeypatch, failing, call):
    with monkeypatch.context() as patch:
        owner = files if failing != "assemble" else None
        if owner is None:
            owner = type(sink_of("scene.tif" if format_ == "cog" else "scene.zarr"))
        real, count = getattr(owner, failing), 0

        def fail(*arguments):
            nonlocal count
            count += 1
            if count == call:
                raise StorageError("full")
            return real(*arguments)

        patch.setattr(owner, failing, fail)
        try:
            run_module.run(config(source, tmp_path, format=format_))
        except StorageError:
            stopped = True
        else:
            stopped = False
    calls = Calls(monkeypatch)
    run_module.run(config(source, tmp_path, format=format_))
    if stopped and failing != "write_json":
        assert calls.units == []
    assert labels_of(tmp_path) == undisturbed
    assert not (tmp_path / ".partial").exists()


class LastSteps:
    """Counts what is assembled and checked, and stops a run at a check."""

    def __init__(self, monkeypatch, format_, stop_at=None):
        self.assembled, self.checked = 0, []
        sink, check = type(sink_of(f"scene.{'tif' if format_ == 'cog' else 'zarr'}")), assembling.check
        assemble = sink.assemble

        def counted(*arguments):
            self.assembled += 1
            return assemble(*arguments)

        def checked(job, index, window):
            if len(self.checked) == stop_at:
                raise StorageError("full")
            self.checked.append((index, window))
            return check(job, index, window)

        monkeypatch.setattr(sink, "assemble", counted)
        monkeypatch.setattr(assembling, "check", checked)


@pytest.fixture
def stopped_at_a_check(source, format_, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        steps = LastSteps(patch, format_, stop_at=3)
        with pytest.raises(StorageError, match="full"):
            run_module.run(config(source, tmp_path, format=format_))
    assert steps.assembled == 1
    return set(steps.checked)


def seams_of(out):
    record = json.loads((out / "scene.json").read_text())
    return [record["seam_score"], record["seam_score_error"]]


def test_what_was_assembled_and_checked_is_not_done_again(
    source, format_, undisturbed, stopped_at_a_check, tmp_path, tmp_path_factory, monkeypatch
):
    steps = LastSteps(monkeypatch, format_)
    run_module.run(config(source, tmp_path, format=format_))
    assert steps.assembled == 0
    assert len(steps.checked) == 2
    assert not stopped_at_a_check & set(steps.checked)
    assert labels_of(tmp_path) == undisturbed
    whole = tmp_path_factory.mktemp("whole")
    run_module.run(config(source, whole, format=format_))
    assert seams_of(tmp_path) == pytest.approx(seams_of(whole), rel=1e-9)


def flip(path):
    """Alter a file in its midst."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


SOUND, NOT_YET, MERGED = "stage0/00000/00000.part", "stage0/00004/00005.part", "stage1/00000/00000.part"


@pytest.mark.parametrize(
    ("altered", "remade", "checked"),
    [
        # the same bytes are the same labels: what was found of them before still stands
        (["labels"], set(), 2),
        ([ASSEMBLED], set(), 5),
        # nothing is made any more of a unit whose labels were found sound
        ([SOUND], set(), 2),
        ([NOT_YET], {(0, (4, 5))}, 5),
        ([MERGED], {(1, (0, 0))}, 5),
        # but it is looked at before something is made of it
        (["labels", SOUND], {(0, (0, 0))}, 5),
        ([NOT_YET, SOUND], {(0, (4, 5)), (0, (0, 0))}, 5),
        ([MERGED, SOUND], {(1, (0, 0)), (0, (0, 0))}, 5),
    ],
    ids=str,
)
def test_what_is_not_what_was_made_is_made_anew_where_something_is_made_of_it(
    source, format_, undisturbed, stopped_at_a_check, tmp_path, monkeypatch, altered, remade, checked
):
    workspace = tmp_path / ".partial" / "scene"
    for name in altered:
        labels = f"scene.{'tif' if format_ == 'cog' else 'vrt'}"
        flip(workspace / (labels if name == "labels" else name))
    calls, steps = Calls(monkeypatch), LastSteps(monkeypatch, format_)
    run_module.run(config(source, tmp_path, format=format_))
    assert set(calls.units) == remade
    assert steps.assembled == (altered != [SOUND])
    assert len(steps.checked) == checked
    assert labels_of(tmp_path) == undisturbed
    assert json.loads((tmp_path / "scene.json").read_text())["chunks"] == 30


@pytest.mark.parametrize("end", [-1, -17, 20, 16, 3, 0])
def test_a_torn_record_of_checks_costs_checks_only(
    source, format_, undisturbed, stopped_at_a_check, tmp_path, monkeypatch, end
):
    path = tmp_path / ".partial" / "scene" / CHECKED
    whole = path.read_bytes()
    path.write_bytes(whole[:end])
    steps = LastSteps(monkeypatch, format_)
    run_module.run(config(source, tmp_path, format=format_))
    assert len(steps.checked) == (3 if end < 0 else 5)
    assert labels_of(tmp_path) == undisturbed


@pytest.mark.parametrize(
    "change", [{"chunk_size": 1024}, {"resume": False}, {"workers": "processes:2"}], ids=str
)
def test_other_chunks_begin_anew_and_other_workers_go_on(
    source, undisturbed, tmp_path, monkeypatch, change, format_
):
    interrupted(source, tmp_path, format_, 20, monkeypatch)
    plain = config(source, tmp_path, format=format_)
    run_module.run(plain.model_copy(update=change))
    if "chunk_size" not in change or format_ == "cog":
        assert labels_of(tmp_path) == undisturbed


@pytest.mark.parametrize("away", ["in the midst", "network", "when another run came"])
def test_what_is_done_waits_for_an_input_that_is_away(
    source, format_, undisturbed, tmp_path, monkeypatch, away
):
    mine, out = tmp_path / source.name, tmp_path / "out"
    shutil.copy(source, mine)
    calls, real = [], labelling.graph_labels

    def labels(job, window):
        calls.append(window)
        if len(calls) > 1:
            if away == "network":
                raise UnreachableError(str(mine), "cannot be fetched")
            if away == "in the midst":
                mine.unlink(missing_ok=True)
            else:
                raise StorageError("full")
        return real(job, window)

    with monkeypatch.context() as patch:
        patch.setattr(labelling, "graph_labels", labels)
        if away == "when another run came":
            with pytest.raises(StorageError, match="full"):
                run_module.run(config(mine, out, format=format_))
            mine.unlink()
        else:
            assert list(run_module.run(config(mine, out, format=format_)).failed) == [mine.stem]
    mine.unlink(missing_ok=True)
    assert list(run_module.run(config(mine, out, format=format_)).failed) == [mine.stem]
    shutil.copy(source, mine)
    made = Calls(monkeypatch)
    assert run_module.run(config(mine, out, format=format_)).done == [mine.stem]
    assert len([unit for stage, unit in made.units if stage == 0]) < 30
    assert labels_of(out) == undisturbed
    assert not (out / ".partial").exists()


def test_the_codebook_stays(source, tmp_path, monkeypatch):
    interrupted(source, tmp_path, "cog", 3, monkeypatch)
    codebook = (tmp_path / "codebook.npz").read_bytes()
    monkeypatch.setattr(codebooks, "fit_as_asked", None)
    run_module.run(config(source, tmp_path))
    assert (tmp_path / "codebook.npz").read_bytes() == codebook


def test_an_input_that_changed_in_the_middle_is_refused(tmp_path, monkeypatch):
    path = write_geotiff(tmp_path / "scene.tif", noise(3, 1100, 1100, seed=1))
    interrupted(path, tmp_path / "out", "cog", 3, monkeypatch)
    write_geotiff(path, noise(3, 1100, 1100, seed=2))
    with pytest.raises(UsageError, match=r"scene.tif: the input has changed since the run in .* began"):
        run_module.run(config(path, tmp_path / "out"))
    calls = Calls(monkeypatch)
    run_module.run(config(path, tmp_path / "out", overwrite=True))
    assert len([u for s, u in calls.units if s == 0]) == 9


def unpublished(tmp_path, monkeypatch):
    """A raster and the OUT of a run that could not publish it; "reference" is that of one that could."""
    path, out = write_geotiff(tmp_path / "scene.tif", noise(3, 1100, 1100, seed=1)), tmp_path / "out"
    run_module.run(config(path, tmp_path / "reference"))
    with monkeypatch.context() as patch:
        patch.setattr(publishing, "publish", _full)
        with pytest.raises(StorageError):
            run_module.run(config(path, out))
    return path, out


def test_finished_files_that_were_altered_are_not_published(tmp_path, monkeypatch):
    path, out = unpublished(tmp_path, monkeypatch)
    (out / ".partial" / "scene" / "scene.tif").write_bytes(b"")
    run_module.run(config(path, out))
    assert labels_of(out) == labels_of(tmp_path / "reference")


def no_files(record):
    record["files"] = []


def a_file_less(record):
    del record["files"][1:]


def another_count(record):
    record["labels"]["0"] += 1


def another_score(record):
    record["seam_score"] = 9.9


@pytest.mark.parametrize("alter", [no_files, a_file_less, another_count, another_score])
def test_a_finished_record_that_was_altered_is_not_published(tmp_path, monkeypatch, alter):
    path, out = unpublished(tmp_path, monkeypatch)
    record = out / ".partial" / "scene" / "record.json"
    value = json.loads(record.read_text())
    alter(value)
    record.write_text(json.dumps(value))
    run_module.run(config(path, out))
    assert labels_of(out) == labels_of(tmp_path / "reference")
    made, wanted = (
        json.loads((folder / "scene.json").read_text()) for folder in (out, tmp_path / "reference")
    )
    for key in ("files", "checksums", "labels", "seam_score", "seam_score_error"):
        assert made[key] == wanted[key]


def test_a_workspace_cannot_name_what_lies_elsewhere(tmp_path, monkeypatch):
    path = write_geotiff(tmp_path / "scene.tif", noise(3, 600, 600, seed=1))
    out = tmp_path / "a" / "out"
    with monkeypatch.context() as patch:
        patch.setattr(publishing, "publish", _full)
        with pytest.raises(StorageError):
            run_module.run(config(path, out))
    record = out / ".partial" / "scene" / "record.json"
    value = json.loads(record.read_text())
    value["files"].insert(0, "../../evil")
    value["checksums"]["../../evil"] = checksum(path)
    record.write_text(json.dumps(value))
    seal_file(record)
    for name in (out.parent / "evil", tmp_path / "evil"):
        shutil.copy(path, name)
    before = (tmp_path / "evil").stat().st_mtime_ns
    (out / "evil").write_bytes(b"mine")
    run_module.run(config(path, out))
    assert (tmp_path / "evil").stat().st_mtime_ns == before
    assert (out.parent / "evil").read_bytes() == path.read_bytes()


def _full(*_):
    raise StorageError("full")


def test_partial_that_is_a_link_is_refused(tmp_path):
    path = write_geotiff(tmp_path / "scene.tif", noise(3, 600, 600, seed=1))
    home = tmp_path / "home"
    (home / "docs").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".partial").symlink_to(home)
    with pytest.raises(UsageError, match="a link"):
        run_module.run(config(path, tmp_path / "out"))
    assert (home / "docs").exists()


def test_rasters_that_are_done_are_known_by_their_records(tmp_path, monkeypatch):
    paths = [write_geotiff(tmp_path / f"r{i}.tif", noise(3, 600, 600, seed=i)) for i in range(3)]
    out = tmp_path / "out"
    settings = RunConfig(sources=tuple(map(str, paths)), out=str(out), chunk_size=SIDE, workers="1")
    run_module.run(settings)
    wanted = labels_of(out)
    # as if the run had been killed before it could say what is done
    state = json.loads((out / "run.json").read_text())
    state["rasters"] = [{**r, "state": "waiting"} for r in state["rasters"]]
    (out / "run.json").write_text(json.dumps(state))
    (out / "r1.json").unlink()
    report = run_module.run(settings)
    assert (report.done, report.skipped) == (["r1"], ["r0", "r2"])
    assert labels_of(out) == wanted


def test_an_asked_for_end_is_resumable(source, format_, undisturbed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        calls = Calls(patch)
        patch.setattr(signals, "requested", lambda: len(calls.units) >= 8)
        with pytest.raises(KeyboardInterrupt):
            run_module.run(config(source, tmp_path, format=format_))
    assert not (tmp_path / ".partial" / ".owner").exists()
    before = len(calls.units)
    calls = Calls(monkeypatch)
    run_module.run(config(source, tmp_path, format=format_))
    assert len([u for s, u in calls.units if s == 0]) <= 30 - min(before, 30) + 1
    assert labels_of(tmp_path) == undisturbed


def test_the_second_run_on_one_out_is_refused(source, tmp_path, monkeypatch):
    def meanwhile(*_):
        with pytest.raises(UsageError, match="another run is at work there"):
            run_module.run(config(source, tmp_path))
        raise StorageError("full")

    with monkeypatch.context() as patch:
        patch.setattr(units, "write_unit", meanwhile)
        with pytest.raises(StorageError, match="full"):
            run_module.run(config(source, tmp_path))
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize(
    ("options", "function", "after"),
    [
        ({"method": "cnn", "resolution": 8, "fit": "sample"}, "sample_cell", 20),
        ({"fit": "exact", "resolution": 1}, "count_colours", 2),
    ],
    ids=["cnn", "exact"],
)
def test_a_fit_that_was_cut_short_goes_on(few_colours, tmp_path, monkeypatch, options, function, after):
    source = few_colours
    monkeypatch.setattr(gathering, "_SAVE_EVERY_S", 0.0)
    owner, calls = (sampling if function == "sample_cell" else gathering), []
    real, limit = getattr(owner, function), 10**9

    def count(*arguments):
        # a fit on networks looks at plain pixels first, which is quick and done again
        if function == "count_colours" or arguments[1].costly:
            calls.append(arguments)
            if len(calls) > limit:
                raise StorageError("full")
        return real(*arguments)

    monkeypatch.setattr(owner, function, count)
    run_module.run(config(source, tmp_path / "undisturbed", **options))
    total = len(calls)
    calls.clear()
    limit = after
    with pytest.raises(StorageError, match="full"):
        run_module.run(config(source, tmp_path / "out", **options))
    calls.clear()
    limit = 10**9
    run_module.run(config(source, tmp_path / "out", **options))
    # of those under way when it was cut short, one or two were found and not kept
    assert total - after <= len(calls) <= total - after + 2
    assert labels_of(tmp_path / "out") == labels_of(tmp_path / "undisturbed")


@pytest.mark.parametrize("damage", [b"", b"nonsense", "flip"])
def test_a_finding_that_is_torn_or_altered_is_not_taken(tmp_path, damage):
    memory = FitMemory(tmp_path / "fit", ["inputs"])
    memory.put("cell", 1, vectors=np.arange(1000.0), counts=np.array([1, 2]))
    assert FitMemory(tmp_path / "fit", ["others"]).get("cell", 1) is None
    assert memory.get("cell", 2) is None
    found = memory.get("cell", 1)
    assert found is not None
    assert found["vectors"].tolist() == list(range(1000))
    (path,) = (tmp_path / "fit").iterdir()
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(bytes(raw) if damage == "flip" else damage)
    assert memory.get("cell", 1) is None
    memory.forget()
    assert not (tmp_path / "fit").exists()
