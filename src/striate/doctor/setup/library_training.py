"""What a library's trainer does around the step: how often, with which schedules, and how it validates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn


@dataclass(frozen=True)
class Scheduled:
    """A schedule of the learning rate. `watched`: the name of the metric that it is given, where it is given one."""

    scheduler: Any
    often: Literal["batch", "epoch"]
    watched: str = ""


@dataclass(frozen=True)
class Judge:
    """The user's function that judges all predictions of validation at once. `predict(model, batches)`: outputs and
    labels of all batches together, as it is given them. `judge(outputs, labels)`: what it gives, by name. `name`: of
    the function."""

    predict: Callable[[nn.Module, Iterable[Any]], tuple[torch.Tensor, torch.Tensor]]
    judge: Callable[[torch.Tensor, torch.Tensor], Mapping[str, Any]]
    name: str


@dataclass(frozen=True)
class LibraryTraining:
    """`name`: of the trainer. `epochs`: None where it ends by steps. `accumulated`: batches that make a step of the
    optimizer. `hooks`: the user's methods that it calls for each batch. `evaluate(model, batches)`: what is logged of
    validation, by name; None where nothing is validated. `judge`: where one function of the user's judges it all."""

    name: str
    epochs: int | None
    schedules: tuple[Scheduled, ...] = ()
    hooks: tuple[Callable[..., Any], ...] = ()
    evaluate: Callable[[nn.Module, Iterable[Any]], Mapping[str, Any]] | None = None
    accumulated: int = 1
    judge: Judge | None = None
