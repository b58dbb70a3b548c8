"""From a request to one configuration: a file or the defaults, and the fields that the user sets on top."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from striate.data.environments.open_environment import is_environment
from striate.data.sources.named import typed_source
from striate.errors import ConfigError, RunError, UsageError, pasted
from striate.models.from_file import resolve_name
from striate.models.trusted_code import name_of, trust_named
from striate.runs.directory import open_run
from striate.runs.plain_files import typed
from striate.training.code_fields import NAMES_OF_CODE
from striate.training.config import Config
from striate.training.config_fields import config_fields
from striate.training.config_file import (
    config_from_dict,
    config_from_yaml,
    field_names,
    get_field,
    option_of,
    pair_of,
    with_fields,
)
from striate.wording import type_of

ConfigSource = Config | Path | str | Mapping[str, Any] | None

# Prefixes of fields, and of those that the recipe or the data decide from them: these are open again when a field is
# replaced.
_RECIPE = ("optim.", "schedule.", "batch", "budget.", "keep", "fine_tune.", "evaluation.", "task.label_smoothing")
_DECAY = ("optim.weight_decay",)
_MEASURED = ("task.mirrored", "task.turned_classes")
_PLAN = tuple(
    f"execution.{name}"
    for name in (
        *("threads", "precision", "memory_format", "compile", "allocator", "micro_batch"),
        *("micro_batch_from", "evaluation_batch"),
    )
)
_FOLLOWERS = {
    "data.source": ("data.",),
    "data.packs": ("data.store",),
    "data.": ("model.", "augment.", "recipe", *_MEASURED, *_RECIPE, *_PLAN),
    "task.": ("model.", "augment.", "task.label_smoothing", *_MEASURED, *_PLAN),
    "model.": ("recipe", "augment.", *_RECIPE, *_PLAN),
    "model.weights": ("model.name",),
    "recipe": ("data.val_fraction", "model.name", "augment.", *_RECIPE, *_PLAN),
    "optim.name": ("optim.", "schedule.name", "budget.", "recipe", "fine_tune.", *_PLAN),
    "schedule.name": ("schedule.",),
    "optim.lr": _DECAY,
    "batch": (*_DECAY, *_PLAN),
    "augment.": _PLAN,
    "regularize.": _PLAN,
    "auxiliary.": _PLAN,
    "execution.plan": _PLAN,
    "execution.device": _PLAN,
    "execution.micro_batch": _PLAN,
    "budget.epochs": _DECAY,
    "budget.minutes": _DECAY,
    "budget.steps": _DECAY,
}
_BUDGETS = ("budget.epochs", "budget.minutes", "budget.steps")


def read_config(source: ConfigSource) -> Config:
    """A configuration from a file, a mapping, a Config, or the defaults for None. Raises ConfigError."""
    if source is None:
        return Config()
    if isinstance(source, Config):
        return _remembered(source)
    if isinstance(source, Mapping):
        return _remembered(config_from_dict(source, "config"))
    return config_from_yaml(typed(Path(source)))


def _remembered(config: Config) -> Config:
    """A configuration given in Python, and with it the trust in the code that it names."""
    for name in ("model.name", *NAMES_OF_CODE):
        trust_named(get_field(config, name))
    return config


def merge_request(
    config: Config,
    *,
    data: str | None = None,
    epochs: int | str | None = None,
    minutes: float | str | None = None,
    size: object = None,
    fields: Mapping[str, Any],
) -> Config:
    """The configuration with the fields of a request. Fields that were decided from a replaced field become open again.

    `size` is in pixels, `HxW`, or a pair. `fields` are dotted. Raises UsageError where several budgets (epochs,
    minutes, steps) are given, ConfigError for a wrong value.
    """
    request = dict(fields)
    for name in ("model.name", *NAMES_OF_CODE):
        value = request.get(name)
        if isinstance(value, type) or (callable(value) and not hasattr(value, "parameters")):  # not a network
            request[name] = name_of(value)
        trust_named(request.get(name))
    for name in NAMES_OF_CODE:
        if isinstance(request.get(name), str):
            request[name] = resolve_name(request[name])
    if request.get("data.size") is not None:
        request["data.size"] = _pair(request["data.size"])
    short = {"data.source": data and typed_source(data), "data.size": None if size is None else _pair(size)}
    short |= {"budget.epochs": epochs, "budget.minutes": minutes}
    for name, value in short.items():
        if value is not None:
            if request.get(name) not in (None, value):
                got = f"both {value} and {request[name]}"
                raise UsageError(name, got, "one value", f"leave out {option_of(name)}")
            request[name] = value
    if not request:
        return config
    typed = with_fields(config, request)  # 64 and "64" are the same value
    request = {name: get_field(typed, name) for name in request}
    _refuse_recorded(config, request)
    return with_fields(config, _reopened(config, request) | _one_budget(request) | request)


def _refuse_recorded(config: Config, request: Mapping[str, Any]) -> None:
    """Raise ConfigError for a field that a run records and a user sets; the default takes it back."""
    for name, value in request.items():
        if config_fields()[name].written and value not in (get_field(config, name), get_field(Config(), name)):
            expected = "a field that a user sets: the run records this one itself, in its config.yaml"
            raise ConfigError(name, reprlib.repr(value), expected, f"leave out {name}")


def continued(run: str | Path) -> Config:
    """The configuration that trains the network of a run further, beginning with its weights. Splits and the
    preparation of inputs stay; another seed changes order and augmentation; recipe, learning rate and plan are decided
    anew. Raises RunError where there is no run, or one on an environment."""
    opened = open_run(Path(run))
    config = config_from_yaml(opened.config)
    if is_environment(config.data.source):
        got, expected = "a run that learned from rewards", "a run that learned from samples"
        steps = 2 * (config.task.control.steps or 100_000)
        remedy = f"striate train --config {pasted(opened.config)} --task.control.steps {steps}"
        raise RunError(str(run), got, expected, f"train it anew for longer: {remedy}")
    kept = {name: get_field(config, name) for name in ("data.size", "data.channels", "data.fit")}
    begun = {"model.name": "auto", "model.weights": str(run), "data.splits": str(run), "seed": config.seed + 1}
    return merge_request(config, fields=begun | {name: value for name, value in kept.items() if value is not None})


def with_open_plan(config: Config) -> Config:
    """The configuration with all decided fields of the execution open again; requested ones stay."""
    left = [name for name in config.decided if name not in _PLAN]
    opened: dict[str, Any] = {name: get_field(Config(), name) for name in _PLAN if name in config.decided}
    return with_fields(config, opened | {"execution.plan": "auto", "decided": left})


def _one_budget(request: Mapping[str, Any]) -> dict[str, Any]:
    """The other budgets set to None where one is requested."""
    given = [name for name in _BUDGETS if request.get(name) is not None]
    if len(given) > 1:
        names = " and ".join(name.removeprefix("budget.") for name in given)
        raise UsageError("budget", f"both {names}", "either of them", f"leave out {option_of(given[1])}")
    return dict.fromkeys(_BUDGETS) if given else {}


def _reopened(config: Config, request: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults for the decided fields that depend on the requested ones."""
    default = Config()
    changed = [name for name, value in request.items() if value != get_field(config, name)]
    prefixes = {
        p for name in changed for key, followers in _FOLLOWERS.items() if name.startswith(key) for p in followers
    }
    opened = [name for name in config.decided if name.startswith(tuple(prefixes))] if prefixes else []
    fields = {name: get_field(default, name) for name in opened}
    if any(name.startswith(("data.", "task.")) for name in changed):
        fields["data.fingerprint"] = None
    if "model.name" in changed:
        fields["model.digest"] = None
    if "model.weights" in changed:
        fields |= {"model.weights_digest": None, "model.weights_license": None}
    if (
        prefixes - {*_DECAY, *_PLAN}
        or (set(opened) & set(_PLAN) and config.budget.minutes is not None)
        or any(name in ("batch", "cv") or name.startswith("budget.") for name in changed)
    ):
        fields["budget.steps_before"] = ()
        fields["budget.steps"] = None  # follows from epochs or minutes
    return fields | {"decided": [name for name in config.decided if name not in opened and name not in request]}


def decided_fields(requested: Config, decided: Config) -> tuple[str, ...]:
    """The fields that were open in `requested` and have a value in `decided`, with those decided before, in order."""
    # A run named as the network is recorded as its weights, in another field.
    never = {"code", "decided", "data.fingerprint", "data.source", "budget.steps", "budget.steps_before"}
    never |= {"model.digest", "model.weights", "model.weights_digest", "model.weights_license"}
    default = Config()
    new = {
        name
        for name in field_names()
        if get_field(requested, name) == get_field(default, name) != get_field(decided, name)
    }
    return tuple(name for name in field_names() if name in (new | set(requested.decided)) - never)


def _pair(size: object) -> object:
    if isinstance(size, str) and (size.startswith("[") or size in ("null", "None")):
        return size  # YAML
    pair = pair_of(size)
    if isinstance(pair, str):
        raise ConfigError(
            "--size (data.size)", reprlib.repr(size), "pixels: a number, or HEIGHTxWIDTH", "--size 96, or --size 96x128"
        )
    return pair


def requested_fields(
    given: Mapping[str, Any], fields: Mapping[str, Any], remedy: str = 'leave out set["{name}"]'
) -> dict[str, Any]:
    """The requested dotted fields: the named arguments in `given` that are not None, and `fields`.

    `remedy` has {name} in place of the field, {option} of its option, and {value} of the value in `given`. Raises
    UsageError where the two contradict each other, or where `fields` is no mapping.
    """
    if not isinstance(fields, Mapping):
        raise UsageError("set", type_of(fields), "a dict of fields of the configuration", 'set={"optim.lr": 0.01}')
    named = {name: value for name, value in given.items() if value is not None}
    for name in fields.keys() & named.keys():
        if str(fields[name]).lower() != str(named[name]).lower():
            told = remedy.format(name=name, option=option_of(name), value=named[name])
            raise UsageError(name, f"both {named[name]} and {fields[name]}", "one value", told)
    return named | dict(fields)
