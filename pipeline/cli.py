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

from pipeline import out_names
from pipeline.config import RunConfig, build, load_file
from pipeline.errors import TilewrightError, UsageError, one_line
from pipeline.process import signals
from pipeline.process.first_signals import EXIT_CODE, HINT

_EPILOG = "exit codes: 0 all done, 1 some rasters failed, 2 usage, 130 interrupted"
_ABOUT = {
    "run": "segment rasters: SOURCE... to a folder of label files (COG), styles and records",
    "plan": "say what a run would take: time, memory, disk, what bounds it; measures parts and keeps nothing",
    "fit": "fit a codebook on rasters and save it",
    "inspect": "describe a raster, a label file or a codebook",
    "status": "say where a run stands, while it lives and after: progress, rate, memory, errors",
    "verify": "check all that a run left: files, records, labels, a sample made anew from the inputs, seams",
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
    "raw_values",
    "nodata",
    "valid",
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
        with signals.interrupting():
            return int(arguments.function(arguments))
    except TilewrightError as error:
        _say(error, debug=getattr(arguments, "debug", False))
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print(HINT, file=sys.stderr)
        return EXIT_CODE
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
    sub.add_argument(
        "--retry-bad",
        metavar="OUT",
        help="in place of SOURCE: do the bad chunks of a finished run again",
    )
    sub = command("plan", _plan)
    _add_options(sub, tuple(RunConfig.model_fields))
    sub.add_argument("--json", action="store_true", help="print one JSON object")
    sub = command("fit", _fit)
    _add_options(sub, ("sources", *_FIT_OPTIONS, "debug"))
    sub.add_argument("-o", "--output", required=True, metavar="FILE", help="codebook to write (.npz)")
    sub = command("inspect", _inspect)
    sub.add_argument("path", metavar="PATH", help="a raster, a label file or a codebook")
    _add_options(sub, ("debug",))
    sub = command("status", _status)
    sub.add_argument("out", metavar="OUT", help="folder of a run's outputs")
    sub.add_argument("--json", action="store_true", help="print one JSON object")
    sub.add_argument("--watch", action="store_true", help="again every 2 s, till the run is over")
    sub.add_argument("--all", action="store_true", help="list every raster, also where there are many")
    _add_options(sub, ("debug",))
    sub = command("verify", _verify)
    sub.add_argument("out", metavar="OUT", help="folder of a run")
    sub.add_argument("--json", action="store_true", help="print one JSON object")
    sub.add_argument(
        "--sample",
        type=_count,
        default=3,
        metavar="N",
        help="windows of each raster to make anew from its input and compare, 0 for none (default 3)",
    )
    _add_options(sub, ("workers", "progress", "debug"))
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


def _count(text: str) -> int:
    """A number that is not negative."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of windows")
    return int(text)


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
    with signals.on_signals():
        from pipeline.events import progress
        from pipeline.running.run import run

        if again := arguments.retry_bad:
            if arguments.sources or arguments.config:
                raise UsageError(
                    "--retry-bad takes sources and options from OUT; leave SOURCE and --config out"
                )
            arguments.config, arguments.out = str(Path(again) / out_names.RUN), again
        config = _config(arguments)
        arguments.debug = config.debug
        display = progress.chosen(config.progress)
        try:
            return run(config, display, retry_bad=bool(again)).exit_code
        finally:
            display.close()


def _plan(arguments: argparse.Namespace) -> int:
    from pipeline.commands.plan.plan import plan

    config = _config(arguments)
    arguments.debug = config.debug
    found = plan(config)
    print(json.dumps(found.as_json()) if arguments.json else found.text())
    return 0


def _fit(arguments: argparse.Namespace) -> int:
    from pipeline.commands.fit import fit_to_file

    config = _config(arguments)
    if said := fit_to_file(config, Path(arguments.output)):
        print(said)
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    from pipeline.commands.inspect import describe

    print(describe(arguments.path))
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from itertools import islice

    from pipeline.commands.status.status import watch
    from pipeline.commands.status.text import status_text

    count = None if arguments.watch else 1
    try:
        for found in islice(watch(Path(arguments.out)), count):
            text = (
                json.dumps(found.as_json())
                if arguments.json
                else status_text(found, everything=arguments.all)
            )
            # a terminal shows one table that changes, a file all of them
            clear = "\x1b[2J\x1b[H" if count is None and not arguments.json and sys.stdout.isatty() else ""
            print(f"{clear}{text}", flush=True)
    except KeyboardInterrupt:
        return 130  # the watch was interrupted, not the run
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from pipeline.commands.verify.verdict import summary
    from pipeline.commands.verify.verify import Verification
    from pipeline.events import progress
    from pipeline.source.gdal.setup import configure
    from pipeline.workers import pool as workers

    config = _config(arguments)
    display = progress.chosen(config.progress)
    verdicts = []
    try:
        with workers.open_pool(workers.parse(config.workers), initializer=configure) as pool:
            for verdict in Verification(arguments.out, arguments.sample, pool, display).verdicts():
                verdicts.append(verdict)
                if not verdict.ok:
                    print(verdict.text(), file=sys.stderr, flush=True)
                elif not arguments.json:
                    print(verdict.text(), flush=True)
    finally:
        display.close()
    found = summary(arguments.out, verdicts)
    print(json.dumps(found) if arguments.json else found["text"])
    return 0 if found["ok"] else 1


def _demo(arguments: argparse.Namespace) -> int:
    from pipeline.commands.demo.demo import demo

    print(demo(_config(arguments), Path(arguments.out)))
    return 0
