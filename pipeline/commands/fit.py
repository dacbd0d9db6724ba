"""The `fit` command: writes a codebook to a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from engine import jit
from pipeline.config import RunConfig
from pipeline.durable.files import write_bytes
from pipeline.errors import MissedError, NoRasterError, UsageError
from pipeline.events import progress
from pipeline.events.kinds import Compiling, FitAdvanced, Working
from pipeline.events.observer import Opening
from pipeline.fitting.codebook import fit_as_asked
from pipeline.fitting.collars import Collars
from pipeline.fitting.hints import bands_in_files, undeclared_nodata
from pipeline.kernels import kernel_for_run, labels_of, refuse_other_file
from pipeline.legend.palette import Palette
from pipeline.running.codebooks import chosen
from pipeline.running.inputs import Opened, open_inputs, sampled
from pipeline.source.gdal.setup import configure
from pipeline.workers import pool as workers


def fit_to_file(config: RunConfig, path: Path) -> str:
    """Fit a codebook on the sources of a configuration and write it to a file.

    Returns
    -------
    str
        One line for people; "" with ``--progress json``, when stdout holds the events.

    Raises
    ------
    RasterError
        If a source cannot be read.
    UsageError
        If the sources differ, or `path` cannot be written.
    """
    refuse_other_file(path)
    display = progress.chosen(config.progress)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            jit.watched(lambda kept: display.event(Compiling(kept))),
            workers.open_pool(workers.parse(config.workers), initializer=configure) as pool,
        ):
            display.event(Working("opening the rasters"))
            kernel = kernel_for_run(config)
            palette = Palette.of(config.palette, labels_of(config, kernel, None))
            opened = open_inputs(config, pool, kernel.cell_px, advance=Opening(display))
            for _, error in opened.failures:
                if not isinstance(error, (NoRasterError, MissedError) if opened.inputs else NoRasterError):
                    raise error
            _refuse_inputs(path, opened)
            views, collars = sampled(opened.inputs), Collars()
            display.event(Working("fitting a codebook"))
            codebook = fit_as_asked(
                config,
                views,
                kernel,
                pool,
                lambda done, total: display.event(FitAdvanced(done, total, None)),
                collars=collars,
                palette=palette,
            )
            for hint in (bands_in_files(config, views), undeclared_nodata(config, views, collars)):
                if hint is not None:
                    display.event(hint)
        write_bytes(path, codebook.to_bytes())
        display.event(chosen(codebook, None))
    except OSError as error:
        raise UsageError(f"{path}: cannot write there ({error.strerror})") from None
    finally:
        display.close()
    if config.progress == "json":
        return ""
    return f"{path}: codebook {codebook.content_hash[:12]}, {codebook.segments} segments{_seen(codebook.fit)}"


def _refuse_inputs(path: Path, opened: Opened) -> None:
    files = {os.path.realpath(file) for source in opened.sources for file in source.files}
    if os.path.realpath(path) in files:
        raise UsageError(f"{path}: the codebook would overwrite this raster; choose another name")


def _seen(report: dict[str, Any]) -> str:
    """What a fit saw; "" for a kernel that has classes of its own."""
    if "pixels_seen" not in report:
        return ""
    return f", saw {report['pixels_seen'] / 1e6:.1f} of {report['pixels_total'] / 1e6:.1f} Mpx"
