"""The `codebook` command: gives the classes of a saved codebook other names and colours."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.durable.files import write_bytes
from pipeline.errors import UsageError, printable
from pipeline.kernels import load_codebook, refuse_other_file
from pipeline.legend.palette import DISTINCT, NATURAL, Palette, restyled


def change_style(path: Path, names_from: str | None, palette: str | None, output: Path | None) -> str:
    """Write a codebook with other names and colours of its classes; labels stay what they are.

    Parameters
    ----------
    path
        The codebook.
    names_from
        File of names and colours, such as a style that QGIS saved; None for none.
    palette
        Colours, as of ``--palette``, which those of `names_from` replace; None for those that it has.
    output
        Where to write it; None for in its place.

    Returns
    -------
    str
        One line for people.

    Raises
    ------
    UsageError
        If a file cannot be read, or says what does not fit, or nothing is asked for.
    StorageError
        If it cannot be written; what stood there stays then.
    """
    if names_from is None and palette is None:
        raise UsageError(
            f"{path}: nothing to change; give --names-from FILE or --palette "
            f"(`python -m pipeline inspect {path}` shows what it has)"
        )
    if names_from in (NATURAL, DISTINCT):
        raise UsageError(f"--names-from {names_from}: no names; name a .qml, a .csv or a colour table")
    target = output or path
    for file in (names_from, palette):
        if file is not None and os.path.realpath(file) == os.path.realpath(target):
            raise UsageError(f"{target}: the codebook would overwrite this file; choose another name with -o")
    before = load_codebook(path)
    refuse_other_file(target)
    codebook = before
    for asked in (palette, names_from):
        if (style := Palette.of(asked, before.segments)) is not None:
            codebook = restyled(codebook, style)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target, codebook.to_bytes())
    except OSError as error:
        raise UsageError(f"{target}: cannot write there ({error.strerror})") from None
    if codebook.style_hash == before.style_hash and output is None:
        return printable(f"{target}: its names and colours were the same already")
    named = f"{len(codebook.names)} classes with names" if codebook.names else "no names"
    return printable(
        f"{target}: {named}, {'colours of its own' if codebook.colours else 'distinct colours'}; labels that "
        "were made with it take them up when the same run is started again"
    )
