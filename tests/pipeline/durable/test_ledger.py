"""The ledger: what was recorded is found again, and what is torn or altered does not count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.durable import ledger
from pipeline.durable.checksums import FileDigest
from pipeline.durable.ledger import Ledger, chunks_done, records
from tests.disk import files_no_larger_than

UNITS = st.tuples(st.integers(0, 5), st.tuples(st.integers(0, 2**28 - 1), st.integers(0, 2**28 - 1)))
ENTRIES = st.lists(st.tuples(UNITS, st.binary(max_size=8)), max_size=20)


def fill(path, entries):
    book = Ledger(path)
    for (stage, unit), data in entries:
        book.add(stage, unit, FileDigest.of(data))
    book.close()


def found(path, entries):
    book = Ledger(path)
    result = {key: book.done(*key) for key, _ in entries}
    book.close()
    return result


@given(ENTRIES, ENTRIES)
def test_the_last_record_of_each_unit_is_found_again(tmp_path_factory, first, second):
    path = tmp_path_factory.mktemp("ledger") / "ledger"
    fill(path, first)
    fill(path, second)
    assert found(path, first + second) == {key: FileDigest.of(data) for key, data in first + second}
    assert chunks_done(path) == len({key for key, _ in first + second if key[0] == 0})


@given(ENTRIES.filter(len), st.data())
def test_what_is_altered_or_torn_does_not_count_and_the_rest_does(tmp_path_factory, entries, data):
    path = tmp_path_factory.mktemp("ledger") / "ledger"
    entries = list({key: (key, value) for key, value in entries}.values())
    fill(path, entries)
    raw = bytearray(path.read_bytes())
    at = data.draw(st.integers(16, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    altered = (at - 16) // 40
    # torn in the last record
    path.write_bytes(raw[: len(raw) - data.draw(st.integers(0, 39))])
    whole = (path.stat().st_size - 16) // 40
    expected = {
        key: FileDigest.of(v) if i < whole and i != altered else None for i, (key, v) in enumerate(entries)
    }
    assert found(path, entries) == expected
    fill(path, entries)
    assert found(path, entries) == {key: FileDigest.of(v) for key, v in entries}


def test_a_file_that_is_no_ledger_is_begun_anew(tmp_path):
    path = tmp_path / "ledger"
    path.write_bytes(b"nonsense" * 100)
    assert chunks_done(path) == 0
    fill(path, [((0, (1, 2)), b"data")])
    assert chunks_done(path) == 1


def test_no_ledger_has_no_records(tmp_path):
    assert len(records(tmp_path / "none")) == 0


def test_a_full_disk_is_an_error_of_storage_and_leaves_whole_records(tmp_path):
    book = Ledger(tmp_path / "ledger")
    book.add(0, (0, 0), FileDigest.of(b""))
    with files_no_larger_than(70), pytest.raises(ledger.storage_error(tmp_path, OSError(28, "")).__class__):
        book.add(0, (0, 1), FileDigest.of(b""))
    book.add(0, (0, 2), FileDigest.of(b""))
    book.close()
    assert records(tmp_path / "ledger")["col"].tolist() == [0, 2]


def test_a_million_records_are_looked_up_in_bounded_time(tmp_path):
    path = tmp_path / "ledger"
    count = 20_000
    fill(path, [((0, (i // 1000, i % 1000)), b"") for i in range(count)])
    book = Ledger(path)
    assert all(book.done(0, (i // 1000, i % 1000)) == FileDigest.of(b"") for i in range(0, count, 997))
    book.close()


def test_neighbours_of_every_stage_are_told_apart(tmp_path):
    entries = [((stage, (2**20, col)), bytes([stage, col])) for stage in (0, 1, 5) for col in range(20)]
    fill(tmp_path / "ledger", entries)
    assert found(tmp_path / "ledger", entries) == {key: FileDigest.of(data) for key, data in entries}
