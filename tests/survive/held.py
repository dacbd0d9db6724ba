"""The command with its labelling held up, so that a test may take its time: it cannot end before.

It runs as ``python -m tests.survive.held FOLDER GRACE run ...``. A task of labelling leaves a file
``begun-*`` in FOLDER and waits for a file `RELEASE` there. A signal that was taken leaves `HEARD`.
GRACE is what tasks under way get to finish, in seconds.
"""

from __future__ import annotations

import importlib
import os
import runpy
import sys
import time
import uuid
from pathlib import Path

from pipeline.process import signals
from pipeline.tasks import labelling

RELEASE = "release"
HEARD = "heard"
LONG_S = 3600
"""A grace that outlasts any test."""

_label_window = labelling.label_window
_handle = signals._handle


class Held:
    """In the place of the task, in whatever process."""

    __name__ = "label_window"

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, *arguments):
        (self.folder / f"begun-{uuid.uuid4().hex}").touch()
        while not (self.folder / RELEASE).exists():
            time.sleep(0.01)
        return _label_window(*arguments)


def main():
    folder = Path(sys.argv.pop(1))
    signals.GRACE_S = float(sys.argv.pop(1))
    labelling.label_window = Held(folder)

    def heard(number, frame):
        _handle(number, frame)
        os.close(os.open(folder / HEARD, os.O_CREAT | os.O_WRONLY))

    signals._handle = heard
    runpy.run_module("pipeline", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    # not the one of `__main__`: workers find the task by the name of its module
    importlib.import_module("tests.survive.held").main()
