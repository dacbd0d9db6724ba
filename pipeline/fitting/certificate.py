"""The precision certificate: a faster form of a network is used if its labels equal the reference form's.

This is measured on the fit's own sample, before anything is labelled, and recorded in the codebook and in
each raster's record. The sample is computed in the faster form, and a subset of it in the reference form
too. If too many labels differ, the reference form is used for everything, the fit included.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine import block_loops
from engine.kernel import ClusteringKernel, Vectors
from engine.kmeans_fit import Clustering
from pipeline.fitting.gathering import Sample
from pipeline.kernels import faster_form

ENOUGH = 0.999
"""Share of the compared labels that have to be equal."""

_ONE_OF = 4  # one of four of the sample's vectors is compared ...
_LEAST = 2048  # ... but at least this many, if there are as many


@dataclass(frozen=True)
class Fitted:
    """Result of a fit with a network.

    Parameters
    ----------
    kernel
        The kernel in the form that was chosen, with which the sample was computed.
    sample
        The sample.
    clustering
        Clusters of the sample.
    precision
        How the form was chosen, for the codebook.
    """

    kernel: ClusteringKernel
    sample: Sample
    clustering: Clustering
    precision: dict[str, Any]


def fitted(
    kernel: ClusteringKernel,
    take_sample: Callable[[ClusteringKernel], Sample],
    take_again: Callable[[Sample, ClusteringKernel], Sample],
    find_clusters: Callable[[Sample], Clustering],
) -> Fitted:
    """Fit with the faster form of a kernel if its labels are those of the reference form.

    Parameters
    ----------
    kernel
        The kernel in its reference form.
    take_sample
        Takes the sample with a kernel.
    take_again
        Takes the cells of a sample again, with another kernel.
    find_clusters
        Clusters a sample.
    """
    fast_kernel = faster_form(kernel)
    if fast_kernel is None:
        sample = take_sample(kernel)
        return Fitted(kernel, sample, find_clusters(sample), {})
    sample = take_sample(fast_kernel)
    with ThreadPoolExecutor(1) as executor:
        clustering_task = executor.submit(find_clusters, sample)
        subset = sample.first(max(_LEAST, len(sample.vectors) // _ONE_OF))
        reference = take_again(subset, kernel)
        clustering = clustering_task.result()
    labels, reference_labels = (_labels(s.vectors, clustering.centres) for s in (subset, reference))
    equal = float(np.mean(labels == reference_labels))
    certificate = {"equal": equal, "compared": len(labels), "taken": equal >= ENOUGH}
    precision = {"precision": {"form": fast_kernel.identity["form"], **certificate}}
    if certificate["taken"]:
        return Fitted(fast_kernel, sample, clustering, precision)
    sample = take_sample(kernel)
    return Fitted(kernel, sample, find_clusters(sample), precision)


def _labels(vectors: Vectors, centres: Any) -> Any:
    return block_loops.nearest(vectors.T, centres, np.ones(len(vectors), bool))
