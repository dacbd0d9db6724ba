"""Where a run's codebooks come from: a file, an earlier start of the same run, or a fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.codebook import Codebook
from engine.errors import NetworkError
from engine.kernel import Kernel
from pipeline import out_names
from pipeline.config import RunConfig
from pipeline.durable.files import with_retries, write_bytes
from pipeline.errors import RasterError, one_line
from pipeline.events.kinds import CodebookChosen, FitAdvanced, Warned, Working
from pipeline.events.observer import Observer
from pipeline.fitting.checkpoint import FitMemory
from pipeline.fitting.codebook import fit_as_asked
from pipeline.fitting.collars import Collars
from pipeline.fitting.hints import undeclared_nodata
from pipeline.graph.preloading import graph_beside
from pipeline.kernels import load_codebook, on_cpu
from pipeline.out.run_folder import RunFolder
from pipeline.running.inputs import Input, sampled
from pipeline.running.outcomes import Outcomes
from pipeline.running.spending import Spending
from pipeline.versions import versions
from pipeline.workers.pool import Pool


def chosen(codebook: Codebook, raster: str | None) -> CodebookChosen:
    """The event that says which codebook is used, for a raster or for all."""
    return CodebookChosen(
        codebook_hash=codebook.content_hash,
        segments=codebook.segments,
        raster=raster,
        cells_read=codebook.fit.get("cells_read"),
        cells_total=codebook.fit.get("cells_total"),
    )


def codebook_to_use(folder: RunFolder, named: Codebook | None) -> Codebook | None:
    """The codebook to use instead of a fit: the one that was named, or this OUT's own; None without either.

    The one that was named is written to OUT.
    """
    if named is not None:
        folder.refuse_other_codebook(named.content_hash)
        _write(folder, folder.codebook, named)
        return named
    if folder.previous_run.taken_up and folder.codebook.exists():
        return load_codebook(folder.codebook)
    folder.refuse_without_codebook()
    return None


class Codebooks:
    """The codebooks of one run.

    Parameters
    ----------
    config, folder, pool, observer
        The run's.
    spending
        Counts the seconds of fits.
    outcomes
        Notes the rasters that fail in a fit.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        pool: Pool,
        observer: Observer,
        spending: Spending,
        outcomes: Outcomes,
    ) -> None:
        self._config = config
        self._folder = folder
        self._pool = pool
        self._observer = observer
        self._spending = spending
        self._outcomes = outcomes

    def of_batch(self, inputs: list[Input], kernel: Kernel) -> Codebook | None:
        """One codebook for all; rasters that fail in the fit are left out and recorded."""
        while inputs:
            try:
                codebook = self._fit(inputs, None, kernel)
            except RasterError as error:
                bad = [i for i in inputs if i.view.path == error.path] or inputs
                for one in bad:
                    self._outcomes.fail(one.source, type(error)(one.source.path, error.reason))
                inputs = [i for i in inputs if i not in bad]
                continue
            _write(self._folder, self._folder.codebook, codebook)
            return codebook
        return None

    def of_raster(self, one: Input, kernel: Kernel) -> Codebook | None:
        """A raster's own codebook, or None if it fails in the fit."""
        path = self._folder.outputs(one.source).codebook
        if self._folder.previous_run.taken_up and path.exists():
            saved = load_codebook(path)
            self.announce(saved, one.source.name)
            return saved
        try:
            codebook = self._fit([one], one.source.name, kernel)
        except RasterError as error:
            self._outcomes.fail(one.source, error)
            return None
        _write(self._folder, path, codebook)
        return codebook

    def announce(self, codebook: Codebook, name: str | None) -> None:
        """Say which codebook is used, for a raster or for all."""
        if (asked := codebook.fit.get("segments_asked", 0)) > codebook.segments:
            message = (
                f"{name or 'the rasters'}: {codebook.segments} distinct values, fewer than "
                f"--segments {asked}; each got a label of its own"
            )
            self._observer.event(Warned(message))
        self._observer.event(chosen(codebook, name))

    def _fit(self, inputs: Sequence[Input], name: str | None, kernel: Kernel) -> Codebook:
        config = self._config
        places = [(i.fingerprint, i.view.area and i.view.area.digest) for i in inputs]
        memory = FitMemory(
            self._folder.partial / out_names.FIT, [places, config.meaning, kernel.device, versions()]
        )

        def heard(done: int, total: int) -> None:
            self._observer.event(FitAdvanced(done, total, name))

        views, collars = sampled(inputs), Collars()

        self._observer.event(Working(f"fitting a codebook{f' for {name}' if name else ''}"))

        def fit(by: Kernel) -> Codebook:
            with graph_beside():
                return fit_as_asked(config, views, by, self._pool, heard, memory, collars)

        with self._spending.fit():
            try:
                codebook = fit(kernel)
            except NetworkError as error:
                other = on_cpu(kernel) if config.device_fallback else None
                if other is None:
                    raise
                self._observer.event(Warned(f"the fit is begun anew on the CPU ({one_line(error)})"))
                memory.forget()
                codebook = fit(other)
        memory.forget()
        if (hint := undeclared_nodata(config, views, collars)) is not None:
            self._observer.event(hint)
        self.announce(codebook, name)
        return codebook


def _write(folder: RunFolder, path: Path, codebook: Codebook) -> None:
    with_retries(write_bytes, path, codebook.to_bytes(), folder.partial)
