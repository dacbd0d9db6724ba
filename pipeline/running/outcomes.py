"""What becomes of the rasters of a run: counted in its report, noted in run.json, told to its observer."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from pipeline.config import RunConfig
from pipeline.durable.files import remove, with_retries
from pipeline.errors import (
    AlteredError,
    DamageError,
    NoRasterError,
    NothingToLabelError,
    NoValidPixelError,
    RasterError,
    TilewrightError,
    one_line,
    printable,
)
from pipeline.events.event_text import DONE_ALREADY
from pipeline.events.kinds import RasterDone, RasterFailed, RasterSkipped
from pipeline.events.observer import Observer
from pipeline.out.run_folder import RunFolder
from pipeline.running.inputs import Input
from pipeline.running.schedule import Outcome
from pipeline.source.arguments import Source


@dataclass
class Report:
    """How a run ended.

    Parameters
    ----------
    done, failed, skipped
        Names of the rasters; failed ones with their error.
    pixels
        Pixels labelled.
    seconds
        Whole time.
    """

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    pixels: int = 0
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 if all is done, 1 if some rasters failed."""
        return 1 if self.failed else 0

    @property
    def counts(self) -> dict[str, int]:
        """How many rasters ended in each way."""
        return {"done": len(self.done), "failed": len(self.failed), "skipped": len(self.skipped)}

    @property
    def mpx_per_s(self) -> float:
        """Million pixels labelled a second, of the whole time."""
        return round(self.pixels / 1e6 / max(1e-6, self.seconds), 2)


class Outcomes:
    """What becomes of the rasters of one run.

    Parameters
    ----------
    config, folder, observer
        The run's.
    chunk_px
        Side of a chunk.

    Attributes
    ----------
    report
        What was done so far.
    altered
        True once a raster failed because its input was altered during the run.
    """

    def __init__(self, config: RunConfig, folder: RunFolder, observer: Observer, chunk_px: int) -> None:
        self._config = config
        self._folder = folder
        self._observer = observer
        self._chunk_px = chunk_px
        self.report = Report()
        self.altered = False
        self._worked = False
        # no failures, unless there is nothing else in the whole run
        self._nothing: list[tuple[Source, NothingToLabelError]] = []

    def size(self, raster: Input) -> dict[str, int]:
        """Chunks and pixels of a raster, for run.json."""
        region, side = raster.view.region, self._chunk_px
        return {"chunks": -(-region.height // side) * -(-region.width // side), "pixels": region.pixels}

    def wait(self, raster: Input) -> None:
        """A raster is to be done."""
        self._folder.note(raster.source, "waiting", fingerprint=raster.fingerprint, **self.size(raster))

    def skip_done(self, raster: Input, codebook_hash: str) -> None:
        """A raster was done by an earlier run, with some codebook."""
        self._has_worked()
        self._note_done(raster, codebook_hash)
        self.report.skipped.append(raster.source.name)
        self._observer.event(RasterSkipped(raster.source.name, DONE_ALREADY))

    def has_nothing(self, raster: Input) -> bool:
        """Whether an earlier run found no valid pixel in this very raster; it is skipped for that."""
        before = self._folder.previous_run.states.get(raster.source.name)
        known = before is not None and (before.state, before.reason) == ("skipped", NoValidPixelError.REASON)
        if (
            before is None
            or not known
            or before.fingerprint in (None, "")
            or before.fingerprint != raster.fingerprint
        ):
            return False
        self._folder.note(raster.source, "waiting", fingerprint=raster.fingerprint)
        self.fail(raster.source, NoValidPixelError(raster.source.path))
        return True

    def is_over(self, name: str) -> bool:
        """Whether a raster failed, or has nothing to label."""
        return name in self.report.failed or any(name == source.name for source, _ in self._nothing)

    def settle(self) -> None:
        """All is over: where there was nothing to label in any raster, that is a failure."""
        if self.report.failed or not self._nothing:
            self._has_worked()
        nothing, self._nothing = self._nothing, []
        for source, error in nothing:
            self._note_failed(source, error)

    def unopened(self, source: Source, error: RasterError, codebook_hash: str | None) -> None:
        """A raster cannot be opened, or is none; labels that an earlier run made of it stay as they are.

        Parameters
        ----------
        source, error
            The raster, and why it cannot be opened.
        codebook_hash
            Of the codebook that it was done with before; None if it was not done.
        """
        if isinstance(error, NoRasterError):
            self._pass_over(source, error.reason)
        elif codebook_hash is None:
            self.fail(source, error)
        else:
            output = self._folder.outputs(source).labels
            before = self._folder.states.get(source.name)
            size = {} if before is None else {"chunks": before.chunks, "pixels": before.pixels}
            self._folder.note(source, "done", output=output.name, codebook_hash=codebook_hash, **size)
            self._failed(source, f"{one_line(error)}; {output}, which was made of it before, stays as it is")

    def end(self, raster: Input, outcome: Outcome) -> None:
        """The tasks of a raster are over."""
        if outcome.error is None:
            self._done(raster, outcome)
        elif raster.whole and isinstance(outcome.error, NoValidPixelError):
            self._pass_over(raster.source, outcome.error.reason)
        else:
            self.altered = self.altered or isinstance(outcome.error, AlteredError)
            self.fail(raster.source, outcome.error)
            if not self._folder.outputs(raster.source).json.exists():  # what was done before keeps it
                with_retries(remove, self._folder.outputs(raster.source).codebook)

    def fail(self, source: Source, error: BaseException) -> None:
        """A raster failed, or is skipped: if there is nothing to label in it, and others have something.

        So it is if it is damaged and `--on-bad-chunk skip-raster` is given.

        Raises
        ------
        BaseException
            The error, if nobody foresaw it and --debug is given.
        """
        if self._config.on_bad_chunk == "skip-raster" and isinstance(error, DamageError):
            self._pass_over(source, f"damaged: {error.reason}")
            return
        if self._config.debug and not isinstance(error, TilewrightError):
            raise error
        if not isinstance(error, NothingToLabelError):
            self._note_failed(source, error)
        elif self._worked:
            self._pass_over(source, error.reason)
        else:
            self._note_skipped(source, error.reason)
            self._nothing.append((source, error))

    def _note_failed(self, source: Source, error: BaseException) -> None:
        text, path = one_line(error), printable(source.path)
        message = text if text.startswith(path) else f"{path}: {text}"
        self._folder.note(source, "failed", error=message)
        self._failed(source, message)

    def _done(self, raster: Input, outcome: Outcome) -> None:
        self._has_worked()
        job = outcome.tally.job
        self._note_done(raster, job.codebook.content_hash)
        self.report.done.append(job.name)
        self.report.pixels += job.view.region.pixels
        seconds = time.monotonic() - outcome.tally.started
        output = self._folder.outputs(raster.source).labels
        self._observer.event(RasterDone(job.name, str(output), round(seconds, 3)))

    def _note_done(self, raster: Input, codebook_hash: str) -> None:
        output = self._folder.outputs(raster.source).labels.name
        self._folder.note(
            raster.source, "done", output=output, codebook_hash=codebook_hash, **self.size(raster)
        )

    def _has_worked(self) -> None:
        """There is something to label in this run: rasters without are skipped."""
        self._worked = True
        nothing, self._nothing = self._nothing, []
        for source, error in nothing:
            self._pass_over(source, error.reason)

    def _note_skipped(self, source: Source, reason: str) -> None:
        before = self._folder.states.get(source.name)
        of_now = before is not None and before.state in ("waiting", "skipped")
        self._folder.note(
            source, "skipped", reason=reason, fingerprint=before.fingerprint if before and of_now else None
        )

    def _pass_over(self, source: Source, reason: str) -> None:
        self.report.skipped.append(source.name)
        self._note_skipped(source, reason)
        self._observer.event(RasterSkipped(source.name, reason))

    def _failed(self, source: Source, message: str) -> None:
        self.report.failed[source.name] = message
        self._observer.event(RasterFailed(source.name, message))
