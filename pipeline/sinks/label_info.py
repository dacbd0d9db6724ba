"""What the labels of a file mean and where they lie: the same for every sink."""

from __future__ import annotations

from dataclasses import dataclass

from engine.codebook import Codebook
from pipeline.grid.georeference import Georeference
from pipeline.sinks.style import LabelStyle


@dataclass(frozen=True)
class LabelInfo:
    """What the labels of a file mean and where they lie.

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
        """Of a codebook's labels."""
        kernel = " ".join(f"{k}={v}" for k, v in sorted(codebook.kernel.items()))
        return cls(georeference, codebook.content_hash, kernel, LabelStyle.of(codebook.segments))
