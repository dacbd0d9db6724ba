"""The option ``--palette``: where the colours of classes come from, and codebooks that have them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engine.codebook import Codebook
from engine.colours import Colour, made_distinct
from pipeline.errors import UsageError
from pipeline.legend import true_colour
from pipeline.legend.label_style import LabelStyle
from pipeline.legend.palette_files import Entry, read_entries

NATURAL, DISTINCT = "natural", "distinct"
NOT_NATURAL = (
    "--palette natural shows classes in their mean colours, which takes bands that are red, green and blue; "
    "choose distinct, or name a file"
)


@dataclass(frozen=True)
class Palette:
    """Where the colours of classes come from.

    Parameters
    ----------
    source
        `NATURAL`, `DISTINCT`, or the name of a file.
    entries
        What the file says of each class.
    """

    source: str
    entries: tuple[Entry, ...] = ()

    @classmethod
    def of(cls, asked: str | Path | None, segments: int) -> Palette | None:
        """The palette that an option names, for K classes; None for None.

        Raises
        ------
        UsageError
            If it is a file that cannot be read, or that speaks of a class that there is not.
        """
        if asked is None or asked in (NATURAL, DISTINCT):
            return None if asked is None else cls(str(asked))
        entries = read_entries(asked)
        for entry in entries:
            if entry.label >= segments:
                raise UsageError(
                    f"{asked}:{entry.line}: label {entry.label}, but labels are 0 to {segments - 1}"
                )
        return cls(str(asked), entries)


def of_fit(codebook: Codebook, palette: Palette | None) -> Codebook:
    """A codebook that was just fitted, with colours: natural where it can be, unless others are asked for.

    Raises
    ------
    UsageError
        If natural ones are asked for where there are none.
    """
    if palette is None or palette.entries:
        codebook = replace(codebook, colours=_natural(codebook))
    return codebook if palette is None else restyled(codebook, palette)


def restyled(codebook: Codebook, palette: Palette) -> Codebook:
    """A codebook with other colours, and names where the palette has some; what it does not say stays.

    Raises
    ------
    UsageError
        If natural colours are asked for where there are none.
    """
    if palette.source == DISTINCT and not palette.entries:
        return replace(codebook, colours=())
    if palette.source == NATURAL and not palette.entries:
        if not (natural := _natural(codebook)):
            raise UsageError(NOT_NATURAL)
        return replace(codebook, colours=natural)
    style = LabelStyle.of_codebook(codebook)
    colours, names = list(style.colours), list(style.names)
    # a fit that found fewer classes than were asked for leaves the last ones out
    for entry in (e for e in palette.entries if e.label < codebook.segments):
        colours[entry.label] = entry.colour or colours[entry.label]
        names[entry.label] = entry.name or names[entry.label]
    # what is as it is by default is not kept, so that it stays the same work
    default = LabelStyle.of(codebook.segments)
    return replace(
        codebook,
        colours=() if tuple(colours) == default.colours else tuple(colours),
        names=() if tuple(names) == default.names else tuple(names),
    )


def _natural(codebook: Codebook) -> tuple[Colour, ...]:
    """Mean colours of the classes, made distinct; () where there are none."""
    means = true_colour.of_codebook(codebook)
    if not means:
        return ()
    weights = np.asarray(codebook.fit.get("share") or np.ones(len(means)), np.float64)
    colours = made_distinct(np.array(means, np.uint8), weights).tolist()
    return tuple((red, green, blue) for red, green, blue in colours)
