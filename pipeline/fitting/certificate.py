"""The precision certificate: a faster form of a network is taken if it gives the labels of the first one.

What counts is measured on the fit's own sample, before anything is labelled, and stands in the codebook
and in each record. The sample is computed in the faster form, a part of it in the first one too; where their
labels differ, the first form does everything, the fit included.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine import blocks
from engine.clustering import Clustering
from engine.kernel import Kernel, Vectors
from pipeline.fitting.gathering import Sample
from pipeline.kernels import faster

ENOUGH = 0.999
"""Share of the compared labels that have to be equal."""

_PART = 4  # one of so many of the sample's vectors is compared ...
_LEAST = 2048  # ... but so many at least, where there are


@dataclass(frozen=True)
class Fitted:
    """What a network was fitted by and on.

    Parameters
    ----------
    kernel
        In the form to label with, in which the sample was computed.
    sample
        The sample.
    clustering
        Its clusters.
    precision
        What is to be recorded of how the form was chosen.
    """

    kernel: Kernel
    sample: Sample
    clustering: Clustering
    precision: dict[str, Any]


def fitted(
    kernel: Kernel,
    sample: Callable[[Kernel], Sample],
    again: Callable[[Sample, Kernel], Sample],
    find: Callable[[Sample], Clustering],
) -> Fitted:
    """Fit by the fastest form of a kernel that gives the labels of the first one.

    Parameters
    ----------
    kernel
        In its first form.
    sample
        Takes the sample by a kernel.
    again
        Takes the cells of a sample by another kernel.
    find
        Clusters a sample.
    """
    other = faster(kernel)
    if other is None:
        taken = sample(kernel)
        return Fitted(kernel, taken, find(taken), {})
    taken = sample(other)
    with ThreadPoolExecutor(1) as beside:
        clustering = beside.submit(find, taken)
        part = taken.first(max(_LEAST, len(taken.vectors) // _PART))
        first = again(part, kernel)
        found = clustering.result()
    labels, others = (_labels(s.vectors, found.centres) for s in (part, first))
    equal = float(np.mean(labels == others))
    certificate = {"equal": equal, "compared": len(labels), "taken": equal >= ENOUGH}
    precision = {"precision": {"form": other.identity["form"], **certificate}}
    if certificate["taken"]:
        return Fitted(other, taken, found, precision)
    taken = sample(kernel)
    return Fitted(kernel, taken, find(taken), precision)


def _labels(vectors: Vectors, centres: Any) -> Any:
    return blocks.nearest(vectors.T, centres, np.ones(len(vectors), bool))
