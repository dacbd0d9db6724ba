"""From sources to what a run works on: headers, fingerprints, and which part of each raster."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import RasterError
from pipeline.fingerprint import fingerprint
from pipeline.raster import open_segmentable
from pipeline.sources import Source
from pipeline.view import View


@dataclass(frozen=True)
class Input:
    """One raster of a run.

    Parameters
    ----------
    source
        Where it is, and the name of its outputs.
    view
        The raster and which part of it.
    fingerprint
        Tells this state of the file from another.
    """

    source: Source
    view: View
    fingerprint: str


def open_input(source: Source, bands: tuple[int, ...] | None) -> Input | RasterError:
    """Header and fingerprint of a source, or why it cannot be opened (never raised: others go on)."""
    try:
        view = View.whole(open_segmentable(source.path, bands))
        return Input(source, view, fingerprint(source.path))
    except RasterError as error:
        return error
    except OSError as error:
        return RasterError(source.path, f"cannot be read ({error.strerror})")
