"""The files that name versions agree: pyproject.toml, requirements*.txt, environment.yml."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]

# PyPI's name: conda-forge's. conda-forge's own "dask" is a bundle of much more.
CONDA_NAMES = {"dask": "dask-core", "torch": "pytorch"}

# conda-forge lists these as packages, but they are not dependencies of ours.
CONDA_ONLY = {"python", "pip"}

# torch asks for what one kind of GPU needs by itself, so the lock leaves it out (see the Makefile).
GPU_PREFIXES = ("nvidia-", "cuda-", "triton")


def pinned(lines):
    """Versions by canonical name; a line that is not exactly `name==version` is an error."""
    versions = {}
    for line in lines:
        name, equals, version = line.partition("==")
        if not equals or not version or set(version) & set("+*,;@<>=! /"):
            msg = f"not an exact pin: {line!r}"
            raise ValueError(msg)
        key = canonicalize_name(name.strip())
        if key in versions:
            msg = f"named twice: {key}"
            raise ValueError(msg)
        versions[key] = version
    return versions


def locked(text):
    return pinned(line for line in text.splitlines() if line and not line.startswith("#"))


def conda_pinned(environment):
    """Versions by PyPI's name, from conda's lines (`name=version`) and the pip lines under them."""
    pypi_names = {conda: pypi for pypi, conda in CONDA_NAMES.items()}
    lines = []
    for entry in environment["dependencies"]:
        if isinstance(entry, dict):
            lines += entry["pip"]
            continue
        name, _, version = entry.partition("=")
        if name not in CONDA_ONLY:
            lines.append(f"{pypi_names.get(name, name)}=={version}")
    return pinned(lines)


def differences(wanted, found):
    """One line for each name that is missing, of another version, or not wanted."""
    return [
        f"{name}: wanted {wanted.get(name, 'none')}, found {found.get(name, 'none')}"
        for name in sorted(wanted.keys() | found.keys())
        if wanted.get(name) != found.get(name)
    ]


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def environment():
    return yaml.safe_load((ROOT / "environment.yml").read_text())


@pytest.fixture(scope="module")
def run_lock():
    return locked((ROOT / "requirements.txt").read_text())


@pytest.fixture(scope="module")
def dev_lock():
    return locked((ROOT / "requirements-dev.txt").read_text())


def test_environment_yml_names_the_same_versions_as_pyproject(project, environment):
    assert differences(pinned(project["dependencies"]), conda_pinned(environment)) == []


def test_environment_yml_is_of_this_project_and_its_python_is_allowed(project, environment):
    assert environment["name"] == project["name"]
    python = next(e for e in environment["dependencies"] if str(e).startswith("python="))
    assert SpecifierSet(project["requires-python"]).contains(python.partition("=")[2])


def test_requirements_hold_what_pyproject_pins(project, run_lock):
    wanted = pinned(project["dependencies"])
    assert differences(wanted, {name: v for name, v in run_lock.items() if name in wanted}) == []


def test_dev_requirements_hold_what_the_dev_extra_pins(project, dev_lock):
    wanted = pinned(project["optional-dependencies"]["dev"])
    assert differences(wanted, {name: v for name, v in dev_lock.items() if name in wanted}) == []


def imported(*packages):
    """Names of the distributions, but for the project's own, that code of these packages imports."""
    trees = [ast.parse(path.read_text()) for package in packages for path in (ROOT / package).rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0}
    tops = {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - set(packages)
    provided = importlib.metadata.packages_distributions()
    return {canonicalize_name(provided.get(top, [top])[0]) for top in tops}


def test_what_the_product_imports_is_declared(project):
    extras = {Requirement(line).name for line in project["optional-dependencies"]["plot"]}
    assert imported("engine", "pipeline") - pinned(project["dependencies"]).keys() == extras


def test_no_package_stands_in_both_requirements_files(run_lock, dev_lock):
    assert run_lock.keys() & dev_lock.keys() == set()


def missing_from(lock, names):
    """Names that installed packages ask for, directly or not, and the lock does not hold."""
    missing, seen, ahead = set(), set(), [Requirement(name) for name in names]
    while ahead:
        requirement = ahead.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen or name.startswith(GPU_PREFIXES):
            continue
        seen.add((name, frozenset(requirement.extras)))
        if name not in lock:
            missing.add(name)
            continue
        for line in importlib.metadata.requires(name) or []:
            needed = Requirement(line)
            extras = requirement.extras or {""}
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras):
                ahead.append(needed)
    return missing


def test_requirements_are_complete(project, run_lock, dev_lock):
    run, dev = project["dependencies"], project["optional-dependencies"]["dev"]
    assert missing_from(run_lock, run) == set()
    assert missing_from(run_lock | dev_lock, dev) == set()


def test_an_incomplete_lock_is_noticed(project, run_lock):
    lock = {name: version for name, version in run_lock.items() if name != "toolz"}
    assert missing_from(lock, project["dependencies"]) == {"toolz"}


@pytest.mark.parametrize(
    ("entries", "difference"),
    [
        (["pytorch=2.0", {"pip": ["deflate==1.0"]}], []),
        (["pytorch=2.1", {"pip": ["deflate==1.0"]}], ["torch: wanted 2.0, found 2.1"]),
        (["pytorch=2.0"], ["deflate: wanted 1.0, found none"]),
        (["pytorch=2.0", "gdal=3.9", {"pip": ["deflate==1.0"]}], ["gdal: wanted none, found 3.9"]),
    ],
)
def test_a_different_environment_is_noticed(entries, difference):
    found = conda_pinned({"dependencies": ["python=3.11", *entries]})
    assert differences(pinned(["torch==2.0", "Deflate==1.0"]), found) == difference


@pytest.mark.parametrize("line", ["numpy", "numpy>=2", "torch==2.0+cpu", "a==1.*", "a @ file:///b", "-e ."])
def test_a_line_that_pins_nothing_portable_is_noticed(line):
    with pytest.raises(ValueError, match="not an exact pin"):
        locked(line)
