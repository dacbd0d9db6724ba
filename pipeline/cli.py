"""The command line: parse, call, map to an exit code. No logic lives here.

Results go to stdout, progress and messages to stderr. Exit codes: 0 all done, 1 some rasters failed,
2 usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from pipeline.config import RunConfig, build, load_file
from pipeline.errors import TilewrightError, UsageError, one_line

_EPILOG = "exit codes: 0 all done, 1 some rasters failed, 2 usage, 130 interrupted"
_ABOUT = {
    "run": "segment rasters: SOURCE... to a folder of label files (COG), styles and records",
    "plan": "say what a run would do: chunks, halo, memory, tasks, time; nothing is written",
    "fit": "fit a codebook on rasters and save it",
    "inspect": "describe a raster, a label file or a codebook",
    "demo": "make the built-in scene, segment it, and compare with its known truth",
}
_FIT_OPTIONS = (
    "method",
    "segments",
    "resolution",
    "model",
    "upsample",
    "device",
    "extent",
    "aoi",
    "mosaic",
    "overlap",
    "stack",
    "bands",
    "scale",
    "fit",
    "seed",
    "network",
    "workers",
    "progress",
)


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; gives its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.function(arguments))
    except TilewrightError as error:
        _say(error, debug=getattr(arguments, "debug", False))
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again to finish", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader of our output went away; nothing to tell anyone
        sys.stderr.close()
        return 1
    except Exception as error:  # noqa: BLE001  (the last resort: still one line, unless --debug)
        _say(error, debug=getattr(arguments, "debug", False))
        return 1


def _say(error: BaseException, *, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    kind = "" if isinstance(error, TilewrightError) else f"{type(error).__name__}: "
    hint = "" if isinstance(error, TilewrightError) or debug else " (--debug shows where)"
    print(f"error: {kind}{one_line(error)}{hint}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m pipeline", description="Segment rasters of any size.", epilog=_EPILOG)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, function: Any) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=_ABOUT[name], description=_ABOUT[name], epilog=_EPILOG)
        sub.set_defaults(function=function)
        return sub

    sub = command("run", _run)
    _add_options(sub, tuple(RunConfig.model_fields))
    sub = command("plan", _plan)
    _add_options(sub, tuple(RunConfig.model_fields))
    sub.add_argument("--json", action="store_true", help="print one JSON object")
    sub = command("fit", _fit)
    _add_options(sub, ("sources", *_FIT_OPTIONS, "debug"))
    sub.add_argument("-o", "--output", required=True, metavar="FILE", help="codebook to write (.npz)")
    sub = command("inspect", _inspect)
    sub.add_argument("path", metavar="PATH", help="a raster, a label file or a codebook")
    _add_options(sub, ("debug",))
    sub = command("demo", _demo)
    _add_options(sub, ("method", "resolution", "model", "upsample", "device", "workers", "progress", "debug"))
    sub.add_argument("-o", "--out", required=True, metavar="OUT", help="folder for the scene and its labels")
    return parser


def _add_options(parser: argparse.ArgumentParser, names: tuple[str, ...]) -> None:
    """Options from the configuration's fields: one description for help, YAML and checks."""
    for name in names:
        field = RunConfig.model_fields[name]
        flag, text = f"--{name.replace('_', '-')}", (field.description or "").replace("%", "%%")
        if name == "sources":
            parser.add_argument("sources", nargs="*", metavar="SOURCE", help=text)
        elif field.annotation is bool:
            parser.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text
            )
        else:
            flags = ["-o", flag] if name == "out" else [flag]
            default = "" if field.default is None else f" (default {field.default})"
            parser.add_argument(
                *flags,
                dest=name,
                default=argparse.SUPPRESS,
                metavar=_metavar(name, field.annotation),
                help=text + default,
            )
    if "sources" in names and "out" in names:
        parser.add_argument(
            "--config", metavar="FILE", help="YAML file of these options, or a former run.json"
        )
    parser.set_defaults(fields=names)


def _metavar(name: str, annotation: Any) -> str:
    if typing.get_origin(annotation) is typing.Literal:
        return "|".join(map(str, typing.get_args(annotation)))
    if isinstance(annotation, types.UnionType) or annotation is str:
        return name.upper()
    return {int: "N"}.get(annotation, name.upper())


def _config(arguments: argparse.Namespace) -> RunConfig:
    """The configuration: defaults, then the file, then the command line."""
    values: dict[str, Any] = {}
    if path := getattr(arguments, "config", None):
        values |= load_file(path)
        build(values, path)
    given = {k: v for k, v in vars(arguments).items() if k in arguments.fields and v not in (None, [])}
    return build({**values, **given})


def _run(arguments: argparse.Namespace) -> int:
    from pipeline import progress
    from pipeline.running import run

    config = _config(arguments)
    arguments.debug = config.debug
    display = progress.chosen(config.progress)
    try:
        return run(config, display).exit_code
    finally:
        display.close()


def _plan(arguments: argparse.Namespace) -> int:
    from pipeline.plan import plan

    config = _config(arguments)
    arguments.debug = config.debug
    found = plan(config)
    print(json.dumps(found.as_json()) if arguments.json else found.text())
    return 0


def _fit(arguments: argparse.Namespace) -> int:
    from pipeline.commands import fit_to_file

    config = _config(arguments)
    if said := fit_to_file(config, Path(arguments.output)):
        print(said)
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    from pipeline.inspect import describe

    print(describe(arguments.path))
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from pipeline.demo import demo

    print(demo(_config(arguments), Path(arguments.out)))
    return 0
