"""What a library's trainer does around the training step: epochs, schedules and validation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn


@dataclass(frozen=True)
class Scheduled:
    """A schedule of the learning rate."""

    scheduler: Any
    often: Literal["batch", "epoch"]
    """When it steps."""
    watched: str = ""
    """Name of the metric that it is called with; empty without one."""


@dataclass(frozen=True)
class MetricFunction:
    """The user's function that computes metrics from all predictions of validation at once."""

    predict: Callable[[nn.Module, Iterable[Any]], tuple[torch.Tensor, torch.Tensor]]
    """`predict(model, batches)` returns the concatenated outputs and labels, which the function is called with."""
    compute: Callable[[torch.Tensor, torch.Tensor], Mapping[str, Any]]
    """`compute(outputs, labels)` calls the function and returns its metrics by name."""
    name: str
    """Name of the function."""


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
    """`evaluate(model, batches)` returns the logged validation metrics by name; None where the user's code computes
    none."""
    accumulated: int = 1
    """Batches whose gradients are accumulated for each optimizer step."""
    metric_function: MetricFunction | None = None
    """The user's function that computes all metrics at once, where there is one."""
