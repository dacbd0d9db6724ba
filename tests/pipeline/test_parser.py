"""The command line as people type it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from pipeline import cli
from pipeline.config import RunConfig
from pipeline.parser import CommandParser, add_options


def parsed(*arguments):
    parser = CommandParser(prog="p")
    add_options(parser, tuple(RunConfig.model_fields))
    return vars(parser.parse_args(arguments))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--extent", "-0.77,38.10,-0.75,38.12"),
        ("--scale", "-1,1"),
        ("--bands", "-B8"),
        ("--bands", "-(nir-red)/(nir+red)"),
        ("--ext", "-9,38,-8,39"),
        ("-o", "-out"),
    ],
)
def test_a_value_may_begin_with_a_minus(option, value):
    name = {"-o": "out", "--ext": "extent"}.get(option, option.strip("-"))
    for before, after in ((["a.tif"], ["-k", "3"]), (["-k", "3"], ["a.tif"]), ([], ["a.tif", "--mosaic"])):
        options = parsed(*before, option, value, *after)
        assert (options[name], options["sources"]) == (value, ["a.tif"])


def test_behind_two_dashes_all_are_sources():
    assert parsed("-k", "3", "--", "-k", "-5")["sources"] == ["-k", "-5"]


@pytest.mark.parametrize("rest", [(), ("--mosaic",), ("-k", "3"), ("--", "-1,1")])
def test_an_option_is_no_value(rest, capsys):
    with pytest.raises(SystemExit):
        parsed("a.tif", "--scale", *rest)
    assert capsys.readouterr().err.startswith("p: argument --scale: expected one argument")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["run", "a.tif", "-o", "x", "--segmetns", "4"],
            "unknown option '--segmetns'; did you mean --segments?",
        ),
        (["run", "a.tif", "--extend=1,2,3,4"], "unknown option '--extend'; did you mean --extent?"),
        (["run", "a.tif", "--zzz"], "unknown option '--zzz' (see"),
        (["run", "a.tif", "-o", "x", "b.tif"], "unexpected 'b.tif'; name SOURCEs together"),
        (["verfy", "x"], "no command 'verfy'; did you mean verify?"),
        (["zzz"], "no command 'zzz' (see"),
        (["run", "a.tif", "--valid", "a == 1", "--valid", "b == 1"], "--valid is given twice"),
        (["run", "a.tif", "--extent", "1,2,3,4", "--extent", "-1,2,3,4"], "--extent is given twice"),
    ],
)
def test_what_was_probably_meant_is_named_in_one_line(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert said in line


def test_short_options_and_quiet():
    options = parsed("a.tif", "-k", "5", "-q", "-o", "x")
    assert (options["segments"], options["progress"], options["out"]) == ("5", "none", "x")


def test_version_is_one_line_and_loads_nothing(tmp_path):
    code = (
        "import sys; from pipeline import cli\n"
        "try: cli.main(['--version'])\n"
        "except SystemExit as end: sys.exit(end.code or len({'dask', 'rasterio'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"tilewright \d+\.\d+\S*\n", ended.stdout)


@pytest.mark.parametrize(
    ("arguments", "dashboard", "sources"),
    [
        (["--dashboard", "a.tif"], "127.0.0.1:8787", ("a.tif",)),
        (["a.tif", "--dashboard"], "127.0.0.1:8787", ("a.tif",)),
        (["--dashboard", "9000", "a.tif"], "9000", ("a.tif",)),
        (["--dash", "0.0.0.0:9000", "a.tif"], "0.0.0.0:9000", ("a.tif",)),
        (["--dashboard=host.example:0", "a.tif"], "host.example:0", ("a.tif",)),
        (["--dashboard", "--", "9000"], "127.0.0.1:8787", ("9000",)),
        (["--dashboard", "9000", "--no-dashboard", "a.tif"], None, ("a.tif",)),
        (["a.tif"], None, ("a.tif",)),
    ],
)
def test_a_dashboard_is_a_switch_that_may_have_an_address(arguments, dashboard, sources):
    config = cli._config(cli._parser().parse_args(["run", *arguments]))
    assert (config.dashboard, config.sources) == (dashboard, sources)


@pytest.mark.parametrize(
    "address", ["x", "host:", ":8787", "1:2:3", "99999", "http://h:1", "a b:1", "[::1]:0"]
)
def test_what_is_no_address_of_a_dashboard_is_refused(capsys, address):
    assert cli.main(["run", "a.tif", "-o", "o", f"--dashboard={address}"]) == 2
    said = capsys.readouterr().err
    assert said == f"error: --dashboard {address}: give [HOST:]PORT, such as 8787 or 0.0.0.0:8787\n"
