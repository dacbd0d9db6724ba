"""OUT: whose run it holds, what may be written there, and `run.json`."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, get_args

from pipeline import out_names
from pipeline.config import RunConfig
from pipeline.durable.bounded_json import read_object
from pipeline.durable.files import patiently, remove, write_json
from pipeline.durable.lock import Owner
from pipeline.errors import UsageError
from pipeline.out.outputs import Outputs
from pipeline.sinks.sink import SUFFIXES, sink_of
from pipeline.source.arguments import Source

FORMAT = "tilewright-run-1"
_SAVE_EVERY_S = 15.0


class RunFolder:
    """The folder of a run's outputs.

    Parameters
    ----------
    config
        The run's configuration; `out` is set.
    sources
        The rasters of the run.
    area
        Tells the polygons of `--aoi` from others; None without it.

    Raises
    ------
    UsageError
        If OUT is not writable, holds another run (without --overwrite), or would overwrite an input.
    """

    def __init__(self, config: RunConfig, sources: Sequence[Source], area: str | None) -> None:
        self.path = Path(config.out or ".")
        self._config = config
        self._sources = sources
        self._area = area
        self.states: dict[str, dict[str, Any]] = {}
        self.taken_up = False
        self._former_choice: Any = None
        self._saved = float("-inf")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._refuse_inputs()
            if self.partial.is_symlink():
                raise UsageError(f"{self.partial}: a link, whose target would be emptied; remove it")
            self.partial.mkdir(exist_ok=True)
            self.owner = Owner(self.partial)
        except OSError as error:
            raise UsageError(
                f"{self.path}: cannot write there ({error.strerror}); choose another OUT"
            ) from None
        try:
            self._former(overwrite=config.overwrite)
            if not (self.taken_up and config.resume):
                self._clear_partial()
        except BaseException as error:
            self.release()
            if isinstance(error, OSError):
                raise UsageError(
                    f"{self.path}: cannot write there ({error.strerror}); choose another OUT"
                ) from None
            raise

    @property
    def partial(self) -> Path:
        """Where work in progress lives."""
        return self.path / out_names.PARTIAL

    @property
    def codebook(self) -> Path:
        """The batch's codebook."""
        return self.path / out_names.CODEBOOK

    def outputs(self, source: Source) -> Outputs:
        """Output files of a raster."""
        return self._outputs(source.name, self._config.format)

    def done_with(self, source: Source, fingerprint: str | None, codebook: str | None) -> str | None:
        """Hash of the codebook that a raster was done with, from this very input; None if it is not done.

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
        files = self.outputs(source)
        try:
            record = read_object(files.json)
            before, used = str(record["input"]["fingerprint"]), str(record["codebook_hash"])
            layout = {key: record["parameters"].get(key) for key in self._config.layout}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        if not (self.taken_up and files.labels.exists()) or layout != self._config.layout:
            return None
        if codebook is not None and used != codebook:
            return None
        if fingerprint not in (None, before):
            raise UsageError(
                f"{source.path}: the input has changed since {files.labels} "
                "was made; use --overwrite or another OUT"
            )
        return used

    def refuse_changed(self, source: Source, fingerprint: str) -> None:
        """Refuse an input that is another one than when this run began: its codebook is of that.

        Raises
        ------
        UsageError
            Then.
        """
        before = self.states.get(source.name, {}).get("fingerprint")
        if self.taken_up and before not in (None, fingerprint):
            raise UsageError(
                f"{source.path}: the input has changed since the run in {self.path} began; "
                "use --overwrite or another OUT"
            )

    def note(self, source: Source, state: str, **more: Any) -> None:
        """Remember a raster's state; `save` writes it."""
        self.states[source.name] = {"name": source.name, "source": source.path, "state": state, **more}

    def keep_choices(self) -> None:
        """Have run.json go on to say how all was done, for this run does nothing."""
        if self._former_choice in get_args(RunConfig.model_fields["on_bad_chunk"].annotation):
            self._config = self._config.model_copy(update={"on_bad_chunk": self._former_choice})

    def save_now_and_then(self) -> None:
        """Write run.json if that was not done for a while: for a large batch it is large."""
        if time.monotonic() - self._saved > _SAVE_EVERY_S:
            self.save({})

    def save(self, summary: dict[str, Any]) -> None:
        """Write run.json."""
        rasters = [
            self.states.get(s.name, {"name": s.name, "source": s.path, "state": "waiting"})
            for s in self._sources
        ]
        config = self._config.model_dump(mode="json", exclude={"overwrite", "resume"})
        if not (self._config.mosaic or self._config.stack):
            config["sources"] = [s.path for s in self._sources]
        area = {"area": self._area} if self._area else {}
        value = {"format": FORMAT, "config": config, **area, "rasters": rasters, **summary}
        # by way of the work in progress: a process that is killed leaves nothing beside the outputs
        patiently(write_json, self.path / out_names.RUN, value, self.partial)
        self._saved = time.monotonic()

    def close(self) -> None:
        """Take away the work in progress; what rasters that failed have left may be taken up."""
        failed = {name for name, state in self.states.items() if state["state"] == "failed"}
        # while the place is ours: a run that comes then may begin at once
        with contextlib.suppress(OSError):  # it is in nobody's way, and the next run deletes it
            patiently(self._clear_partial, failed)
        self.release()

    def release(self) -> None:
        """Let other runs work here; work in progress stays."""
        self.owner.release()
        with contextlib.suppress(OSError):  # it is empty where nothing was begun
            patiently(self.partial.rmdir)

    def _outputs(self, name: str, form: str) -> Outputs:
        if Path(name).name != name:
            # a run.json is data: it may not name what lies elsewhere for deletion
            raise ValueError(f"{name!r} is not the name of an output")
        return Outputs(self.path, name, sink_of(name + SUFFIXES[form]))

    def _clear_partial(self, kept: Collection[str] = ()) -> None:
        """Delete the work in progress but that of some rasters."""
        for path in self.partial.iterdir():
            if path.name not in (self.owner.path.name, *kept):
                remove(path)

    def _refuse_inputs(self, doomed: Sequence[Path] = ()) -> None:
        """Refuse to write over, or to delete (`doomed`), what this run reads."""
        config = self._config
        files = {f for parts in {s.files for s in self._sources} for f in parts}
        files |= {f for f in (config.model, config.aoi) if f}
        inputs = {os.path.realpath(f): f for f in files}
        outputs = [f for source in self._sources for f in self.outputs(source).all()]
        for file in (*outputs, *doomed):
            if (path := os.path.realpath(file)) in inputs:
                raise UsageError(
                    f"{inputs[path]}: the outputs in {self.path} would overwrite this input; "
                    "choose another OUT"
                )

    def _former(self, *, overwrite: bool) -> None:
        """Take up, refuse, or delete what a former run left here."""
        path = self.path / out_names.RUN
        if not path.exists():
            if not overwrite:
                self._refuse_strangers()
            return
        try:
            former = read_object(path)
            config, rasters = dict(former["config"]), list(former["rasters"])
            made = [one for r in rasters for one in self._made(str(r["name"]), config["format"])]
        except (OSError, ValueError, KeyError, TypeError):
            if not overwrite:
                raise UsageError(
                    f"{path}: not a run.json of this version; choose another OUT or --overwrite"
                ) from None
            made = []  # what it made cannot be known; outputs of the same names are replaced
        if overwrite:
            self._refuse_inputs([f for one in made for f in one.all()])
            for file in (path, self.codebook, *(f for one in made for f in one.all())):
                remove(file)
            return
        if difference := self._difference(config, [str(r["source"]) for r in rasters]):
            raise UsageError(
                f"{self.path} holds another run: {difference}; "
                "choose another OUT, or --overwrite to delete it"
            )
        if former.get("area", self._area) != self._area:
            raise UsageError(
                f"{self._config.aoi}: the polygons of --aoi have changed since the run in {self.path} began; "
                "use --overwrite or another OUT"
            )
        self._refuse_strangers({f for one in made for f in one.all()})
        self.states = {str(r["name"]): dict(r) for r in rasters}
        self._former_choice = config.get("on_bad_chunk")
        self.taken_up = True

    def _difference(self, config: dict[str, Any], sources: list[str]) -> str:
        mine = {**self._config.meaning, "codebook": self._config.codebook}
        for key, value in mine.items():
            if config.get(key) != value:
                return f"{key} {config.get(key)}, not {value}"
        here = [os.path.abspath(s.path) for s in self._sources]
        there = [os.path.abspath(s) for s in sources]
        if new := [s for s in here if s not in there]:
            return f"it lacks the source {new[0]}"
        if gone := [s for s in there if s not in here]:
            return f"it has the source {gone[0]} too"
        return ""

    def _made(self, name: str, form: str) -> list[Outputs]:
        """Outputs of a raster that a former run made or was to make, the labels in another format too."""
        found = [self._outputs(name, form)]
        try:
            record = read_object(found[0].json)
            if (other := record["parameters"]["format"]) != form:
                found.append(self._outputs(name, other))
        except (OSError, ValueError, KeyError, TypeError):
            pass  # nothing was made, or nothing says how
        return found

    def _refuse_strangers(self, known: Collection[Path] = ()) -> None:
        for source in self._sources:
            for file in self.outputs(source).all():
                if file.exists() and file not in known:
                    raise UsageError(
                        f"{file} exists already and no run.json says what it is; "
                        "choose another OUT or --overwrite"
                    )
