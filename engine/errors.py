"""Errors that need nothing heavy to be recognised."""

from __future__ import annotations


class NetworkError(ValueError):
    """A model file that cannot be used; the message names the file and what to do."""
