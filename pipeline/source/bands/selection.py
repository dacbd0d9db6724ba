"""What a run reads of its rasters: which bands, which pixels of them, and what their numbers mean."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from engine.codebook import Band
from pipeline.source.bands import expression
from pipeline.source.bands.expression import Name, Node
from pipeline.source.bands.fitted import FittedBands
from pipeline.source.declared import Declared, Nodata


@dataclass(frozen=True)
class Selection:
    """What a run reads of its rasters.

    Parameters
    ----------
    bands
        Band numbers, names or expressions; None for all but alpha.
    valid
        A condition of bands: where it is not true a pixel is nodata. None for everywhere.
    nodata
        Nodata values in place of those that files declare; None for those.
    raw_values
        Whether expressions see the numbers that are stored, and not ``value * scale + offset``.
    fitted
        The bands of a codebook, to be found by name in place of `bands`.
    """

    bands: tuple[Band, ...] | None = None
    valid: str | None = None
    nodata: Nodata | None = None
    raw_values: bool = False
    fitted: FittedBands | None = None

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The bands as expressions; empty for all."""
        # a number always means that band, even if another band has it as its name
        return tuple(Name(f"#{b}") if isinstance(b, int) else expression.parse(b) for b in self.bands or ())

    @cached_property
    def condition(self) -> Node | None:
        """`valid` as an expression."""
        return None if self.valid is None else expression.parse(self.valid)

    @property
    def declared(self) -> Declared:
        """What it declares of the files."""
        computes = self.valid is not None or not all(isinstance(n, Name) for n in self.nodes)
        return Declared(self.nodata, computes and not self.raw_values)
