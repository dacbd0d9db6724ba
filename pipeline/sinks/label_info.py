"""Georeference, provenance and style of a label file: the same for every sink."""

from __future__ import annotations

from dataclasses import dataclass

from engine.codebook import Codebook
from pipeline.grid.georeference import Georeference
from pipeline.legend.label_style import LabelStyle


@dataclass(frozen=True)
class LabelInfo:
    """Georeference, provenance and style of a label file.

    Parameters
    ----------
    georeference
        Of the file's first pixel.
    codebook_hash, kernel
        Provenance, written into the file's metadata.
    style
        Colours and names of the labels.
    """

    georeference: Georeference
    codebook_hash: str
    kernel: str
    style: LabelStyle

    @classmethod
    def of(cls, codebook: Codebook, georeference: Georeference) -> LabelInfo:
        """The values for labels made with a codebook."""
        kernel = " ".join(f"{k}={v}" for k, v in sorted(codebook.kernel.items()))
        return cls(georeference, codebook.content_hash, kernel, LabelStyle.of_codebook(codebook))
