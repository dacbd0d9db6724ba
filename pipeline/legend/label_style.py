"""Colours and names of labels, as every sink writes them."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine import spacing
from engine.codebook import Codebook
from engine.colours import Colour, from_hex, to_hex

# Tol's "muted" and "bright" qualitative schemes, distinct to colour-blind people too
# (P. Tol, "Colour schemes", SRON technical note, 2021); further labels take hues around the circle.
_FIRST: tuple[Colour, ...] = (
    (51, 34, 136), (136, 204, 238), (68, 170, 153), (17, 119, 51), (153, 153, 51), (221, 204, 119),
    (204, 102, 119), (136, 34, 85), (170, 68, 153), (68, 119, 170), (238, 102, 119), (102, 204, 238),
)  # fmt: skip


@dataclass(frozen=True)
class LabelStyle:
    """Colours and names of labels 0 to K - 1.

    Parameters
    ----------
    colours
        (red, green, blue) of each label.
    names
        Name of each label.
    """

    colours: tuple[Colour, ...]
    names: tuple[str, ...]

    @classmethod
    def of(cls, segments: int, colours: Sequence[Colour] = (), names: Sequence[str] = ()) -> LabelStyle:
        """The style of K labels; by default the distinct palette, the same colour of a label for any K."""
        return cls(
            tuple(colours) or tuple(_distinct(i) for i in range(segments)),
            tuple(names) or tuple(f"Segment {i}" for i in range(segments)),
        )

    @classmethod
    def of_codebook(cls, codebook: Codebook) -> LabelStyle:
        """The style of the labels that are made with a codebook."""
        return cls.of(codebook.segments, codebook.colours, codebook.names)

    @property
    def flags(self) -> dict[str, str]:
        """Names and colours as attributes of CF, where a name is one word."""
        return {
            "flag_meanings": " ".join(re.sub(r"\s", "_", name) for name in self.names),
            "flag_colors": " ".join(to_hex(colour) for colour in self.colours),
        }

    @classmethod
    def of_flags(cls, attributes: Mapping[Any, Any], segments: int) -> LabelStyle:
        """The style that attributes as `flags` has them say; the default where they do not fit K labels."""
        meanings, colours = (str(attributes.get(key, "")).split() for key in ("flag_meanings", "flag_colors"))
        names = [name.replace("_", " ") for name in meanings] if len(meanings) == segments else []
        try:
            read = [from_hex(colour) for colour in colours] if len(colours) == segments else []
        except ValueError:
            read = []
        return cls.of(segments, read, names)


def _distinct(label: int) -> Colour:
    if label < len(_FIRST):
        return _FIRST[label]
    n = label - len(_FIRST)
    red, green, blue = colorsys.hls_to_rgb(
        n * spacing.ALONG % 1, (0.42, 0.62, 0.75)[n % 3], (0.75, 0.5)[n // 3 % 2]
    )
    return round(red * 255), round(green * 255), round(blue * 255)
