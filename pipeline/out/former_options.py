"""Options of a former run beside those of now: which are the same, and which are others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.config import FILES, RunConfig
from pipeline.source.bands.options import stacked_bands


def of_former(values: Mapping[str, Any], now: RunConfig) -> dict[str, Any]:
    """Options of a former run, with those that there were not yet as they have to be for labels like `now`'s.

    Expressions saw stored numbers before there was `raw_values`. Where no scale is declared that is the same,
    and where one is, fingerprint and codebook are others.
    """
    later = {"nodata": None, "valid": None, "codebook_bands": "match", "raw_values": now.raw_values}
    later |= {"resample": None, "reference_band": None, "features": "bands"}
    return {**later, **values, "stack": stacked_bands(values.get("stack"))}


def differences(former: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, object, object]]:
    """Name and both values of options that a former run had otherwise.

    A file of the same name is taken for the same: in a project that was moved or copied it lies elsewhere,
    and its content is compared where labels depend on it.
    """
    for name, value in now.items():
        was = former.get(name)
        same_file = name in FILES and was and value and Path(str(was)).name == Path(str(value)).name
        if name not in former or (was != value and not same_file):
            yield name, was, value
