"""ARCHITECTURE.md and CONTRIBUTING.md say what is there, and folders stay small."""

import re

import pytest

from tests import rooms

ROOT = rooms.ROOT
PACKAGES = ("benchmarks", "engine", "pipeline", "qgis_bridge", "shards", "training")
MOST = 15


def folders():
    roots = [ROOT / package for package in PACKAGES]
    return sorted({path.parent for root in roots for path in root.rglob("*.py")})


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_paths_that_a_page_names_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:\.\./)?[\w.-]+(?:/[\w.-]+)+/?)`", text))
    ours = {path for path in named if path.partition("/")[0] in (*PACKAGES, "tests")}
    assert len(ours) >= 4
    assert not [path for path in sorted(ours) if not (ROOT / path).exists()]


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"])
def test_targets_that_a_page_names_exist(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", (ROOT / page).read_text(encoding="utf-8")))
    assert named <= targets


def test_the_table_of_rooms_is_what_the_imports_are():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert rooms.drawn(text) == text, "out of date: run `make map`"


def test_no_folder_holds_more_modules_than_a_reader_can_take_in():
    modules = {f: len([p for p in f.glob("*.py") if p.name != "__init__.py"]) for f in folders()}
    assert {str(f.relative_to(ROOT)): n for f, n in modules.items() if n > MOST} == {}


def test_every_room_says_what_it_is_in_one_sentence():
    for folder in folders():
        room = ".".join(folder.relative_to(ROOT).parts)
        assert rooms.sentence(room).endswith((".", ":")), room


def test_a_room_that_imports_from_a_higher_one_is_seen():
    found = {"pipeline.a": {"pipeline.b"}, "pipeline.b": {"pipeline.a"}, "engine": set()}
    with pytest.raises(ValueError, match="in a circle"):
        rooms.floors(found)
