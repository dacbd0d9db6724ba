"""The codebook: frozen centres, and everything else that determines what a label means."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.colours import Colour, from_hex, to_hex
from engine.feature_sets.feature_set import FeatureSet

FORMAT = "tilewright-codebook-1"
_LIMIT_BYTES = 64 << 20
_MAX_SEGMENTS = 254
_COUNTS = ("segments_asked", "cells_read", "cells_total", "pixels_seen", "pixels_total")
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,  # such as a member that claims to be encrypted
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


Band = int | str
"""One band: its 1-based number in a file, its name, or an expression of bands."""


class CodebookError(ValueError):
    """A codebook file that cannot be used; the message names the file and what to do."""


@dataclass(frozen=True)
class Scaling:
    """Per-feature linear scaling to 0..255 with clipping: ``clip((x - low) * gain, 0, 255)``.

    Parameters
    ----------
    low, high
        Shape (D,), float64: the values that become 0 and 255.
    """

    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]

    @property
    def gain(self) -> npt.NDArray[np.float64]:
        """Shape (D,), float64; 0 for a feature without spread."""
        spread = self.high - self.low
        return np.divide(255.0, spread, out=np.zeros_like(spread), where=spread > 0)

    def apply(self, vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Scaled vectors, shape (n, D), float32."""
        return np.clip((vectors - self.low) * self.gain, 0, 255).astype(np.float32)


@dataclass(frozen=True)
class Codebook:
    """What labels mean: frozen K-Means centres, or a kernel's own classes, and all that these depend on.

    Parameters
    ----------
    centres
        Shape (K, D), float32, in scaled feature space, in ascending order of their mean; (K, 0) for a
        kernel that has classes of its own.
    kernel
        Identity of the kernel: name and parameters.
    bands
        Bands that it was fitted on: 1-based numbers, names or expressions.
    band_names
        What the rasters of the fit call these bands; "" where they do not say, and () in a codebook of
        before. Other rasters' bands are found by them. Not part of the hash.
    dtype
        Dtype of the pixels that it was fitted on.
    band_mean
        Shape (B,), float64: mean of each band over the sample, in pixel values; (0,) without a sample.
    scaling
        Scaling of the features, or None where they are used unscaled (uint8).
    fit
        How it was fitted: method, seed, sample counts. Not part of the hash.
    physical
        Whether its bands are expressions of values scaled as the files declare (``value * scale + offset``),
        and not of the numbers that are stored.
    names
        Name of each class; () where nobody named any. Like all that follows not part of the hash: labels
        do not depend on it.
    colours
        Colour of each class; () for the palette that stands for want of others.
    mean_colours
        Mean colour of the pixels of each class in the fit's sample; () where no bands are red, green and
        blue, and in a codebook of before.
    """

    centres: npt.NDArray[np.float32]
    kernel: dict[str, Any]
    bands: tuple[Band, ...]
    dtype: str
    band_mean: npt.NDArray[np.float64]
    scaling: Scaling | None = None
    fit: dict[str, Any] = field(default_factory=dict)
    band_names: tuple[str, ...] = ()
    physical: bool = False
    names: tuple[str, ...] = ()
    colours: tuple[Colour, ...] = ()
    mean_colours: tuple[Colour, ...] = ()

    @property
    def segments(self) -> int:
        """K, the number of labels."""
        return len(self.centres)

    @property
    def content_hash(self) -> str:
        """SHA-256 of everything that determines a label, as 64 hex digits."""
        h = hashlib.sha256(json.dumps(self._header(), sort_keys=True).encode())
        for array in self._arrays().values():
            h.update(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes())
        return h.hexdigest()

    @property
    def style_hash(self) -> str:
        """Tells its names and colours of classes from others; "" where it has none."""
        if not (self.names or self.colours):
            return ""
        return hashlib.sha256(json.dumps([self.names, self.colours]).encode()).hexdigest()[:16]

    @property
    def feature_set(self) -> FeatureSet | None:
        """What of pixels was clustered; None if features are not of pixels, but of a kernel's own."""
        return (
            None if "features" in self.kernel else FeatureSet.parse(self.kernel.get("feature_set", "bands"))
        )

    @property
    def centre_values(self) -> npt.NDArray[np.float64] | None:
        """Shape (K, D), float64: the centres as values of the bands; None if features are no bands."""
        if self.feature_set is None or not self.feature_set.is_bands:
            return None
        centres = self.centres.astype(np.float64)
        if self.scaling is None:
            return centres
        return self.scaling.low + centres / 255 * (self.scaling.high - self.scaling.low)

    def _check(self) -> None:
        """Refuse arrays whose shapes do not match: the compiled loops do not check them."""
        bands, features = len(self.bands), self.feature_set
        dims = int(self.kernel["features"]) if features is None else len(features.names([""] * bands))
        if features and (why := features.why_not(bands, self.dtype, scaled=self.scaling is not None)):
            raise CodebookError(f"{why}; fit it again")
        limits = () if self.scaling is None else (self.scaling.low, self.scaling.high)
        sampled = (bands if dims else 0,)
        shapes: list[tuple[npt.NDArray[Any], tuple[int, ...]]]
        shapes = [(self.centres, (self.segments, dims)), (self.band_mean, sampled)]
        shapes += [(limit, (bands,)) for limit in limits]
        for array, shape in shapes:
            if array.shape != shape or not np.isfinite(array).all():
                raise CodebookError(
                    f"its arrays do not fit each other ({array.shape}, not {shape}); fit it again"
                )
        share = self.fit.get("share", [])
        numbers = [*(self.fit.get(key, 0) for key in _COUNTS), *(share if isinstance(share, list) else "?")]
        if not all(isinstance(n, (int, float)) for n in numbers) or len(share) not in (0, self.segments):
            raise CodebookError("its record of the fit holds values that are not numbers; fit it again")
        if len(self.band_names) not in (0, bands):
            raise CodebookError(f"{len(self.band_names)} names of {bands} bands; fit it again")
        for each in (self.names, self.colours, self.mean_colours):
            if len(each) not in (0, self.segments):
                raise CodebookError(f"{len(each)} names or colours of {self.segments} classes; fit it again")
        if not all(name and name.isprintable() for name in self.names):
            raise CodebookError("a name of a class is empty or no text of one line; fit it again")
        if not 1 <= self.segments <= _MAX_SEGMENTS:
            raise CodebookError(f"{self.segments} centres, not 1 to {_MAX_SEGMENTS}; fit it again")

    def _header(self) -> dict[str, Any]:
        header = {
            "format": FORMAT,
            "kernel": self.kernel,
            "bands": list(self.bands),
            "dtype": self.dtype,
            "segments": self.segments,
            "scaled": self.scaling is not None,
        }
        # only where it is so: others have the hash that they had before there was this
        return {**header, "physical": True} if self.physical else header

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        arrays: dict[str, npt.NDArray[Any]] = {"centres": self.centres, "band_mean": self.band_mean}
        if self.scaling is not None:
            arrays |= {"scale_low": self.scaling.low, "scale_high": self.scaling.high}
        return arrays

    def to_bytes(self) -> bytes:
        """The .npz file; equal codebooks have equal bytes (the archive holds no times)."""
        meta = {**self._header(), "fit": self.fit, "codebook_hash": self.content_hash}
        if self.band_names:
            meta["band_names"] = list(self.band_names)
        classes = {
            "names": list(self.names),
            "colours": [to_hex(c) for c in self.colours],
            "mean_colours": [to_hex(c) for c in self.mean_colours],
        }
        if any(classes.values()):
            meta["classes"] = {key: values for key, values in classes.items() if values}
        text = np.frombuffer(json.dumps(meta, sort_keys=True).encode(), np.uint8)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in {"meta": text, **self._arrays()}.items():
                member = io.BytesIO()
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), member.getvalue())
        return buffer.getvalue()

    def save(self, path: str | Path) -> Path:
        """Write the codebook as an .npz file, which takes its name only when it is whole; returns it."""
        path = _in_home(path)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with unfinished.open("wb") as file:
                file.write(self.to_bytes())
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Codebook:
        """Read a codebook and check its hash.

        Raises
        ------
        CodebookError
            If the file is missing, not a codebook, altered, or of another version.
        """
        try:
            return cls._parse(_members(_in_home(path)))
        except CodebookError as error:
            raise CodebookError(f"{path}: {error}") from None
        except IsADirectoryError:
            raise CodebookError(f"{path}: a folder; name the codebook in it (codebook.npz)") from None
        except FileNotFoundError:
            raise CodebookError(f"{path}: no such file; make one with `python -m pipeline fit`") from None
        except _UNREADABLE as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise CodebookError(
                f"{path}: not a codebook ({reason}); make one with `python -m pipeline fit`"
            ) from None

    @classmethod
    def _parse(cls, members: dict[str, npt.NDArray[Any]]) -> Codebook:
        meta = json.loads(members["meta"].astype(np.uint8).tobytes())
        if not isinstance(meta, dict) or meta.get("format") != FORMAT:
            raise CodebookError(f"not a codebook of format {FORMAT}; fit it again with this version")
        low, high = members.get("scale_low"), members.get("scale_high")
        classes = _mapping(meta.get("classes", {}))
        codebook = cls(
            centres=_numbers(members["centres"]).astype(np.float32),
            kernel=_mapping(meta["kernel"]),
            bands=tuple(b if isinstance(b, str) else int(b) for b in meta["bands"]),
            dtype=str(np.dtype(meta["dtype"])),
            band_mean=_numbers(members["band_mean"]),
            scaling=None if low is None or high is None else Scaling(_numbers(low), _numbers(high)),
            fit=dict(meta["fit"]),
            band_names=tuple(map(str, meta.get("band_names", ()))),
            physical=meta.get("physical", False) is True,
            names=tuple(map(str, classes.get("names", ()))),
            colours=tuple(from_hex(c) for c in classes.get("colours", ())),
            mean_colours=tuple(from_hex(c) for c in classes.get("mean_colours", ())),
        )
        if codebook.content_hash != meta["codebook_hash"]:
            raise CodebookError("its content does not match its hash: the file was altered; fit it again")
        codebook._check()
        return codebook


def _in_home(path: str | Path) -> Path:
    """A path whose `~` is the home folder, as where a shell has read it."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  (it leaves an unknown ~NAME as it is)


def _members(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an .npz, read without pickle and only up to the size limit of a codebook."""
    with zipfile.ZipFile(path) as archive:
        if sum(info.file_size for info in archive.infolist()) > _LIMIT_BYTES:
            raise CodebookError(f"unpacks to more than {_LIMIT_BYTES >> 20} MiB, too large for a codebook")
        return {
            info.filename.removesuffix(".npy"): np.lib.format.read_array(
                io.BytesIO(archive.read(info)), allow_pickle=False
            )
            for info in archive.infolist()
        }


def _numbers(array: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    if array.dtype.kind not in "fiu":
        raise CodebookError(f"holds {array.dtype} where numbers are needed; fit it again")
    return array.astype(np.float64)


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{type(value).__name__} where names and values are needed")
    return dict(value)
