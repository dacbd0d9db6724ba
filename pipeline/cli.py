"""The command line: parses options, calls one function for each command, prints, and maps to an exit code.

Results go to stdout, progress and messages to stderr. Exit codes: 0 all done, 1 some rasters failed,
2 usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import out_names
from pipeline.config import RunConfig, build
from pipeline.config_file import load_file
from pipeline.errors import TilewrightError, UsageError, one_line
from pipeline.parser import CommandParser, Version, add_options, count, tolerance
from pipeline.process import signals
from pipeline.process.first_signals import EXIT_CODE, HINT
from pipeline.source.naming.paths import expanded

_EPILOG = "exit codes: 0 all done, 1 some rasters failed, 2 usage, 130 interrupted"
_ABOUT = {
    "run": "segment rasters: SOURCE... to a folder of label files (COG), styles and records",
    "plan": "say what a run would take: time, memory, disk, what bounds it; measures parts and keeps nothing",
    "fit": "fit a codebook on rasters and save it",
    "inspect": "describe a raster, a label file, a codebook, a record, or a finished run",
    "codebook": "give the classes of a saved codebook other names and colours: labels stay what they are",
    "status": "say where a run stands, while it lives and after: progress, rate, memory, errors",
    "verify": "check all that a run left: files, records, labels, a sample made anew from the inputs, seams",
    "score": "compare the labels of a run with a reference: confusion matrix, accuracy, IoU, boundaries",
    "demo": "make the built-in scene, segment it, and compare with its known truth",
}
_FIT_OPTIONS = (
    "recursive",
    "method",
    "segments",
    "resolution",
    "features",
    "model",
    "upsample",
    "device",
    "extent",
    "aoi",
    "mosaic",
    "overlap",
    "stack",
    "resample",
    "reference_band",
    "bands",
    "raw_values",
    "nodata",
    "valid",
    "scale",
    "fit",
    "seed",
    "palette",
    "network",
    "workers",
    "progress",
)


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


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="python -m pipeline", description="Segment rasters of any size.", epilog=_EPILOG
    )
    parser.add_argument("--version", action=Version, help="print the version")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, function: Any) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=_ABOUT[name], description=_ABOUT[name], epilog=_EPILOG)
        sub.set_defaults(function=function)
        return sub

    sub = command("run", _run)
    add_options(sub, tuple(RunConfig.model_fields))
    sub.add_argument(
        "--retry-bad",
        type=expanded,
        metavar="OUT",
        help="in place of SOURCE: do the bad chunks of a finished run again",
    )
    sub = command("plan", _plan)
    add_options(sub, tuple(RunConfig.model_fields))
    sub.add_argument("--json", action="store_true", help="print one JSON object")
    sub = command("fit", _fit)
    add_options(sub, ("sources", *_FIT_OPTIONS, "debug"))
    sub.add_argument(
        "-o", "--output", type=expanded, required=True, metavar="FILE", help="codebook to write (.npz)"
    )
    sub = command("inspect", _inspect)
    sub.add_argument(
        "path",
        type=expanded,
        metavar="PATH",
        help="a raster, a label file, a codebook, a record, or the OUT of a run",
    )
    add_options(sub, ("debug",))
    sub = command("codebook", _codebook)
    sub.add_argument("path", type=expanded, metavar="CODEBOOK", help="a codebook (.npz)")
    sub.add_argument(
        "--names-from",
        type=expanded,
        metavar="FILE",
        help="take names and colours from a style saved in QGIS (.qml), a .csv of label,#rrggbb,name, or a "
        "colour table",
    )
    add_options(sub, ("palette", "debug"))
    sub.add_argument(
        "-o", "--output", type=expanded, metavar="FILE", help="codebook to write (default: in its place)"
    )
    sub = command("status", _status)
    sub.add_argument("out", type=expanded, metavar="OUT", help="folder of a run's outputs")
    sub.add_argument("--json", action="store_true", help="print one JSON object")
    sub.add_argument("--watch", action="store_true", help="again every 2 s, till the run is over")
    sub.add_argument("--all", action="store_true", help="list every raster, also where there are many")
    add_options(sub, ("debug",))
    sub = command("verify", _verify)
    sub.add_argument("out", type=expanded, metavar="OUT", help="folder of a run")
    sub.add_argument("--json", action="store_true", help="print one JSON object")
    sub.add_argument(
        "--sample",
        type=count,
        default=3,
        metavar="N",
        help="windows of each raster to make anew from its input and compare, 0 for none (default 3)",
    )
    add_options(sub, ("workers", "progress", "debug"))
    sub = command("score", _score)
    sub.add_argument("out", metavar="OUT", help="folder of a run")
    sub.add_argument(
        "--reference",
        required=True,
        metavar="RASTER|VECTOR",
        help="what is true: a raster of classes on any grid, or polygons or points with --attribute",
    )
    sub.add_argument("--attribute", metavar="NAME", help="attribute of a vector file that is the class")
    sub.add_argument(
        "--tolerance",
        type=tolerance,
        default=2.0,
        metavar="PX",
        help="distance at which a boundary counts as found (default 2)",
    )
    sub.add_argument(
        "--strata",
        action="store_true",
        help="show the accuracy of each label too: the strata of the figures that are adjusted by area",
    )
    sub.add_argument("--json", action="store_true", help="print one JSON object")
    add_options(sub, ("workers", "progress", "debug"))
    sub = command("demo", _demo)
    add_options(
        sub,
        ("method", "resolution", "features", "model", "upsample", "device", "workers", "progress", "debug"),
    )
    sub.add_argument(
        *("-o", "--out"),
        type=expanded,
        required=True,
        metavar="OUT",
        help="folder for the scene and its labels",
    )
    return parser


def _config(arguments: argparse.Namespace) -> RunConfig:
    """The configuration: defaults, then the file, then the command line."""
    values: dict[str, Any] = {}
    recorded = False
    if path := getattr(arguments, "config", None):
        values, recorded = load_file(path)
        build(values, path)
    given = {k: v for k, v in vars(arguments).items() if k in arguments.fields and v not in (None, [])}
    return build({**values, **given}, recorded=values.keys() - given.keys() if recorded else ())


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
    from pipeline.events import progress

    config = _config(arguments)
    arguments.debug = config.debug
    # what reads JSON waits for nothing but the end
    waits = arguments.json and config.progress == "auto" and not sys.stderr.isatty()
    display = progress.chosen("none" if waits else config.progress)
    try:
        found = plan(config, display)
    finally:
        display.close()
    print(json.dumps(found.as_json()) if arguments.json else found.text())
    return 0


def _fit(arguments: argparse.Namespace) -> int:
    from pipeline.commands.fit import fit_to_file

    config = _config(arguments)
    if said := fit_to_file(config, Path(arguments.output)):
        print(said)
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    from pipeline.commands.inspect import describe, shows_colours

    print(describe(arguments.path, swatches=shows_colours(sys.stdout)))
    return 0


def _codebook(arguments: argparse.Namespace) -> int:
    from pipeline.commands.codebook import change_style

    palette = getattr(arguments, "palette", None)
    output = None if arguments.output is None else Path(arguments.output)
    print(change_style(Path(arguments.path), arguments.names_from, palette and expanded(palette), output))
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from itertools import islice

    from pipeline.commands.status.status import watch
    from pipeline.commands.status.status_text import status_text

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
    return 1 if found.state == "failed" else 0


def _verify(arguments: argparse.Namespace) -> int:
    from pipeline.commands.verify.raster_report import summary
    from pipeline.commands.verify.verify import Verification
    from pipeline.events import progress
    from pipeline.source.gdal.setup import configure
    from pipeline.workers import pool as workers

    config = _config(arguments)
    display = progress.chosen(config.progress)
    reports = []
    try:
        with workers.open_pool(workers.parse(config.workers), initializer=configure) as pool:
            for report in Verification(arguments.out, arguments.sample, pool, display).reports():
                reports.append(report)
                if not report.ok:
                    print(report.text(), file=sys.stderr, flush=True)
                elif not arguments.json:
                    print(report.text(), flush=True)
    finally:
        display.close()
    found = summary(arguments.out, reports)
    print(json.dumps(found) if arguments.json else found["text"])
    return 0 if found["ok"] else 1


def _score(arguments: argparse.Namespace) -> int:
    from pipeline.commands.score.score import keep, open_reference, score
    from pipeline.events import progress
    from pipeline.source.gdal.setup import configure
    from pipeline.workers import pool as workers

    config, out = _config(arguments), Path(arguments.out)
    display = progress.chosen(config.progress)
    try:
        reference = open_reference(arguments.reference, arguments.attribute)
        with workers.open_pool(workers.parse(config.workers), initializer=configure) as pool:
            found = score(
                out,
                reference,
                tolerance=arguments.tolerance,
                strata=arguments.strata,
                pool=pool,
                observer=display,
            )
        picture = keep(out, found, display)
    finally:
        display.close()
    print(json.dumps(found.as_json()) if arguments.json else found.text())
    if picture and not arguments.json:
        print(f"picture   {picture}")
    return 1 if found.failed else 0


def _demo(arguments: argparse.Namespace) -> int:
    from pipeline.commands.demo.demo import demo

    print(demo(_config(arguments), Path(arguments.out)))
    return 0
