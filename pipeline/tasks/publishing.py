"""The tasks that workers do of a job.

A task is a plain function of small values. It may run in any process and twice: what it makes is
durable under its own name and the same bytes each time. Pixels never pass through the coordinator.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from engine.kernel import NODATA
from pipeline import out_names
from pipeline.check.seams import Seams
from pipeline.durable import files
from pipeline.durable.bounded_json import read_list
from pipeline.durable.checksums import checksum, seal_file
from pipeline.out import bad_map
from pipeline.out.outputs import Outputs
from pipeline.out.record import Provenance, RasterRecord
from pipeline.sinks import style
from pipeline.sinks.label_info import LabelInfo
from pipeline.sinks.sink import SUFFIXES, sink_of
from pipeline.source import bad_blocks, unchanged
from pipeline.source.reading import BadBlock
from pipeline.tasks.assembling import Assembled
from pipeline.tasks.job import Job
from pipeline.tasks.units import retried


def _bad_blocks(job: Job) -> Iterator[BadBlock]:
    for path in sorted((job.folder / out_names.BAD).glob("*.json")):
        yield from bad_blocks.from_json(read_list(path))


@retried
def finish(job: Job, made: Provenance, assembled: Assembled, seams: Seams) -> RasterRecord:
    """Write what goes with the assembled labels, all in the workspace; returns the raster's record.

    Raises
    ------
    AlteredError
        If the input is another one than when the run began.
    """
    start = time.perf_counter()
    histogram = assembled.histogram
    meaning = LabelInfo.of(job.codebook, job.view.georeference)
    place = Outputs(job.folder, job.name, job.sink)
    files.write_bytes(place.png, style.quicklook(job.folder / job.sink.raster, meaning.style))
    edited = _edited_style(job)
    files.write_bytes(place.qml, style.qml(meaning.style).encode() if edited is None else edited)
    # the labels take their name last of what shows them; what is bad in them is known when they are there
    before, after = [place.png.name, place.qml.name], []
    if bad := list(_bad_blocks(job)):
        files.write_json(place.bad, bad_map.geojson(bad, job.view.raster.georeference, job.name))
        after.append(place.bad.name)
    checksums = {name: checksum(job.folder / name) for name in before + after}
    checksums |= assembled.checksums
    own = Outputs(job.out, job.name, job.sink).codebook
    if own.exists():
        checksums[own.name] = checksum(own)
    record = RasterRecord(
        **dict(made),
        files=(*before, *job.sink.files, *after),
        checksums=checksums,
        labels={str(i): histogram[i] for i in range(job.codebook.segments)},
        nodata_pixels=histogram[NODATA],
        bad_chunks=len(list((job.folder / out_names.BAD).glob("*.json"))),
        seam_score=seams.score,
        seam_score_error=seams.error,
        assemble_s=round(assembled.seconds + time.perf_counter() - start, 3),
    )
    mark = unchanged.Mark(job.fingerprint, job.stamp)
    unchanged.refuse(job.view.raster, mark, tolerant=job.view.tolerant)
    record.write(job.folder / out_names.RECORD)
    seal_file(job.folder / out_names.RECORD)
    return record


def _edited_style(job: Job) -> bytes | None:
    """The QGIS style that somebody made of the one of the same labels; None where nobody did."""
    former = Outputs(job.out, job.name, job.sink)
    try:
        record = RasterRecord.read(former.json)
        if record.codebook_hash != job.codebook.content_hash:
            return None  # its names are those of other classes
        written = record.checksums.get(former.qml.name)
        return None if written in (None, checksum(former.qml)) else former.qml.read_bytes()
    except (OSError, ValueError):
        return None


@retried
def publish(job: Job) -> RasterRecord:
    """Move a raster's finished files into OUT, the record last; may be done again after it was cut short."""
    path = job.folder / out_names.RECORD
    record = RasterRecord.read(path)
    place = Outputs(job.out, job.name, job.sink)
    for former in _in_other_formats(place):  # while the record that names them is there
        files.remove(former)
    # labels that are half replaced do not pass for done with the record of the former ones
    if place.json.exists():
        place.json.unlink()
        files.sync_folder(job.out)
    for name in record.files:
        if (job.folder / name).exists():
            files.move(job.folder / name, job.out / name)
    files.sync_folder(job.out)  # what the record names is there before the record is
    if place.bad.name not in record.files:
        place.bad.unlink(missing_ok=True)  # of what has been made good since
    files.move(path, place.json)
    files.sync_folder(job.out)
    return record


def _in_other_formats(place: Outputs) -> list[Path]:
    """Files of a raster's former labels that those of this sink do not replace by their names."""
    try:
        former = set(RasterRecord.read(place.json).files)
    except (OSError, ValueError):
        return []
    # a record is data: it may not name what is no output of this raster
    names = {name for suffix in SUFFIXES.values() for name in sink_of(place.name + suffix).files}
    return [place.out / name for name in sorted((names & former) - set(place.sink.files))]
