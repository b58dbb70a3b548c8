"""A field that has no meaning for what was chosen is refused, never ignored."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from striate.errors import ConfigError
from striate.tasks.task import Task
from striate.training.config import Config
from striate.training.config_file import get_field

_OPTIMIZER = {
    "sgd": {"momentum", "nesterov"},
    "adamw": {"betas"},
    "muon": {"momentum", "nesterov", "betas", "fixed_norm", "other_lr"},
    "lamb": {"betas"},
    "lars": {"momentum", "nesterov"},
    "own-rule": set(),
}
_SCHEDULE = {
    "one-cycle": {"warmup", "final"},
    "cosine": {"warmup", "final"},
    "triangle": {"warmup", "final"},
    "step": {"milestones", "factor"},
    "constant": set(),
}
_NO_GRADIENT = {
    "optim.weight_decay": 0.0,
    "optim.clip": 0.0,
    "task.loss": "auto",
    "task.label_smoothing": 0.0,
    "task.class_weights": "none",
    "augment.mixup": 0.0,
    "augment.cutmix": 0.0,
    "regularize.l1": 0.0,
    "regularize.l2": 0.0,
    "regularize.sparsity": 0.0,
    "auxiliary.rotation": 0.0,
    "auxiliary.layers": (),
    "fine_tune.head_share": 0.0,
    "fine_tune.layer_decay": 1.0,
    "execution.precision": "fp32",
}
"""What changes a loss or its gradient, and the value that turns it off: a network's own rule knows neither."""


def refuse_foreign_fields(config: Config, task: type[Task], loss: str, *, has_weights: bool = False) -> None:
    """Raise ConfigError for the first field of optimizer, schedule, task, auxiliary heads or fine-tuning that was set
    and would do nothing.

    `config.optim.name` must be decided; `task` and `loss` are those in use; `has_weights` is whether the
    network begins with learned ones.
    """
    optimizer, schedule = config.optim.name or "adamw", config.schedule.name or "one-cycle"
    if optimizer == "own-rule":
        _refuse_gradients(config)
    always = {"name", "lr", "weight_decay", "clip", "ema"}
    _refuse("optim", config.optim, always | _OPTIMIZER.get(optimizer, set()), optimizer)
    sizes = {"first_size", "full_size_from"}
    _refuse("schedule", config.schedule, {"name"} | sizes | _SCHEDULE[schedule], f"the schedule {schedule}")
    allowed = {"name", "loss"} | task.fields.get(loss, frozenset())
    _refuse("task", config.task, allowed, f"{task.name} with {loss} loss")
    if not config.auxiliary.layers:
        _refuse("auxiliary", config.auxiliary, {"rotation", "layers"}, "no auxiliary.layers")
    if not has_weights:
        _refuse_fine_tuning(config)


def _refuse_gradients(config: Config) -> None:
    for name, off in _NO_GRADIENT.items():
        value = get_field(config, name)
        if value not in (None, off):
            raise ConfigError(
                name,
                f"{value!r} with own-rule, which has no loss to change and no gradient",
                f"{off!r}",
                f"leave out --{name}",
            )


def _refuse_fine_tuning(config: Config) -> None:
    """A new network has nothing to spare from large steps. What standard recipes decide, 0 and 1, is no wish."""
    tuning = config.fine_tune
    for name, value, off in (("head_share", tuning.head_share, 0.0), ("layer_decay", tuning.layer_decay, 1.0)):
        if value not in (None, off):
            raise ConfigError(
                f"fine_tune.{name}",
                f"{value} for a network that begins with random weights",
                "weights to begin with: --weights FILE, or --model RUN",
                f"leave out --fine_tune.{name}",
            )


def _refuse(section: str, values: Any, allowed: set[str], owner: str) -> None:
    default = type(values)()
    for field in fields(values):
        value, usual = getattr(values, field.name), getattr(default, field.name)
        if field.name not in allowed and value != usual:
            raise ConfigError(
                f"{section}.{field.name}",
                f"{value!r} with {owner}",
                f"this field left at {usual!r}: it has no meaning there",
                f"leave out --{section}.{field.name}",
            )
