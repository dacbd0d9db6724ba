"""The codebook file: the same bytes each time, and nothing is believed that was altered or crafted."""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import codebook as module
from engine.codebook import Codebook, CodebookError, Scaling
from tests.strategies import codebook, codebooks, patches

PLAIN = codebook([[1, 2, 3], [40, 50, 60.5]], 4, fit={"method": "sample", "seed": 0})
SCALED = codebook([[0, 9]], 3, "float32", Scaling(np.array([-0.1, 5]), np.array([1e9, 6])))


def written(path, book):
    path.write_bytes(book.to_bytes())
    return path


def members(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {n.removesuffix(".npy"): np.load(io.BytesIO(archive.read(n))) for n in archive.namelist()}


def meta_of(data):
    return json.loads(members(data)["meta"].tobytes())


def with_meta(book, **changes):
    """The file of a codebook whose header says something else."""
    arrays = members(book.to_bytes())
    text = json.dumps({**meta_of(book.to_bytes()), **changes}).encode()
    buffer = io.BytesIO()
    np.savez(buffer, **{**arrays, "meta": np.frombuffer(text, np.uint8)})
    return buffer.getvalue()


def refused(path, match=None):
    """Loading fails with one line that names the file."""
    with pytest.raises(CodebookError, match=match) as caught:
        Codebook.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@given(patches(most=6).flatmap(lambda p: codebooks(p, 4)))
def test_what_was_written_is_read(tmp_path_factory, book):
    read = Codebook.load(written(tmp_path_factory.mktemp("book") / "b.npz", book))
    assert read.content_hash == book.content_hash
    np.testing.assert_array_equal(read.centres, book.centres)
    np.testing.assert_array_equal(read.band_mean, book.band_mean)
    assert (read.kernel, read.bands, read.dtype) == (book.kernel, book.bands, book.dtype)
    assert (read.scaling is None) == (book.scaling is None)
    if book.scaling is not None:
        np.testing.assert_array_equal(read.scaling.low, book.scaling.low)
        np.testing.assert_array_equal(read.scaling.high, book.scaling.high)
    assert read.to_bytes() == book.to_bytes()


@pytest.mark.parametrize("book", [PLAIN, SCALED])
def test_a_codebook_is_the_same_bytes_each_time(book):
    again = dataclasses.replace(book, centres=book.centres.copy())
    assert again.to_bytes() == book.to_bytes()
    with zipfile.ZipFile(io.BytesIO(book.to_bytes())) as archive:
        assert {i.date_time for i in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


STYLED = dataclasses.replace(
    PLAIN,
    names=("Wald", "Dach & Straße"),
    colours=((1, 2, 3), (4, 5, 6)),
    mean_colours=((7, 8, 9), (0, 0, 255)),
)


def test_names_and_colours_of_classes_are_kept_but_are_no_part_of_the_hash(tmp_path):
    assert STYLED.content_hash == PLAIN.content_hash
    read = Codebook.load(written(tmp_path / "b.npz", STYLED))
    for name in ("names", "colours", "mean_colours"):
        assert getattr(read, name) == getattr(STYLED, name)
    assert read.style_hash == STYLED.style_hash != PLAIN.style_hash == ""
    assert len({dataclasses.replace(STYLED, **{n: ()}).style_hash for n in ("names", "colours", "fit")}) == 3


def test_a_codebook_without_colours_is_the_same_bytes_as_before_there_were_any():
    assert "classes" not in meta_of(PLAIN.to_bytes())
    assert PLAIN.content_hash == "e0bbaad7e7b5a08143fef50ad80998c4c8ea6a625d9eb8b61f6270ad635f6691"


@pytest.mark.parametrize(
    "classes",
    [
        {"names": ["a"]},
        {"names": ["a", ""]},
        {"names": ["a", "b\nc"]},
        {"colours": ["#000000"]},
        {"colours": ["#000000", "#00000"]},
        {"colours": ["#000000", 7]},
        {"mean_colours": ["#000000"] * 3},
        {"names": 7},
        [],
        "names",
    ],
)
def test_crafted_names_and_colours_are_refused(tmp_path, classes):
    path = tmp_path / "b.npz"
    path.write_bytes(with_meta(PLAIN, classes=classes))
    refused(path)


def test_the_fit_s_report_is_kept_but_is_no_part_of_the_hash(tmp_path):
    other = dataclasses.replace(PLAIN, fit={"method": "exact"})
    assert other.content_hash == PLAIN.content_hash
    assert Codebook.load(written(tmp_path / "b.npz", other)).fit == {"method": "exact"}


@pytest.mark.parametrize(
    "change",
    [
        {"centres": np.nextafter(SCALED.centres, np.float32(999))},
        {"scaling": None},
        {"scaling": Scaling(SCALED.scaling.low, np.nextafter(SCALED.scaling.high, 0))},
        {"scaling": Scaling(np.nextafter(SCALED.scaling.low, 1), SCALED.scaling.high)},
        {"kernel": {**SCALED.kernel, "resolution": 2}},
        {"bands": (2, 1)},
        {"dtype": "float64"},
        {"band_mean": np.array([0.0, 1e-9])},
    ],
    ids=lambda c: next(iter(c)),
)
def test_the_hash_tells_whatever_decides_a_label(change):
    assert dataclasses.replace(SCALED, **change).content_hash != SCALED.content_hash


def test_the_hash_of_a_codebook_stays():
    # it is written into records and label files, which must still match tomorrow
    assert PLAIN.content_hash == "e0bbaad7e7b5a08143fef50ad80998c4c8ea6a625d9eb8b61f6270ad635f6691"


def test_a_codebook_is_an_ordinary_npz(tmp_path):
    with np.load(written(tmp_path / "b.npz", SCALED)) as file:
        np.testing.assert_array_equal(file["centres"], SCALED.centres)
        assert set(file) == {"meta", "centres", "band_mean", "scale_low", "scale_high"}


def test_a_file_with_any_one_byte_changed_is_refused_or_means_the_same(tmp_path):
    raw, path = SCALED.to_bytes(), tmp_path / "b.npz"
    others = {}
    for place in range(len(raw)):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 0x41]) + raw[place + 1 :])
        try:
            read = Codebook.load(path)
        except CodebookError as error:
            if str(path) not in str(error):
                others[place] = f"the file is not named: {error}"
        except Exception as error:  # noqa: BLE001  (what else comes out is what this test looks for)
            others[place] = repr(error)
        else:
            if read.content_hash != SCALED.content_hash:
                others[place] = "another codebook"
    assert others == {}


@given(st.integers(0, len(SCALED.to_bytes()) - 1))
def test_a_file_that_was_cut_is_refused(tmp_path_factory, length):
    path = tmp_path_factory.mktemp("book") / "b.npz"
    path.write_bytes(SCALED.to_bytes()[:length])
    refused(path, "not a codebook")


def loaded(path):
    """A codebook's bytes, or the message that refuses it."""
    try:
        return Codebook.load(path).to_bytes()
    except CodebookError as error:
        return str(error)


def test_a_file_with_any_one_bit_flipped_is_refused_or_the_same_codebook(tmp_path):
    scaling = Scaling(np.array([0, 5]), np.array([9, 6]))
    data = codebook([[1, 2], [40, 60.5]], 4, "float32", scaling, fit={"seed": 7}).to_bytes()
    path = tmp_path / "b.npz"
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        found = loaded(path)
        assert found == data or (found.startswith(f"{path}: ") and "\n" not in found)


def test_altered_centres_are_refused(tmp_path):
    arrays = members(PLAIN.to_bytes())
    arrays["centres"][0, 0] += 1
    np.savez(tmp_path / "b.npz", **arrays)
    refused(tmp_path / "b.npz", "altered")


class Trap:
    """What a pickle could run, if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("member", ["centres", "meta", "extra"])
def test_objects_in_a_codebook_are_refused_and_not_run(tmp_path, member):
    sprung = tmp_path / "sprung"
    arrays = members(PLAIN.to_bytes()) | {member: np.array([Trap(sprung)], object)}
    np.savez(tmp_path / "b.npz", **arrays)
    refused(tmp_path / "b.npz", "not a codebook")
    assert not sprung.exists()
    # the trap works where a file is unpickled
    np.load(tmp_path / "b.npz", allow_pickle=True)[member]
    assert sprung.exists()


def test_a_pickle_is_no_codebook_and_is_not_run(tmp_path):
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    refused(tmp_path / "b.npz", "not a codebook")
    assert not (tmp_path / "sprung").exists()


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    refused(tmp_path / "none.npz", "no such file; make one with")


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x03\x04" + b"\0" * 40])
def test_what_is_no_archive_is_refused(tmp_path, data):
    (tmp_path / "b.npz").write_bytes(data)
    refused(tmp_path / "b.npz", "not a codebook")


def test_a_folder_is_refused(tmp_path):
    refused(tmp_path, "a folder; name the codebook in it")


@pytest.mark.parametrize("missing", ["meta", "centres", "band_mean"])
def test_a_file_that_lacks_a_part_is_refused(tmp_path, missing):
    arrays = members(PLAIN.to_bytes())
    del arrays[missing]
    np.savez(tmp_path / "b.npz", **arrays)
    refused(tmp_path / "b.npz", "not a codebook")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"format": "tilewright-codebook-0"}, "fit it again with this version"),
        ({"kernel": None}, "again|make one"),
        ({"bands": ["x"]}, "again|make one"),
        ({"dtype": "no dtype"}, "not a codebook"),
        ({"codebook_hash": "0" * 64}, "altered"),
        ({"bands": [1, 2]}, "altered"),
    ],
)
def test_a_header_that_says_something_else_is_refused(tmp_path, changes, match):
    (tmp_path / "b.npz").write_bytes(with_meta(PLAIN, **changes))
    refused(tmp_path / "b.npz", match)


def test_a_header_nested_without_end_is_refused(tmp_path):
    arrays = members(PLAIN.to_bytes()) | {"meta": np.frombuffer(b"[" * 200000, np.uint8)}
    np.savez(tmp_path / "b.npz", **arrays)
    refused(tmp_path / "b.npz", "not a codebook")


@pytest.mark.parametrize("centres", [np.zeros((255, 3)), np.zeros((0, 3))])
def test_a_number_of_labels_that_cannot_be_is_refused(tmp_path, centres):
    refused(written(tmp_path / "b.npz", codebook(centres)), "centres, not 1 to 254")


@pytest.mark.parametrize(
    "change",
    [
        {"centres": np.ones((2, 1), np.float32)},
        {"centres": np.ones((2, 5), np.float32)},
        {"scaling": Scaling(np.zeros(1), np.ones(1))},
        {"band_mean": np.zeros(7)},
        {"centres": np.full((2, 3), np.nan, np.float32)},
    ],
    ids=["too few dimensions", "too many dimensions", "scaling too short", "too many means", "not numbers"],
)
def test_parts_that_do_not_fit_each_other_are_refused_before_compiled_loops_read_beyond_them(
    tmp_path, change
):
    # whoever makes such a file can make its hash, too
    refused(written(tmp_path / "b.npz", dataclasses.replace(PLAIN, **change)))


def test_a_file_that_unpacks_to_more_than_a_codebook_can_be_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LIMIT_BYTES", 1 << 20)
    path = tmp_path / "b.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("meta.npy", b"\0" * (2 << 20))
    assert path.stat().st_size < 10000
    refused(path, "too large for a codebook")


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=5), st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_scaling_takes_its_limits_to_0_and_255_and_clips_what_is_beyond(values, low, spread):
    scaling = Scaling(np.array([low]), np.array([low + spread]))
    scaled = scaling.apply(np.array([*values, low, low + spread])[:, None])[:, 0]
    assert scaled.dtype == np.float32
    assert (scaled >= 0).all()
    assert (scaled <= 255).all()
    assert scaled[-2:].tolist() == pytest.approx([0, 255], abs=1e-3)
    order = np.argsort(values, kind="stable")
    assert (np.diff(scaled[:-2][order]) >= 0).all()


@pytest.mark.parametrize(
    "fit",
    [{"share": 3}, {"share": ["x"] * 3}, {"share": [0.5]}, {"segments_asked": "8"}, {"cells_read": None}],
)
def test_what_a_codebook_says_of_its_fit_has_to_be_numbers(tmp_path, fit):
    # it is no part of the hash, and is shown and compared
    (tmp_path / "c.npz").write_bytes(dataclasses.replace(PLAIN, fit=fit).to_bytes())
    with pytest.raises(CodebookError, match=r"fit it again|not a codebook"):
        Codebook.load(tmp_path / "c.npz")
