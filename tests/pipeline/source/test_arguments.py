"""SOURCE arguments: which rasters they stand for, and what their outputs are called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.out.outputs import Outputs
from pipeline.sinks.sink import sink_of
from pipeline.source import arguments as module
from pipeline.source.arguments import resolve

RESERVED = set('/\\:*?"<>|') | {chr(c) for c in range(32)} | {"\x7f"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def paths(*arguments):
    return [s.path for s in resolve(arguments)]


def names(*arguments):
    return [s.name for s in resolve(arguments)]


# Which rasters


def test_files_come_in_the_order_they_were_named_and_each_once(here):
    assert paths("b.tif", "a.tif", "b.tif") == ["b.tif", "a.tif"]


def test_a_file_need_not_exist_to_be_a_source(here):
    # it fails when it is opened, as one raster of the batch
    assert paths("none.tif", "/vsicurl/https://example.org/a.tif", "none.zarr") == [
        "none.tif",
        "/vsicurl/https://example.org/a.tif",
        "none.zarr",
    ]


def test_a_folder_stands_for_its_rasters_in_order(here):
    touch("d/b.TIF", "d/a.tiff", "d/c.vrt", "d/e.jp2", "d/a.tif.aux.xml", "d/notes.txt", "d/deeper/x.tif")
    Path("d/folder.tif").mkdir()
    assert paths("d") == ["d/a.tiff", "d/b.TIF", "d/c.vrt", "d/e.jp2"]


def test_a_folder_without_rasters_is_refused_with_what_was_looked_for(here):
    touch("d/notes.txt")
    with pytest.raises(UsageError, match=r"^d: no rasters in this folder \(looked for .*\.tif.*\.vrt"):
        resolve(["d"])


def test_a_glob_stands_for_the_files_it_matches_in_order(here):
    touch("d/b.tif", "d/a.tif", "d/e/c.tif", "d/x.txt")
    Path("d/z.tif").mkdir()
    assert paths("d/*.tif") == ["d/a.tif", "d/b.tif"]
    assert paths("d/**/*.tif") == ["d/a.tif", "d/b.tif", "d/e/c.tif"]
    assert paths("d/[ab].tif") == ["d/a.tif", "d/b.tif"]


def test_a_glob_that_matches_nothing_is_refused(here):
    with pytest.raises(UsageError, match=r"^d/\*\.tif: no file matches"):
        resolve(["d/*.tif"])


def test_a_file_whose_name_looks_like_a_glob_is_that_file(here):
    touch("a[1].tif", "a1.tif")
    assert paths("a[1].tif") == ["a[1].tif"]


def test_a_list_stands_for_its_lines(here):
    touch("d/b.tif", "d/a.tif", "g1.tif", "g2.tif")
    Path("list.txt").write_text(
        "# rasters\n\n  x y.tif  \nd\ng*.tif\nx y.tif\nümlaut.tif\n", encoding="utf-8"
    )
    expected = ["first.tif", "x y.tif", "d/a.tif", "d/b.tif", "g1.tif", "g2.tif", "ümlaut.tif"]
    assert paths("first.tif", "@list.txt") == expected


def test_a_list_with_windows_line_ends_is_read(here):
    Path("list.txt").write_bytes(b"a.tif\r\nb.tif\r\n")
    assert paths("@list.txt") == ["a.tif", "b.tif"]


def test_a_list_that_names_itself_has_an_end(here):
    Path("list.txt").write_text("@list.txt\na.tif\n")
    assert paths("@list.txt") == ["a.tif"]


@pytest.mark.parametrize("data", [None, b"\xff\xfe\x00bad"])
def test_a_list_that_cannot_be_read_is_refused(here, data):
    if data is not None:
        Path("list.txt").write_bytes(data)
    with pytest.raises(UsageError, match=r"^list\.txt: cannot read this list") as caught:
        resolve(["@list.txt"])
    assert "\n" not in str(caught.value)


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_list_is_read_as_whatever_program_wrote_it(here, encoding, end):
    lines = [
        "in/ä 漢.tif",
        '"in/b, c.tif"',
        "'in/d e.tif'",
        '"NETCDF:""in/f.nc"":v"',
        "",
        "# no raster",
        "x.tif",
    ]
    # Python writes the mark of UTF-16 in the order of this machine, and Windows in its own
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    Path("list.txt").write_bytes(mark + end.join(lines).encode(encoding))
    expected = ["in/ä 漢.tif", "in/b, c.tif", "in/d e.tif", 'NETCDF:"in/f.nc":v', "x.tif"]
    assert paths("@list.txt") == expected


def test_lists_that_were_joined_keep_no_mark_between_them(here):
    Path("list.txt").write_bytes(b"\xef\xbb\xbfa.tif\r\n\xef\xbb\xbfb.tif\r\n")
    assert paths("@list.txt") == ["a.tif", "b.tif"]


def test_quotes_that_are_part_of_a_name_stay(here):
    touch('"a".tif', '"b"', "'c'", "'")
    Path("list.txt").write_text("\"a\".tif\n\"b\"\n'c'\n'\n\"\n''\n")
    assert paths("@list.txt") == ['"a".tif', '"b"', "'c'", "'", '"', "''"]


def test_a_list_in_the_code_page_of_windows_or_in_the_bytes_of_the_disk_is_read(here):
    touch("größe.tif", os.fsdecode(b"caf\xe9.tif"))
    Path("list.txt").write_bytes(b'a.tif\ngr\xf6\xdfe.tif\n"caf\xe9.tif"\n')
    assert paths("@list.txt") == ["a.tif", "größe.tif", os.fsdecode(b"caf\xe9.tif")]
    Path("list.txt").write_bytes(b"a.tif\nnone \xe9.tif\n")
    with pytest.raises(UsageError, match=r"line 2 is not text in UTF-8.*save the list as UTF-8"):
        resolve(["@list.txt"])


def test_a_list_of_unreasonable_size_is_refused(here, monkeypatch):
    monkeypatch.setattr(module, "_LIST_LIMIT_BYTES", 5)
    Path("list.txt").write_text("abc.tif\n")
    with pytest.raises(UsageError, match="split it"):
        resolve(["@list.txt"])


def test_no_source_at_all_is_refused(here):
    Path("list.txt").write_text("# nothing\n")
    for arguments in ([], ["@list.txt"]):
        with pytest.raises(UsageError, match="no SOURCE given"):
            resolve(arguments)


def test_an_empty_argument_does_not_stand_for_the_current_folder(here):
    # as of a shell's variable that is not set: `run "$RASTER" -o out`
    touch("a.tif")
    with pytest.raises(UsageError):
        resolve([""])


def test_a_path_longer_than_any_file_s_is_left_to_fail_as_one_raster(here):
    assert paths("a" * 300 + ".tif", "b.tif") == ["a" * 300 + ".tif", "b.tif"]


# What outputs are called


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["d/a.tif"], ["a"]),
        (["d/a.b.tif", "d/a.tif"], ["a.b", "a"]),
        (["d/a.tif", "e/a.tif"], ["d_a", "e_a"]),
        (["d/a.tif", "e/a.tif", "e/b.tif"], ["d_a", "e_a", "b"]),
        (["d/a.tif", "d/a.jp2"], ["a_tif", "a_jp2"]),
        (["d/a.tif", "e/A.TIF"], ["d_a", "e_A"]),
        (["x/d/a.tif", "y/d/a.tif"], ["d_a", "d_a (2)"]),
        (["x/d/a.tif", "y/d/a.tif", "z/d/a.jp2"], ["d_a", "d_a (2)", "d_a (3)"]),
    ],
)
def test_outputs_are_named_for_their_inputs_and_told_apart_by_folder_suffix_or_number(
    here, sources, expected
):
    assert names(*sources) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("d/a b (1).tif", "a b (1)"),
        ("ü漢字.tif", "ü漢字"),
        ('d/what:is"this|.tif', "what_is_this_"),
        ("d/tab\tand\nline.tif", "tab_and_line"),
        ("d/.hidden.tif", "hidden"),
        ("d/dots...tif", "dots"),
        ("d/...", "raster"),
        ("-o.tif", "-o"),
        ("NETCDF:file.nc:band", "file_band"),
    ],
)
def test_odd_characters_become_safe_ones(here, source, expected):
    assert names(source) == [expected]


def test_long_names_are_cut_between_characters(here):
    (name,) = names("漢" * 80 + ".tif")
    assert name == "漢" * 66


def test_a_name_that_is_cut_does_not_end_in_a_space_or_dot(here):
    # which some file systems drop, so that the file is not found again
    for mark in " .":
        (name,) = names("a" * 199 + mark + "b.tif")
        assert name == name.rstrip(" .")


def test_a_name_that_is_no_unicode_is_a_name_nevertheless(here):
    source = os.fsdecode(b"caf\xe9.tif")
    touch(source)
    (name,) = names(source)
    name.encode()
    assert name.startswith("caf")


# Few letters and short parts, so that names collide in every way
PARTS = st.text("abA. _(2)é:\t", min_size=1, max_size=6) | st.sampled_from(
    ["run", "RUN", "status.json", "codebook", "report", "a.tif", "a.codebook", "x" * 220, "x" * 220 + "y"]
)
SUFFIXES = st.sampled_from([".tif", ".TIF", ".tiff", ".jp2", "", ".codebook.npz", ".tif.aux.xml"])
PATHS = st.builds(lambda folders, stem, suffix: "/".join([*folders, stem + suffix]),
                  st.lists(PARTS, max_size=2), PARTS, SUFFIXES)  # fmt: skip


@settings(max_examples=150)
@given(st.lists(PATHS | st.text(min_size=1).filter(lambda t: "\0" not in t), min_size=1, unique=True))
def test_names_are_always_distinct_and_safe(sources):
    found = module._names(sources)
    assert len(found) == len(sources)
    # as on file systems that do not tell capitals apart
    assert len({n.casefold() for n in found}) == len(found)
    for name in found:
        assert name
        assert not set(name) & RESERVED
        assert not name.startswith((" ", "."))
        assert len(f"{name}.tif.aux.xml".encode()) <= 255


@settings(max_examples=150)
@given(st.lists(PATHS, min_size=1, unique=True))
def test_no_file_of_a_run_is_written_twice(sources):
    sinks = [(n, sink_of(n + suffix)) for n in module._names(sources) for suffix in (".tif", ".zarr")]
    found = list({f: None for n, sink in sinks for f in Outputs(Path("out"), n, sink).all()})
    found += [Path("out/run.json"), Path("out/codebook.npz"), Path("out/report.html")]
    folded = [str(f).casefold() for f in found]
    assert len(set(folded)) == len(folded)


@pytest.mark.parametrize("own", ["run", "status.json", ".owner", "owner.json", "Status.JSON"])
def test_no_raster_gets_a_name_that_a_run_needs_itself(own):
    (name,) = module._names([f"/folder/{own}.tif"])
    assert name.casefold() != own.casefold()
    assert module.numbered([own]) == [f"{own} (2)"]


@pytest.fixture
def nested(tmp_path):
    """A folder as people have them, with rasters on three levels."""
    folder = tmp_path / "in"
    for path in (
        "a.tif",
        "sub/a.tif",
        "sub/deep/b.tif",
        "._a.tif",
        ".hidden/c.tif",
        "notes.txt",
        "Thumbs.db",
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"x")
    for name, mark in (("out", "run.json"), ("killed", ".partial/owner")):
        (folder / name / mark).parent.mkdir(parents=True)
        (folder / name / mark).touch()
        (folder / name / "a.tif").touch()
    (folder / "loop").symlink_to(".")
    (folder / "sub" / "up").symlink_to("../..")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "d.tif").touch()
    (folder / "link").symlink_to("../elsewhere")
    return folder


def test_a_folder_yields_its_own_rasters_and_nothing_hidden(nested):
    assert [s.name for s in resolve([str(nested)])] == ["a"]


def test_a_folder_is_searched_with_all_that_it_holds(nested):
    found = resolve([str(nested)], recursive=True)
    # `up` leads to the folder around, from where everything was seen or is a link back
    paths = {os.path.realpath(s.path) for s in found}
    assert paths == {
        str(nested / "a.tif"),
        str(nested / "sub" / "a.tif"),
        str(nested / "sub" / "deep" / "b.tif"),
        str(nested.parent / "elsewhere" / "d.tif"),
    }
    assert len(found) == 4
    assert sorted(s.name for s in found) == ["b", "d", "in_a", "sub_a"]


def test_where_only_folders_below_hold_rasters_the_option_is_named(nested):
    (nested / "a.tif").unlink()
    with pytest.raises(UsageError, match=r"no rasters in this folder .*\(--recursive\)"):
        resolve([str(nested)])
