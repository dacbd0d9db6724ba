"""The precision certificate: a faster form of a network is taken if it gives the labels of the first one.

What counts is measured on the fit's own sample, before anything is labelled, and stands in the codebook
and in each record. The centres are always fitted by the first form, so they do not depend on the choice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from engine import blocks
from engine.kernel import Kernel, Vectors
from pipeline.kernels import faster

ENOUGH = 0.999
"""Share of the sample's labels that have to be equal."""


def certified(
    kernel: Kernel, vectors: Vectors, sample: Callable[[Kernel], Vectors], found: Callable[[], Any]
) -> tuple[Kernel, dict[str, Any]]:
    """The kernel to label with, and what is to be recorded of how it was chosen.

    Parameters
    ----------
    kernel
        As the codebook was fitted.
    vectors
        The sample that it was fitted on, (n, D).
    sample
        Gives the same sample by another kernel.
    found
        Gives the centres, (K, D); called last, for they may be being found meanwhile.
    """
    other = faster(kernel)
    if other is None:
        return kernel, {}
    others, centres = sample(other), found()
    equal = float(np.mean(_labels(vectors, centres) == _labels(others, centres)))
    taken = other if equal >= ENOUGH else kernel
    return taken, {"precision": {"form": other.identity["form"], "equal": equal, "taken": taken is other}}


def _labels(vectors: Vectors, centres: Any) -> Any:
    return blocks.nearest(vectors.T, centres, np.ones(len(vectors), bool))
