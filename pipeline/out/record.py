"""The record of a raster, `OUT/NAME.json`: from what, with what and by what its labels were made.

A record is data that anybody may have changed. Whoever reads one gets all of it as it should be, or an error;
only `chunks_done` makes do with what it needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, StrictFloat, StrictInt, field_validator

from engine.labels.smoothing import Smoothing
from pipeline import out_names
from pipeline.durable import files as durable
from pipeline.durable import loose_json
from pipeline.durable.bounded_json import read_object

Text = InstanceOf[str]
"""Any text: names of files need not be Unicode, which pydantic's own `str` asks for."""

Number = int | float
"""A number as it is, for 1 is written as 1 and 1.0 as 1.0."""


class RecordedInput(BaseModel):
    """The header of the raster that has labels, and what else its pixels come from (`Raster.origin`).

    Parameters
    ----------
    fingerprint
        Tells this state of the input from another.
    width, height, bands, dtype, nodata
        As those of `source.raster.Raster`; a nodata value that is not finite as text.
    crs_wkt, transform
        Of the whole raster, not of a region.
    """

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)

    fingerprint: Text
    width: StrictInt
    height: StrictInt
    bands: tuple[int | Text, ...]
    dtype: Text
    nodata: tuple[Number | Text | None, ...]
    crs_wkt: Text | None
    transform: tuple[Number, Number, Number, Number, Number, Number] | None


def _smoothing(parameters: dict[str, Any]) -> Smoothing | None:
    text = parameters.get("smooth")
    return None if text is None else Smoothing.parse(str(text))


class Provenance(BaseModel):
    """From what, with what and by what labels were made: all that is known before they are finished.

    Parameters
    ----------
    name, source
        Of the outputs, and the path of the raster.
    input
        The raster.
    region
        Row, column, height and width of the part of it that has labels.
    parameters
        Options that labels and files depend on, the side of a chunk, the kernel's cell and stride, and the
        features of pixels that were clustered (`feature_set`; None for a network's).
    codebook_hash, kernel, fit
        Of the codebook: its hash, what it says of its kernel, and how it was fitted.
    style
        Of the codebook too: tells the names and colours that its classes had from others; "" for none.
    device, device_failure
        What labelled, and why it was not the device asked for; None where it was.
    outside_limits
        Share of pixels, of those of a few cells, outside the limits of a codebook that was fitted elsewhere.
    chunks
        Number of chunks.
    timings
        Seconds.
    versions
        Of the libraries.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    name: Text
    source: Text
    input: RecordedInput
    region: tuple[StrictInt, StrictInt, StrictInt, StrictInt]
    parameters: dict[str, Any]
    codebook_hash: Text
    kernel: dict[str, Any]
    device: Text = ""
    device_failure: Text | None = None
    fit: dict[str, Any] = Field(default_factory=dict)
    style: Text = ""
    outside_limits: StrictFloat | None = None
    chunks: StrictInt = 0
    timings: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, Any]

    @field_validator("parameters")
    @classmethod
    def _parameters(cls, value: dict[str, Any]) -> dict[str, Any]:
        _smoothing(value)  # what is no smoothing is no record
        return value

    @property
    def smoothing(self) -> Smoothing | None:
        """What was made of the kernel's labels, or None."""
        return _smoothing(self.parameters)


class RasterRecord(Provenance):
    """The record of a raster whose labels are finished.

    Parameters
    ----------
    files
        Names of its files, in the order that they are published in.
    checksums
        By file.
    labels, nodata_pixels
        Pixels of each label, and of none.
    bad_chunks
        Chunks with pixels that could not be read or labelled.
    seam_score, seam_score_error
        As of `check.seams.Seams`.
    assemble_s
        Seconds.
    """

    files: tuple[Text, ...]
    checksums: dict[str, Text]
    labels: dict[str, StrictInt]
    nodata_pixels: StrictInt
    bad_chunks: StrictInt = 0
    seam_score: StrictFloat | None = None
    seam_score_error: StrictFloat | None = None
    assemble_s: StrictFloat = 0.0

    @classmethod
    def read(cls, path: Path) -> RasterRecord:
        """The record that a file holds.

        Raises
        ------
        OSError
            If it cannot be read.
        ValueError
            If it holds none; a `pydantic.ValidationError` if it is one that lacks something.
        """
        return cls.model_validate(read_object(path))

    def write(self, path: Path) -> None:
        """Write it durably.

        Raises
        ------
        StorageError
            If the disk is full or not writable.
        """
        optional = ("device_failure", "outside_limits", "style")
        without = {name for name in optional if getattr(self, name) in (None, "")}
        durable.write_json(path, self.model_dump(exclude=without))


def chunks_done(out: Path, name: str, damaged: loose_json.Damaged) -> int | None:
    """Number of chunks of a raster whose record and files are there; None where any of them is not.

    Parameters
    ----------
    out, name
        The folder, and the name of the raster's outputs.
    damaged
        Where to note what is wrong with the record.
    """
    record = loose_json.read(out / f"{name}{out_names.RECORD_SUFFIX}", damaged)
    files, chunks = record.names("files"), record.count("chunks") or 0
    return chunks if files and all((out / file).exists() for file in files) else None
