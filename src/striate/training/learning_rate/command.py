"""What to paste to train with the rate that was found; free of torch."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from striate.errors import ConfigError
from striate.training.config import Config
from striate.training.config_file import field_names, get_field
from striate.training.request import ConfigSource, read_config

_SHORT = {
    "model.name": "--model",
    "batch": "--batch",
    "seed": "--seed",
    "recipe": "--recipe",
    "task.name": "--task",
    "budget.epochs": "--epochs",
    "budget.minutes": "--minutes",
}
_SAID_OTHERWISE = ("data.source", "optim.lr", "decided")
_NOT_TRIED = ("baseline", "cv")


def refuse_untried(fields: Mapping[str, Any]) -> None:
    """Raise ConfigError for a field that is about what comes beside or after a single training."""
    for name in _NOT_TRIED:
        if fields.get(name) not in (None, False, "false"):
            raise ConfigError(
                name,
                f"{fields[name]} for a search of the learning rate",
                "fields of a single training",
                f"leave out --{name}, and add it to the command that lr-find ends with",
            )


def fields_of(config: Config) -> dict[str, Any]:
    """The dotted fields in which a configuration differs from the defaults."""
    values = {name: get_field(config, name) for name in field_names()}
    return {name: value for name, value in values.items() if value != get_field(Config(), name)}


def how_to_train(
    lr: float, data: str | None, fields: Mapping[str, Any], size: object, config: ConfigSource, *, module: bool
) -> str:
    """What was asked for, with the rate `lr`: a command, or a call in Python where the network is a `module` that no
    name builds. `config`, `size` and `fields` as in `merge_request`."""
    file = Path(config) if isinstance(config, str | Path) else None
    if file is None and config is not None:
        fields = {**fields_of(read_config(config)), **fields}
    source = data or fields.get("data.source") or (None if file else Config().data.source)
    rest = {name: value for name, value in fields.items() if name not in _SAID_OTHERWISE}
    return (_call if module else _command)(lr, source, rest, size, file)


def _command(lr: float, source: Any, fields: Mapping[str, Any], size: object, file: Path | None) -> str:
    words = ["striate", "train", *([str(source)] if source else [])]
    words += [] if file is None else ["--config", str(file)]
    for name, value in fields.items():
        words += [_SHORT.get(name, f"--{name}"), _text(value)]
    if size is not None:
        words += ["--size", "x".join(map(str, size)) if isinstance(size, tuple | list) else str(size)]
    return shlex.join([*words, "--lr", f"{lr:g}"])


def _call(lr: float, source: Any, fields: Mapping[str, Any], size: object, file: Path | None) -> str:
    parts = ["module" if source is None else f"{str(source)!r}, module", f"lr={lr:g}"]
    parts += [] if size is None else [f"size={size!r}"]
    parts += [] if file is None else [f"config={str(file)!r}"]
    parts += [f"set={dict(fields)!r}"] if fields else []
    first = "model=" if source is None else ""
    return f"striate.train({first}{', '.join(parts)})"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(list(value) if isinstance(value, tuple) else value)
