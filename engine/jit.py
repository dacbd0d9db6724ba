"""Compilation of loops by Numba, with files of compiled code that any number of processes may share.

Numba numbers the files of a function's compiled code, and keeps the numbers in an index that it reads and
writes without a lock. So of two processes that compile a function for different types at the same time, each
can load the code of the other later, and compute something else. Here a file's name says what its code was
compiled for, and so do its first bytes; there is no index.

Nor does Numba notice that what a loop calls has changed, if that is in another file. Here the code is kept
for the state of all source files in the loop's folder, and so a loop may call what is in any of them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import pickle
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import caching, event, serialize

_FunctionCache: Any = caching.FunctionCache  # it has no types
_Listener: Any = event.Listener
F = TypeVar("F", bound=Callable[..., Any])

_DIGEST_BYTES = 32
_unkept: set[str] = set()
"""Loops whose code no folder keeps."""


def compiled(function: F) -> F:
    """Compile `function` when it is called, once for each combination of types, without Python's global lock.

    Parameters
    ----------
    function
        A loop over arrays and numbers, in the part of Python that Numba compiles.

    Returns
    -------
    function
        What calls the compiled code. The code is kept in Numba's folder for it (beside the source, or what
        NUMBA_CACHE_DIR says), and is compiled by each process again where no folder can be written.
    """
    dispatcher: Any = numba.njit(nogil=True)(function)
    try:
        dispatcher._cache = _Cache(function)  # noqa: SLF001  (as Numba's own `enable_caching` does)
    except RuntimeError:
        # Numba says so that it found no folder that can be written
        _unkept.add(function.__qualname__)
    return cast(F, dispatcher)


class _Clock(_Listener):  # type: ignore[misc]
    """Hears when Numba compiles, which it does under a lock of its own, one function inside another."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.begins: Callable[[bool], None] | None = None
        self._depth = 0
        self._start = 0.0

    def on_start(self, _event: object) -> None:
        self._depth += 1
        if self._depth == 1:
            self._start = time.perf_counter()
            begins, self.begins = self.begins, None
            if begins is not None:
                begins(not _unkept)

    def on_end(self, _event: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.seconds += time.perf_counter() - self._start


_clock = _Clock()
event.register("numba:compile", _clock)


def clock_s() -> float:
    """A clock, in seconds, that leaves out what this process compiled, which the next one will not do."""
    return time.perf_counter() - _clock.seconds


@contextlib.contextmanager
def watched(begins: Callable[[bool], None]) -> Iterator[None]:
    """Call `begins` when this process compiles for the first time in a block, from the thread that does.

    It is called with False if no folder can keep the code, so that the next process compiles again.
    """
    _clock.begins = begins
    try:
        yield
    finally:
        _clock.begins = None


class _Cache(_FunctionCache):  # type: ignore[misc]
    """Numba's cache of one function with other files."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        folder = Path(function.__code__.co_filename).parent
        source = self._impl.locator.get_source_stamp(), _sources(folder)
        self._cache_file = _Files(Path(self.cache_path), self._impl.filename_base, source)

    def save_overload(self, signature: object, result: object) -> None:
        # a full disk, or on Windows a file that is being read: the next process compiles again
        with contextlib.suppress(OSError):
            super().save_overload(signature, result)


class _Files:
    """Files of one function's compiled code, one for each key: types, processor and bytecode.

    Parameters
    ----------
    folder
        Where they are. It exists when `save` is called.
    name
        How their names begin.
    source
        What tells this state of the function's source, and of what it calls, from others.
    """

    def __init__(self, folder: Path, name: str, source: object) -> None:
        self._folder = folder
        self._name = name
        self._source = source

    def save(self, key: object, data: object) -> None:
        content = serialize.dumps(data)
        head = self._made_for(key) + _digest(content)
        path = self._path(key)
        temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
        try:
            temporary.write_bytes(head + content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def load(self, key: object) -> Any:
        """What was saved under `key`, None if nothing was or if it is of other sources or damaged."""
        try:
            found = self._path(key).read_bytes()
        except OSError:
            return None
        head, content = found[: 2 * _DIGEST_BYTES], found[2 * _DIGEST_BYTES :]
        return pickle.loads(content) if head == self._made_for(key) + _digest(content) else None  # noqa: S301

    def _path(self, key: object) -> Path:
        # without the source's state, so that new code takes the place of old
        return self._folder / f"{self._name}-{_digest(repr(key).encode()).hex()[:16]}.nbc"

    def _made_for(self, key: object) -> bytes:
        return _digest(repr((numba.__version__, self._source, key)).encode())


@functools.cache
def _sources(folder: Path) -> bytes:
    """A digest of the source files in a folder, once for each process."""
    files = (path for path in sorted(folder.glob("*.py")) if path.is_file())  # an editor's lock is none
    return _digest(b"".join(_digest(path.read_bytes()) for path in files))


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
