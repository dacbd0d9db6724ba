"""Errors that people see: each is one line that names the thing, what is wrong, and what to do."""

from __future__ import annotations

from functools import partial
from typing import Any


class TilewrightError(Exception):
    """An error with a message for people; shown without a traceback unless --debug."""


class UsageError(TilewrightError):
    """The request itself cannot be carried out: exit code 2, before any work."""


class RasterError(TilewrightError):
    """One raster cannot be done; others of a batch go on.

    Parameters
    ----------
    path
        The raster.
    reason
        What is wrong and what to do.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class DamageError(RasterError):
    """Pixels of a raster cannot be read, and the reason is the file itself: no network, no lack of memory."""


class LostError(DamageError):
    """A file that was a raster when the run began is gone, or no raster any more."""


class UnreachableError(RasterError):
    """Pixels of a raster cannot be had now, for want of a network, a server's leave or memory."""


class AlteredError(RasterError):
    """An input that is another one than when the run began: what was made of it is of neither."""


class NoRasterError(RasterError):
    """A part of a container that holds no raster (coordinates, bounds, text): passed over, no failure."""


class NothingToLabelError(RasterError):
    """A raster in which there is nothing to label: one of a batch is skipped, and no failure."""


class MissedError(NothingToLabelError):
    """A raster that the area of interest misses."""


class NoValidPixelError(NothingToLabelError):
    """A raster, or what is looked at of it, has no valid pixel: there is nothing to segment."""

    REASON = "no valid pixel (all is nodata); there is nothing to segment"

    def __init__(self, path: str, reason: str = REASON) -> None:
        super().__init__(path, reason)


class ContainerError(RasterError):
    """A file or store that is no raster itself and holds several.

    Parameters
    ----------
    path
        The container.
    parts
        What to open instead.
    """

    def __init__(self, path: str, parts: tuple[str, ...]) -> None:
        some = "; ".join(parts[:3]) + ("; ..." if len(parts) > 3 else "")
        holds = f"but {len(parts)} parts; name one of them ({some})" if parts else "and holds no raster"
        super().__init__(path, f"has no bands of its own {holds}")
        self.parts = parts

    @property
    def nothing(self) -> str:
        """The reason where none of the parts is a raster."""
        none = f"none of its {len(self.parts)} parts is a raster" if self.parts else "it holds no raster"
        return f"has no bands of its own, and {none}"

    def __reduce__(self) -> tuple[type[ContainerError], tuple[str, tuple[str, ...]]]:
        return type(self), (self.path, self.parts)


class WorkerLostError(TilewrightError):
    """A task failed because its worker died; done again, it may succeed."""


class StorageError(TilewrightError):
    """OUT cannot be written any more: the run ends, nothing half-written under a final name.

    Parameters
    ----------
    message
        What cannot be written, and what to do.
    transient
        True if trying again may mend it: a network's file system that stumbles.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(StorageError, transient=self.transient), (str(self),)


def cause(error: BaseException) -> BaseException:
    """The first of a chain of errors: the one in the words of the library that failed."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def one_line(error: BaseException) -> str:
    """An error's message on one line, with its kind where it says nothing itself."""
    return printable(" ".join(str(error).split())) or type(error).__name__


def printable(text: str) -> str:
    """Text on one line that any stream takes: a name's control characters and stray bytes show as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
