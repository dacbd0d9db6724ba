"""`verify`: whether all that a finished OUT holds is whole, and is what its inputs give."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from engine.codebook import Codebook
from engine.grid import Window
from pipeline.check import label_file
from pipeline.check.recomputed import Recipe, differences
from pipeline.check.seams import Borders, Seams
from pipeline.commands.verify.record import (
    DAMAGED,
    expected_labels,
    problems,
    read_record,
    recorded_codebook,
    steps,
)
from pipeline.config import RunConfig, build
from pipeline.durable.bounded_json import read_object
from pipeline.durable.checksums import checksum
from pipeline.durable.lock import alive
from pipeline.errors import RasterError, TilewrightError, UsageError, one_line, printable
from pipeline.events.kinds import FilesOpened, RasterAdvanced, RasterVerified
from pipeline.events.observer import Observer
from pipeline.kernels import kernel_for
from pipeline.out.bad_map import bad_of
from pipeline.out.outputs import Outputs
from pipeline.out.run_folder import FORMAT
from pipeline.running.inputs import Input, open_inputs
from pipeline.sinks.sink import SUFFIXES, sink_of
from pipeline.versions import versions
from pipeline.workers.pool import Pool

_MOST_SHOWN = 4
_SURE = 5.0
_PLAIN_SCORE = 1.25
_CLOSE = 1e-6


@dataclass
class Verdict:
    """What came of one raster.

    Parameters
    ----------
    name
        Of its outputs.
    state
        done, failed, skipped or waiting, as run.json says.
    wrong
        What is wrong, each naming the file; none where all is well.
    notes
        What could not be looked at, or is worth a look.
    seams
        Of its labels.
    recomputed
        Windows made anew from the input.
    """

    name: str
    state: str
    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seams: Seams = field(default_factory=Seams)
    recomputed: int = 0

    @property
    def ok(self) -> bool:
        """True where nothing is wrong."""
        return not self.wrong

    def text(self) -> str:
        """As a line for people."""
        if self.wrong:
            more = len(self.wrong) - _MOST_SHOWN
            said = [*self.wrong[:_MOST_SHOWN], *([f"and {more} more"] if more > 0 else [])]
        elif self.state == "skipped":
            said = ["skipped in the run"]
        else:
            said = ["ok", f"windows recomputed: {self.recomputed}"]
            if self.seams.score is not None and self.seams.error is not None:
                said.append(f"seam score {self.seams.score:.2f} +- {self.seams.error:.2f}")
        line = f"{self.name}: {'; '.join([*said, *(f'note: {n}' for n in self.notes)])}"
        return printable(" ".join(line.split()))  # a name may hold a newline

    def as_json(self) -> dict[str, Any]:
        """As a JSON object."""
        score, error = self.seams.score, self.seams.error
        return {
            "name": self.name,
            "state": self.state,
            "ok": self.ok,
            "wrong": self.wrong,
            "notes": self.notes,
            "seam_score": None if score is None else round(score, 4),
            "seam_error": None if error is None else round(error, 4),
            "recomputed": self.recomputed,
        }


class Verification:
    """A finished OUT that is verified raster by raster.

    Parameters
    ----------
    out
        The folder.
    sample
        Windows of each raster to make anew from the input; 0 needs no inputs.
    pool
        Reads and labels.
    observer
        Hears of events.

    Raises
    ------
    UsageError
        If the folder holds no run.
    RasterError
        If its run.json is damaged.
    """

    def __init__(self, out: str | Path, sample: int, pool: Pool, observer: Observer) -> None:
        self._out = Path(out)
        self._sample = sample
        self._pool = pool
        self._observer = observer
        self._start = time.monotonic()
        path = self._out / "run.json"
        if not path.is_file():
            raise UsageError(f"{self._out}: no run stands there (no run.json); name the OUT of a run")
        try:
            value = read_object(path)
            other = value["format"] != FORMAT
            self._config: RunConfig = build(dict(value["config"]), str(path))
            self._area = value.get("area")
            self._rasters = [(str(r["name"]), str(r["source"]), dict(r)) for r in value["rasters"]]
        except (OSError, ValueError, KeyError, TypeError, UsageError) as error:
            raise RasterError(str(path), f"damaged ({one_line(error)}); {DAMAGED}") from None
        if other:
            raise RasterError(str(path), f"not of this version; {DAMAGED}")

    def verdicts(self) -> Iterator[Verdict]:
        """The verdict on each raster, in order."""
        for done, (name, source, noted) in enumerate(self._rasters):
            verdict = Verdict(name, str(noted.get("state")))
            try:
                self._look(verdict, source, noted, done)
            except TilewrightError as error:
                verdict.wrong.append(one_line(error))
            self._observer.event(RasterVerified(name, verdict.ok))
            yield verdict

    def _look(self, verdict: Verdict, source: str, noted: dict[str, Any], index: int) -> None:
        if verdict.state == "skipped":
            verdict.notes.append(str(noted.get("reason", "")))
            return
        if verdict.state != "done":
            what = (
                f"failed in the run ({noted.get('error')})" if verdict.state == "failed" else "not done yet"
            )
            todo = "wait for the run at work there" if alive(self._out) else "run the same command again"
            verdict.wrong.append(f"{source}: {what}; {todo}")
            return
        place = self._outputs(verdict.name)
        record = read_record(place.json)
        codebook = self._codebook(place)
        verdict.wrong += problems(place.json, record, noted, codebook, self._config)
        verdict.wrong += self._file_problems(place, record)
        if verdict.wrong:
            return  # what is altered need not be decoded to say so
        expected, region = expected_labels(place.json, record, codebook)
        labels = place.out / place.sink.raster
        verdict.wrong += label_file.header_problems(labels, expected)
        if verdict.wrong:
            return
        wrong, verdict.seams = label_file.label_problems(
            labels,
            expected,
            Borders.of(*steps(codebook)),
            self._pool,
            self._advance(verdict.name, region, index),
        )
        verdict.wrong += wrong
        if not wrong:
            verdict.wrong += _score_problems(place.json, record, verdict.seams)
        verdict.notes += _seam_note(verdict.seams)
        if self._sample and not wrong:
            self._recompute(verdict, source, record, codebook, labels, region)

    def _outputs(self, name: str) -> Outputs:
        if Path(name).name != name:
            raise RasterError(
                str(self._out / "run.json"), f"{name!r} is not the name of an output; {DAMAGED}"
            )
        config = self._config
        return Outputs(self._out, name, sink_of(name + SUFFIXES[config.format], config.zarr_version))

    @property
    def _own_codebooks(self) -> bool:
        return self._config.codebook_scope == "raster" and self._config.codebook is None

    def _codebook(self, place: Outputs) -> Codebook:
        if not self._own_codebooks:
            return self._batch_codebook
        return recorded_codebook(place.codebook)

    @cached_property
    def _batch_codebook(self) -> Codebook:
        return recorded_codebook(self._out / "codebook.npz")

    def _file_problems(self, place: Outputs, record: dict[str, Any]) -> Iterator[str]:
        known = record["checksums"]
        for path in place.all():
            own = path == place.codebook and not self._own_codebooks
            no_bad = path == place.bad and not record.get("bad_chunks")
            if path == place.json or own or no_bad:
                continue
            try:
                if not path.exists():
                    yield f"{path}: missing; {DAMAGED}"
                elif known.get(path.name) is None:
                    yield f"{place.json}: holds no checksum of {path.name}; {DAMAGED}"
                elif checksum(path) != known[path.name]:
                    yield f"{path}: not what was written (its checksum differs); {DAMAGED}"
            except OSError as error:
                yield f"{path}: cannot be read ({error.strerror}); {DAMAGED}"

    def _unlabelled(self, name: str) -> tuple[Window, ...]:
        """The chunks of a raster that killed their workers: nobody makes them anew."""
        path = self._outputs(name).bad
        bad = bad_of(path) if path.exists() else []
        return tuple(block.window for block in bad if block.kind == "chunk")

    def _advance(self, name: str, region: Window, index: int) -> Callable[[int, int], None]:
        start = time.monotonic()

        def advance(done: int, total: int) -> None:
            seconds = max(1e-6, time.monotonic() - start)
            rasters = index + done / total
            self._observer.event(
                RasterAdvanced(
                    raster=name,
                    chunks_done=done,
                    chunks=total,
                    mpx_per_s=round(region.pixels * done / total / seconds / 1e6, 2),
                    eta_s=round(seconds / done * (total - done), 1),
                    batch_done=round(rasters, 3),
                    batch_pixels=len(self._rasters),
                    batch_eta_s=round(
                        (time.monotonic() - self._start) / rasters * (len(self._rasters) - rasters), 1
                    ),
                )
            )

        return advance

    @cached_property
    def _opened(self) -> tuple[dict[str, Input], dict[str, str], str]:
        """The inputs by their source, why others cannot be opened, and why none can."""
        try:
            codebook = self._batch_codebook if self._config.codebook else None
            opened = open_inputs(
                self._config,
                self._pool,
                steps(codebook)[0] if codebook else kernel_for(self._config).cell_px,
                codebook.bands if codebook else None,
                lambda done, total: self._observer.event(FilesOpened(done, total)),
            )
        except TilewrightError as error:
            return {}, {}, one_line(error)
        if self._area not in (None, opened.area):
            return {}, {}, f"{self._config.aoi}: its polygons have changed since"
        failures = {source.path: one_line(error) for source, error in opened.failures}
        whole = next(iter(failures.values())) if self._config.mosaic and failures else ""
        return {one.source.path: one for one in opened.inputs}, failures, whole

    def _recompute(
        self,
        verdict: Verdict,
        source: str,
        record: dict[str, Any],
        codebook: Codebook,
        labels: Path,
        region: Window,
    ) -> None:
        """Make a sample of the labels anew; an input that is gone or another one now proves nothing."""
        inputs, failures, none = self._opened
        one = inputs.get(source)
        if one is None:
            reason = failures.get(source) or none or f"{source}: not among the sources any more"
            verdict.notes.append(f"nothing recomputed, for the input is not there ({reason})")
            return
        if one.fingerprint != record["input"]["fingerprint"]:
            verdict.notes.append(f"nothing recomputed, for the input has changed since ({source})")
            return
        if one.view.region != region:
            verdict.wrong.append(f"{self._out / verdict.name}.json: its region is not that of {source}")
            return
        try:
            kernel = kernel_for(self._config, codebook)
            chunk_px = int(record["parameters"]["chunk_size"])
            # as it was for these labels, whatever a later run was asked for
            view = replace(one.view, tolerant=record["parameters"].get("on_bad_chunk") == "nodata")
            recipe = Recipe(labels, view, kernel, codebook, chunk_px, self._unlabelled(verdict.name))
            seed = f"{self._config.seed} {verdict.name} {one.fingerprint}"
            verdict.recomputed, wrong = differences(recipe, self._sample, seed, self._pool)
        except TilewrightError as error:
            verdict.notes.append(f"nothing recomputed ({one_line(error)})")
            return
        if wrong and record["versions"] != versions():
            # labels are promised to be equal under one set of versions alone
            verdict.notes.append(f"made with other versions of libraries, and differs: {wrong[0]}")
        else:
            verdict.wrong += wrong


def summary(out: str, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """All verdicts as one JSON object, with a line for people."""
    wrong = sum(not one.ok for one in verdicts)
    skipped = sum(one.state == "skipped" for one in verdicts)
    total = (
        f"{out}: {len(verdicts) - wrong - skipped} rasters ok, {wrong} wrong, {skipped} skipped in the run"
    )
    return {
        "out": out,
        "ok": not wrong,
        "text": printable(total),
        "rasters": [one.as_json() for one in verdicts],
    }


def _score_problems(path: Path, record: dict[str, Any], seams: Seams) -> Iterator[str]:
    for key, found in (("seam_score", seams.score), ("seam_score_error", seams.error)):
        said = record.get(key)
        alike = (
            math.isclose(said, found, rel_tol=_CLOSE)
            if isinstance(said, float) and found is not None
            else said is found
        )
        if not alike:
            yield f"{path}: says {key} {printable(str(said))[:40]}, not {found}; {DAMAGED}"


def _seam_note(seams: Seams) -> list[str]:
    score, error = seams.score, seams.error
    if score is None or error is None or score < max(_PLAIN_SCORE, 1 + _SURE * error):
        return []
    return ["labels change more at cell borders than elsewhere; unless the input is tiled so, look at them"]
