"""The configuration of a run: one frozen model, which defines the command line and the YAML file."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from engine.codebook import Band
from engine.feature_sets import feature_set
from engine.grid import DEFAULT_CHUNK_PX
from engine.kernel import MAX_RESOLUTION, MAX_SEGMENTS
from engine.labels.smoothing import Smoothing
from engine.resampling import Method
from pipeline.errors import UsageError
from pipeline.legend.palette import DISTINCT, NATURAL
from pipeline.source.bands.options import (
    Scene,
    read_bands,
    read_nodata,
    read_stack,
    read_valid,
    stacked_bands,
)
from pipeline.source.declared import Nodata
from pipeline.source.naming.paths import expanded, rooted
from pipeline.workers.dashboard import DEFAULT as DASHBOARD
from pipeline.workers.dashboard import parse as parse_address
from pipeline.workers.pool import parse as parse_workers

FILES = ("out", "model", "aoi", "codebook", "palette")
"""Options that name a file or a folder."""


def _numbers(kind: type[int | float]) -> BeforeValidator:
    """Accept text such as "1,2,3" for a list of numbers."""

    def read(value: object) -> object:
        return [kind(v) for v in value.split(",")] if isinstance(value, str) and value != "none" else value

    return BeforeValidator(read)


def _home(value: object) -> object:
    """Accept `~` for the home folder: no shell reads a YAML file, or `--out=~/out`."""
    return expanded(value) if isinstance(value, str) else value


def _whole(value: object) -> object:
    """Accept text such as "2" for a number."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _one_or_more(value: object) -> object:
    """Accept one name for a list of names."""
    return [value] if isinstance(value, str) else value


def _text(value: object) -> object:
    """Accept a plain number for text: YAML reads `workers: 2` as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _smooth(value: object) -> object:
    """Smoothing in the words that it is recorded in; None for none."""
    smoothing = None if value is None or value is False else Smoothing.parse(str(value))
    return None if smoothing is None else str(smoothing)


def _address(value: object) -> object:
    """Accept a switch, or a port that YAML reads as a number, for an address."""
    return (DASHBOARD if value else None) if isinstance(value, bool) else _text(value)


def _bytes(value: object) -> object:
    """Accept text such as "4GiB" for a number of bytes."""
    match = (
        re.fullmatch(r"(\d+(?:\.\d+)?) *([KMGT]?)(i?)B?", value.strip()) if isinstance(value, str) else None
    )
    if match is None:
        return value
    number, prefix, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** "_KMGT".index(prefix or "_"))


class RunConfig(BaseModel):
    """All options of a run; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: Annotated[tuple[str, ...], BeforeValidator(_one_or_more)] = Field(
        (), description="files, folders, globs or @list.txt"
    )
    recursive: bool = Field(default=False, description="search folders with all that they hold")
    out: str | None = Field(None, description="output folder")
    method: Literal["kmeans", "cnn"] = Field("kmeans", description="kernel that computes features")
    segments: int = Field(8, ge=2, le=MAX_SEGMENTS, description="number of labels K, 2 to 254")
    resolution: int = Field(
        4,
        ge=1,
        le=MAX_RESOLUTION,
        description="kmeans: side of a pixel block, 1 to 32; cnn: stride of the built-in network, 4, 8 or 16",
    )
    features: feature_set.Name = Field(
        "bands",
        description="kmeans: what of pixels is clustered: bands; lab (perceptual colour, of red, green and "
        f"blue bytes); texture (mean and deviation in {feature_set.WINDOW_PX} x {feature_set.WINDOW_PX} px); "
        "or lab+texture",
    )
    model: str | None = Field(
        None, description="cnn: TorchScript file of a network, in place of a built-in one"
    )
    upsample: Literal["nearest", "bilinear"] = Field(
        "bilinear", description="cnn: interpolation between features"
    )
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="cnn: auto, cpu, cuda, cuda:N or mps"
    )
    device_fallback: bool = Field(
        default=False, description="cnn: repeat a raster on the CPU if the device fails"
    )
    mosaic: bool = Field(default=False, description="join all sources into one raster, without seams")
    overlap: Literal["first", "nearest-centre"] = Field(
        "first", description="mosaic: which tile wins where several overlap"
    )
    output_tiles: int | None = Field(
        None,
        ge=512,
        le=1 << 24,
        description="mosaic: write several outputs with this side, a multiple of 512 px",
    )
    stack: Annotated[tuple[Scene, ...] | None, BeforeValidator(read_stack)] = Field(
        None,
        description="NAME=FILE,... : one raster from single-band files, in place of SOURCE; again for each "
        "further scene, or with {scene} in FILEs for all scenes that there are",
    )
    resample: Method | None = Field(
        None,
        description="stack: how bands on other grids become pixels of one; --valid sees the nearest pixel "
        "always (default: pixels of whole multiples are repeated, others refused)",
    )
    reference_band: str | None = Field(
        None, description="stack: the band whose grid and extent labels have (default: the finest)"
    )
    bands: Annotated[tuple[Band, ...] | None, BeforeValidator(read_bands)] = Field(
        None,
        description="bands to use: numbers (4,3,2), names, or expressions such as (nir-red)/(nir+red) "
        "(default: all but alpha)",
    )
    raw_values: bool = Field(
        default=False,
        description="expressions see stored numbers, not value * scale + offset as files declare",
    )
    nodata: Annotated[Nodata | None, BeforeValidator(read_nodata)] = Field(
        None,
        description="VALUE[,VALUE...] (once or for each band of the source): nodata, whatever files declare; "
        "or none: no value is (default: as files declare; masks and alpha count always)",
    )
    valid: Annotated[str | None, BeforeValidator(read_valid)] = Field(
        None,
        description='condition of bands, such as "scl in (4, 5)" or "(qa & 8) == 0": pixels where it is not '
        "true are nodata",
    )
    scale: Annotated[tuple[float, ...] | Literal["none"] | None, _numbers(float)] = Field(
        None,
        description="LOW,HIGH (once or for each band): values that become 0 and 255; or none "
        "(default: uint8 unscaled, wider dtypes by percentiles of the sample)",
    )
    extent: Annotated[tuple[float, float, float, float] | None, _numbers(float)] = Field(
        None, description="X0,Y0,X1,Y1 in the raster's CRS: label only this rectangle"
    )
    aoi: str | None = Field(
        None,
        description="vector file of polygons in any CRS: label only these (FILE:LAYER: of one layer)",
    )
    smooth: Annotated[str | None, BeforeValidator(_smooth)] = Field(
        None,
        description="PX or PXxN: each pixel gets the label that most have in the PX x PX window around it, N "
        "times; or none (default: none)",
    )
    fit: Literal["sample", "exact"] = Field(
        "sample", description="fit on a sample of fixed size, or on every pixel (1 to 3 bands of uint8)"
    )
    codebook: str | None = Field(None, description="use this saved codebook; no fit")
    codebook_bands: Literal["match", "any"] = Field(
        "match",
        description="bands for a saved codebook: those of the same names, where both have names; "
        "or any, in their order",
    )
    palette: str | None = Field(
        None,
        description="colours of the classes: natural (their mean colours; needs red, green and blue bands), "
        "distinct, or a FILE (.csv, .qml, colour table) (default: those of a codebook that is there; of a "
        "new one natural where it can be, else distinct)",
    )
    codebook_scope: Literal["batch", "raster"] = Field(
        "batch", description="one codebook for all rasters, or one for each"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="seed of the sample and of K-Means")
    chunk_size: int = Field(
        DEFAULT_CHUNK_PX,
        ge=1,
        le=1 << 16,
        description="side of a chunk in pixels, rounded up to whole cells of 512",
    )
    format: Literal["cog", "zarr"] = Field("cog", description="format of the labels")
    zarr_version: Annotated[Literal[3, 2], BeforeValidator(_whole)] = Field(
        3, description="zarr: 3 (one Zarr shard for each chunk), or 2 for older readers (no shards)"
    )
    on_bad_chunk: Literal["fail", "nodata", "skip-raster"] = Field(
        "fail",
        description="if a chunk cannot be decoded or kills its worker: fail the raster, label the chunk "
        "nodata, or skip the raster",
    )
    workers: Annotated[str, BeforeValidator(_text)] = Field(
        "auto", description="auto, N, threads:N or processes:N"
    )
    memory_limit: Annotated[int | None, BeforeValidator(_bytes)] = Field(
        None,
        ge=1 << 28,
        description="such as 4GiB: fewer chunks at a time while more is in use (default: 80 % of the free)",
    )
    resume: bool = Field(
        default=True, description="continue an unfinished run of the same options in OUT, or start it again"
    )
    overwrite: bool = Field(default=False, description="delete the files of another run in OUT")
    network: bool = Field(
        default=True,
        description="allow remote sources that SOURCE names; --no-network forbids them",
    )
    progress: Literal["auto", "bar", "plain", "json", "none"] = Field(
        "auto", description="how to show progress"
    )
    dashboard: Annotated[str | None, BeforeValidator(_address)] = Field(
        None,
        description="[HOST:]PORT: run on a local Dask cluster and print the address of its dashboard, on "
        f"another port if that one is in use (without a value: {DASHBOARD})",
    )
    debug: bool = Field(default=False, description="show tracebacks")

    _recorded: frozenset[str] = PrivateAttr(frozenset())

    @model_validator(mode="after")
    def _check_stack(self) -> RunConfig:
        if self.stack and (self.sources or self.mosaic):
            raise UsageError("--stack names the files of each raster; leave SOURCE and --mosaic out")
        if not self.stack and (self.resample or self.reference_band):
            raise UsageError("--resample and --reference-band belong to --stack; give it too")
        if self.stack and self.reference_band not in (None, *(name for name, _ in self.stack[0].bands)):
            names = ", ".join(name for name, _ in self.stack[0].bands)
            raise UsageError(f"--reference-band {self.reference_band}: no band of --stack, which has {names}")
        return self

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        parse_workers(self.workers)
        if self.dashboard is not None:
            parse_address(self.dashboard)
        if zeros := [name for name, value in self if isinstance(value, str) and "\0" in value]:
            raise UsageError(f"--{zeros[0]}: no file's name has a zero in it")
        if not self.mosaic and (self.output_tiles or self.overlap != "first"):
            raise UsageError("--overlap and --output-tiles belong to --mosaic; give it too")
        if self.output_tiles and (self.output_tiles % 512 or self.codebook_scope == "raster"):
            raise UsageError(
                "--output-tiles: give a multiple of 512 px, and leave --codebook-scope raster out: "
                "the tiles share a codebook"
            )
        if self.model is not None and self.method != "cnn" and self.codebook is None:
            raise UsageError("--model: only --method cnn takes a network")
        if self.features != "bands" and self.method != "kmeans":
            raise UsageError(f"--features {self.features}: only --method kmeans has it; leave it out")
        if isinstance(self.scale, tuple) and (not self.scale or len(self.scale) % 2):
            raise UsageError("--scale: give LOW,HIGH once or for each band, or none")
        if isinstance(self.scale, tuple) and not all(map(math.isfinite, self.scale)):
            raise UsageError("--scale: each limit must be a number")
        return self

    @field_validator(*FILES, mode="before")
    @classmethod
    def _in_home(cls, value: object) -> object:
        return _home(value)

    @property
    def asked(self) -> frozenset[str]:
        """The options that somebody set, and that no run.json brought along."""
        return frozenset(self.model_fields_set) - self._recorded

    @property
    def meaning(self) -> dict[str, Any]:
        """The options that determine the labels: a run with other values is another run."""
        names = {"method", "segments", "resolution", "features", "model", "upsample", "bands", "scale", "fit"}
        names |= {"codebook_scope", "seed", "extent", "aoi", "mosaic", "overlap", "output_tiles", "stack"}
        names |= {"codebook_bands", "raw_values", "nodata", "valid", "resample", "reference_band"}
        # scenes are sources, of which a folder of outputs may get more; what they have in common are bands
        values = self.model_dump(mode="json", include=names)
        return {**values, **self.files("model", "aoi"), "stack": stacked_bands(self.stack)}

    def files(self, *names: str) -> dict[str, str | None]:
        """Options that name files, all or some, by paths from the root: run.json is read anywhere."""
        values = {name: getattr(self, name) for name in names or FILES}
        is_word = {None, NATURAL, DISTINCT}
        return {name: v if v in is_word else rooted(v) for name, v in values.items()}

    @property
    def smoothing(self) -> Smoothing | None:
        """What is made of the kernel's labels, or None."""
        return None if self.smooth is None else Smoothing.parse(self.smooth)

    @property
    def finish(self) -> dict[str, Any]:
        """The options that determine what is made of a kernel's labels: another value redoes rasters."""
        return self.model_dump(mode="json", include={"smooth"})

    @property
    def layout(self) -> dict[str, Any]:
        """The options that determine the files of labels: a folder holds files of one kind."""
        names = {"format", "zarr_version"} if self.format == "zarr" else {"format"}
        return self.model_dump(mode="json", include=names)


def rebuilt(values: Mapping[str, Any], origin: str) -> RunConfig:
    """The configuration of a former run, as its run.json has it.

    Raises
    ------
    UsageError
        On the first invalid value.
    """
    return build(with_stored_numbers(values), origin, recorded=values)


def with_stored_numbers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a former run; before there was `raw_values`, expressions saw stored numbers."""
    return {"raw_values": True, **values}


def build(values: dict[str, Any], origin: str = "", recorded: Collection[str] = ()) -> RunConfig:
    """A configuration from raw values of the command line, of YAML, or of a run.json.

    Parameters
    ----------
    values
        By the names of options.
    origin
        The file that they are from, for messages.
    recorded
        The names of those that are from a run.json.

    Raises
    ------
    UsageError
        On the first invalid value; names its option.
    """
    try:
        config = RunConfig.model_validate(values)
        config._recorded = frozenset(recorded)  # noqa: SLF001  (only this function knows)
        return config  # noqa: TRY300
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]) if first["loc"] else "configuration"
        prefix = f"{origin}: " if origin else ""
        if first["type"] == "extra_forbidden":
            raise UsageError(f"{prefix}{unknown(option)}") from None
        shown, said = repr(first["input"])[:80], first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{prefix}--{option.replace('_', '-')} {shown}: {said}") from None


def unknown(key: str) -> str:
    """The message for an unknown key, with the most similar known one."""
    near = difflib.get_close_matches(key, RunConfig.model_fields, n=1)
    return f"unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else "; see `run --help`")
