"""The bands of a codebook in another raster: found by name where both have names, else by number."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.codebook import Band, Codebook
from pipeline.errors import RasterError, UsageError
from pipeline.source.bands import expression

# what programs call bands that nobody has named, and colours that say nothing
_NO_NAME = re.compile(r"(band|layer|channel)?[ _-]*\d*|gray|undefined|palette|alpha", re.IGNORECASE)
_MOST_LISTED = 16


class Named(Protocol):
    """What has bands with names: a raster or an array."""

    @property
    def path(self) -> str:
        """Name for messages."""
        ...

    @property
    def bands(self) -> tuple[Band, ...]:
        """Band numbers, names or expressions."""
        ...

    @property
    def band_names(self) -> tuple[str, ...]:
        """Descriptions of those bands."""
        ...


def plain_name(name: str) -> str:
    """A name in the form that expressions can use: letters, digits and underscores, case folded."""
    return re.sub(r"\W+", "_", name).strip("_").casefold()


def given_names(raster: Named) -> tuple[str, ...]:
    """Name of each band as its file gives it: its description, else its colour, else ""."""
    colours = getattr(raster, "colours", ()) or ("",) * len(raster.bands)
    pairs = zip(raster.band_names, colours, strict=True)
    return tuple(next((n for n in pair if not _NO_NAME.fullmatch(n)), "") for pair in pairs)


@dataclass(frozen=True)
class FittedBands:
    """The bands that a codebook was fitted on.

    Parameters
    ----------
    bands
        As the codebook has them.
    names
        Their names in the rasters of the fit; "" where there was none.
    asked
        Bands that are to be used in their place, as `--bands` selects them; None for those of the codebook.
    by_order
        Take the bands in their order, whatever they are called.
    """

    bands: tuple[Band, ...]
    names: tuple[str, ...]
    asked: tuple[Band, ...] | None = None
    by_order: bool = False

    @classmethod
    def of(
        cls, codebook: Codebook, asked: Sequence[Band] | None = None, *, by_order: bool = False
    ) -> FittedBands:
        """Those of a codebook."""
        names = codebook.band_names or ("",) * len(codebook.bands)
        return cls(codebook.bands, names, None if asked is None else tuple(asked), by_order)

    def in_raster(self, header: Callable[[], Named]) -> tuple[Band, ...]:
        """The bands to use of a raster, in the order of the codebook where both have names.

        Parameters
        ----------
        header
            Returns the raster with all its bands; called only if names have to be compared.

        Raises
        ------
        RasterError
            If names say that these are other bands than those of the codebook.
        """
        bands = self.asked or self.bands
        by_themselves = self.asked is None and all(isinstance(b, str) for b in bands)
        if self.by_order and by_themselves and all(str(b).isidentifier() for b in bands):
            return tuple(header().bands)
        if self.by_order or by_themselves or not all(self._wanted()):
            return bands
        if self.asked is None and any(isinstance(b, str) for b in bands):
            # names and expressions are looked up by themselves, numbers beside them as ever
            numbers = [i for i, band in enumerate(bands) if isinstance(band, int)]
            some = FittedBands(tuple(bands[i] for i in numbers), tuple(self.names[i] for i in numbers))
            found = iter(some.in_raster(header))
            return tuple(b if isinstance(b, str) else next(found) for b in bands)
        raster = header()
        return self._matched(self.asked or raster.bands, raster) or bands

    def in_array(self, array: Named) -> tuple[Band, ...]:
        """The bands to use of an array, as `in_raster`; all of them in their order where names do not say."""
        own = [_keys(band, name) for band, name in zip(array.bands, given_names(array), strict=True)]
        # b1, b2, ... in this order, as variables of a Dataset may be called, are names for want of others
        unlike = _by_position(own) != _by_position(self._wanted())
        if self.by_order or (unlike and not all(any(key & keys for keys in own) for key in self._wanted())):
            return array.bands
        return self._matched(array.bands, array) or array.bands

    def _wanted(self) -> list[set[str]]:
        return [_keys(band, name) for band, name in zip(self.bands, self.names, strict=True)]

    def _matched(self, candidates: Sequence[Band], raster: Named) -> tuple[Band, ...] | None:
        """Those of some bands that have the names of the codebook's; None where names do not say."""
        names = dict(zip(raster.bands, given_names(raster), strict=True))
        keys = [_keys(band, names.get(_number(band, raster), "")) for band in candidates]
        wanted = self._wanted()
        if not all(wanted) or (self.asked is not None and not all(keys)):
            return None
        matches = [[b for b, own in zip(candidates, keys, strict=True) if own & key] for key in wanted]
        chosen = tuple(some[0] for some in matches if len(some) == 1)
        # each of those that are asked for has to be used
        if len(set(chosen)) == len(wanted) and (self.asked is None or len(candidates) == len(wanted)):
            return chosen
        if not all(keys) and not any(matches):
            return None  # names that say nothing of those that are wanted, and none of some bands
        has = f"{'--bands asks for' if self.asked else 'it has'} {_listed(candidates, names)}"
        fitted = _listed(self.bands, dict(zip(self.bands, self.names, strict=True)))
        raise RasterError(
            raster.path,
            f"{has}, but the codebook was fitted on {fitted}: fit another codebook, "
            "or take the bands in their order with --codebook-bands any",
        )


def other_order(names: Sequence[str], others: Sequence[str]) -> str:
    """Why bands are not the same ones, if they have the same names in another order; else ""."""
    mine, theirs = [_key(name) for name in names], [_key(name) for name in others]
    if mine == theirs or not all(mine) or sorted(mine) != sorted(theirs):
        return ""
    here, there = (", ".join(some[:_MOST_LISTED]) for some in (names, others))
    return f"has its bands in the order {here}, not {there}; choose them by name: --bands {','.join(others)}"


def _by_position(keys: Sequence[set[str]]) -> bool:
    """Whether bands are called b1, b2, ... in this order, which is no name of theirs."""
    return all(f"b{number}" in own for number, own in enumerate(keys, 1))


def _keys(band: Band, name: str) -> set[str]:
    """What a band is known by: the text of an expression, or its names; nothing if it has none."""
    text = _key(name) if name else ""
    if isinstance(band, int):
        return {text} - {""}
    with contextlib.suppress(UsageError):  # an array's names need not be names in expressions
        if not isinstance(expression.parse(band), expression.Name):
            return {"".join(band.split()).casefold()}
    return {_key(band), text} - {""}


def _key(name: str) -> str:
    """A name without what the same band is written with and without: case, separators, B04 for B4."""
    return re.sub(r"(?<=[^\W\d])0+(?=\d)", "", plain_name(name))


def _number(band: Band, raster: Named) -> Band:
    """The raster's own band that a name is of, or the band itself."""
    if isinstance(band, int):
        return band
    names = zip(raster.bands, given_names(raster), strict=True)
    number = re.fullmatch(r"b([1-9]\d{0,4})", _key(band))
    return next((b for b, name in names if _key(name) == _key(band)), int(number[1]) if number else band)


def _listed(bands: Sequence[Band], names: Mapping[Band, str]) -> str:
    texts = [band if isinstance(band, str) else names.get(band) or f"b{band}" for band in bands]
    more = ", ..." if len(texts) > _MOST_LISTED else ""
    return ", ".join(texts[:_MOST_LISTED]) + more
