"""From what a user typed to one configuration: a file or the defaults, and the fields set on top."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from striate.errors import UsageError
from striate.training.config import Config
from striate.training.config_file import config_from_dict, config_from_yaml, with_fields

ConfigSource = Config | Path | str | Mapping[str, Any] | None


def read_config(source: ConfigSource) -> Config:
    """A configuration from a file, a mapping, a Config, or the defaults for None. Raises ConfigError."""
    if source is None:
        return Config()
    if isinstance(source, Config):
        return source
    if isinstance(source, Mapping):
        return config_from_dict(source, "config")
    return config_from_yaml(Path(source))


def merge_request(
    config: Config,
    *,
    data: str | None = None,
    epochs: int | str | None = None,
    minutes: float | str | None = None,
    size: object = None,
    fields: Mapping[str, Any],
) -> Config:
    """The configuration with a request on top; what was decided from a replaced field is open again.

    `size` is pixels, `HxW`, or a pair. `fields` are dotted. Raises UsageError when epochs and minutes are both
    given, ConfigError for a wrong value.
    """
    if epochs is not None and minutes is not None:
        raise UsageError("budget", "both epochs and minutes", "one of them", "leave out --epochs or --minutes")
    fields = dict(fields)
    if data is not None and data != config.data.source:
        config = replace(config, data=replace(config.data, source=data, fingerprint=None))
    if size is not None:
        fields["data.size"] = _pair(size)
    if epochs is not None:
        fields |= {"budget.epochs": epochs, "budget.minutes": None, "budget.steps": None}
    if minutes is not None:
        fields |= {"budget.minutes": minutes, "budget.epochs": None, "budget.steps": None}
    changed = {name for name in fields if name.startswith(("data.", "task."))}
    if changed and "data.fingerprint" not in fields:
        fields["data.fingerprint"] = None
    if ("batch" in fields or changed or data is not None) and config.budget.steps is not None:
        # Steps follow from the number of batches; epochs and minutes are what was asked for.
        fields.setdefault("budget.steps", None)
    return with_fields(config, fields) if fields else config


def _pair(size: object) -> object:
    if isinstance(size, str) and "x" in size:
        return size.split("x")
    return [size, size] if isinstance(size, int | str) else size
