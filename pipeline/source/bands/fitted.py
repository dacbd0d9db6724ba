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
_SHORT = {"r": "red", "g": "green", "b": "blue"}
_COLOURS = frozenset(_SHORT.values())
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


def all_names(raster: Named) -> tuple[tuple[str, ...], ...]:
    """The names of each band as its file gives them: its description and its colour, or neither."""
    colours = getattr(raster, "colours", ()) or ("",) * len(raster.bands)
    pairs = zip(raster.band_names, colours, strict=True)
    return tuple(tuple(n for n in pair if n and not _NO_NAME.fullmatch(n)) for pair in pairs)


def given_names(raster: Named) -> tuple[str, ...]:
    """Name of each band as its file gives it: its description, else its colour, else ""."""
    return tuple(next(iter(names), "") for names in all_names(raster))


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
        if self.by_order or by_themselves or not any(self._wanted()):
            return bands
        if not all(self._wanted()):
            return bands if self.asked else self._moved(header()) or bands
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
        own = _keys_of(array)
        # b1, b2, ... in this order, as variables of a Dataset may be called, are names for want of others
        wanted = self._wanted()
        if not self.by_order and any(wanted) and not all(wanted):
            return self._moved(array) or array.bands
        unlike = _by_position(own) != _by_position(wanted)
        if self.by_order or (unlike and not all(any(key & keys for keys in own) for key in wanted)):
            return array.bands
        return self._matched(array.bands, array) or array.bands

    def _wanted(self) -> list[set[str]]:
        return [_keys(band, name) for band, name in zip(self.bands, self.names, strict=True)]

    def _moved(self, raster: Named) -> tuple[Band, ...] | None:
        """A raster's bands in the order of the codebook, of which some have no names; those stay in theirs.

        None where names do not say that any lies elsewhere.
        """
        own, wanted = _keys_of(raster), self._wanted()
        found = [[i for i, keys in enumerate(own) if keys & key] for key in wanted]
        named = [some for some, key in zip(found, wanted, strict=True) if key]
        if not all(len(some) == 1 for some in named) or all(
            i in (some or [i]) for i, some in enumerate(found)
        ):
            return None
        nameless = [i for i, keys in enumerate(own) if not keys]
        if len(nameless) != len(wanted) - len(named):
            raise self._others("it has", raster.bands, raster)
        rest = iter(nameless)
        return tuple(raster.bands[some[0] if some else next(rest)] for some in found)

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
        raise self._others("--bands asks for" if self.asked else "it has", candidates, raster)

    def _others(self, has: str, candidates: Sequence[Band], raster: Named) -> RasterError:
        """The error that says that these are other bands, with both lists."""
        names = dict(zip(raster.bands, given_names(raster), strict=True))
        fitted = _listed(self.bands, dict(zip(self.bands, self.names, strict=True)))
        return RasterError(
            raster.path,
            f"{has} {_listed(candidates, names)}, but the codebook was fitted on {fitted}: "
            "fit another codebook, or take the bands in their order with --codebook-bands any",
        )


def other_order(
    names: Sequence[Sequence[str]], others: Sequence[Sequence[str]], *, by_name: bool = True
) -> str:
    """Why bands are not the same ones, if they have the same names, or colours, in another order; else "".

    Parameters
    ----------
    names, others
        What each band is called, as of `all_names`. Colours beside descriptions count where no description
        says more: programs write red, green and blue for any three bands.
    by_name
        Whether bands can be chosen by name to put it right.
    """
    first, first_there = ([each[:1] for each in some] for some in (names, others))
    if len(names) != len(others) or not (
        _differ(first, first_there) or (not _common(first, first_there) and _differ(names, others))
    ):
        return ""
    here, there = (
        [next(iter(each), "") or f"b{i}" for i, each in enumerate(some[:_MOST_LISTED], 1)]
        for some in (names, others)
    )
    plain = [{plain_name(n) for n in each} for each in names]
    shared = [
        [n for n in each if any(plain_name(n) in own for own in plain)] if each else [f"b{i}"]
        for i, each in enumerate(others, 1)
    ]
    advice = "run them apart"
    if by_name and all(shared):
        advice = f"choose them by name: --bands {','.join(n[0] for n in shared)}"
    elif not by_name:
        advice = "put them in that order (gdal_translate -b), or leave it out"
    return f"has its bands in the order {', '.join(here)}, not {', '.join(there)}; {advice}"


def _known(names: Sequence[Sequence[str]]) -> list[set[str]]:
    return [{_key(n) for n in each} for each in names]


def _common(names: Sequence[Sequence[str]], others: Sequence[Sequence[str]]) -> set[str]:
    return set[str]().union(*_known(names)) & set[str]().union(*_known(others))


def _differ(names: Sequence[Sequence[str]], others: Sequence[Sequence[str]]) -> bool:
    """Whether bands have the same names at other places, or two colours at one."""
    mine, theirs, common = _known(names), _known(others), _common(names, others)
    pairs = list(zip(mine, theirs, strict=True))
    if any(own & _COLOURS and other & _COLOURS and not own & other for own, other in pairs):
        return True
    moved = [own & common for own, other in pairs if not own & other]
    same = all(keys & common for keys in (*mine, *theirs) if keys)
    return any(moved) and (same or any(keys & _COLOURS for keys in moved))


def _by_position(keys: Sequence[set[str]]) -> bool:
    """Whether bands are called b1, b2, ... in this order, which is no name of theirs."""
    return all(f"b{number}" in own for number, own in enumerate(keys, 1))


def _keys_of(raster: Named) -> list[set[str]]:
    return [_keys(band, name) for band, name in zip(raster.bands, given_names(raster), strict=True)]


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
    """A name without what a band is written with and without: case, separators, B04 for B4, R for red."""
    text = re.sub(r"(?<=[^\W\d])0+(?=\d)", "", plain_name(name))
    return _SHORT.get(text, text)


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
