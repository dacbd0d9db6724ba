"""What an earlier run left in OUT: it is taken up or deleted, or this run is refused because of it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import out_names
from pipeline.config import RunConfig
from pipeline.durable.checksums import checksum
from pipeline.durable.files import remove
from pipeline.errors import UsageError
from pipeline.out.former_options import differences, of_former
from pipeline.out.outputs import Outputs
from pipeline.out.record import RasterRecord
from pipeline.out.run_file import RasterState, RunFile
from pipeline.source.aoi import vector_file
from pipeline.source.arguments import Source


@dataclass(frozen=True)
class Request:
    """What a run is asked for.

    Parameters
    ----------
    config
        The run's configuration; `out` is set.
    sources
        The rasters of the run.
    area
        Tells the polygons of `--aoi` from others; None without it.
    """

    config: RunConfig
    sources: Sequence[Source]
    area: str | None

    @property
    def out(self) -> Path:
        """The folder of outputs."""
        return Path(self.config.out or ".")

    def outputs(self, source: Source) -> Outputs:
        """Output files of a raster."""
        return Outputs.named(self.out, source.name, self.config.format)

    def refuse_inputs(self, doomed: Iterable[Path] = ()) -> None:
        """Refuse to write over, or to delete, what this run reads.

        Parameters
        ----------
        doomed
            What is to be deleted.

        Raises
        ------
        UsageError
            If an input is among the outputs or the doomed.
        """
        files = {file for source in self.sources for file in source.files}
        aoi = self.config.aoi and vector_file(self.config.aoi)
        files |= {file for file in (self.config.model, aoi) if file}
        inputs = {os.path.realpath(file): file for file in files}
        outputs = [file for source in self.sources for file in self.outputs(source).all()]
        for file in (*outputs, *doomed):
            if (path := os.path.realpath(file)) in inputs:
                raise UsageError(
                    f"{inputs[path]}: the outputs in {self.out} would overwrite this input; "
                    "choose another OUT"
                )


class PreviousRun:
    """What an earlier run left in OUT.

    Parameters
    ----------
    request
        What is asked for now.
    run
        The run.json of an earlier run of the same request; None if there is none.
    """

    def __init__(self, request: Request, run: RunFile | None) -> None:
        self._request = request
        self.taken_up = run is not None
        self.states: dict[str, RasterState] = {} if run is None else {r.name: r for r in run.rasters}
        self.named_style = None if run is None else run.named_style
        self.palette: str | None = None if run is None else run.config.get("palette")
        self.on_bad_chunk: Any = None if run is None else run.config.get("on_bad_chunk")

    def done(self, source: Source, fingerprint: str | None, codebook: str | None) -> RasterRecord | None:
        """The record of a raster that was done from this very input; None if it is not done.

        Parameters
        ----------
        source, fingerprint
            The raster; a fingerprint of None is that of any input.
        codebook
            Hash of the codebook that it has to be done with, or None for its own.

        Raises
        ------
        UsageError
            If it was done from another input.
        """
        files = self._request.outputs(source)
        try:
            record = RasterRecord.read(files.json)
        except (OSError, ValueError):
            return None
        wanted = {**self._request.config.finish, **self._request.config.layout}
        if not self.taken_up or any(record.parameters.get(k) != value for k, value in wanted.items()):
            return None
        if fingerprint not in (None, record.input.fingerprint):
            raise UsageError(
                f"{source.path}: the input has changed since {files.labels} "
                "was made; use --overwrite or another OUT"
            )
        of_another = codebook is not None and record.codebook_hash != codebook
        if of_another or not files.labels.exists() or _is_altered(files, record):
            return None
        return record

    def refuse_changed(self, source: Source, fingerprint: str) -> None:
        """Refuse an input that is another one than when the run began: its codebook is of that.

        Raises
        ------
        UsageError
            Then.
        """
        before = self.states.get(source.name)
        skipped = before is not None and before.state == "skipped"  # then nothing is of it
        if before is not None and not skipped and before.fingerprint not in (None, fingerprint):
            raise UsageError(
                f"{source.path}: the input has changed since the run in {self._request.out} began; "
                "use --overwrite or another OUT"
            )


def _is_altered(files: Outputs, record: RasterRecord) -> bool:
    """Whether labels are not what was written; they are read only if they were written to since.

    The record is published last. What decays on disk without a trace, `verify` finds. Files of style are
    people's to change.
    """
    try:
        made = files.json.stat().st_mtime_ns
        for name in files.sink.files:
            path = files.out / name
            newer = any(p.lstat().st_mtime_ns > made for p in (path, *path.rglob("*")))
            if newer and not name.endswith(".aux.xml") and checksum(path) != record.checksums.get(name):
                return True
    except OSError:
        return True
    return False


def take_up(request: Request) -> PreviousRun:
    """What an earlier run left, after it was taken up, or deleted with --overwrite.

    Raises
    ------
    UsageError
        If OUT holds another run or files of others, without --overwrite; or if an input would be deleted.
    """
    config, path = request.config, request.out / out_names.RUN
    if not path.exists():
        if not config.overwrite:
            _refuse_strangers(request)
        return PreviousRun(request, None)
    try:
        run = RunFile.read(path)
        made = {file for raster in run.rasters for file in _made(request.out, raster, run.config["format"])}
    except (OSError, ValueError, KeyError, TypeError):
        if not config.overwrite:
            raise UsageError(
                f"{path}: not a run.json of this version; choose another OUT or --overwrite"
            ) from None
        run, made = None, set()  # what it made cannot be known; outputs of the same names are replaced
    if run is None or config.overwrite:
        request.refuse_inputs(made)
        for file in (path, request.out / out_names.CODEBOOK, *made):
            remove(file)
        return PreviousRun(request, None)
    _refuse_another(request, run)
    _refuse_strangers(request, made)
    return PreviousRun(request, run)


def made_in(out: Path) -> set[Path]:
    """What earlier runs made in OUT, or were to make, of each raster; nothing where no run.json says it."""
    try:
        run = RunFile.read(out / out_names.RUN)
        return {file for raster in run.rasters for file in _made(out, raster, run.config["format"])}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _made(out: Path, raster: RasterState, format_: str) -> Iterable[Path]:
    """Files of a raster that an earlier run made or was to make, the labels in another format too."""
    outputs = Outputs.named(out, raster.name, format_)
    yield from outputs.all()
    try:
        record = RasterRecord.read(outputs.json)
        if (other := record.parameters["format"]) != format_:
            yield from Outputs.named(out, raster.name, other).all()
    except (OSError, ValueError, KeyError, TypeError):
        pass  # nothing was made, or nothing says how


def _refuse_another(request: Request, run: RunFile) -> None:
    if difference := _difference(request, run):
        raise UsageError(
            f"{request.out} holds another run: {difference}; choose another OUT, or --overwrite to delete it"
        )
    if run.area not in (None, request.area):
        raise UsageError(
            f"{request.config.aoi}: the polygons of --aoi have changed since the run in {request.out} began; "
            "use --overwrite or another OUT"
        )


def _difference(request: Request, run: RunFile) -> str:
    """How a request is another one than that of a run, in words; "" where it is the same."""
    former = of_former(run.config, request.config)
    wanted = {**request.config.meaning, **request.config.files("codebook")}
    for key, was, value in differences({"codebook": None, **former}, wanted):
        return f"{key} {was}, not {value}"
    if not request.config.mosaic:
        return ""  # a folder of rasters grows, and some of them go
    here = [_without_folder(source.path) for source in request.sources]
    there = [_without_folder(raster.source) for raster in run.rasters]
    if new := [path for path in here if path not in there]:
        return f"it lacks the source {new[0]}"
    if gone := [path for path in there if path not in here]:
        return f"it has the source {gone[0]} too"
    return ""


def _without_folder(mosaic: str) -> str:
    """What a mosaic is called, wherever its first tile lies: a fingerprint tells it from another one."""
    return re.sub(r"\(.*[/\\]", "(", mosaic, count=1)


def _refuse_strangers(request: Request, known: Collection[Path] = ()) -> None:
    for source in request.sources:
        for file in request.outputs(source).all():
            if file.exists() and file not in known:
                raise UsageError(
                    f"{file} exists already and no run.json says what it is; "
                    "choose another OUT or --overwrite"
                )
