"""Loading the graph's libraries, in the background or at once."""

from __future__ import annotations

import contextlib
import functools
import importlib
import threading
from collections.abc import Iterator

from pipeline.process.startup import importing, load_compiled, without


@contextlib.contextmanager
def graph_beside() -> Iterator[None]:
    """Import the chunk graph beside a block, which is a fit, that needs none of it.

    Modules that a fit needs too are imported before.
    """
    load_compiled()
    # no daemon: Python may not take itself apart in the middle of an import
    thread = threading.Thread(target=load_graph)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@functools.cache
def load_graph() -> None:
    """Import the chunk graph."""
    load_compiled()
    with importing, without("xarray", "scipy.fftpack", "scipy.sparse"):
        importlib.import_module("pipeline.graph.label_graph")
