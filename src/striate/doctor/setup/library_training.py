"""What a library's trainer does around the step: how often, with which schedules, and how it validates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn


@dataclass(frozen=True)
class Scheduled:
    """A schedule of the learning rate. `watched`: the name of the metric that it is given, where it is given one."""

    scheduler: Any
    often: Literal["batch", "epoch"]
    watched: str = ""


@dataclass(frozen=True)
class LibraryTraining:
    """`name`: of the trainer. `epochs`: None where it ends by steps. `accumulated`: batches that make a step of the
    optimizer. `hooks`: the user's methods that it calls for each batch. `evaluate(model, batches)`: what is logged of
    validation, by name; None where nothing is validated."""

    name: str
    epochs: int | None
    schedules: tuple[Scheduled, ...] = ()
    hooks: tuple[Callable[..., Any], ...] = ()
    evaluate: Callable[[nn.Module, Iterable[Any]], Mapping[str, Any]] | None = None
    accumulated: int = 1
