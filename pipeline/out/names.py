"""Names of the files in an output folder and in its work in progress."""

from __future__ import annotations

LEDGER = "ledger"


RECORD = "record.json"
"""The record of a raster all of whose files are whole in the workspace, and may have been moved already."""
