"""The configuration of a run: one frozen model, from which the command line and YAML follow."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from engine.kernel import MAX_SEGMENTS
from engine.kmeans import MAX_RESOLUTION
from pipeline.errors import UsageError
from pipeline.workers import parse as parse_workers

_CONFIG_LIMIT_BYTES = 4 << 20
_DEPTH_LIMIT = 16


def _numbers(kind: type[int | float]) -> BeforeValidator:
    """Accept "1,2,3" where a list of numbers is wanted."""

    def read(value: object) -> object:
        return [kind(v) for v in value.split(",")] if isinstance(value, str) and value != "none" else value

    return BeforeValidator(read)


class RunConfig(BaseModel):
    """Everything that decides what a run does; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: tuple[str, ...] = Field((), description="files, folders, globs or @list.txt")
    out: str | None = Field(None, description="folder for the outputs")
    method: Literal["kmeans"] = Field("kmeans", description="kernel")
    segments: int = Field(8, ge=2, le=MAX_SEGMENTS, description="number of labels K, 2 to 254")
    resolution: int = Field(4, ge=1, le=MAX_RESOLUTION, description="side of a pixel block, 1 to 32")
    bands: Annotated[tuple[int, ...] | None, _numbers(int)] = Field(
        None, description="band numbers to use, such as 4,3,2 (default: all but alpha)"
    )
    scale: Annotated[tuple[float, ...] | Literal["none"] | None, _numbers(float)] = Field(
        None,
        description="LOW,HIGH (once or for each band) that become 0 and 255, or none "
        "(default: uint8 as it is, wider dtypes by limits found in the fit)",
    )
    fit: Literal["sample", "exact"] = Field(
        "sample", description="fit on a fixed-size sample, or on every pixel of 1 to 3 uint8 bands"
    )
    codebook: str | None = Field(None, description="use a saved codebook instead of a fit")
    codebook_scope: Literal["batch", "raster"] = Field(
        "batch", description="one codebook for all rasters, or one each"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="seed of the sample and the starts")
    chunk_size: int = Field(
        2048, ge=1, le=1 << 16, description="side of a chunk in pixels, rounded up to whole cells of 512"
    )
    workers: str = Field("auto", description="auto, N, threads:N or processes:N")
    overwrite: bool = Field(default=False, description="delete what another run left in OUT")
    progress: Literal["auto", "bar", "plain", "json", "none"] = Field(
        "auto", description="how progress is shown"
    )
    dashboard: bool = Field(
        default=False, description="run on a Dask cluster and print its dashboard's address"
    )
    debug: bool = Field(default=False, description="show tracebacks")

    @model_validator(mode="after")
    def _check(self) -> RunConfig:
        parse_workers(self.workers)
        if self.bands is not None and (not self.bands or min(self.bands) < 1):
            raise UsageError("--bands: give band numbers from 1 on, such as 1,2,3")
        if isinstance(self.scale, tuple) and (not self.scale or len(self.scale) % 2):
            raise UsageError("--scale: give LOW,HIGH once or for each band, or none")
        return self

    @property
    def meaning(self) -> dict[str, Any]:
        """The part that decides the labels: a run with another one is another run."""
        keep = {"method", "segments", "resolution", "bands", "scale", "fit", "codebook_scope", "seed"}
        return self.model_dump(mode="json", include=keep)


def build(values: dict[str, Any], origin: str = "") -> RunConfig:
    """A configuration of raw values, as the command line and YAML give them.

    Raises
    ------
    UsageError
        On the first value that is not right; names its option.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]) if first["loc"] else "configuration"
        where = f"{origin}: " if origin else ""
        if first["type"] == "extra_forbidden":
            raise UsageError(f"{where}{unknown(option)}") from None
        shown = repr(first["input"])[:80]
        raise UsageError(f"{where}--{option.replace('_', '-')} {shown}: {first['msg']}") from None


def unknown(key: str) -> str:
    """The message for a key that does not exist, with the nearest that does."""
    near = difflib.get_close_matches(key, RunConfig.model_fields, n=1)
    return f"unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else "; see `run --help`")


def load_file(path: str) -> dict[str, Any]:
    """Raw values of a YAML file, or of the `run.json` of a former run.

    Raises
    ------
    UsageError
        If it cannot be read, is no mapping, or is nested or large beyond reason.
    """
    try:
        if Path(path).stat().st_size > _CONFIG_LIMIT_BYTES:
            raise UsageError(
                f"{path}: a configuration of more than {_CONFIG_LIMIT_BYTES >> 20} MiB is refused"
            )
        text = Path(path).read_text(encoding="utf-8")
        values = yaml.load(text, Loader=_PlainLoader)  # noqa: S506  (a SafeLoader)
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not text; a configuration is a YAML file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot read this configuration ({error.strerror})") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UsageError(f"{path}: not valid YAML ({' '.join(str(error).split())[:160]})") from None
    if isinstance(values, dict) and isinstance(values.get("config"), dict) and "rasters" in values:
        values = values["config"]
    if not isinstance(values, dict) or not all(isinstance(k, str) for k in values):
        raise UsageError(f"{path}: a configuration is a mapping of option names to values")
    values = {k.replace("-", "_"): v for k, v in values.items()}
    for key in values:
        if key not in RunConfig.model_fields:
            raise UsageError(f"{path}: {unknown(key)}")
    return values


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases (which can grow without bound) and without deep nesting."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases are not used in a configuration")
        self._depth += 1
        if self._depth > _DEPTH_LIMIT:
            raise yaml.YAMLError(f"nested deeper than {_DEPTH_LIMIT}")
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1
