"""Names of a raster's outputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline import out_names
from pipeline.sinks.sink import SUFFIXES, Sink, sink_of


@dataclass(frozen=True, slots=True)
class Outputs:
    """Names of a raster's outputs in OUT."""

    out: Path
    name: str
    sink: Sink

    @classmethod
    def named(cls, out: Path, name: str, format_: str, zarr_version: int = 3) -> Outputs:
        """The outputs of a name that may come from a file, in a format of `RunConfig.format`.

        Raises
        ------
        KeyError
            If there is no such format.
        ValueError
            If the name leads out of the folder: data may not name what lies elsewhere for deletion.
        """
        if Path(name).name != name:
            raise ValueError(f"{name!r} is not the name of an output")
        return cls(out, name, sink_of(name + SUFFIXES[format_], zarr_version))

    @property
    def labels(self) -> Path:
        """The labels: a file, or a Zarr store."""
        return self.out / self.sink.files[-1]

    @property
    def qml(self) -> Path:
        """QGIS style."""
        return self.out / f"{self.name}{out_names.QML_SUFFIX}"

    @property
    def png(self) -> Path:
        """Quicklook."""
        return self.out / f"{self.name}{out_names.PNG_SUFFIX}"

    @property
    def json(self) -> Path:
        """Record."""
        return self.out / f"{self.name}{out_names.RECORD_SUFFIX}"

    @property
    def bad(self) -> Path:
        """Map of what could not be labelled, where there is such."""
        return self.out / f"{self.name}{out_names.BAD_SUFFIX}"

    @property
    def codebook(self) -> Path:
        """The raster's own codebook, where the scope is a raster."""
        return self.out / f"{self.name}{out_names.CODEBOOK_SUFFIX}"

    def all(self) -> tuple[Path, ...]:
        """Every file or folder of the raster, the record last."""
        made = (self.out / name for name in self.sink.files)
        return *made, self.qml, self.png, self.bad, self.codebook, self.json
