"""The kinds of hostile input, and how many of each there are."""

from __future__ import annotations

import random

from tests.hostile.parameter_kinds import codebooks, configs, lists, models, records, vectors
from tests.hostile.raster_kinds import descriptions, formats, names, stores, tiff_bytes, tiff_tags, vrt
from tests.hostile.standing_kinds import standings
from tests.hostile.workspace_kinds import workspaces

KINDS = {
    tiff_bytes: 1200, tiff_tags: 1200, vrt: 800, formats: 600, stores: 250, configs: 250, codebooks: 250,
    models: 150, lists: 100, vectors: 250, names: 150, descriptions: 150, records: 250,
    workspaces: 250, standings: 400,
}  # fmt: skip
"""How many of each make those of `make test-all`."""


def maker(kind, seed):
    """The function that fills a folder with one input."""
    return lambda folder: kind(folder, random.Random(f"{kind.__name__} {seed}"))
