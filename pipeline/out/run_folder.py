"""OUT for the one run that works there: its lock, its work in progress, and `run.json`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, get_args

from pipeline import out_names
from pipeline.config import RunConfig
from pipeline.durable.files import remove, with_retries
from pipeline.durable.lock import FolderLock
from pipeline.errors import UsageError
from pipeline.out.kept_names import from_root, is_gone
from pipeline.out.outputs import Outputs
from pipeline.out.previous_run import Request, take_up
from pipeline.out.run_file import FORMAT, RasterState, RunFile
from pipeline.source import arguments
from pipeline.source.arguments import Source

_SAVE_EVERY_S = 15.0


class RunFolder:
    """The folder of a run's outputs.

    Parameters
    ----------
    request
        What the run is asked for.

    Raises
    ------
    UsageError
        If OUT is not writable, holds another run (without --overwrite), or would overwrite an input.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._config = request.config
        self.path = self._request.out
        self._saved = float("-inf")
        self._tiles = arguments.from_root(self._config.sources) if self._config.mosaic else []
        with self._writable():
            self.path.mkdir(parents=True, exist_ok=True)
            self._request.refuse_inputs()
            if self.partial.is_symlink():
                raise UsageError(f"{self.partial}: a link, whose target would be emptied; remove it")
            self.partial.mkdir(exist_ok=True)
            self.lock = FolderLock(self.partial)
        try:
            with self._writable():
                self.previous_run = take_up(self._request)
                if not (self.previous_run.taken_up and request.config.resume):
                    self._clear_partial()
        except BaseException:
            self.release()
            raise
        self.states = dict(self.previous_run.states)
        self.named_style = self.previous_run.named_style
        if "palette" not in self._config.asked and self.codebook.exists():
            # the codebook keeps its colours, and run.json goes on to say where they are from
            self._config = self._config.model_copy(update={"palette": self.previous_run.palette})

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UsageError(
                f"{self.path}: cannot write there ({error.strerror}); choose another OUT"
            ) from None

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
        return self._request.outputs(source)

    def note(self, source: Source, state: str, **more: Any) -> None:
        """Remember a raster's state, and more of its `RasterState`; `save` writes it."""
        self.states[source.name] = _state(source, state=state, **more)

    def refuse_without_codebook(self) -> None:
        """Refuse to fit a codebook in place of one that is gone, if that would be one of other rasters.

        Raises
        ------
        UsageError
            Then.
        """
        here, before = {source.name for source in self._request.sources}, self.previous_run.states
        made = [s for s in before.values() if s.state == "done"]
        if self._config.codebook_scope == "batch" and made and here != before.keys():
            raise UsageError(
                f"{self.codebook}: gone, and {self.path} has labels of it; put it back, name the rasters of "
                "the run that made it, or choose another OUT"
            )

    def refuse_other_codebook(self, content_hash: str) -> None:
        """Refuse a codebook if OUT has labels of another one, of rasters that this run does not name.

        Raises
        ------
        UsageError
            Then.
        """
        here = {source.name for source in self._request.sources}
        for name, state in self.previous_run.states.items():
            if name not in here and state.state == "done" and state.codebook_hash not in (None, content_hash):
                raise UsageError(
                    f"{self.path} has labels of another codebook ({name}); choose another OUT, or --overwrite"
                )

    def keep_choices(self) -> None:
        """Have run.json go on to say how all was done, for this run does nothing."""
        if (choice := self.previous_run.on_bad_chunk) in get_args(
            RunConfig.model_fields["on_bad_chunk"].annotation
        ):
            self._config = self._config.model_copy(update={"on_bad_chunk": choice})

    def save_now_and_then(self) -> None:
        """Write run.json if that was not done for a while: for a large batch it is large."""
        if time.monotonic() - self._saved > _SAVE_EVERY_S:
            self.save({})

    def save(self, summary: dict[str, Any]) -> None:
        """Write run.json."""
        sources = self._request.sources
        here = {s.name: self.states.get(s.name) or _state(s) for s in sources}
        # rasters of earlier runs that are not named now stay as they are: done, or to be done
        before = self.previous_run.states
        there = {n: s for n, s in before.items() if n not in here and not is_gone(s)}
        kept = {n: s for n, s in before.items() if n in here or n in there or s.state == "done"}
        states = [*({**kept, **here}).values()]
        config = self._config.model_dump(mode="json", exclude={"overwrite", "resume"})
        config |= self._config.files()
        if self._config.mosaic:
            config["sources"] = self._tiles
        else:
            states = [from_root(state) for state in states]
            named = [state for state in states if state.name in here or state.name in there]
            if self._config.stack:
                config["stack"] = [[state.name, state.stack] for state in named]
            else:
                config["sources"] = [state.source for state in named]
        run = RunFile(
            format=FORMAT,
            config=config,
            area=self._request.area,
            named_style=self.named_style,
            rasters=tuple(states),
        )
        with_retries(run.write, self.path / out_names.RUN, summary, self.partial)
        self._saved = time.monotonic()

    def close(self) -> None:
        """Take away the work in progress; what rasters that failed have left may be taken up."""
        failed = {name for name, state in self.states.items() if state.state in ("failed", "waiting")}
        # while the lock is held: a run that comes then may begin at once
        with contextlib.suppress(OSError):  # it is in nobody's way, and the next run deletes it
            with_retries(self._clear_partial, failed)
        self.release()

    def release(self) -> None:
        """Let other runs work here; work in progress stays."""
        self.lock.release()
        with contextlib.suppress(OSError):  # it is empty where nothing was begun
            with_retries(self.partial.rmdir)

    def _clear_partial(self, kept: Collection[str] = ()) -> None:
        """Delete the work in progress but that of some rasters."""
        for path in self.partial.iterdir():
            if path.name not in (self.lock.path.name, *kept):
                remove(path)


def _state(source: Source, **more: Any) -> RasterState:
    """The state of a raster, with what is known of it."""
    return RasterState(name=source.name, source=source.path, stack=source.stack or None, **more)
