"""The configuration: YAML, command line over YAML, and a former run.json that runs again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from pipeline import cli
from pipeline import config_file as module
from pipeline.config import RunConfig, build
from pipeline.config_file import load_file
from pipeline.errors import UsageError
from tests.rasters import noise, write_geotiff


@pytest.fixture
def yaml_file(tmp_path):
    """Writes a configuration; gives its path."""

    def write(text):
        path = tmp_path / "c.yaml"
        path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
        return str(path)

    return write


def parsed(*arguments):
    """The configuration that a command line stands for."""
    return cli._config(cli._parser().parse_args([str(a) for a in arguments]))


def refused(call, *arguments, match=None):
    with pytest.raises(UsageError, match=match) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Files


def test_a_file_s_values_are_the_configuration(yaml_file):
    path = yaml_file(
        "sources: [a.tif, b.tif]\nout: o\nsegments: 5\nbands: [3, 1]\nscale: [0, 10000]\n"
        "chunk-size: 1024\ncodebook_scope: raster\nseed: 7\n"
    )
    config = parsed("run", "--config", path)
    assert config == RunConfig(
        sources=("a.tif", "b.tif"),
        out="o",
        segments=5,
        bands=(3, 1),
        scale=(0.0, 10000.0),
        chunk_size=1024,
        codebook_scope="raster",
        seed=7,
    )


def test_lists_may_stand_in_a_file_as_on_the_command_line(yaml_file):
    config = parsed("run", "--config", yaml_file("bands: 4,3,2\nscale: 0.5,99\n"))
    assert (config.bands, config.scale) == ((4, 3, 2), (0.5, 99.0))


def test_what_the_command_line_says_wins_over_the_file(yaml_file):
    path = yaml_file("sources: [a.tif]\nout: o\nsegments: 5\nseed: 7\nbands: [1]\n")
    config = parsed("run", "b.tif", "c.tif", "--config", path, "--segments", "6", "--bands", "2,3")
    assert (config.sources, config.out) == (("b.tif", "c.tif"), "o")
    assert (config.segments, config.seed, config.bands) == (6, 7, (2, 3))


@pytest.mark.parametrize("switch", ["overwrite", "dashboard", "debug"])
def test_the_command_line_switches_on_and_off_what_the_file_says(yaml_file, switch):
    on, off = yaml_file({switch: True}), f"--no-{switch}"
    assert getattr(parsed("run", "--config", on), switch)
    assert not getattr(parsed("run", "--config", on, off), switch)
    assert getattr(parsed("run", f"--{switch}"), switch)
    assert not getattr(parsed("run"), switch)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("segmants", "unknown key 'segmants'; did you mean 'segments'?"),
        ("chunksize", "unknown key 'chunksize'; did you mean 'chunk_size'?"),
        ("zzz", "unknown key 'zzz'; see `run --help`"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_that_there_is(yaml_file, key, said):
    path = yaml_file(f"{key}: 5\n")
    assert refused(load_file, path, match="unknown") == f"{path}: {said}"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("- a\n- b\n", "a mapping of option names"),
        ("just text", "a mapping of option names"),
        ("", "a mapping of option names"),
        ("1: 2\n", "a mapping of option names"),
        ("segments: [1\n", "not valid YAML"),
        ("\x07", "not valid YAML"),
        ("seed: 2020-13-45\n", "not valid YAML"),
        ("a: &x [1]\nb: *x\n", "aliases are not used"),
        ("a: &x [*x]\n", "aliases are not used"),
        ("sources: " + "[" * 20 + "]" * 20, "nested deeper than 16"),
        ("sources: " + "[" * 100000, "nested deeper than 16"),
        ("out: !!python/object/apply:os.system [true]\n", "not valid YAML.*constructor"),
        ("out: !!python/name:os.system\n", "not valid YAML.*constructor"),
        ("out: !unknown x\n", "not valid YAML.*constructor"),
    ],
    ids=lambda t: t[:20],
)
def test_what_is_no_plain_mapping_is_refused(yaml_file, text, match):
    path = yaml_file(text)
    assert refused(load_file, path, match=match).startswith(f"{path}: ")


def test_a_billion_laughs_are_not_laughed(yaml_file):
    lines = ["a0: &a0 [lol]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    refused(load_file, yaml_file("\n".join(lines)), match="aliases are not used")


def test_a_file_that_is_missing_or_no_text_or_too_large_is_refused(tmp_path, monkeypatch):
    refused(load_file, str(tmp_path / "none.yaml"), match=r"none\.yaml: cannot read .*No such file")
    refused(load_file, str(tmp_path), match="cannot read")
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xff\xfe\x80")
    refused(load_file, str(path), match="not text")
    monkeypatch.setattr(module, "_CONFIG_LIMIT_BYTES", 10)
    path.write_text("segments: 5   # and more\n")
    refused(load_file, str(path), match="is refused")


def test_a_wrong_value_in_a_file_names_the_file(yaml_file):
    path = yaml_file("segments: 1\n")
    said = refused(parsed, "run", "--config", path, match="--segments 1")
    assert said.startswith(f"{path}: ")


# Values


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("segments", 0), ("segments", 1), ("segments", 255), ("segments", 400), ("segments", -3),
        ("segments", "many"), ("segments", 2.5), ("segments", ""), ("segments", "1e1000"),
        ("resolution", 0), ("resolution", 33), ("resolution", "low"),
        ("chunk_size", 0), ("chunk_size", -5), ("chunk_size", 10**9),
        ("seed", -1), ("seed", 2**63), ("method", "magic"), ("fit", "guess"), ("codebook_scope", "world"),
        ("progress", "loud"), ("workers", "0"), ("workers", "many"), ("workers", "threads:"),
        ("bands", "0"), ("bands", "1,-2"), ("bands", ""), ("bands", []),
        ("scale", "5"), ("scale", "1,2,3"), ("scale", "a,b"), ("scale", "some"), ("scale", []),
        ("scale", "nan,nan"), ("scale", "0,inf"), ("out", 5), ("overwrite", "perhaps"),
    ],
)  # fmt: skip
def test_a_value_that_is_not_right_is_refused_with_its_option(option, value):
    said = refused(build, {option: value})
    assert f"--{option.replace('_', '-')}" in said


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("segments", "2", 2), ("segments", 254, 254), ("resolution", "32", 32), ("seed", "0", 0),
        ("bands", "3,1", (3, 1)), ("bands", [2], (2,)), ("scale", "none", "none"), ("scale", None, None),
        ("scale", "-1,2.5,0,1e4", (-1.0, 2.5, 0.0, 1e4)), ("workers", "processes:3", "processes:3"),
    ],
)  # fmt: skip
def test_values_come_as_text_or_as_themselves(option, value, expected):
    assert getattr(build({option: value}), option) == expected


def test_the_defaults_are_those_of_the_architecture():
    config = RunConfig()
    assert (config.method, config.segments, config.resolution, config.seed) == ("kmeans", 8, 4, 0)
    assert (config.codebook_scope, config.fit, config.chunk_size) == ("batch", "sample", 2048)
    assert (config.workers, config.progress) == ("auto", "auto")


def test_a_configuration_does_not_change():
    with pytest.raises(ValueError, match="frozen"):
        RunConfig().segments = 3


def test_every_key_has_an_option_and_a_line_of_help(capsys):
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name, field in RunConfig.model_fields.items():
        assert field.description
        assert ("SOURCE" if name == "sources" else f"--{name.replace('_', '-')}") in text


@pytest.mark.parametrize(
    "option", ["chunk_size", "workers", "progress", "overwrite", "dashboard", "debug", "out", "network"]
)
def test_what_decides_no_label_is_no_part_of_the_meaning(option):
    assert option not in RunConfig().meaning


def test_what_decides_labels_is_part_of_the_meaning():
    decides = {"method", "segments", "resolution", "bands", "scale", "fit", "codebook_scope", "seed"}
    assert decides <= set(RunConfig().meaning)


# A former run


@pytest.fixture(scope="module")
def two_rasters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    for name, seed in (("a", 1), ("b", 2)):
        write_geotiff(folder / f"{name}.tif", noise(3, 90, 110, seed=seed), nodata=100)
    return folder


@pytest.mark.parametrize(
    "options",
    [
        ["--segments", "5"],
        ["--segments", "3", "--resolution", "3", "--bands", "3,1", "--seed", "12", "--scale", "20,150"],
        ["--segments", "6", "--fit", "exact", "--resolution", "1", "--codebook-scope", "raster"],
    ],
)
def test_a_run_s_own_record_reproduces_its_bytes(two_rasters, tmp_path, options):
    one, two = tmp_path / "one", tmp_path / "two"
    source = f"{two_rasters}/*.tif"
    assert cli.main(["run", source, "-o", str(one), "--progress", "none", *options]) == 0
    assert cli.main(["run", "--config", str(one / "run.json"), "-o", str(two)]) == 0
    made = {p.name: p.read_bytes() for p in one.iterdir() if p.suffix not in (".json", ".jsonl")}
    assert len(made) >= 9
    assert made == {p.name: p.read_bytes() for p in two.iterdir() if p.suffix not in (".json", ".jsonl")}


def test_the_record_holds_the_whole_configuration(two_rasters, tmp_path):
    cli.main(
        [
            "run",
            str(two_rasters / "a.tif"),
            "-o",
            str(tmp_path / "o"),
            "--segments",
            "3",
            "--progress",
            "none",
        ]
    )
    record = json.loads((tmp_path / "o" / "run.json").read_text())
    assert set(record["config"]) == set(RunConfig.model_fields) - {"overwrite", "resume"}
    assert record["config"]["sources"] == [str(two_rasters / "a.tif")]
    assert load_file(str(tmp_path / "o" / "run.json"))[0]["segments"] == 3


def test_the_record_of_a_large_batch_can_be_run_again(tmp_path):
    # a line for each of 20,000 rasters, as run.json has them
    folder, long = Path("/data/a/folder/of/ordinary/length"), "0123456789abcdef" * 4
    rasters = [
        {"name": f"tile_{i}", "source": f"{folder}/tile_{i}.tif", "state": "done", "output": f"tile_{i}.tif"}
        | {"codebook_hash": long}
        for i in range(20000)
    ]
    config = {"sources": [r["source"] for r in rasters], "segments": 5}
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"format": "x", "config": config, "rasters": rasters}, indent=1))
    assert len(load_file(str(path))[0]["sources"]) == 20000


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_configuration_is_read_as_whatever_program_wrote_it(tmp_path, encoding):
    (tmp_path / "c.yaml").write_bytes("sources: größe.tif\r\nsegments: 4\r\n".encode(encoding))
    (tmp_path / "c.json").write_bytes('{"sources": ["größe.tif"], "segments": 4}'.encode(encoding))
    for name in ("c.yaml", "c.json"):
        config = build(load_file(str(tmp_path / name))[0])
        assert (config.sources, config.segments) == (("größe.tif",), 4)
