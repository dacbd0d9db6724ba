"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.durable import files
from pipeline.errors import StorageError
from tests.disk import files_no_larger_than


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def failing(number):
    """A function that fails as the system does."""

    def fail(*_):
        raise OSError(number, os.strerror(number))

    return fail


@given(st.binary(max_size=3000), st.binary(max_size=3000))
def test_a_file_holds_what_was_written_last(tmp_path_factory, first, second):
    folder = tmp_path_factory.mktemp("files")
    for data in (first, second):
        files.write_bytes(folder / "f", data)
        assert (folder / "f").read_bytes() == data
    assert names(folder) == ["f"]


def test_a_file_has_no_name_until_it_is_whole(tmp_path):
    with files.whole_file(tmp_path / "f") as file:
        file.write(b"half")
        file.flush()
        assert not (tmp_path / "f").exists()
        file.write(b" and half")
    assert (tmp_path / "f").read_bytes() == b"half and half"


@pytest.mark.parametrize("error", [RuntimeError("enough"), KeyboardInterrupt(), GeneratorExit()])
@pytest.mark.parametrize("before", [None, b"what was there"])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, error, before):
    if before is not None:
        (tmp_path / "f").write_bytes(before)

    def write_half():
        with files.whole_file(tmp_path / "f") as file:
            file.write(b"half")
            raise error

    with pytest.raises(type(error)):
        write_half()
    assert names(tmp_path) == ([] if before is None else ["f"])
    assert before is None or (tmp_path / "f").read_bytes() == before


def test_a_disk_that_is_full_is_said_to_be_and_leaves_what_was_there(tmp_path):
    path = tmp_path / "f"
    files.write_bytes(path, b"small")
    with files_no_larger_than(10_000), pytest.raises(StorageError) as caught:
        files.write_bytes(path, b"x" * 20_000)
    said = str(caught.value)
    assert said.startswith(f"{path}: cannot write (File too large); free space or choose another OUT")
    assert "\n" not in said
    assert path.read_bytes() == b"small"
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO]
)
def test_whatever_keeps_a_file_from_the_disk_is_an_error_of_storage(tmp_path, monkeypatch, number):
    monkeypatch.setattr(os, "fsync", failing(number))
    with pytest.raises(StorageError, match=os.strerror(number)) as caught:
        files.write_bytes(tmp_path / "f", b"data")
    assert isinstance(caught.value.__cause__, OSError)
    assert names(tmp_path) == []


def test_other_errors_of_the_system_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError):
        files.write_bytes(tmp_path / "none" / "f", b"data")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        files.write_bytes(tmp_path / "folder", b"data")
    assert names(tmp_path) == ["folder"]


def test_bytes_are_on_disk_before_they_get_their_name(tmp_path, monkeypatch):
    seen, real = [], os.fsync

    def sync(handle):
        seen.append((tmp_path / "f").exists())
        real(handle)

    monkeypatch.setattr(os, "fsync", sync)
    files.write_bytes(tmp_path / "f", b"data")
    assert seen[0] is False  # the file
    assert seen[-1] is True  # then its folder


def test_a_folder_that_cannot_be_synced_is_no_reason_to_fail(tmp_path):
    files.sync_folder(tmp_path / "none")


@pytest.mark.parametrize("length", [1, 200, 240])
def test_long_names_can_be_written(tmp_path, length):
    files.write_bytes(tmp_path / ("n" * length), b"data")
    assert names(tmp_path) == ["n" * length]


def test_two_long_names_that_begin_alike_do_not_meet_in_one_unfinished_file(tmp_path):
    one, two = tmp_path / ("n" * 200 + ".json"), tmp_path / ("n" * 200 + " (2).json")
    with files.whole_file(one) as first, files.whole_file(two) as second:
        first.write(b"one")
        second.write(b"two")
    assert (one.read_bytes(), two.read_bytes()) == (b"one", b"two")


def test_a_moved_file_takes_the_place_of_another(tmp_path):
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "b").write_bytes(b"old")
    files.move(tmp_path / "a", tmp_path / "b")
    assert names(tmp_path) == ["b"]
    assert (tmp_path / "b").read_bytes() == b"new"


def test_a_file_that_cannot_be_moved_is_an_error_of_storage(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"new")
    monkeypatch.setattr(os, "replace", failing(errno.EROFS))
    monkeypatch.setattr(type(tmp_path), "replace", failing(errno.EROFS))
    with pytest.raises(StorageError, match="Read-only file system"):
        files.move(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("value", [{"é": "漢字", "n": [1, 2.5, None, True]}, [], "text"])
def test_json_comes_back_as_it_went(tmp_path, value):
    files.write_json(tmp_path / "f.json", value)
    assert json.loads((tmp_path / "f.json").read_text(encoding="utf-8")) == value


def test_a_file_s_name_that_is_no_unicode_can_stand_in_json(tmp_path):
    # as Python gives such names: records hold them
    name = os.fsdecode(b"caf\xe9.tif")
    files.write_json(tmp_path / "f.json", {"source": name})
    assert json.loads((tmp_path / "f.json").read_bytes())["source"] == name
