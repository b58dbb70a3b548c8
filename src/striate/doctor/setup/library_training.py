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
    """A training that a library's trainer runs."""

    name: str
    """Name of the trainer."""
    epochs: int | None
    """None where the number of steps ends the training."""
    schedules: tuple[Scheduled, ...] = ()
    hooks: tuple[Callable[..., Any], ...] = ()
    """Methods of the user's that the trainer calls for each batch."""
    evaluate: Callable[[nn.Module, Iterable[Any]], Mapping[str, Any]] | None = None
    """`evaluate(model, batches)` returns the logged validation metrics by name; None without validation."""
    accumulated: int = 1
    """Batches whose gradients are accumulated for each optimizer step."""
    judge: Judge | None = None
    """The user's function that computes all metrics, where there is one."""
