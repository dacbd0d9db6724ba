"""Which kernel a codebook or a method stands for."""

from __future__ import annotations

from typing import Any

from engine.codebook import Codebook
from engine.kernel import Kernel
from engine.kmeans import BlockKMeans
from pipeline.errors import UsageError

METHODS = ("kmeans",)


def kernel_named(identity: dict[str, Any]) -> Kernel:
    """The kernel of an identity, as codebooks record it.

    Raises
    ------
    UsageError
        If the kernel is unknown to this version or its parameters are out of range.
    """
    if identity.get("name") != "kmeans":
        raise UsageError(f"method {identity.get('name')!r}; this version knows {', '.join(METHODS)}")
    try:
        kernel = BlockKMeans(int(identity["resolution"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"kernel {identity}: {error}") from None
    if kernel.identity != identity:
        raise UsageError(
            f"kernel {identity}, where this version has {kernel.identity}; fit the codebook again"
        )
    return kernel


def kernel_of(codebook: Codebook) -> Kernel:
    """The kernel that a codebook was fitted with."""
    return kernel_named(codebook.kernel)


def mismatch(bands: int, dtype: str, codebook: Codebook) -> str:
    """Why pixels cannot be labelled with a codebook; "" if they can."""
    if (bands, dtype) == (len(codebook.bands), codebook.dtype):
        return ""
    return (
        f"{bands} bands of {dtype}, but the codebook was fitted on {len(codebook.bands)} bands of "
        f"{codebook.dtype}; choose bands with --bands or fit another codebook"
    )
