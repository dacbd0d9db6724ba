"""Kernels for the options of a run, and for codebooks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.codebook import Codebook, CodebookError
from engine.kernel import Kernel
from engine.kmeans import BlockKMeans
from pipeline.config import RunConfig
from pipeline.errors import UsageError
from pipeline.process import startup

METHODS = ("kmeans", "cnn")


def make_kernel(
    method: str,
    resolution: int,
    *,
    model: str | None = None,
    upsample: str = "bilinear",
    device: str = "auto",
) -> Kernel:
    """The kernel for the options of a run.

    Raises
    ------
    UsageError
        If an option is out of range, or the model cannot be used.
    """
    try:
        if method == "kmeans":
            return BlockKMeans(resolution)
        if method == "cnn":
            return _cnn(model or _builtin(resolution), upsample, device)
    except ValueError as error:
        raise UsageError(str(error)) from None
    raise UsageError(f"method {method!r}; this version knows {', '.join(METHODS)}")


def kernel_of(codebook: Codebook, *, model: str | None = None, device: str = "auto") -> Kernel:
    """The kernel that a codebook was fitted with.

    Parameters
    ----------
    codebook
        Holds the kernel's name and parameters.
    model
        The network's file, if it is not at its path of the fit.
    device
        Torch device for a network.

    Raises
    ------
    UsageError
        If this version does not know the kernel, or its network is missing or another one.
    """
    identity = codebook.kernel
    try:
        if identity.get("name") == "kmeans":
            kernel: Kernel = BlockKMeans(int(identity["resolution"]))
        elif identity.get("name") == "cnn":
            path = model or codebook.fit.get("model")
            if not isinstance(path, str):
                raise UsageError("the codebook does not say where its network is; name it with --model")
            kernel = _cnn(path, str(identity["upsample"]), device, identity.get("form"))
        else:
            raise UsageError(f"method {identity.get('name')!r}; this version knows {', '.join(METHODS)}")
    except (KeyError, TypeError):
        raise UsageError(
            f"kernel {identity.get('name')!r} without its parameters; fit the codebook again"
        ) from None
    except ValueError as error:
        raise UsageError(str(error)) from None
    if kernel.identity != identity:
        current_identity = kernel.identity
        name = next(
            k for k in {**current_identity, **identity} if current_identity.get(k, "") != identity.get(k)
        )
        fitted, current = str(identity.get(name))[:12], str(current_identity.get(name))[:12]
        raise UsageError(
            f"the codebook was fitted with {name} {fitted}, not {current}; "
            "name the same network with --model, or fit again"
        )
    return kernel


def provenance(kernel: Kernel) -> dict[str, Any]:
    """What a codebook records of its kernel beside the identity: the network's path and device."""
    model = getattr(kernel, "model", None)
    return {} if model is None else {"model": model, "device": kernel.device}


def mismatch(bands: int, dtype: str, codebook: Codebook, *, physical: bool | None = None) -> str:
    """The reason why pixels cannot be labelled with a codebook; "" if they can.

    Parameters
    ----------
    bands, dtype
        Number of bands and dtype of the pixels.
    codebook
        The codebook.
    physical
        Whether the pixels are scaled as their files declare; None where that makes no difference.
    """
    if (bands, dtype) != (len(codebook.bands), codebook.dtype):
        return (
            f"{bands} bands of {dtype}, but the codebook was fitted on {len(codebook.bands)} bands of "
            f"{codebook.dtype}; choose bands with --bands or fit another codebook"
        )
    if physical is False and codebook.physical:
        return (
            "its numbers are not scaled, but the codebook was fitted on value * scale + offset; declare "
            "scale and offset (gdal_edit -scale -offset) and leave --raw-values out, or fit another codebook"
        )
    if physical is True and not codebook.physical:
        return (
            "it declares scales, but the codebook was fitted on the numbers that are stored; "
            "give --raw-values, or fit another codebook"
        )
    return ""


def on_cpu(kernel: Kernel) -> Kernel | None:
    """The kernel moved to the CPU, or None if it computes there already."""
    if isinstance(kernel, BlockKMeans):
        return None
    from engine.networks.kernel import CnnKernel

    return replace(kernel, device="cpu") if isinstance(kernel, CnnKernel) and kernel.device != "cpu" else None


def as_fitted(kernel: Kernel, codebook: Codebook) -> Kernel:
    """The kernel in the form that was chosen when the codebook was fitted."""
    if isinstance(kernel, BlockKMeans):
        return kernel
    from engine.networks.kernel import CnnKernel
    from engine.networks.network import TORCHSCRIPT

    if not isinstance(kernel, CnnKernel):
        return kernel
    return replace(kernel, form=codebook.kernel.get("form", TORCHSCRIPT))


def faster(kernel: Kernel) -> Kernel | None:
    """The kernel in a form that is faster on its device, or None if there is none."""
    if isinstance(kernel, BlockKMeans):
        return None
    from engine.networks.kernel import CnnKernel
    from engine.networks.loading import network
    from engine.networks.network import STRAIGHT

    if not isinstance(kernel, CnnKernel) or kernel.device != "cpu" or kernel.form == STRAIGHT:
        return None
    has_loops = network(kernel.model, kernel.digest, kernel.device).line is not None
    return replace(kernel, form=STRAIGHT) if has_loops else None


def _cnn(model: str, upsample: str, device: str, form: str | None = None) -> Kernel:
    from engine.networks.geometry import verify
    from engine.networks.kernel import CnnKernel
    from engine.networks.loading import choose_device, geometry, network
    from engine.networks.network import STRAIGHT, TORCHSCRIPT, digest

    if form not in (None, TORCHSCRIPT, STRAIGHT):
        raise UsageError(f"a network in the form {form!r}, unknown to this version; fit the codebook again")
    startup.load_compiled()  # `verify` evaluates the network with them
    path = model if model.startswith("builtin:") else str(Path(model).absolute())
    torch_device = choose_device(device)
    content = digest(path)
    kernel = CnnKernel(path, content, geometry(path, content), upsample, torch_device, form or TORCHSCRIPT)
    verify(network(path, content, torch_device), kernel.geometry, kernel.cell_px, kernel.halo_px)
    return kernel


def _builtin(resolution: int) -> str:
    if resolution not in (4, 8, 16):
        raise UsageError(
            f"resolution {resolution}; cnn has built-in networks of stride 4, 8 and 16, or --model"
        )
    return f"builtin:filters-{resolution}"


def kernel_for(config: RunConfig, saved: Codebook | None = None) -> Kernel:
    """The kernel of a saved codebook, or else the one that a configuration asks for.

    Raises
    ------
    UsageError
        As `kernel_of` and `make_kernel`.
    """
    if saved is not None:
        return kernel_of(saved, model=config.model, device=config.device)
    return make_kernel(
        config.method,
        config.resolution,
        model=config.model,
        upsample=config.upsample,
        device=config.device,
    )


def load_codebook(path: str | Path) -> Codebook:
    """Read a codebook.

    Raises
    ------
    UsageError
        If it cannot be used.
    """
    try:
        codebook = Codebook.load(path)
    except CodebookError as error:
        raise UsageError(str(error)) from None
    return codebook
