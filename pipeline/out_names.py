"""Names of everything in an output folder (OUT), which every room may import.

OUT holds what stands for good. Its folder `.partial` holds work in progress: there each raster has a folder
of its name, the workspace. No raster's name begins with a dot (see `source.arguments.clean`).
"""

from __future__ import annotations

# in OUT, for all rasters
RUN = "run.json"
CODEBOOK = "codebook.npz"
LOG = "run.log.jsonl"
PARTIAL = ".partial"

# in OUT, after the name of a raster; its labels end as the sink says
QML_SUFFIX = ".qml"
PNG_SUFFIX = ".png"
RECORD_SUFFIX = ".json"
BAD_SUFFIX = ".bad.geojson"
CODEBOOK_SUFFIX = f".{CODEBOOK}"

# in PARTIAL
OWNER = ".owner"
STATUS = "status.json"
FIT = ".fit"
WRITE_SUFFIX = ".write"
"""Ends the workspace of labels that are written from Python, after the name of their file."""

# in a workspace
IDENTITY = "work.json"
LEDGER = "ledger"
RAW = "raw"
ASSEMBLED = "assembled"
CHECKED = "checked"
BAD = "bad"
RECORD = "record.json"
"""The record of a raster all of whose files are whole in the workspace, and may have been moved already."""
