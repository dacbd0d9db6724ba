"""Where a run's codebooks come from: a file, an earlier start of the same run, or a fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engine.codebook import Codebook
from engine.errors import NetworkError
from engine.kernel import Kernel
from pipeline import out_names
from pipeline.config import RunConfig
from pipeline.durable.files import with_retries, write_bytes
from pipeline.errors import RasterError, UsageError, one_line
from pipeline.events.kinds import CodebookChosen, FitAdvanced, Warned, Working
from pipeline.events.observer import Observer
from pipeline.fitting.checkpoint import FitMemory
from pipeline.fitting.codebook import fit_as_asked
from pipeline.fitting.collars import Collars
from pipeline.fitting.hints import undeclared_nodata
from pipeline.graph.preloading import graph_beside
from pipeline.kernels import load_codebook, on_cpu
from pipeline.legend.palette import Palette, restyled
from pipeline.out.run_folder import RunFolder
from pipeline.running.inputs import Input, sampled
from pipeline.running.outcomes import Outcomes
from pipeline.running.spending import Spending
from pipeline.source.arguments import Source
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


def codebook_to_use(
    folder: RunFolder, named: Codebook | None, palette: Palette | None, *, asked: bool
) -> Codebook | None:
    """The codebook to use instead of a fit: the one that was named, or this OUT's own; None without either.

    It is written to OUT with the colours that it gets here.

    Parameters
    ----------
    folder
        OUT.
    named
        The codebook that was named. Names and colours that were given in OUT since stay, unless those of this
        one were changed since too; names stay in any case if this one has none.
    palette
        Colours in place of those of the codebook; None to keep them.
    asked
        Whether this run was asked for the palette, and not only the run that made OUT.

    Raises
    ------
    UsageError
        If OUT is of another codebook, or the palette cannot be had with this one.
    """
    own = None
    if folder.previous_run.taken_up and folder.codebook.exists():
        own = _own(folder, named)
    if named is not None:
        folder.refuse_other_codebook(named.content_hash)
        same = own is not None and own.content_hash == named.content_hash
        unchanged, folder.named_style = folder.named_style == named.style_hash, named.style_hash
        if own is not None and same and unchanged and not asked:
            return own
        used = named if palette is None else restyled(named, palette)
        if own is not None and same and own.names and not used.names:
            used = replace(used, names=own.names, colours=own.colours if palette is None else used.colours)
    elif own is not None:
        used = own if palette is None or not asked else restyled(own, palette)
    else:
        folder.refuse_without_codebook()
        return None
    if used is not own:
        _write(folder, folder.codebook, used)
    return used


def _own(folder: RunFolder, named: Codebook | None) -> Codebook | None:
    """The codebook that stands in OUT; what cannot be used is no loss where another is named."""
    try:
        return load_codebook(folder.codebook)
    except UsageError:
        if named is None:
            raise
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
    palette
        Colours of the classes; None for natural ones, or else distinct ones.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: RunFolder,
        pool: Pool,
        observer: Observer,
        spending: Spending,
        outcomes: Outcomes,
        palette: Palette | None,
    ) -> None:
        self._config = config
        self._folder = folder
        self._pool = pool
        self._observer = observer
        self._spending = spending
        self._outcomes = outcomes
        self._palette = palette

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
        if (saved := self.saved(one.source)) is not None:
            self.announce(saved, one.source.name)
            return saved
        path = self._folder.outputs(one.source).codebook
        try:
            codebook = self._fit([one], one.source.name, kernel)
        except RasterError as error:
            self._outcomes.fail(one.source, error)
            return None
        _write(self._folder, path, codebook)
        return codebook

    def saved(self, source: Source) -> Codebook | None:
        """A raster's own codebook of an earlier run, with the colours that are asked for; None without one.

        Raises
        ------
        UsageError
            If it cannot be used, or has no such colours.
        """
        path = self._folder.outputs(source).codebook
        if not (self._folder.previous_run.taken_up and path.exists()):
            return None
        saved = load_codebook(path)
        if self._palette is None or not self._recolours:
            return saved
        used = restyled(saved, self._palette)
        if used.style_hash != saved.style_hash:
            _write(self._folder, path, used)
        return used

    def changed(self, source: Source) -> Codebook | None:
        """As `saved`, of a raster that is done; None where nothing can have changed the codebook since."""
        outputs = self._folder.outputs(source)
        try:
            # of many rasters most are as they were, and their codebooks need not be read
            since = outputs.codebook.stat().st_mtime_ns > outputs.json.stat().st_mtime_ns
        except OSError:
            return None
        return self.saved(source) if since or self._recolours else None

    @property
    def _recolours(self) -> bool:
        """Whether this run was asked to change the colours of codebooks that are there."""
        return self._palette is not None and "palette" in self._config.asked

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
                return fit_as_asked(config, views, by, self._pool, heard, memory, collars, self._palette)

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
