"""Kernels for the options of a run, and for codebooks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from engine.block_kmeans import BlockKMeans
from engine.codebook import Codebook, CodebookError
from engine.feature_sets.feature_set import FeatureSet
from engine.kernel import ClassifyingKernel, Kernel
from pipeline.config import RunConfig
from pipeline.errors import UsageError
from pipeline.process import startup
from pipeline.source.naming.paths import rooted

if TYPE_CHECKING:
    from engine.networks.kernel import CnnKernel


def _kmeans(parameters: Mapping[str, Any], _model: object, _device: str) -> Kernel:
    features = FeatureSet.parse(parameters.get("feature_set", "bands"))
    return BlockKMeans(int(parameters["resolution"]), features)


def _cnn(parameters: Mapping[str, Any], model: object, device: str) -> Kernel:
    if not isinstance(model, str):
        raise UsageError("the codebook does not say where its network is; name it with --model")
    from engine.networks.cache import geometry, network
    from engine.networks.geometry import verify
    from engine.networks.kernel import CnnKernel
    from engine.networks.loading import choose_device, digest
    from engine.networks.network import STRAIGHT, TORCHSCRIPT

    upsample, form = str(parameters["upsample"]), parameters.get("form")
    if form not in (None, TORCHSCRIPT, STRAIGHT):
        raise UsageError(f"a network in the form {form!r}, unknown to this version; fit the codebook again")
    startup.load_compiled()  # `verify` evaluates the network with them
    path = model if model.startswith("builtin:") else str(Path(model).absolute())
    torch_device = choose_device(device)
    content = digest(path)
    kernel = CnnKernel(path, content, geometry(path, content), upsample, torch_device, form or TORCHSCRIPT)
    verify(network(path, content, torch_device), kernel.geometry, kernel.cell_px, kernel.halo_px)
    return kernel


_KERNELS: dict[str, Callable[[Mapping[str, Any], object, str], Kernel]] = {"kmeans": _kmeans, "cnn": _cnn}
"""Makes the kernel of each method from parameters as in its identity, a network's file, and a device."""


def _made(method: object, parameters: Mapping[str, Any], model: object, device: str) -> Kernel:
    if not isinstance(method, str) or method not in _KERNELS:
        raise UsageError(f"method {method!r}; this version knows {', '.join(_KERNELS)}")
    try:
        return _KERNELS[method](parameters, model, device)
    except ValueError as error:
        raise UsageError(str(error)) from None


_BUILTIN = "builtin:"


def _builtin(resolution: int) -> str:
    if resolution not in (4, 8, 16):
        raise UsageError(
            f"resolution {resolution}; cnn has built-in networks of stride 4, 8 and 16, or --model"
        )
    return f"{_BUILTIN}filters-{resolution}"


def kernel_from_options(
    method: str,
    resolution: int,
    *,
    features: str = "bands",
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
    if method == "cnn" and not model:
        model = _builtin(resolution)
    if method != "kmeans" and features != "bands":
        raise UsageError(f"features {features!r}: only kmeans has it; leave it out")
    parameters = {"resolution": resolution, "feature_set": features, "upsample": upsample}
    return _made(method, parameters, model, device)


def kernel_from_codebook(codebook: Codebook, *, model: str | None = None, device: str = "auto") -> Kernel:
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
        kernel = _made(identity.get("name"), identity, model or codebook.fit.get("model"), device)
    except (KeyError, TypeError):
        raise UsageError(
            f"kernel {identity.get('name')!r} without its parameters; fit the codebook again"
        ) from None
    if kernel.identity != identity:
        now = kernel.identity
        name = next(k for k in {**now, **identity} if now.get(k, "") != identity.get(k))
        fitted, current = str(identity.get(name))[:12], str(now.get(name))[:12]
        raise UsageError(
            f"the codebook was fitted with {name} {fitted}, not {current}; "
            "name the same network with --model, or fit again"
        )
    if isinstance(kernel, ClassifyingKernel) and len(kernel.class_names) != codebook.segments:
        raise UsageError(
            f"the codebook has {codebook.segments} classes, {identity['name']} {len(kernel.class_names)}; "
            "fit it again"
        )
    return kernel


def _is_network(kernel: Kernel) -> TypeGuard[CnnKernel]:
    return bool(kernel.identity["name"] == "cnn")


def model_and_device(kernel: Kernel) -> dict[str, Any]:
    """What a codebook records of its kernel beside the identity: a network's path and device."""
    if not _is_network(kernel):
        return {}
    model = kernel.model if kernel.model.startswith(_BUILTIN) else rooted(kernel.model)
    return {"model": model, "device": kernel.device}


def on_cpu(kernel: Kernel) -> Kernel | None:
    """The kernel moved to the CPU, or None if it computes there already."""
    return replace(kernel, device="cpu") if _is_network(kernel) and kernel.device != "cpu" else None


def in_fitted_form(kernel: Kernel, codebook: Codebook) -> Kernel:
    """The kernel in the form that was chosen when the codebook was fitted."""
    if not _is_network(kernel):
        return kernel
    from engine.networks.network import TORCHSCRIPT

    return replace(kernel, form=codebook.kernel.get("form", TORCHSCRIPT))


def faster_form(kernel: Kernel) -> CnnKernel | None:
    """The kernel in a form that is faster on its device, or None if there is none."""
    if not _is_network(kernel) or kernel.device != "cpu":
        return None
    from engine.networks.cache import network
    from engine.networks.network import STRAIGHT

    if kernel.form == STRAIGHT or network(kernel.model, kernel.digest, kernel.device).line is None:
        return None
    return replace(kernel, form=STRAIGHT)


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


def kernel_for_run(config: RunConfig, saved: Codebook | None = None) -> Kernel:
    """The kernel of a saved codebook, or else the one that a configuration asks for.

    Raises
    ------
    UsageError
        As `kernel_from_codebook` and `kernel_from_options`, or if an option was set that the codebook
        has otherwise, or that is of a fit where there is none.
    """
    if saved is not None:
        _refuse_contradiction(config, saved)
        return kernel_from_codebook(saved, model=config.model, device=config.device)
    kernel = kernel_from_options(
        config.method,
        config.resolution,
        features=config.features,
        model=config.model,
        upsample=config.upsample,
        device=config.device,
    )
    if isinstance(kernel, ClassifyingKernel):
        _refuse_fit(config, kernel)
    return kernel


def labels_of(config: RunConfig, kernel: Kernel, saved: Codebook | None) -> int:
    """Number of labels of a run: its codebook's or its kernel's own, else what a fit is asked for."""
    if saved is not None:
        return saved.segments
    return len(kernel.class_names) if isinstance(kernel, ClassifyingKernel) else config.segments


def _refuse_fit(config: RunConfig, kernel: ClassifyingKernel) -> None:
    """Refuse options of a fit for a kernel that has none: they would be dropped without a word."""
    count = len(kernel.class_names)
    asked = config.asked - ({"segments"} if config.segments == count else set())
    for name in ("segments", "scale", "fit", "seed"):
        if name in asked:
            raise UsageError(
                f"--{name} {getattr(config, name)}: --method {config.method} has {count} classes of its own; "
                f"leave --{name} out"
            )


def _refuse_contradiction(config: RunConfig, codebook: Codebook) -> None:
    """Refuse options of the fit that a codebook was fitted without: they would be dropped without a word."""
    fit, kernel = codebook.fit, codebook.kernel
    fitted = {
        "method": {kernel.get("name")},
        "segments": {codebook.segments, fit.get("segments_asked")},
        "resolution": {kernel.get("resolution", config.resolution)},
        "features": {None if codebook.feature_set is None else str(codebook.feature_set)},
        "upsample": {kernel.get("upsample", config.upsample)},
        "scale": {None},
        "fit": {fit.get("method")},
        "seed": {fit.get("seed")},
    }
    for name, values in fitted.items():
        if name in config.asked and getattr(config, name) not in values:
            value = next(v for v in values)
            has = "its own" if value is None else value
            raise UsageError(
                f"--{name} {getattr(config, name)}: the codebook has {has}; leave --{name} out, "
                "or --codebook to fit another"
            )


def refuse_other_file(target: Path) -> None:
    """Refuse to write a codebook over a file that is none, such as a raster whose name was given by mistake.

    Raises
    ------
    UsageError
        If it is one; what cannot be read is left to whoever writes.
    """
    with contextlib.suppress(OSError):
        if target.is_file() and target.stat().st_size:
            with target.open("rb") as file:
                is_archive = file.read(2) == b"PK"  # as a codebook is, of whatever version
            if not is_archive:
                raise UsageError(f"{target}: is no codebook, and would be overwritten; choose another name")


def load_codebook(path: str | Path) -> Codebook:
    """Read a codebook.

    Raises
    ------
    UsageError
        If it cannot be used.
    """
    try:
        return Codebook.load(path)
    except CodebookError as error:
        raise UsageError(str(error)) from None
