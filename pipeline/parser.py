"""The parser of the command line: options from the configuration's fields, errors in one line."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

from pipeline.config import RunConfig
from pipeline.source.naming.paths import expanded
from pipeline.workers.dashboard import ADDRESS

_SHORT = {"out": "-o", "segments": "-k"}
_ONCE = {"bands", "scale", "extent", "aoi", "valid", "nodata", "palette"}
"""A second value would silently replace the first."""
_ACTIONS: dict[str, Any] = {"stack": "append"}
_FARTHEST_PX = 64
_CHOICE = re.compile(r"argument COMMAND: invalid choice: '([^']*)' \(choose from (.*)\)")


class CommandParser(argparse.ArgumentParser):
    """argparse whose errors are one line that names what was probably meant."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with 2."""
        if match := _CHOICE.fullmatch(message):
            message = f"no command {match[1]!r}{_meant(match[1], re.findall(r'[a-z]+', match[2]))}"
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse, but an option's value may begin with a minus, and what is unknown is refused here."""
        given = sys.argv[1:] if args is None else args
        parsed, rest = super().parse_known_args(list(self._joined(self._switched(given))), namespace)
        if rest:
            name = rest[0].partition("=")[0]
            if not name.startswith("-"):
                self.error(f"unexpected {rest[0]!r}; name SOURCEs together, and quote what has spaces")
            flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
            self.error(f"unknown option {name!r}{_meant(name, flags)}")
        return parsed, rest

    def _switched(self, arguments: Iterable[str]) -> Iterator[str]:
        """``--dashboard 8787`` as ``--dashboard=8787``; a SOURCE that follows a switch is not its value."""
        switch, ended = "", False
        for argument in arguments:
            if switch:
                value = argument if not ended and ADDRESS.fullmatch(argument) else ""
                yield f"{switch}={value}"
                switch = ""
                if value:
                    continue
            ended = ended or argument == "--"
            if not ended and isinstance(self._action_of(argument), _Switch):
                switch = argument
            else:
                yield argument
        if switch:
            yield f"{switch}="

    def _joined(self, arguments: Iterable[str]) -> Iterable[str]:
        """``--extent -9,38,-8,39`` as ``--extent=-9,38,-8,39``: argparse takes the value for an option."""
        option, ended = "", False
        for argument in arguments:
            ended = ended or argument == "--"
            if ended:
                yield from ([option] if option else [])
                option = ""
                yield argument
                continue
            negative = re.match(r"-[^-]", argument) and argument not in self._option_string_actions
            if option and negative:
                yield f"{option}={argument}"
                option = ""
                continue
            if option:
                yield option
            action = self._action_of(argument)
            # such as take one value; the others are flags
            option = argument if action is not None and action.nargs is None else ""
            if not option:
                yield argument
        if option:
            yield option

    def _action_of(self, argument: str) -> argparse.Action | None:
        """The option that an argument is, also where it is shortened, as argparse allows."""
        actions = self._option_string_actions
        longer = [flag for flag in actions if argument.startswith("--") and flag.startswith(argument)]
        return actions.get(argument) or (actions[longer[0]] if len(longer) == 1 else None)


def _meant(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


class Version(argparse.Action):
    """Prints the version and exits; it is looked up only then."""

    def __init__(self, option_strings: Sequence[str], **options: Any) -> None:
        super().__init__(option_strings, nargs=0, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print it."""
        from pipeline.versions import versions

        print(f"tilewright {versions()['tilewright']}")
        parser.exit()


class _Once(argparse.Action):
    """Stores a value, and refuses a second one, which others take to be joined with the first."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: Any = None
    ) -> None:
        if hasattr(namespace, self.dest):
            parser.error(f"{option} is given twice; give it once, with all its values")
        setattr(namespace, self.dest, values)


class _Switch(argparse.Action):
    """Stores a value that may be left out, or False for its ``--no-`` form."""

    def __init__(self, option_strings: Sequence[str], **options: Any) -> None:
        (flag,) = option_strings
        super().__init__([flag, f"--no-{flag.removeprefix('--')}"], nargs="?", **options)

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: Any = None
    ) -> None:
        off = option.startswith("--no-")
        if off and values:
            parser.error(f"{option} takes no value")
        setattr(namespace, self.dest, not off and (values or True))


def add_options(parser: argparse.ArgumentParser, names: tuple[str, ...]) -> None:
    """Add options from the configuration's fields: one description for help, YAML and checks."""
    for name in names:
        field = RunConfig.model_fields[name]
        flag, text = f"--{name.replace('_', '-')}", (field.description or "").replace("%", "%%")
        if name == "sources":
            parser.add_argument("sources", nargs="*", metavar="SOURCE", help=text)
        elif name == "dashboard":
            parser.add_argument(
                flag, action=_Switch, default=argparse.SUPPRESS, metavar="[HOST:]PORT", help=text
            )
        elif field.annotation is bool:
            parser.add_argument(
                flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text
            )
        else:
            flags = [_SHORT[name], flag] if name in _SHORT else [flag]
            default = "" if field.default is None else f" (default {field.default})"
            parser.add_argument(
                *flags,
                dest=name,
                action=_Once if name in _ONCE else _ACTIONS.get(name, "store"),
                default=argparse.SUPPRESS,
                metavar=_metavar(name, field.annotation),
                help=text + default,
            )
    if "progress" in names:
        parser.add_argument(
            *("-q", "--quiet"),
            dest="progress",
            action="store_const",
            const="none",
            default=argparse.SUPPRESS,
            help="the same as --progress none: failures and warnings only",
        )
    if "sources" in names and "out" in names:
        parser.add_argument(
            "--config", type=expanded, metavar="FILE", help="YAML file of these options, or a former run.json"
        )
    parser.set_defaults(fields=names)


def count(text: str) -> int:
    """A number that is not negative.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is none.
    """
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of windows")
    return int(text)


def tolerance(text: str) -> float:
    """A distance in pixels that boundaries are compared at.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is none, or too far to look.
    """
    try:
        px = float(text)
    except ValueError:
        px = -1.0
    if not 0 <= px <= _FARTHEST_PX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a distance of 0 to {_FARTHEST_PX} px")
    return px


def _metavar(name: str, annotation: Any) -> str:
    if typing.get_origin(annotation) is typing.Literal:
        return "|".join(map(str, typing.get_args(annotation)))
    if isinstance(annotation, types.UnionType) or annotation is str:
        return name.upper()
    return {int: "N"}.get(annotation, name.upper())
