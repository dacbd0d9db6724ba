"""Configurations in files: YAML, or the run.json of a former run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import RunConfig, unknown, with_stored_numbers
from pipeline.errors import UsageError
from pipeline.text import decoded

_CONFIG_LIMIT_BYTES = 4 << 20
_RECORD_LIMIT_BYTES = 256 << 20
_DEPTH_LIMIT = 16


def load_file(path: str) -> tuple[dict[str, Any], bool]:
    """Raw values of a YAML file, or of the `run.json` of an earlier run, and whether they are of the latter.

    Raises
    ------
    UsageError
        If it cannot be read, is no mapping, or is too large or nested too deeply.
    """
    try:
        # the run.json of a large batch names every raster, and JSON is parsed fast
        limit = _RECORD_LIMIT_BYTES if path.endswith(".json") else _CONFIG_LIMIT_BYTES
        if Path(path).stat().st_size > limit:
            raise UsageError(f"{path}: a configuration of more than {limit >> 20} MiB is refused")
        text = decoded(Path(path).read_bytes())
        values = json.loads(text) if path.endswith(".json") else yaml.load(text, Loader=_PlainLoader)  # noqa: S506  (a SafeLoader)
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not text; a configuration is a YAML file") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot read this configuration ({error.strerror})") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UsageError(f"{path}: not valid YAML or JSON ({' '.join(str(error).split())[:160]})") from None
    recorded = isinstance(values, dict) and isinstance(values.get("config"), dict) and "rasters" in values
    if recorded:
        values = with_stored_numbers(values["config"])
    if not isinstance(values, dict) or not all(isinstance(k, str) for k in values):
        raise UsageError(f"{path}: a configuration is a mapping of option names to values")
    values = {k.replace("-", "_"): v for k, v in values.items()}
    for key in values:
        if key not in RunConfig.model_fields:
            raise UsageError(f"{path}: {unknown(key)}")
    return values, recorded


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases (whose expansion is not bounded) and without deep nesting."""

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
