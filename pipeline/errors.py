"""Errors that people see: each is one line that names the thing, what is wrong, and what to do."""

from __future__ import annotations


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


class StorageError(TilewrightError):
    """OUT cannot be written any more: the run ends, nothing half-written under a final name."""


def one_line(error: BaseException) -> str:
    """An error's message on one line, with its kind where it says nothing itself."""
    text = " ".join(str(error).split())
    return text or type(error).__name__
