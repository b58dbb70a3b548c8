"""What a recipe recommends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from striate.training.config import Config


@dataclass(frozen=True)
class Choice:
    """Values for the fields of the configuration that a user may leave open.

    Fields as in `Config`; `lr` and `weight_decay` belong to `optimizer`. What is None stays open. `why` has the
    reasons that a user should be told, by dotted field.
    """

    optimizer: str
    lr: float
    weight_decay: float
    batch: int
    epochs: int
    ema: float
    patience: int
    keep: Literal["best", "last"]
    head_share: float = 0.0
    layer_decay: float = 1.0
    schedule: Literal["one-cycle", "triangle", "constant"] = "one-cycle"
    momentum: float | None = None
    fixed_norm: bool | None = None
    other_lr: float | None = None
    warmup: float | None = None
    first_size: float | None = None
    full_size_from: float | None = None
    views: Literal["none", "mirror", "mirror-shift"] | None = None
    train_samples: int | None = None
    why: Mapping[str, str] = field(default_factory=dict)


def fill(config: Config, choice: Choice) -> dict[str, object]:
    """Dotted fields that are open in `config`, with the values of `choice`."""
    budget = config.budget
    bounded = budget.epochs is not None or budget.minutes is not None or budget.steps is not None
    values: dict[str, tuple[object, object]] = {
        "optim.name": (config.optim.name, choice.optimizer),
        "optim.lr": (config.optim.lr, choice.lr),
        "optim.weight_decay": (config.optim.weight_decay, choice.weight_decay),
        "optim.ema": (config.optim.ema, choice.ema),
        "optim.momentum": (config.optim.momentum, choice.momentum),
        "optim.fixed_norm": (config.optim.fixed_norm, choice.fixed_norm),
        "optim.other_lr": (config.optim.other_lr, choice.other_lr),
        "schedule.name": (config.schedule.name, choice.schedule),
        "schedule.first_size": (config.schedule.first_size, choice.first_size),
        "schedule.full_size_from": (config.schedule.full_size_from, choice.full_size_from),
        "evaluation.views": (config.evaluation.views, choice.views),
        "evaluation.train_samples": (config.evaluation.train_samples, choice.train_samples),
        "batch": (config.batch, choice.batch),
        "budget.patience": (budget.patience, choice.patience),
        "keep": (config.keep, choice.keep),
        "fine_tune.head_share": (config.fine_tune.head_share, choice.head_share),
        "fine_tune.layer_decay": (config.fine_tune.layer_decay, choice.layer_decay),
    }
    if config.schedule.name is None:
        values["schedule.warmup"] = (config.schedule.warmup, choice.warmup)
    opened = {name: value for name, (given, value) in values.items() if given is None and value is not None}
    return opened if bounded else opened | {"budget.epochs": choice.epochs}
