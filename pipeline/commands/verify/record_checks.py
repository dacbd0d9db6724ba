"""What the record of a raster says of its labels, against the codebook and run.json beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from engine.codebook import Codebook, CodebookError
from engine.grid import Window
from pipeline.check.label_file import Expected
from pipeline.check.seams import Borders
from pipeline.config import RunConfig
from pipeline.errors import RasterError, one_line
from pipeline.grid.georeference import Georeference
from pipeline.out.former_options import differences, of_former
from pipeline.out.record import RasterRecord
from pipeline.out.run_file import DAMAGED, RasterState
from pipeline.sinks.label_info import LabelInfo

_MOST_PX = 1 << 16


def read_record(path: Path) -> RasterRecord:
    """The record of a raster, with all that it has to say.

    Raises
    ------
    RasterError
        If it is missing, unreadable, or lacks something.
    """
    if not path.exists():
        raise RasterError(str(path), f"missing; {DAMAGED}")
    try:
        return RasterRecord.read(path)
    except ValidationError as error:
        field, *inner = error.errors(include_url=False, include_input=False)[0]["loc"]
        what = f"its input's {inner[0]}" if field == "input" and inner else field
        raise RasterError(str(path), f"says nothing of {what}; {DAMAGED}") from None
    except (OSError, ValueError) as error:
        raise RasterError(str(path), f"cannot be read ({one_line(error)}); {DAMAGED}") from None


def problems(
    path: Path, record: RasterRecord, noted: RasterState, codebook: Codebook, config: RunConfig
) -> Iterator[str]:
    """Where a record contradicts the codebook and run.json, or is silent on what made the labels.

    Parameters
    ----------
    path, record
        The record.
    noted
        What run.json says of the raster.
    codebook
        The one that stands in OUT.
    config
        The run's.
    """
    for where, mark in (("record", record.codebook_hash), ("run.json", noted.codebook_hash)):
        if mark != codebook.content_hash:
            yield (
                f"{path}: the {where} says codebook {str(mark)[:12]}, but the codebook there is "
                f"{codebook.content_hash[:12]}"
            )
    if record.kernel != codebook.kernel:
        yield f"{path}: its kernel is not that of the codebook"
    parameters = of_former(record.parameters, config)
    for key, was, value in differences(parameters, {**config.meaning, **config.layout}):
        yield f"{path}: {key} {was}, but {value} in run.json"
    if not isinstance(parameters.get("chunk_size"), int) or parameters["chunk_size"] < 1:
        yield f"{path}: says nothing of the chunk size"
    if not record.versions:
        yield f"{path}: says nothing of the versions that made it"


def expected_labels(path: Path, record: RasterRecord, codebook: Codebook) -> tuple[Expected, Window]:
    """What the labels have to be, by their record, and where they lie in the raster.

    Raises
    ------
    RasterError
        If the record contradicts itself.
    """
    try:
        region = Window(*record.region)
        place = Georeference(record.input.crs_wkt, record.input.transform).shifted(region.row, region.col)
        counts = np.zeros(256, np.int64)
        for label, pixels in record.labels.items():
            counts[int(label)] = pixels
        counts[255] = record.nodata_pixels
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise RasterError(str(path), f"damaged ({one_line(error)}); {DAMAGED}") from None
    if counts.sum() != region.pixels:
        raise RasterError(str(path), f"counts {counts.sum()} pixels of {region.pixels}; {DAMAGED}")
    meaning = LabelInfo.of(codebook, place)
    shape = region.height, region.width
    return Expected(shape, place, codebook.segments, counts, meaning.codebook_hash, meaning.kernel), region


def recorded_codebook(path: Path) -> Codebook:
    """A codebook that a run left.

    Raises
    ------
    RasterError
        If it is missing or damaged.
    """
    try:
        return Codebook.load(path)
    except CodebookError as error:
        raise RasterError(str(path), str(error).removeprefix(f"{path}: ")) from None


def borders_of(path: Path, record: RasterRecord) -> Borders:
    """Where the labels may have seams: at the borders of the kernel's cells.

    Raises
    ------
    RasterError
        If the record does not say it.
    """
    # a record of before says it in its kernel alone, where K-Means' stride is its resolution
    known = {"stride_px": record.kernel.get("resolution"), **record.kernel, **record.parameters}
    sides = [known.get(name) for name in ("cell_px", "stride_px")]
    px = [side for side in sides if isinstance(side, int) and 1 <= side <= _MOST_PX]
    if len(px) < len(sides):
        raise RasterError(str(path), f"says nothing of the kernel's cells and stride; {DAMAGED}")
    return Borders.of(px[0], px[1])
